"""``list``: every branch and where it is mounted."""

from __future__ import annotations

import os
from pathlib import Path

from dsbranch.model import BranchInfo
from dsbranch.ops import mounting
from dsbranch.ops.context import Context
from dsbranch.overlay import mountinfo
from dsbranch.overlay.plan import parse_source


def list_branches(context: Context) -> list[BranchInfo]:
    """The mount table is read once, however many branches there are."""
    places: dict[str, list[bytes]] = {}
    for entry in mountinfo.ours():
        shown = parse_source(entry.source)
        if shown is None or shown[0] != context.store.id or not shown[1] or entry.root != b"/":
            continue
        if mounting.is_of(context, entry, shown[1]):
            places.setdefault(shown[1], []).append(entry.path)
    depths: dict[str, int] = {}
    found = []
    for branch in context.store.branches():
        if branch.head not in depths:
            depths[branch.head] = len(context.store.stack(branch.head)) + 1
        paths = places.get(branch.layer, [])
        home = os.fsencode(context.root / branch.name)
        chosen = home if home in paths else (paths[0] if paths else None)
        found.append(
            BranchInfo(
                name=branch.name,
                head=branch.head,
                mounted=chosen is not None,
                mountpoint=None if chosen is None else Path(os.fsdecode(chosen)),
                depth=depths[branch.head],
            )
        )
    return found

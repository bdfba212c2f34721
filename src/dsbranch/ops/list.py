"""``list``: every branch and where it is mounted."""

from __future__ import annotations

from dsbranch.model.mounts import BranchInfo
from dsbranch.ops import views
from dsbranch.ops.context import Context
from dsbranch.overlay import mountinfo
from dsbranch.overlay.mountinfo import MountEntry
from dsbranch.overlay.plan import parse_source


def list_branches(context: Context) -> list[BranchInfo]:
    """The mount table is read once, however many branches there are."""
    places: dict[str, list[MountEntry]] = {}
    for entry in mountinfo.ours():
        shown = parse_source(entry.source)
        if shown is None or shown[0] != context.store.id or not shown[1] or entry.root != b"/":
            continue
        if views.is_of(context, entry, shown[1]):
            places.setdefault(shown[1], []).append(entry)
    with context.store.snapshot():
        depths, branches = context.store.head_depths(), context.store.branches()
    found = []
    for branch in branches:
        place = views.home_first(context, branch, places.get(branch.layer, []))
        found.append(
            BranchInfo(
                name=branch.name,
                head=branch.head,
                mounted=place is not None,
                mountpoint=place,
                depth=depths[branch.head] + len(branch.pending) + 1,
            )
        )
    return found

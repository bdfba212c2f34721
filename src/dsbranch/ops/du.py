"""``du``: who holds how much of the store. Counts inodes, reads no file and no manifest.

A file that several layers have by hard links occupies its space once. Files that share extents
(reflinks) cannot be told from others, and count in full.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dsbranch._core.usage import OUTSIDE, Usage
from dsbranch.model.history import History
from dsbranch.model.space import BranchSpace, CommitSpace, Space
from dsbranch.ops.context import Context
from dsbranch.ops.gc import planned
from dsbranch.ops.holdings import Holdings
from dsbranch.ops.space import lone, weigh
from dsbranch.overlay.inuse import in_use
from dsbranch.store import sweep
from dsbranch.store.faults import storage


def du(context: Context, names: Sequence[str]) -> Space:
    chosen = [context.store.branch(name) for name in names]
    mounted = in_use(context.store.id)
    with context.store.snapshot():
        history, going = planned(context, 0, mounted)
    directories = sweep.directories(context.store)
    owners = [path.name.partition(".")[0] for path in directories]
    shares = _weigh(context, history, directories)
    held = Holdings(history, going, mounted, owners, shares)
    parts = held.parts()
    manifests = 0
    for layer in owners:
        part = held.part((layer,))
        # That of any other layer goes with it, and is counted there.
        if part in ("history", "uncommitted"):
            size = lone(context.layout.manifest(layer)) + lone(context.layout.index_file(layer))
            manifests += size
            parts[part].bytes -= size
    database = _beside_layers(context)
    branches = [
        BranchSpace(branch.name, held.alone(branch), held.shared(branch), held.open(branch))
        for branch in sorted(chosen or history.branches, key=lambda branch: branch.head)
    ]
    shown = {id for branch in chosen for id in held.line(branch)}
    return Space(
        branches=tuple(sorted(branches, key=lambda one: (-one.alone, one.name))),
        commits=tuple(
            CommitSpace(commit, *held.commit(commit))
            for commit in history.commits.values()
            if commit.id in shown
        ),
        total=sum(part.bytes for part in parts.values()) + manifests + database,
        **{name: part.bytes for name, part in parts.items()},
        manifests=manifests,
        database=database,
        checkpoint_inodes=parts["checkpoints"].inodes,
    )


def _weigh(
    context: Context, history: History, directories: Sequence[Path]
) -> dict[tuple[int, ...], tuple[int, int]]:
    usage = Usage()
    report = context.report("counting")
    for number, directory in enumerate(directories):
        layer = history.layers.get(directory.name)
        weigh(usage, directory, number, entries=None if layer is None else layer.entries)
        if report is not None:
            report(number + 1, len(directories), 0)
    return usage.shares()


def _beside_layers(context: Context) -> int:
    """What the database, the locks, the reserve and the directories around the layers occupy."""
    usage = Usage()
    layout = context.layout
    with storage(f"list {layout.dot}"), os.scandir(layout.dot) as entries:
        inner = [(Path(e.path), e.is_dir(follow_symlinks=False)) for e in entries]
    for path, is_directory in inner:
        if is_directory and path != layout.layers:
            weigh(usage, path, 0, entries=0)
        else:
            usage.put(0, lone(path), 1)
    usage.put(0, lone(layout.dot), 1)
    return sum(size for owners, (size, _) in usage.shares().items() if owners != (OUTSIDE,))

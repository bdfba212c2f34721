"""``gc``: remove what no name, mount or kept operation reaches.

Metadata first: one transaction takes the rows, and what it decides on cannot change under it.
Directories after, one by one: broken off anywhere, what is left is a directory without a row,
which the next gc removes. Nobody loses a layer to it:

- whoever makes one claims its directory until it has a row;
- whoever gives a name to a commit that no name reached holds the lock on names, as gc does
  for its transaction, or is refused by the store if gc came first;
- what is mounted anywhere is found in the mount tables, looked at before the transaction and
  once more after it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dsbranch.model.history import Doomed, History
from dsbranch.model.space import Collected
from dsbranch.ops.context import Context
from dsbranch.ops.create import PATIENCE_SECONDS
from dsbranch.ops.lowers import lowers_of
from dsbranch.ops.reach import YOUNG_SECONDS, doomed
from dsbranch.ops.space import freed
from dsbranch.overlay.inuse import InUse, in_use
from dsbranch.overlay.probe import PROBE_PREFIX
from dsbranch.overlay.served import VIEW, view_at
from dsbranch.store import sweep
from dsbranch.store.creation import is_leftover
from dsbranch.store.faults import storage
from dsbranch.store.layout import RETIRED, is_directory
from dsbranch.store.lock import gc_lock, is_claimed, names_lock
from dsbranch.store.removal import remove_tree

KEEP_SECONDS = 30 * 86400.0

_EXPORT_PREFIX = ".dsbranch-export-"


def gc(context: Context, *, keep: float, dry_run: bool) -> Collected:
    keep_ns = int(keep * 10**9)
    if dry_run:
        with context.store.snapshot():
            history, plan = planned(context, keep_ns, in_use(context.store.id))
        rest = _rest(context, history, plan)
        weight = freed([*_layers(context, plan.layers), *rest])
        return _answer(history, plan, rest, weight.bytes, weight.inodes)
    with context.store.spending_reserve(), gc_lock(context.layout, verb="gc"):
        with (
            names_lock(context.layout, verb="gc", timeout=PATIENCE_SECONDS),
            sweep.clearing(context.store),
        ):
            history, plan = planned(context, keep_ns, in_use(context.store.id))
            sweep.drop(context.store, plan)
        # They hold directories open, and what is open occupies its space on.
        context.tables.clear()
        rest = _rest(context, history, plan)
        going = _retire(context, [*_still_unused(context, plan.layers), *rest])
        before = freed(going)
        problems = _remove(context, going, before.inodes)
        left = freed(going) if problems else freed([])
    size, inodes = before.bytes - left.bytes, before.inodes - left.inodes
    return _answer(history, plan, rest, size, inodes, problems)


def planned(context: Context, keep_ns: int, mounted: InUse) -> tuple[History, Doomed]:
    """All that the store remembers, and what of it a gc would remove now."""
    history = sweep.history(context.store)
    plan = doomed(
        history,
        now_ns=time.time_ns(),
        keep_ns=keep_ns,
        mounted=mounted,
        lowers=lambda commit: lowers_of(context, commit),
    )
    return history, plan


def garbage(context: Context, used: InUse) -> list[Path]:
    """Layer directories that the store does not know and nobody is making or using."""
    found = [
        p for p in sweep.directories(context.store) if p.name.partition(".")[0] not in used.layers
    ]
    return [
        path
        for path in found
        if path.name.endswith(RETIRED)
        or (
            _is_old(path)
            and not is_claimed(path)
            # Asked last: a layer has its row before its maker lets go of it.
            and not context.store.has_layer(path.name)
        )
    ]


def _rest(context: Context, history: History, plan: Doomed) -> list[Path]:
    """What is to go besides layers: directories that nobody knows, workdirs of sealed layers,
    and what killed commands left beside the store."""
    used = in_use(context.store.id)
    # What the transaction has just made garbage is removed as layers, not as this.
    unknown = [path for path in garbage(context, used) if path.name not in plan.layers]
    workdirs = [
        context.layout.work(layer.id)
        for layer in history.layers.values()
        if layer.state == "sealed" and layer.id not in plan.layers and layer.id not in used.views
    ]
    with storage(f"list {context.root}"), os.scandir(context.root) as entries:
        there = list(entries)
        shown = {view_at(Path(entry.path)) for entry in there if entry.is_symlink()}
        beside = [Path(entry.path) for entry in there if _is_of_a_killed_command(entry, shown)]
    return [*unknown, *filter(is_directory, workdirs), *sorted(filter(_is_old, beside))]


def _is_of_a_killed_command(entry: os.DirEntry[str], shown: set[Path | None]) -> bool:
    """`shown` are the directories of views of fuse-overlayfs that are seen somewhere beside it."""
    if not entry.is_dir(follow_symlinks=False):
        return False
    if entry.name.startswith(VIEW):
        return Path(entry.path) not in shown and not os.path.ismount(entry.path)
    return is_leftover(entry.name) or entry.name.startswith((PROBE_PREFIX, _EXPORT_PREFIX))


def _is_old(path: Path) -> bool:
    with storage(f"look at {path}"):
        try:
            return time.time() - os.lstat(path).st_mtime >= YOUNG_SECONDS
        except FileNotFoundError:
            return False


def _retire(context: Context, directories: Sequence[Path]) -> list[Path]:
    """Give layer directories names that no layer has, so that the next gc, should this one be
    killed, need not wait until they are old; where they are now."""
    retired = []
    for path in directories:
        gone = path.with_name(path.name + RETIRED)
        if path.parent == context.layout.layers and not path.name.endswith(RETIRED):
            # An immutable one stays where it is, and its removal will say so.
            with suppress(OSError):
                path.rename(gone)
        retired.append(gone if is_directory(gone) else path)
    return retired


def _still_unused(context: Context, layers: Sequence[str]) -> list[Path]:
    used = in_use(context.store.id).layers
    return [path for path in _layers(context, layers) if path.name not in used]


def _layers(context: Context, ids: Sequence[str]) -> list[Path]:
    return [path for path in map(context.layout.layer, ids) if is_directory(path)]


def _remove(context: Context, directories: Sequence[Path], total: int) -> tuple[str, ...]:
    report = context.report("removing")
    done = 0

    def tell(more: int) -> None:
        nonlocal done
        done += more
        if report is not None:
            report(min(done, total - 1), total, 0)

    problems = [problem for path in directories for problem in remove_tree(path, tell)]
    if report is not None:
        report(total, total, 0)
    return tuple(problems)


def _answer(
    history: History,
    plan: Doomed,
    rest: Sequence[Path],
    size: int,
    inodes: int,
    problems: tuple[str, ...] = (),
) -> Collected:
    return Collected(
        operations=len(plan.operations),
        commits=tuple(history.commits[id] for id in plan.commits),
        layers=tuple(id for id in plan.layers if id not in plan.checkpoints),
        checkpoints=plan.checkpoints,
        garbage=tuple(rest),
        bytes=size,
        inodes=inodes,
        problems=problems,
    )

"""Open layers that fuse-overlayfs writes to: what it leaves there is said to the kernel before
anything else makes a view of it.

A file beside the layer tells of it, from before the first mount until the layer is sealed: an empty
one that there may be something left, otherwise that it has been translated.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from dsbranch.errors import BusyError, WritersPresent
from dsbranch.model.facts import Branch
from dsbranch.model.views import Process
from dsbranch.ops.context import Context
from dsbranch.overlay.mountinfo import SERVED, MountEntry, current
from dsbranch.overlay.plan import source
from dsbranch.store.faults import storage

_TRANSLATED = b"translated\n"


def expect(context: Context, layer: str) -> None:
    """A layer is going to be written to by fuse-overlayfs."""
    with storage(f"write beside the layer {layer}"):
        context.layout.fuse_sign(layer).write_bytes(b"")


def is_expected(context: Context, layer: str) -> bool:
    """Whether fuse-overlayfs may have written to an open layer."""
    return context.store.dialect == "user" and context.layout.fuse_sign(layer).exists()


def may_hold_marks(context: Context, layer: str) -> bool:
    """Whether fuse-overlayfs may have left something in an open layer that is not translated."""
    try:
        return context.layout.fuse_sign(layer).read_bytes() != _TRANSLATED
    except FileNotFoundError:
        return False


def translate(context: Context, layer: str) -> None:
    """Say to the kernel what fuse-overlayfs left in a layer that nobody writes to meanwhile."""
    from dsbranch._core.seal import to_kernel
    from dsbranch.ops import stacks

    table = stacks.scanned(context, layer)
    with storage(f"write {context.layout.fs(layer)}"):
        to_kernel(table)


def settle(context: Context, layer: str, mounts: list[MountEntry]) -> None:
    """As `translate`, if it is to be done and can be: not while one of `mounts` shows the layer.

    :raises BusyError: a view of the layer lives on in its users, though it is mounted nowhere
    """
    if mounts or not is_expected(context, layer):
        return
    require_unserved(context, layer)
    sign = context.layout.fuse_sign(layer)
    with storage(f"read {sign}"):
        left = may_hold_marks(context, layer)
    if left:
        translate(context, layer)
        with storage(f"write {sign}"):
            sign.write_bytes(_TRANSLATED)


def require_unserved(context: Context, layer: str) -> None:
    """:raises BusyError: a view of the layer lives on in its users, though it is mounted nowhere"""
    if not is_expected(context, layer):
        return
    from dsbranch.overlay import served

    shown = source(context.store.id, layer=layer)
    attached = {entry.source for entry in current()}
    for server in served.servers():
        if server.plan.source == shown and shown not in attached:
            raise BusyError(
                "a view of the branch that was taken off still has users",
                hint=f"end them, or the process that serves them: `kill {server.pid}`",
            )


def require_one_place(branch: Branch, mounts: list[MountEntry]) -> None:
    """:raises BusyError: the branch's view is fuse-overlayfs's, and not shown here alone: it ends
    everywhere when it is frozen, and can be mounted anew in one place only
    """
    if mounts[0].fstype == SERVED and (mounts[1:] or mounts[0].pid):
        other = mounts[-1]
        whose = f" of process {other.pid}" if other.pid else ""
        raise BusyError(
            f"{branch.name}, which fuse-overlayfs shows, is shown at {other.place}{whose} as well",
            hint="wait for the end of what looks at it there, or unmount it there",
        )


def require_movable(branch: Branch, entry: MountEntry) -> None:
    """:raises WritersPresent: the view is fuse-overlayfs's, which moves by being made anew"""
    if entry.fstype == SERVED:
        from dsbranch.overlay.writers import Holders

        holders = Holders(entry.place).found()
        if holders:
            raise in_use(branch, holders)


def in_use(branch: Branch, holders: list[Process]) -> WritersPresent:
    return WritersPresent(
        f"{'a process has' if len(holders) < 2 else f'{len(holders)} processes have'} files of"
        f" {branch.name} open, which fuse-overlayfs shows",
        processes=holders,
        hint="let them finish, then run the command again; nothing was changed",
    )


def note_links(context: Context, found: Sequence[bytes]) -> None:
    """Name the files that may hold what was written to another name of theirs: fuse-overlayfs takes
    all names of a file for one, and copies the first one up that it met."""
    if found:
        more = f" and {len(found) - 1} more" if found[1:] else ""
        context.notes.append(
            f"{os.fsdecode(found[0])}{more} had other names with the same content below: what was"
            " written to one of these names fuse-overlayfs may have put into another one, so look"
            " at all of them"
        )


def note_evicted(context: Context, branch: Branch, processes: Sequence[Process]) -> None:
    """Say who lost a working directory for a command that then did nothing."""
    if processes:
        pids = ", ".join(str(process.pid) for process in processes)
        context.notes.append(
            f"the view of {branch.name} was made anew; `cd .` in what stood there (process {pids})"
            " gets it again"
        )

"""Stopping all writes to a branch for as long as its state is recorded."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from dsbranch.errors import DsbranchError, NoPrivilege, StorageError, WritersPresent
from dsbranch.model.facts import Branch
from dsbranch.ops import layers, mounting, serving, views
from dsbranch.ops.context import Context
from dsbranch.overlay import namespaces
from dsbranch.overlay.mountinfo import SERVED, MountEntry

_POLL_SECONDS = 0.1


@contextmanager
def frozen(context: Context, branch: Branch, wait: float) -> Iterator[list[MountEntry]]:
    """Make the branch's superblock read-only for the body; writable again if the body fails
    before its transaction.

    Gives the mounts of the whole view, none if it is not mounted. `wait` is in seconds.

    :raises WritersPresent: a process writes there, and did not stop in time
    :raises BusyError: the branch is mounted in another namespace only
    """
    mounts = views.all_views(context, branch.layer)
    if not mounts:
        mounting.require_unused(context, branch)
        yield []
        return
    if context.private and os.geteuid() != 0:
        raise NoPrivilege(
            f"{branch.name} cannot be frozen from inside a private view: an ordinary user has no"
            " right to mount there",
            hint=f"run the command outside of it, as in `dsbranch -C {context.root} …`",
        )
    views.require_bare(mounts)
    serving.require_one_place(branch, mounts)
    # Which becoming read-only would wait for.
    layers.flush(context)
    with ExitStack() as spare:
        # To undo it takes a descriptor, also where the body fails for want of one.
        spare.callback(os.close, os.open(context.root, os.O_PATH | os.O_CLOEXEC))
        _make_read_only(context, branch, mounts[0], wait)
        try:
            if mounts[0].fstype == SERVED:
                serving.translate(context, branch.layer)
            yield views.whole(mounts)
        except BaseException as error:
            spare.close()
            _undo(context, branch, mounts[0], error)
            raise


def _undo(context: Context, branch: Branch, entry: MountEntry, error: BaseException) -> None:
    """Make the branch writable again after `error`, which is told what else goes wrong."""
    path = entry.place
    try:
        # Sealed by the transaction, the layer is not to be written to ever again.
        # Where that is in doubt it stays read-only, and the next command heals it.
        if not context.store.may_have_moved(branch):
            mounting.set_writable(context, entry)
            if entry.fstype == SERVED:
                serving.note_evicted(context, branch, context.fuse.evicted(path))
        elif isinstance(error, StorageError):
            told = f"{path} stays read-only until the next command, which finds out what holds"
            error.hint = f"{error.hint}; {told}" if error.hint else told
    except (DsbranchError, OSError) as second:
        # The first failure is the one to report; the next command heals the mount.
        error.add_note(str(second))


def _make_read_only(context: Context, branch: Branch, entry: MountEntry, wait: float) -> None:
    deadline = time.monotonic() + wait
    try:
        while not mounting.set_read_only(context, entry):
            if time.monotonic() >= deadline:
                raise writers_present(branch, entry)
            time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:
        # The kernel writes out what is unwritten before; Ctrl-C is heard when it has been done.
        if entry.fstype != SERVED:
            mounting.set_writable(context, entry)
        raise


def writers_present(branch: Branch, entry: MountEntry) -> WritersPresent:
    from dsbranch.overlay.writers import Holders, find_writers

    if entry.fstype == SERVED:
        return serving.in_use(branch, Holders(entry.place).found())
    writers = namespaces.within(entry.pid, lambda: find_writers(entry.place))
    many = "a process holds" if len(writers) < 2 else f"{len(writers)} processes hold"
    return WritersPresent(
        f"{many} files of {branch.name} open for writing",
        processes=writers,
        hint="let them finish, or give `--wait SECONDS`; nothing was changed",
    )

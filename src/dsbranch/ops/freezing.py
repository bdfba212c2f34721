"""Stopping all writes to a branch for as long as its state is recorded."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dsbranch.errors import DsbranchError, StorageError, WritersPresent
from dsbranch.model import Branch
from dsbranch.ops.context import Context
from dsbranch.ops.mounting import mounts_of, require_bare, require_unused, whole
from dsbranch.overlay.mountinfo import MountEntry

_POLL_SECONDS = 0.1


@contextmanager
def frozen(context: Context, branch: Branch, wait: float) -> Iterator[list[MountEntry]]:
    """Make the branch's superblock read-only for the body; writable again if the body fails
    before its transaction.

    Gives the mounts of the whole view, none if it is not mounted. `wait` is in seconds.

    :raises WritersPresent: a process writes there, and did not stop in time
    :raises BusyError: the branch is mounted in another namespace only
    """
    mounts = mounts_of(context, branch.layer)
    if not mounts:
        require_unused(context, branch)
        yield []
        return
    require_bare(mounts)
    path = Path(os.fsdecode(mounts[0].path))
    deadline = time.monotonic() + wait
    while not context.driver.set_read_only(path):
        if time.monotonic() >= deadline:
            raise writers_present(branch, path)
        time.sleep(_POLL_SECONDS)
    try:
        yield whole(mounts)
    except BaseException as error:
        try:
            # Sealed by the transaction, the layer is not to be written to ever again.
            # Where that is in doubt it stays read-only, and the next command heals it.
            if not context.store.may_have_moved(branch):
                context.driver.set_writable(path)
            elif isinstance(error, StorageError):
                told = f"{path} stays read-only until the next command, which finds out what holds"
                error.hint = f"{error.hint}; {told}" if error.hint else told
        except DsbranchError as second:
            # The first failure is the one to report; the next command heals the mount.
            error.add_note(str(second))
        raise


def writers_present(branch: Branch, path: Path) -> WritersPresent:
    from dsbranch.overlay.writers import find_writers

    writers = find_writers(path)
    many = "a process holds" if len(writers) < 2 else f"{len(writers)} processes hold"
    return WritersPresent(
        f"{many} files of {branch.name} open for writing",
        processes=writers,
        hint="let them finish, or give `--wait SECONDS`; nothing was changed",
    )

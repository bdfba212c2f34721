"""Locks between processes: flock(2) on files in ``.dsbranch/locks``, and on new layers.
Room ``store``.

It promises that a lock falls with its holder, however that ends, and that whoever finds it
taken is told by whom. Lock files are never deleted: a lock on a deleted file excludes nobody.
The locks do not nest for one process either: a second request for a held lock is refused.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EDQUOT, ENOSPC
from pathlib import Path

from dsbranch.errors import Locked
from dsbranch.store.faults import storage
from dsbranch.store.layout import Layout

_POLL_SECONDS = 0.02
_NOTE_LIMIT = 256


@contextmanager
def branch_lock(
    layout: Layout, branch_id: int, *, verb: str, timeout: float = 0.0
) -> Iterator[None]:
    """Hold the lock of one branch. `timeout` is in seconds.

    `verb` is what others are told, as it follows ``dsbranch``: ``commit`` or ``commit exp1``.

    :raises Locked: another command holds it and did not let go in time
    """
    path = layout.locks / str(branch_id)
    with _locked(path, "the branch", verb=verb, timeout=timeout):
        yield


@contextmanager
def names_lock(layout: Layout, *, verb: str, timeout: float = 0.0) -> Iterator[None]:
    """Hold the workspace's lock on names, for commands that make or drop one.

    :raises Locked: another command holds it and did not let go in time
    """
    path = layout.locks / "names"
    with _locked(path, "the names of this workspace", verb=verb, timeout=timeout):
        yield


@contextmanager
def checkpoint_lock(layout: Layout, *, verb: str, timeout: float = 0.0) -> Iterator[None]:
    """Hold the workspace's lock on checkpoints, for commands that make or drop some.

    :raises Locked: another command holds it and did not let go in time
    """
    path = layout.locks / "checkpoints"
    with _locked(path, "the checkpoints of this workspace", verb=verb, timeout=timeout):
        yield


@contextmanager
def gc_lock(layout: Layout, *, verb: str) -> Iterator[None]:
    """Hold what keeps two processes from removing garbage at a time.

    :raises Locked: another command holds it
    """
    with _locked(layout.locks / "gc", "the garbage of this workspace", verb=verb, timeout=0.0):
        yield


@contextmanager
def seal_lock(layout: Layout, *, verb: str) -> Iterator[None]:
    """Hold what keeps two processes from sealing the dataset at a time.

    :raises Locked: another command holds it
    """
    with _locked(layout.locks / "seal", "the seal of the dataset", verb=verb, timeout=0.0):
        yield


@contextmanager
def layer_claim(layout: Layout, id: str) -> Iterator[None]:
    """Keep gc from taking the layer's directory, which has no row yet, for garbage."""
    with storage(f"lock {layout.layer(id)}"):
        fd = _open_directory(layout.layer(id))
    try:
        with storage(f"lock {layout.layer(id)}"):
            fcntl.flock(fd, fcntl.LOCK_SH)
        yield
    finally:
        os.close(fd)


def is_claimed(path: Path) -> bool:
    """Whether a process makes a layer of the directory `path` now, or just gave it up."""
    with storage(f"lock {path}"):
        try:
            fd = _open_directory(path)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
    return False


def _open_directory(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


@contextmanager
def _locked(path: Path, what: str, *, verb: str, timeout: float) -> Iterator[None]:
    with storage(f"open the lock {path}"):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        with storage(f"take the lock {path}"):
            taken = _take(fd, timeout)
        if not taken:
            raise _refusal(fd, what)
        with storage(f"write {path}"):
            _leave_note(fd, verb)
        try:
            yield
        finally:
            # Emptied before it is free, so that the next holder is never taken for this one. Should
            # that fail, it tells of a process that is gone; what was done under it is done.
            with suppress(OSError):
                os.ftruncate(fd, 0)
            # Said outright, as a forked child may hold a copy of the descriptor.
            fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)


def _take(fd: int, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(_POLL_SECONDS, left))
        else:
            os.ftruncate(fd, 0)
            return True


def _leave_note(fd: int, verb: str) -> None:
    pid = os.getpid()
    note = f"{pid} {verb} {_started(pid)}\n".encode("utf-8", "surrogateescape")
    try:
        os.pwrite(fd, note, 0)
    except OSError as error:
        # It is held all the same; on a full disk nobody is told by whom.
        if error.errno not in (ENOSPC, EDQUOT):
            raise


def _refusal(fd: int, what: str) -> Locked:
    holder = _holder(os.pread(fd, _NOTE_LIMIT, 0))
    by = f": {holder}" if holder else ""
    return Locked(
        f"another dsbranch command works on {what}{by}",
        holder=holder,
        hint="wait for it to end, then run the command again",
    )


def _holder(note: bytes) -> str | None:
    """Who wrote the note, if that process still lives and is no later one of the same pid."""
    words = note.decode("utf-8", "replace").split()
    if len(words) < 3 or not words[0].isdecimal():
        return None
    pid, verb, started = words[0], " ".join(words[1:-1]), words[-1]
    if started == "?" or _started(int(pid)) != started:
        return None
    return f"`dsbranch {verb}` (pid {pid})"


def _started(pid: int) -> str:
    """When a process began, in clock ticks since boot (field 22 of proc(5) stat); ``?``: gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return "?"
    # The second field is the command in parentheses and may itself hold spaces and brackets.
    return stat.rpartition(b")")[2].split()[19].decode("ascii")

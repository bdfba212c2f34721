"""Failures of the disk and of SQLite, turned into domain errors. Room ``store``.

It promises that a full, failing, read-only or forbidden disk becomes one sentence with the
step that helps, wherever in this room it strikes. It knows no paths of its own.
"""

from __future__ import annotations

import _sqlite3 as sqlite3
import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import (
    EACCES,
    EDQUOT,
    EFBIG,
    EIO,
    EMFILE,
    ENAMETOOLONG,
    ENFILE,
    ENOMEM,
    ENOSPC,
    ENOTCONN,
    EPERM,
    EROFS,
)

from dsbranch.errors import DsbranchError, IntegrityError, Locked, NoPrivilege, StorageError

_FREE = "free some space on that filesystem, then run the command again"
_HINTS = {
    ENOSPC: _FREE,
    EDQUOT: "raise the quota or remove files that count towards it, then run the command again",
    EIO: "the disk reports errors: see `dmesg`, and back up what can still be read",
    EROFS: "the filesystem is read-only: remount it read-write (`mount -o remount,rw …`)",
    EFBIG: "that filesystem holds no file of this size: use another one",
    ENAMETOOLONG: "choose a shorter name",
    ENOMEM: "end what else needs memory, or raise its limit, then run the command again",
    EMFILE: "raise the limit of open files: `ulimit -n`",
    ENOTCONN: "what showed this directory has ended; where it was mounted anew, `cd .` goes there",
    EACCES: "run the command as root (`sudo`), or as the owner of the workspace",
}

DAMAGED_HINT = (
    "`dsbranch verify --repair` makes it again from its journal; the layers and the dataset are"
    " untouched"
)
"""What helps against a damaged ``store.db``."""
MANIFEST_HINT = "`dsbranch verify --repair` makes it again from the files of its layer"
"""What helps against a manifest that is damaged or gone."""

# A WAL index that cannot grow is reported as an I/O error, though what is missing is space.
_SHM_FULL = sqlite3.SQLITE_IOERR_SHMSIZE
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
# What SQLite says, with no better code, of a file whose format or schema is not what it was.
_STRANGE = (
    *("unsupported file format", "foreign key mismatch"),
    *("no such table", "no such column", "no such index"),
)


@contextmanager
def storage(what: str) -> Iterator[None]:
    """Run the body; `what` is the verb and its object ("write /ws/.dsbranch/store.db").

    :raises NoPrivilege: EACCES or EPERM
    :raises StorageError: any other OSError, a full or failing disk under SQLite
    :raises Locked: SQLite waited for another writer until its time was up
    :raises IntegrityError: SQLite found its file malformed, or a row that contradicts others
    """
    try:
        yield
    except OSError as error:
        # Without an errno it was not the system that failed: that is a bug to be seen.
        if error.errno is None:
            raise
        raise from_errno(error.errno, what) from error
    except sqlite3.Error as error:
        translated = _from_sqlite(error, what)
        if translated is None:
            raise
        raise translated from error


def from_errno(errno: int, what: str) -> DsbranchError:
    """The error for a system call that failed with `errno` while trying to `what`."""
    message = f"cannot {what}: {os.strerror(errno)}"
    if errno in (EACCES, EPERM):
        return NoPrivilege(message, hint=_HINTS[EACCES])
    return StorageError(message, errno=errno, hint=_HINTS.get(errno))


def is_shortage(error: BaseException) -> bool:
    """Whether descriptors or memory ended: that says nothing of what was to be read."""
    return getattr(error, "errno", None) in (EMFILE, ENFILE, ENOMEM)


def _from_sqlite(error: sqlite3.Error, what: str) -> DsbranchError | None:
    code = getattr(error, "sqlite_errorcode", None)
    if code is None and not isinstance(error, sqlite3.OperationalError):
        return None  # raised by the binding itself: misuse, not a fault
    # Text that is no UTF-8 the binding finds, and has no code for.
    primary = sqlite3.SQLITE_CORRUPT if code is None else code & 0xFF
    if primary == sqlite3.SQLITE_FULL or code == _SHM_FULL:
        return from_errno(ENOSPC, what)
    if primary == sqlite3.SQLITE_IOERR:
        return from_errno(EIO, what)
    if primary == sqlite3.SQLITE_READONLY:
        return from_errno(EROFS, what)
    if primary in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return from_errno(EACCES, what)
    if primary == sqlite3.SQLITE_BUSY:
        return Locked(
            f"cannot {what}: another dsbranch command keeps writing to the store",
            hint="wait for it to end, then run the command again",
        )
    strange = primary == sqlite3.SQLITE_ERROR and str(error).startswith(_STRANGE)
    if strange or primary in _DAMAGED:
        return IntegrityError(
            f"cannot {what}: {error}",
            hint=DAMAGED_HINT,
        )
    if primary == sqlite3.SQLITE_CONSTRAINT:
        return IntegrityError(f"cannot {what}: it would contradict the store ({error})")
    return None

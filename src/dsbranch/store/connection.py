"""One SQLite handle on ``store.db``, with its settings and its failures. Room ``store``.

It promises that a write transaction is all or nothing and on the disk when it ends, that a
reader never waits for a writer (every read is one statement, in WAL mode), and that SQLite's
errors leave as domain errors. It knows no table.
"""

from __future__ import annotations

import _sqlite3 as sqlite3  # without dates: decision 20
import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES, ENOSPC, EROFS
from pathlib import Path
from typing import Any

from dsbranch.errors import IntegrityError, NoPrivilege
from dsbranch.store.faults import DAMAGED_HINT, from_errno, storage

Row = tuple[Any, ...]
Value = str | int | bytes | None

_BUSY_SECONDS = 60.0
_ALONE_SECONDS = 5.0


class Connection:
    """An open database. It belongs to the thread that made it."""

    def __init__(self, path: Path | None, *, create: bool = False, alone: bool = False) -> None:
        """
        Without a `path` it lies in memory, empty, and ends with the object.

        `alone` keeps all other processes out until it is closed, and needs no shared memory on
        the disk: the way to read on a full one.

        :raises NoPrivilege: its directory may not be written (WAL needs that even to read)
        :raises Locked: others have it open for longer than a few seconds, if `alone`
        :raises StorageError: the file is missing or the disk fails
        """
        self.path = Path(":memory:") if path is None else path
        self.alone = alone
        self.in_doubt = False
        uri = b"file::memory:"
        if path is not None:
            _require_writable(path)
            # A URI, as only that keeps SQLite from making a missing file.
            uri = b"file:" + _quoted(os.fsencode(path)) + b"?mode=rw" + b"c" * create
        with storage(f"open {self.path}"):
            self._sqlite = sqlite3.connect(
                uri,
                uri=True,
                timeout=_ALONE_SECONDS if alone else _BUSY_SECONDS,
                isolation_level=None,
            )
        try:
            # FULL: in WAL mode anything less can lose the last commits with the power.
            mode = "PRAGMA locking_mode = EXCLUSIVE;" if alone else ""
            with _naming_what_is_missing(self.path):
                self.script(f"{mode} PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL;")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._sqlite.close()

    def rows(self, sql: str, *values: Value) -> list[Row]:
        """All rows of one statement; no read transaction outlives the call."""
        with _asking(f"read {self.path}"):
            return self._sqlite.execute(sql, values).fetchall()

    def row(self, sql: str, *values: Value) -> Row | None:
        """The first row of one statement, or None."""
        found = self.rows(sql, *values)
        return found[0] if found else None

    def run(self, sql: str, *values: Value) -> int:
        """Execute one writing statement; gives the rowid it inserted, if it did."""
        with _asking(f"write {self.path}"):
            return self._sqlite.execute(sql, values).lastrowid or 0

    def script(self, sql: str) -> None:
        with _asking(f"set up {self.path}"):
            self._sqlite.executescript(sql)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make the writes of the body one: all of them on the disk at its end, or none.

        :raises Locked: another process kept writing for a minute
        :raises StorageError: the disk is full or failing; nothing was written, or `in_doubt` is set
        """
        with _asking(f"write {self.path}"):
            self._sqlite.execute("BEGIN IMMEDIATE")
        try:
            yield
            # From here to its end nobody can say whether the next reader will see the writes:
            # a commit record may be in the log although syncing it failed.
            self.in_doubt = True
            self._commit()
            self.in_doubt = False
        except BaseException:
            # SQLite has already rolled back by itself after some failures.
            if self._sqlite.in_transaction:
                self._sqlite.execute("ROLLBACK")
            raise

    def _commit(self) -> None:
        what = f"write {self.path}"
        try:
            self._sqlite.execute("COMMIT")
        except sqlite3.Error as error:
            # The commit record comes last: a log for which there was no space does not have it.
            self.in_doubt = error.sqlite_errorcode != sqlite3.SQLITE_FULL
            with storage(
                f"{what}, and whether it went through is not known" if self.in_doubt else what
            ):
                raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Let all reads of the body see one state; others go on writing meanwhile."""
        with _asking(f"read {self.path}"):
            self._sqlite.execute("BEGIN DEFERRED")
        try:
            yield
        finally:
            self._sqlite.execute("ROLLBACK")

    @contextmanager
    def clearing(self) -> Iterator[None]:
        """As `transaction`, for removing many rows: references are checked at its end, at once.

        One by one, the check of a removed row reads all the rows that could refer to it.

        :raises IntegrityError: a row would refer to one that is not there; nothing was written
        """
        self.script("PRAGMA foreign_keys = OFF")
        try:
            with self.transaction():
                yield
                broken = self.rows("PRAGMA foreign_key_check")
                if broken:
                    raise IntegrityError(
                        f"{self.path}: a row of {broken[0][0]} refers to one of {broken[0][2]}"
                        " that is not there",
                        hint="`dsbranch verify` tells what is damaged",
                    )
        finally:
            self.script("PRAGMA foreign_keys = ON")


def _quoted(name: bytes) -> bytes:
    """What means something in a URI, escaped; urllib takes 2 ms where pathlib has not loaded it."""
    return name.replace(b"%", b"%25").replace(b"?", b"%3f").replace(b"#", b"%23")


@contextmanager
def _asking(what: str) -> Iterator[None]:
    """As `storage`, where SQLite may quote what it finds in a damaged file."""
    try:
        with storage(what):
            yield
    except UnicodeDecodeError as error:
        raise IntegrityError(
            f"cannot {what}: {error}",
            hint=DAMAGED_HINT,
        ) from error


@contextmanager
def _naming_what_is_missing(path: Path) -> Iterator[None]:
    """SQLite can only say that it could not make a file, where there is no inode left."""
    try:
        yield
    except NoPrivilege as error:
        filesystem = os.statvfs(path.parent)
        if filesystem.f_files and not filesystem.f_ffree:
            raise from_errno(ENOSPC, f"open {path}") from error
        raise


def _require_writable(path: Path) -> None:
    """Say what is in the way before SQLite can only say that it could not open the file."""
    what = f"open {path}"
    with storage(what):
        if os.access(path.parent, os.W_OK | os.X_OK, effective_ids=True) and (
            not path.exists() or os.access(path, os.W_OK | os.R_OK, effective_ids=True)
        ):
            return
        read_only = os.statvfs(path.parent).f_flag & os.ST_RDONLY
    raise from_errno(EROFS if read_only else EACCES, what)

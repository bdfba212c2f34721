"""Digests of files that were read before, in ``digests.db``. Room ``store``.

It promises an answer only for a file that stat cannot tell from the one that was read, and
that no trouble with its file reaches a caller: what cannot be asked is not known, what cannot
be told is forgotten, and a file that is damaged is thrown away. Nothing but time is lost with
it. ``docs/decisions/0009-digest-cache.md`` says why its rules are as they are.
"""

from __future__ import annotations

import _sqlite3 as sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dsbranch._core.digest import digest_bytes

if TYPE_CHECKING:
    from dsbranch._core.jobs import FileKey

FORMAT = 1
MOST_ROWS = 1_000_000

_PATIENCE_SECONDS = 0.2
_AT_ONCE = 1000
_SECOND = 1_000_000_000
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)

_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS digests (
    dev INTEGER NOT NULL,
    ino INTEGER NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    digest BLOB NOT NULL,
    seal BLOB NOT NULL,
    UNIQUE (dev, ino)
);
PRAGMA user_version = {FORMAT};
COMMIT;
"""
_FIND = """
SELECT d.dev, d.ino, d.size, d.mtime_ns, d.ctime_ns, lower(hex(d.digest)), d.seal
FROM json_each(?) AS wanted CROSS JOIN digests AS d ON d.dev = ? AND d.ino = wanted.value
"""
_LEARN = "INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?, ?, ?)"
# Row ids grow with every insert, so their span bounds the count and they are the order of age.
_FORGET = "DELETE FROM digests WHERE rowid <= (SELECT max(rowid) FROM digests) - ?"


class Digests:
    """The digests that one workspace remembers. It belongs to the thread that uses it first."""

    def __init__(self, path: Path) -> None:
        """Nothing is opened until there is something to find or to learn."""
        self.path = path
        self._db: sqlite3.Connection | None = None
        self._given_up = False

    def close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with suppress(sqlite3.Error):  # all that was to be kept was committed
                db.close()

    def find(self, keys: list[FileKey]) -> list[bytes | None]:
        """The digest of each file, None where it is not known."""
        found: dict[tuple[int, ...], bytes] = {}
        wanted = [_signed(key) for key in keys]
        with self._at_any_rate():
            db = self._open(create=False)
            if db is not None:
                inodes: dict[int, list[int]] = {}
                for dev, ino, *_ in wanted:
                    inodes.setdefault(dev, []).append(ino)
                for dev, some in inodes.items():
                    # Of numbers, so what Python makes of a list is JSON.
                    for *key, digest, seal in db.execute(_FIND, (str(some), dev)):
                        if seal == _seal(*key, digest):
                            found[tuple(key)] = bytes.fromhex(digest)
        return [found.get(key) for key in wanted]

    def learn(self, facts: list[tuple[FileKey, bytes, int]]) -> None:
        """Remember files with their digests, but for those that may have been written to since
        without a trace; each with the time (ns since the epoch) at which reading it began."""
        kept = [(_signed(key), digest) for key, digest, began in facts if not is_racy(key, began)]
        rows = [(*key, digest, _seal(*key, digest.hex())) for key, digest in kept]
        if not rows:
            return
        with self._at_any_rate():
            db = self._open(create=True)
            if db is None:
                return
            db.execute("BEGIN IMMEDIATE")
            try:
                # In parts, as Ctrl-C waits for the end of each.
                for start in range(0, len(rows), _AT_ONCE):
                    db.executemany(_LEARN, rows[start : start + _AT_ONCE])
                db.execute(_FORGET, (MOST_ROWS,))
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def _open(self, *, create: bool) -> sqlite3.Connection | None:
        if self._db is None and not self._given_up and (create or self.path.exists()):
            self._db = _connect(self.path)
        return self._db

    @contextmanager
    def _at_any_rate(self) -> Iterator[None]:
        """Run the body; what goes wrong with the file ends its use, and nothing else."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            self._given_up = True
            self.close()
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
                with suppress(OSError):  # whoever may throw it away will
                    _discard(self.path)


def is_racy(key: FileKey, began_ns: int) -> bool:
    """Whether a write after `began_ns` could leave the file with the same times. Pure.

    A time is at most one step of the filesystem's clock older than the write that set it. That
    is a tick of the kernel, or up to 2 s on filesystems that keep whole seconds.
    """
    newest, changed = max(key[3], key[4]), key[4]
    return newest + (_SECOND // 10 if changed % _SECOND else 2 * _SECOND) > began_ns


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_PATIENCE_SECONDS, isolation_level=None)
    try:
        # OFF: nobody waits for the disk. What a power cut tears, the seals tell from the whole.
        db.execute("PRAGMA synchronous = OFF")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(_SCHEMA)
        elif version != FORMAT:
            foreign = sqlite3.DatabaseError(f"{path} has format {version}")
            foreign.sqlite_errorcode = sqlite3.SQLITE_NOTADB
            raise foreign
    except BaseException:
        db.close()
        raise
    return db


def _discard(path: Path) -> None:
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)


def _seal(*row: object) -> bytes:
    """What tells a row that was written as it is from one that a torn page made up."""
    return digest_bytes(" ".join(map(str, row)).encode())[:8]


def _signed(key: FileKey) -> FileKey:
    """SQLite integers have 64 bits with sign; inode numbers use all 64 (as NFS does)."""
    dev, ino, size, mtime, ctime = key
    return (
        dev - (1 << 64) if dev >= 1 << 63 else dev,
        ino - (1 << 64) if ino >= 1 << 63 else ino,
        size,
        mtime,
        ctime,
    )

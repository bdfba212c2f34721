"""A second record of what ``store.db`` says, to make it again from. Room ``store``.

A text file to which every operation appends the rows it wrote, as JSON behind a checksum. It
promises that no trouble with it reaches an operation: the store is the only truth, and what could
not be told is found missing by the next one, which then writes all rows anew. A file that is torn
or ends early gives the store as it was before what is missing; nothing is read from behind a
damaged place. ``docs/decisions/0028-a-journal-of-the-store.md`` says why.
"""

from __future__ import annotations

import _sqlite3 as sqlite3
import os
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from xxhash import xxh3_128_hexdigest

from dsbranch.errors import DsbranchError, IntegrityError
from dsbranch.model.facts import Branch, Commit, Layer, Operation
from dsbranch.store.connection import Connection
from dsbranch.store.faults import is_shortage, storage
from dsbranch.store.layout import Layout, sync_directory

Told = dict[str, Any]
_Rows = dict[str, list[str]]  # of each table, each row as a JSON list

# In the order in which rows refer to each other. Mounts end with the machine, and checkpoints, with
# the layers they consist of, are made again.
_TABLES = {
    "workspace": "one, id, hex(base), base_dev, base_ino, dialect, created_ns",
    "layers": "id, state, dialect, created_ns, sealed_ns, entries, bytes, hashed, redirects,"
    " metacopy",
    "commits": "seq, id, layer, message, author, time_ns",
    "parents": "commit_id, position, parent_id",
    "branches": "id, name, head, layer, fork, created_ns, pending",
    "tags": "name, commit_id, created_ns",
    "operations": "id, verb, time_ns, author, detail, undoes",
    "moves": "id, operation, name, branch, before, after",
}
_NO_CHECKPOINTS = (
    "id NOT IN (SELECT layer FROM checkpoints UNION"
    " SELECT data FROM checkpoints WHERE data IS NOT NULL)"
)
_DRAFT = "journal.new-"
BACKUP_HINT = (
    "put `.dsbranch/store.db` back from a backup; the layers and the dataset are untouched"
)
# Of a line that is whole, and not of our making.
_SENSELESS = (
    *(KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError),
    sqlite3.Error,
)
# The number of the last operation ends a line, to be found without reading all of it.
_END = b'"op":%d}\n'


def written(
    db: Connection, operation: Operation, layers: Sequence[Layer], commit: Commit | None
) -> bytes:
    """What is to be told of an operation, in whose transaction this is called."""
    put = {"layers": [row for layer in layers for row in _rows(db, "layers", "id = ?", layer.id)]}
    if commit is not None:
        put["commits"] = _rows(db, "commits", "id = ?", commit.id)
        put["parents"] = _rows(db, "parents", "commit_id = ?", commit.id)
    drop: _Rows = {"branches": [], "tags": []}
    for before, after in operation.moves:
        side = after or before
        assert side is not None
        table, column, key = (
            ("branches", "id", side.id) if isinstance(side, Branch) else ("tags", "name", side.name)
        )
        if after is None:
            drop[table].append(_json(db, "json_quote(?)", "", key)[0])
        else:
            put[table] = put.get(table, []) + _rows(db, table, f"{column} = ?", key)
    put["operations"] = _rows(db, "operations", "id = ?", operation.id)
    put["moves"] = _rows(db, "moves", "operation = ?", operation.id)
    return _line({"drop": _lists(drop), "put": _lists(put), "op": str(operation.id)})


def append(layout: Layout, db: Connection, operation: int, line: bytes) -> None:
    """Tell of an operation that has happened; of all there is, if it follows on nothing told."""
    with suppress(DsbranchError):
        if not _appended(layout.journal, operation, line):
            write(layout, db)


def _appended(path: Path, operation: int, line: bytes) -> bool:
    """Whether a line could be appended, right behind that of the operation before."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        wanted = _END % (operation - 1)
        end = os.pread(fd, len(wanted), max(0, os.fstat(fd).st_size - len(wanted)))
        # In one piece, as others may append, too.
        return end == wanted and os.write(fd, line) == len(line)
    except OSError:
        return False
    finally:
        os.close(fd)


def write(layout: Layout, db: Connection) -> None:
    """Tell of all there is, in a new file; on the disk when this returns.

    :raises Locked: another process kept writing for a minute
    :raises StorageError: the disk is full or failing
    """
    draft = layout.journal.with_name(f"{_DRAFT}{os.getpid()}")
    # Nobody writes rows meanwhile, or overtakes this with older ones.
    with db.transaction(), storage(f"write {layout.journal}"):
        put, last = _whole(db)
        line = _line({"format": str(_version(db)), "put": _lists(put), "op": str(last)})
        for other in layout.dot.glob(f"{_DRAFT}*"):
            other.unlink(missing_ok=True)  # of a process that was killed
        try:
            with open(draft, "wb") as file:
                file.write(line)
                file.flush()
                # Else a power cut could leave the name and not the first line, which counts.
                os.fsync(file.fileno())
            draft.replace(layout.journal)
        finally:
            draft.unlink(missing_ok=True)
        sync_directory(layout.dot)


def remove(layout: Layout) -> None:
    """Tell of nothing, on the disk when this returns: whoever comes next tells of all there is.

    :raises StorageError: the disk is failing
    """
    with storage(f"remove {layout.journal}"):
        layout.journal.unlink(missing_ok=True)
        sync_directory(layout.dot)


def make_tables(db: Connection) -> None:
    """The tables of a store, empty, in WAL mode where they lie on a disk."""
    from importlib.resources import files

    schema = files("dsbranch.store").joinpath("schema.sql").read_text(encoding="utf-8")
    # At once: SQLite syncs the disk for each statement that stands alone.
    db.script(f"PRAGMA journal_mode = WAL; BEGIN; {schema} COMMIT;")


def replay(path: Path, db: Connection) -> int:
    """Put what the journal tells into empty tables; the number of the last operation it tells of.

    :raises IntegrityError: it is damaged before there is anything to begin with
    :raises StorageError: it cannot be read
    """
    import json

    last, version = 0, _version(db)
    with storage(f"read {path}"), path.open("rb") as lines, db.clearing():
        for number, line in enumerate(lines):
            text = _checked(line)
            if text is None and number == 0:
                raise IntegrityError(f"{path} is damaged in its first line", hint=BACKUP_HINT)
            try:
                told: Told = json.loads(text or "null")
                if text is None or (number and told["op"] != last + 1):
                    break
                if told.get("format", version) != version:
                    raise ValueError(f"it is of format {told['format']}")
                _apply(db, told)
                last = int(told["op"])
            except _SENSELESS as error:
                where = f"line {number + 1} of {path}"
                raise IntegrityError(
                    f"{where} makes no sense: {error}", hint=BACKUP_HINT
                ) from error
    return last


def flaw(layout: Layout, db: Connection) -> str | None:
    """What the journal tells otherwise than the store has it; None: nothing.

    It is no flaw that there is none, or that it ends before the last operation: the next one then
    tells of all there is.
    """
    if not layout.journal.exists():
        return None
    with closing(Connection(None)) as copy:
        make_tables(copy)
        try:
            last = replay(layout.journal, copy)
        except IntegrityError as error:
            if is_shortage(error):
                raise
            return str(error) if layout.journal.exists() else None
        with db.snapshot():
            ours, done = _whole(db)
        theirs, _ = _whole(copy)
    different = [name for name in _TABLES if ours[name] != theirs[name]]
    return f"it tells of other {', '.join(different)}" if different and last == done else None


def _whole(db: Connection) -> tuple[_Rows, int]:
    """All rows there are, in an order of their own, and the last number that was given to an
    operation, or to a removal of rows."""
    last = db.row("SELECT max(seq) FROM sqlite_sequence WHERE name = 'operations'")
    put = {
        table: sorted(_rows(db, table, _NO_CHECKPOINTS if table == "layers" else "1"))
        for table in _TABLES
    }
    assert last is not None
    # Ids of branches that are gone must not be given to others.
    ids = _json(db, "json_array(name, seq)", "FROM sqlite_sequence ORDER BY name")
    return put | {"sqlite_sequence": ids}, last[0] or 0


def _version(db: Connection) -> int:
    row = db.row("PRAGMA user_version")
    assert row is not None
    return int(row[0])


def _rows(db: Connection, table: str, where: str, *values: int | str) -> list[str]:
    """Rows of a table, each as a JSON list."""
    return _json(db, f"json_array({_TABLES[table]})", f"FROM {table} WHERE {where}", *values)


def _json(db: Connection, expression: str, rest: str, *values: int | str) -> list[str]:
    """The JSON that SQLite makes by an expression, for each row."""
    return [row[0] for row in db.rows(f"SELECT {expression} {rest}", *values)]


def _apply(db: Connection, told: Told) -> None:
    for table, keys in told.get("drop", {}).items():
        column = "id" if table == "branches" else "name"
        for key in keys:
            db.run(f"DELETE FROM {table} WHERE {column} = ?", key)  # noqa: S608 - our own line
    for table, found in told["put"].items():
        for row in found:
            _put(db, table, row)


def _put(db: Connection, table: str, row: list[Any]) -> None:
    if table == "workspace":
        row = [*row[:2], bytes.fromhex(row[2]), *row[3:]]
    if table == "sqlite_sequence":
        db.run("DELETE FROM sqlite_sequence WHERE name = ?", row[0])
    else:
        _TABLES[table]  # there is no other
    places = ", ".join("?" * len(row))
    db.run(f"INSERT OR REPLACE INTO {table} VALUES ({places})", *row)  # noqa: S608


def _lists(tables: _Rows) -> str:
    return _object({table: f"[{','.join(found)}]" for table, found in tables.items()})


def _object(members: dict[str, str]) -> str:
    """A JSON object of what is JSON already."""
    return "{" + ",".join(f'"{name}":{text}' for name, text in members.items()) + "}"


def _line(members: dict[str, str]) -> bytes:
    text = _object(members).encode()
    return b"%s %s\n" % (xxh3_128_hexdigest(text).encode(), text)


def _checked(line: bytes) -> bytes | None:
    """The JSON of a line; None: it is damaged, or its end is missing."""
    digest, _, text = line.removesuffix(b"\n").partition(b" ")
    whole = line.endswith(b"\n") and digest == xxh3_128_hexdigest(text).encode()
    return text if whole else None

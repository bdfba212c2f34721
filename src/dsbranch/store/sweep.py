"""All that a workspace remembers, at once, and the removal of rows. Room ``store``.

For gc, du and verify, which look at everything. It decides nothing: the caller says what goes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dsbranch.errors import DsbranchError
from dsbranch.model.history import Doomed, History
from dsbranch.store import journal, rows
from dsbranch.store.connection import Connection, Row
from dsbranch.store.database import Store
from dsbranch.store.faults import storage


@contextmanager
def clearing(store: Store) -> Iterator[None]:
    """The transaction in which `drop` may be called; what is read in it stays true to its end.

    After it the journal is renewed; one that cannot be is removed, for it tells of what goes.
    """
    with store._db.clearing():
        yield
    try:
        renew_journal(store)
    except DsbranchError:
        with suppress(DsbranchError):
            journal.remove(store.layout)


def history(store: Store) -> History:
    """Read every name, commit, operation, layer and checkpoint.

    :raises IntegrityError: a row is malformed
    """
    db = store._db
    return History(
        commits={
            commit.id: commit
            for commit in map(rows.commit, db.rows(f"{rows.COMMIT} ORDER BY c.seq DESC"))
        },
        branches=tuple(store.branches()),
        tags=tuple(store.tags()),
        operations=tuple(rows.operations(db.rows(f"{rows.OPERATION} ORDER BY o.id, m.id"))),
        layers={layer.id: layer for layer in map(rows.layer, db.rows(rows.LAYER))},
        checkpoints=tuple(map(rows.checkpoint, db.rows(rows.CHECKPOINT))),
        mounts=tuple(store.mount_records()),
    )


def drop(store: Store, doomed: Doomed) -> None:
    """Remove the rows of `doomed`, within `clearing`."""
    db = store._db
    _delete(db, "mounts", "id", doomed.mounts)
    # A branch that was squashed goes on where it was mounted, on a commit that may go now.
    db.run(
        "UPDATE mounts SET commit_id = b.head FROM branches b WHERE b.layer = mounts.layer"
        " AND commit_id IN (SELECT value FROM json_each(?))",
        json.dumps(doomed.commits),
    )
    _delete(db, "moves", "operation", doomed.operations)
    _delete(db, "operations", "id", doomed.operations)
    _delete(db, "checkpoints", "layer", doomed.checkpoints)
    _delete(db, "parents", "commit_id", doomed.commits)
    _delete(db, "commits", "id", doomed.commits)
    _delete(db, "layers", "id", doomed.layers)
    if any(doomed):
        # As an operation would, for the journal to end before it: what is told next is told anew.
        db.run("UPDATE sqlite_sequence SET seq = seq + 1 WHERE name = 'operations'")


def journal_flaw(store: Store) -> str | None:
    """What the journal tells otherwise than the store has it; None: nothing."""
    return journal.flaw(store.layout, store._db)


def renew_journal(store: Store) -> None:
    """Have the journal tell of all there is now.

    :raises StorageError: the disk is full or failing
    """
    journal.write(store.layout, store._db)


def unhashed(store: Store) -> list[str]:
    """The sealed layers that were committed without digests of all their files, oldest first."""
    found = store._db.rows(
        "SELECT id FROM layers WHERE state = 'sealed' AND NOT hashed ORDER BY sealed_ns, id"
    )
    return [row[0] for row in found]


def flaws(store: Store) -> list[str]:
    """What SQLite finds wrong with the file, and rows that refer to what is not there."""
    db = store._db
    found = [str(row[0]) for row in db.rows("PRAGMA integrity_check") if row[0] != "ok"]
    return found + [_dangling(db, row) for row in db.rows("PRAGMA foreign_key_check")]


def directories(store: Store) -> list[Path]:
    """The directories of layers as they lie on the disk, whether the store knows them or not."""
    layers = store.layout.layers
    with storage(f"list {layers}"), os.scandir(layers) as entries:
        return sorted(Path(e.path) for e in entries if e.is_dir(follow_symlinks=False))


def _delete(db: Connection, table: str, column: str, values: Iterable[int | str]) -> None:
    db.run(
        f"DELETE FROM {table} WHERE {column} IN (SELECT value FROM json_each(?))",  # noqa: S608
        json.dumps(list(values)),
    )


def _dangling(db: Connection, found: Row) -> str:
    table, rowid, parent, number = found
    keys = {row[0]: row[3] for row in db.rows(f"PRAGMA foreign_key_list({table})")}
    where = "" if rowid is None else f" {rowid}"
    return f"row{where} of {table}: its {keys[number]} is not in {parent}"

"""The single steps of which every write is made. Room ``store``.

Each step belongs inside a transaction of the caller. They check what SQLite's own
constraints do not: that a branch still stands where the caller saw it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from dsbranch.errors import AlreadyExists, Locked
from dsbranch.model.facts import (
    Branch,
    Checkpoint,
    Commit,
    Layer,
    MountRecord,
    Move,
    Operation,
    Tag,
)
from dsbranch.store import rows
from dsbranch.store.connection import Connection


def insert_commit(db: Connection, commit: Commit) -> None:
    db.run(
        "INSERT INTO commits (id, layer, message, author, time_ns) VALUES (?, ?, ?, ?, ?)",
        commit.id,
        commit.layer,
        rows.text(commit.message, "message"),
        rows.text(commit.author, "author"),
        commit.time_ns,
    )
    for number, parent in enumerate(commit.parents):
        db.run("INSERT INTO parents VALUES (?, ?, ?)", commit.id, number, parent)


def put_layer(db: Connection, layer: Layer) -> None:
    """Add a layer, or seal the one that was open until now."""
    if db.row("SELECT 1 FROM layers WHERE id = ? AND state = 'open'", layer.id):
        seal_layer(db, layer)
    else:
        insert_layer(db, layer)


def insert_layer(db: Connection, layer: Layer) -> None:
    db.run(
        "INSERT INTO layers (id, state, dialect, created_ns, sealed_ns, entries, bytes,"
        " hashed, redirects, metacopy) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        *rows.layer_values(layer),
    )


def seal_layer(db: Connection, layer: Layer) -> None:
    db.run(
        "UPDATE layers SET state = 'sealed', sealed_ns = ?, entries = ?, bytes = ?,"
        " hashed = ?, redirects = ?, metacopy = ? WHERE id = ?",
        *rows.layer_values(layer)[4:],
        layer.id,
    )


def insert_checkpoint(db: Connection, checkpoint: Checkpoint) -> None:
    db.run(
        "INSERT INTO checkpoints (layer, top, bottom, span, data) VALUES (?, ?, ?, ?, ?)",
        checkpoint.layer,
        checkpoint.top,
        checkpoint.bottom,
        checkpoint.span,
        checkpoint.data,
    )


def insert_mount(db: Connection, record: MountRecord) -> int:
    """Gives the id it got; that of `record` is ignored."""
    return db.run(
        "INSERT INTO mounts (boot_id, namespace, mount_id, path, commit_id, layer,"
        " lowers, created_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        record.boot_id,
        record.namespace,
        record.mount_id,
        os.fsencode(record.path),
        record.commit,
        record.layer,
        rows.ids_text(record.lowers),
        time.time_ns(),
    )


def require_unmoved(db: Connection, moves: Sequence[Move]) -> None:
    """:raises Locked: a name is no longer where its move begins"""
    for move in moves:
        if move.before is not None:
            _require_there(db, move.before)


def carry_out(
    db: Connection, moves: Sequence[Move], claim: Callable[[int], None] | None
) -> list[Move]:
    """Move the names, those that end first, as another may take their place; the moves as done.

    :raises AlreadyExists: a new name is taken
    :raises Locked: what it is to stand on was removed by gc
    """
    for move in moves:
        if move.after is None:
            assert move.before is not None
            _remove(db, move.before)
    done = []
    for move in moves:
        after = move.after
        if after is not None:
            _require_kept(db, after)
        if after is not None and move.before is None:
            after = _add(db, after)
            if claim is not None and isinstance(after, Branch):
                claim(after.id)
        elif after is not None:
            _change(db, after)
        done.append(Move(move.before, after))
    return done


def log(
    db: Connection,
    verb: str,
    moves: Sequence[Move],
    *,
    author: str,
    detail: str,
    undoes: int | None = None,
) -> Operation:
    """Add the row of one operation, and those of its moves."""
    now = time.time_ns()
    id = db.run(
        "INSERT INTO operations (verb, time_ns, author, detail, undoes) VALUES (?, ?, ?, ?, ?)",
        verb,
        now,
        rows.text(author, "author"),
        rows.text(detail, "detail"),
        undoes,
    )
    for move in moves:
        side = move.before or move.after
        before, was = rows.side_sql(move.before)
        after, becomes = rows.side_sql(move.after)
        columns = "operation, name, branch, before, after"
        db.run(
            f"INSERT INTO moves ({columns}) VALUES (?, ?, ?, {before}, {after})",  # noqa: S608
            id,
            move.name,
            side.id if isinstance(side, Branch) else None,
            *was,
            *becomes,
        )
    return Operation(id, verb, now, author, detail, tuple(moves), undoes)


def _require_there(db: Connection, expected: Branch | Tag) -> None:
    found: Branch | Tag | None
    if isinstance(expected, Branch):
        row = db.row(f"{rows.BRANCH} WHERE id = ?", expected.id)
        found = None if row is None else rows.branch(row)
    else:
        row = db.row(f"{rows.TAG} WHERE name = ?", expected.name)
        found = None if row is None else rows.tag(row)
    if found != expected:
        raise Locked(
            f"another dsbranch command changed {_kind(expected)} {expected.name} meanwhile",
            hint="run the command again",
        )


def _require_kept(db: Connection, side: Branch | Tag) -> None:
    if isinstance(side, Branch):
        wanted = [("commit", side.head), ("commit", side.fork), ("layer", side.layer)]
        wanted += [("layer", layer) for layer in side.pending]
    else:
        wanted = [("commit", side.commit)]
    for what, id in wanted:
        if not db.row(f"SELECT 1 FROM {what}s WHERE id = ?", id):  # noqa: S608 - two constants
            raise Locked(
                f"{what} {id} is not there any more: `dsbranch gc` removed it",
                hint="run the command again to see what is left",
            )


def _kind(side: Branch | Tag) -> str:
    return "branch" if isinstance(side, Branch) else "tag"


def _remove(db: Connection, side: Branch | Tag) -> None:
    if isinstance(side, Branch):
        db.run("DELETE FROM branches WHERE id = ?", side.id)
    else:
        db.run("DELETE FROM tags WHERE name = ?", side.name)


def _add(db: Connection, side: Branch | Tag) -> Branch | Tag:
    """The side as it is in the store, a new branch with its id."""
    name = rows.text(side.name, f"{_kind(side)} name")
    select, shown = (rows.BRANCH, "list") if isinstance(side, Branch) else (rows.TAG, "tag")
    if db.row(f"{select} WHERE name = ?", name):
        raise AlreadyExists(
            f"a {_kind(side)} {name} exists already", hint=f"`dsbranch {shown}` shows what there is"
        )
    if isinstance(side, Tag):
        db.run("INSERT INTO tags VALUES (?, ?, ?)", name, side.commit, side.created_ns)
        return side
    id = db.run(
        "INSERT INTO branches (id, name, head, layer, fork, created_ns, pending)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        side.id or None,
        *rows.branch_values(side),
    )
    return side._replace(id=id)


def _change(db: Connection, side: Branch | Tag) -> None:
    if isinstance(side, Branch):
        db.run(
            "UPDATE branches SET name = ?, head = ?, layer = ?, fork = ?, created_ns = ?,"
            " pending = ? WHERE id = ?",
            *rows.branch_values(side),
            side.id,
        )
    else:
        db.run(
            "UPDATE tags SET commit_id = ?, created_ns = ? WHERE name = ?",
            side.commit,
            side.created_ns,
            side.name,
        )

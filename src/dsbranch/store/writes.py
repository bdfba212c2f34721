"""The single steps of which every write is made. Room ``store``.

Each step belongs inside a transaction of the caller. They check what SQLite's own
constraints do not: that a branch still stands where the caller saw it.
"""

from __future__ import annotations

from dsbranch.errors import AlreadyExists, Locked
from dsbranch.model import Branch, Commit, Layer, Move, Operation, Position
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


def insert_branch(db: Connection, branch: Branch) -> int:
    """Gives the new branch's id; that of `branch` does not count.

    :raises AlreadyExists: the name is taken
    """
    name = rows.text(branch.name, "branch name")
    if db.row("SELECT 1 FROM branches WHERE name = ?", name):
        raise AlreadyExists(
            f"a branch {name} exists already", hint="`dsbranch list` shows all branches"
        )
    return db.run(
        "INSERT INTO branches (name, head, layer, fork, created_ns) VALUES (?, ?, ?, ?, ?)",
        name,
        branch.head,
        branch.layer,
        branch.fork,
        branch.created_ns,
    )


def require_unmoved(db: Connection, branch: Branch) -> None:
    """:raises Locked: the branch moved or went since `branch` was read"""
    row = db.row(f"{rows.BRANCH} WHERE id = ?", branch.id)
    if row is None or rows.branch(row) != branch:
        raise Locked(
            f"another dsbranch command changed branch {branch.name} meanwhile",
            hint="run the command again",
        )


def move_branch(db: Connection, branch: Branch, *, head: str, layer: str) -> Position:
    db.run("UPDATE branches SET head = ?, layer = ? WHERE id = ?", head, layer, branch.id)
    return Position(branch.id, head, layer, branch.fork)


def log(
    db: Connection,
    *,
    verb: str,
    author: str,
    detail: str,
    time_ns: int,
    name: str,
    before: Position | None,
    after: Position | None,
) -> Operation:
    """Add one operation that moved one name."""
    id = db.run(
        "INSERT INTO operations (verb, time_ns, author, detail) VALUES (?, ?, ?, ?)",
        verb,
        time_ns,
        rows.text(author, "author"),
        rows.text(detail, "detail"),
    )
    db.run(
        "INSERT INTO moves (operation, name, before, after) VALUES (?, ?, ?, ?)",
        id,
        name,
        rows.position_text(before),
        rows.position_text(after),
    )
    return Operation(id, verb, time_ns, author, detail, (Move(name, before, after),))

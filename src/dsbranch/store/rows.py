"""Rows of the store and the values of ``model``, both ways. Room ``store``; pure.

It knows the column order of each table and nothing of when rows are read or written.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from dsbranch.errors import UsageError
from dsbranch.model import Branch, Commit, Layer, MountRecord, Move, Operation, Position, Tag
from dsbranch.store.connection import Row, Value

LAYER = (
    "SELECT id, state, dialect, created_ns, sealed_ns, entries, bytes, hashed, redirects, metacopy"
    " FROM layers"
)
COMMIT = (
    "SELECT c.id, c.layer, c.message, c.author, c.time_ns,"
    " (SELECT json_group_array(parent_id) FROM"
    "  (SELECT parent_id FROM parents WHERE commit_id = c.id ORDER BY position))"
    " FROM commits c"
)
BRANCH = "SELECT id, name, head, layer, fork, created_ns FROM branches"
TAG = "SELECT name, commit_id, created_ns FROM tags"
MOUNT = "SELECT id, boot_id, namespace, mount_id, path, commit_id, layer, lowers FROM mounts"


def layer(row: Row) -> Layer:
    plain, flags = row[:7], row[7:]
    return Layer(*plain, *(bool(flag) for flag in flags))


def layer_values(layer: Layer) -> tuple[Value, ...]:
    return (
        layer.id,
        layer.state,
        layer.dialect,
        layer.created_ns,
        layer.sealed_ns,
        layer.entries,
        layer.bytes,
        int(layer.hashed),
        int(layer.redirects),
        int(layer.metacopy),
    )


def commit(row: Row) -> Commit:
    id, layer_id, message, author, time_ns, parents = row
    return Commit(id, tuple(json.loads(parents)), layer_id, message, author, time_ns)


def branch(row: Row) -> Branch:
    return Branch(*row)


def tag(row: Row) -> Tag:
    return Tag(*row)


def mount(row: Row) -> MountRecord:
    id, boot_id, namespace, mount_id, path, commit_id, layer_id, lowers = row
    return MountRecord(
        id=id,
        boot_id=boot_id,
        namespace=namespace,
        mount_id=mount_id,
        path=Path(os.fsdecode(path)),
        commit=commit_id,
        layer=layer_id,
        lowers=tuple(json.loads(lowers)),
    )


def position(branch: Branch) -> Position:
    return Position(branch.id, branch.head, branch.layer, branch.fork)


def position_text(position: Position | None) -> str | None:
    if position is None:
        return None
    return json.dumps(
        {
            "id": position.id,
            "head": position.head,
            "layer": position.layer,
            "fork": position.fork,
        },
        separators=(",", ":"),
    )


def _position_of(text: str | None) -> Position | None:
    return None if text is None else Position(**json.loads(text))


def operations(rows: list[Row]) -> list[Operation]:
    """Operations out of rows (id, verb, time_ns, author, detail, name, before, after).

    Rows of one operation follow each other, one for each of its moves; name is null in the
    single row of an operation without any.
    """
    found: dict[int, Operation] = {}
    moves: dict[int, list[Move]] = {}
    for id, verb, time_ns, author, detail, name, before, after in rows:
        found.setdefault(id, Operation(id, verb, time_ns, author, detail))
        if name is not None:
            moves.setdefault(id, []).append(Move(name, _position_of(before), _position_of(after)))
    return [
        Operation(o.id, o.verb, o.time_ns, o.author, o.detail, tuple(moves.get(o.id, ())))
        for o in found.values()
    ]


def text(value: str, what: str) -> str:
    """`value`, if it can be stored as text.

    :raises UsageError: it holds bytes that are no UTF-8
    """
    if not is_text(value):
        raise UsageError(f"the {what} is not valid UTF-8", hint=f"give the {what} in UTF-8")
    return value


def is_text(value: str) -> bool:
    """Whether SQLite can hold `value`: bytes of a foreign encoding arrive as lone surrogates."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True

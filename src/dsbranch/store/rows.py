"""Rows of the store and the values of ``model``, both ways. Room ``store``; pure.

It knows the column order of each table and nothing of when rows are read or written. ``json``,
which takes 1 ms to import, is imported by what reads lists that are not empty, and moves.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from dsbranch.errors import IntegrityError, UsageError
from dsbranch.model.facts import (
    Branch,
    Checkpoint,
    Commit,
    Dialect,
    Layer,
    MountRecord,
    Move,
    Operation,
    Tag,
)
from dsbranch.store.connection import Row, Value
from dsbranch.store.faults import DAMAGED_HINT

_P = ParamSpec("_P")
_T = TypeVar("_T")

LAYER = (
    "SELECT id, state, dialect, created_ns, sealed_ns, entries, bytes, hashed, redirects, metacopy"
    " FROM layers"
)
COMMIT = (
    "SELECT c.id, c.layer, c.message, c.author, c.time_ns,"
    " (SELECT group_concat(parent_id, ' ') FROM"
    "  (SELECT parent_id FROM parents WHERE commit_id = c.id ORDER BY position))"
    " FROM commits c"
)
BRANCH = "SELECT id, name, head, layer, fork, created_ns, pending FROM branches"
TAG = "SELECT name, commit_id, created_ns FROM tags"
CHECKPOINT = "SELECT layer, top, bottom, span, data FROM checkpoints"
OPERATION = (
    "SELECT o.id, o.verb, o.time_ns, o.author, o.detail, o.undoes, m.name, m.branch, m.before,"
    " m.after FROM operations o LEFT JOIN moves m ON m.operation = o.id"
)
LAST_OPERATIONS = (
    f"{OPERATION} WHERE o.id IN"  # noqa: S608 - joined from constants
    " (SELECT id FROM operations WHERE id > ?1 AND (?2 IS NULL OR id IN"
    "  (SELECT operation FROM moves WHERE name = ?2"
    "   OR branch = (SELECT id FROM branches WHERE name = ?2)))"
    "  ORDER BY id DESC LIMIT ?3) ORDER BY o.id DESC, m.id"
)
MOUNT = "SELECT id, boot_id, namespace, mount_id, path, commit_id, layer, lowers FROM mounts"


def _sound(convert: Callable[_P, _T]) -> Callable[_P, _T]:
    """Say that a row is damaged where no value can be made of it."""

    @wraps(convert)
    def checked(*arguments: _P.args, **keywords: _P.kwargs) -> _T:
        try:
            return convert(*arguments, **keywords)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise IntegrityError(
                f"a row of the store is malformed ({convert.__name__}): {error}",
                hint=DAMAGED_HINT,
            ) from error

    return checked


@_sound
def workspace(row: Row) -> tuple[str, Path, tuple[int, int], Dialect, int]:
    """Its id, its base, what stat said of that, the dialect of its layers, and since when."""
    id, base, device, inode, dialect, created_ns = row
    identity = (device % (1 << 64), inode % (1 << 64))
    return id, Path(os.fsdecode(base)), identity, dialect, created_ns


@_sound
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


@_sound
def commit(row: Row) -> Commit:
    id, layer_id, message, author, time_ns, parents = row
    return Commit(id, tuple((parents or "").split()), layer_id, message, author, time_ns)


@_sound
def branch(row: Row) -> Branch:
    id, name, head, layer, fork, created_ns, pending = row
    return Branch(id, name, head, layer, fork, created_ns, _ids(pending))


def branch_values(branch: Branch) -> tuple[Value, ...]:
    """All columns but the id."""
    return (
        branch.name,
        branch.head,
        branch.layer,
        branch.fork,
        branch.created_ns,
        ids_text(branch.pending),
    )


@_sound
def checkpoint(row: Row) -> Checkpoint:
    return Checkpoint(*row)


@_sound
def tag(row: Row) -> Tag:
    return Tag(*row)


@_sound
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
        lowers=_ids(lowers),
    )


def ids_text(ids: Sequence[str]) -> str:
    """Ids, which are of letters and digits alone, as a JSON list."""
    return "[" + ", ".join(f'"{id}"' for id in ids) + "]"


def _ids(text: str) -> tuple[str, ...]:
    # There may be ten thousand branches, and hardly one with pending layers.
    if text == "[]":
        return ()
    import json

    found = json.loads(text)
    if not isinstance(found, list) or not all(isinstance(id, str) and id.isalnum() for id in found):
        raise ValueError(f"no ids: {text[:80]!r}")
    return tuple(found)


def side_sql(side: Branch | Tag | None) -> tuple[str, tuple[Value, ...]]:
    """An expression and its values for one side of a move as the log keeps it; the name stands in
    a column of its own."""
    if side is None:
        return "NULL", ()
    if isinstance(side, Tag):
        return "json_object('commit', ?, 'created_ns', ?)", side[1:]
    id, _, head, layer, fork, created_ns, pending = side
    facts = "'id', ?, 'head', ?, 'layer', ?, 'fork', ?, 'created_ns', ?, 'pending', json(?)"
    return f"json_object({facts})", (id, head, layer, fork, created_ns, ids_text(pending))


def _side(text: str | None, name: str, *, is_branch: bool) -> Branch | Tag | None:
    if text is None:
        return None
    import json

    facts = json.loads(text)
    if not is_branch:
        return Tag(name, **facts)
    return Branch(name=name, **{**facts, "pending": tuple(facts["pending"])})


@_sound
def operations(rows: list[Row]) -> list[Operation]:
    """Operations out of rows of `OPERATION`.

    Rows of one operation follow each other, one for each of its moves; name is null in the
    single row of an operation without any.
    """
    found: dict[int, Operation] = {}
    for id, verb, time_ns, author, detail, undoes, name, branch, before, after in rows:
        operation = found.setdefault(id, Operation(id, verb, time_ns, author, detail, (), undoes))
        if name is not None:
            sides = (_side(text, name, is_branch=branch is not None) for text in (before, after))
            found[id] = operation._replace(moves=(*operation.moves, Move(*sides)))
    return list(found.values())


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

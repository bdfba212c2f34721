"""``op log``: what was done, newest first; and which operation undoing means. Reads only.

An operation and the one that undid it cancel out. One that was undone and redone is undone by
reversing the redo, so that each is reversed once at most, and the log says by which.
"""

from __future__ import annotations

from dsbranch.errors import ConflictError, UnknownRef
from dsbranch.model.facts import Branch, Operation, Tag
from dsbranch.model.operations import Logged
from dsbranch.ops.context import Context


def op_log(context: Context, *, limit: int | None, name: str | None) -> list[Logged]:
    found = context.store.operations(limit, name=name)
    if name is not None and not found and not _is_known(context, name):
        raise UnknownRef(
            f"no operation moved a branch or tag {name}",
            ref=name,
            suggestions=context.store.close_names(name),
        )
    undone = context.store.undoings()
    lines = [_line(undone, operation.id) for operation in found]
    return [
        Logged(operation, line[-1] if len(line) % 2 == 0 else None)
        for operation, line in zip(found, lines, strict=True)
    ]


def _is_known(context: Context, name: str) -> bool:
    """Whether there is, or was, such a branch or tag; gc may have dropped all that moved it."""
    store = context.store
    known = store.has_branch(name) or store.tag(name) is not None
    return known or bool(store.operations(1, name=name))


def _line(undone: dict[int, int], number: int) -> list[int]:
    """The operation, the one that undid it, the one that undid that, and so on."""
    line = [number]
    while line[-1] in undone:
        line.append(undone[line[-1]])
    return line


def to_reverse(context: Context, number: int | None) -> Operation:
    """The operation that ``undo NUMBER`` (None: the newest) has to reverse.

    :raises ConflictError: it is undone already, or nothing can undo it
    """
    first = _newest(context) if number is None else context.store.operation(number)
    line = _line(context.store.undoings(), first.id)
    if len(line) % 2 == 0:
        raise ConflictError(
            f"operation {first.id} is undone already, by operation {line[-1]}",
            hint=f"`dsbranch undo {line[-1]}` brings it back",
        )
    if first.verb == "init":
        raise ConflictError(
            "init cannot be undone", hint="`dsbranch op log` shows what was done since"
        )
    return context.store.operation(line[-1])


def _newest(context: Context) -> Operation:
    found = context.store.operations(1)
    if not found:
        raise ConflictError("there is nothing to undo", hint="gc has removed what there was")
    return found[0]


def sides(operation: Operation) -> tuple[Branch | Tag | None, Branch | Tag | None]:
    """What the branch or tag that an operation moved was before and after it."""
    moves = operation.moves
    before = next((move.before for move in moves if move.before is not None), None)
    after = next((move.after for move in moves if move.after is not None), None)
    return before, after


def require_last(context: Context, operation: Operation) -> None:
    """:raises ConflictError: a later operation moved the same names, and stands"""
    cancelled = set()
    mine = _subjects(operation)
    for later in context.store.operations(since=operation.id):
        if later.id in cancelled:
            continue
        if later.undoes is not None and later.undoes > operation.id:
            cancelled.add(later.undoes)
        elif mine & _subjects(later):
            name = later.moves[0].name
            raise ConflictError(
                f"operation {later.id} ({later.said}) moved {name} after operation {operation.id}",
                hint=f"undo that one first: `dsbranch undo {later.id}`",
            )


def _subjects(operation: Operation) -> set[str | int]:
    """The names an operation moved, and the ids of branches."""
    found: set[str | int] = {move.name for move in operation.moves}
    for move in operation.moves:
        found |= {side.id for side in (move.before, move.after) if isinstance(side, Branch)}
    return found

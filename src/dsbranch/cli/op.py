"""Room ``cli``: ``dsbranch op log``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

from dsbranch.cli import render
from dsbranch.cli.call import Call
from dsbranch.cli.parameters import Json, Limit, ref_argument
from dsbranch.cli.quote import one_line
from dsbranch.cli.scope import open_workspace
from dsbranch.cli.wording import aligned, local_time
from dsbranch.model.operations import Logged

EXAMPLE = "dsbranch op log main -n 5"


def run(
    call: Call,
    name: Annotated[
        str | None,
        ref_argument("NAME", "Only what moved this branch or tag."),
    ] = None,
    limit: Limit = None,
    json: Json = False,
) -> None:
    """Show what was done to branches and tags, newest first.

    Each operation has a number, which `dsbranch undo` takes.
    """
    with open_workspace(call) as workspace:
        logged = workspace.operations(name, limit=limit)
    if json:
        from dsbranch.cli import shapes

        render.as_json(shapes.operations(logged))
    else:
        render.lines(_table(logged))


def _table(logged: Sequence[Logged]) -> Iterator[str]:
    rows = [_cells(item) for item in logged]
    return map("  ".join, aligned(rows))


def _cells(item: Logged) -> tuple[str, str, str, str, str]:
    operation = item.operation
    notes = []
    if operation.undoes is not None:
        notes.append(f"undoes {operation.undoes}")
    if item.undone_by is not None:
        notes.append(f"undone by {item.undone_by}")
    detail = one_line(operation.detail) + (f"  [{', '.join(notes)}]" if notes else "")
    when, who = local_time(operation.time_ns), one_line(operation.author)
    return str(operation.id), when, who, operation.verb, detail

"""Room ``cli``: ``dsbranch undo``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from dsbranch.cli import render
from dsbranch.cli.call import Argument, Call, Option
from dsbranch.cli.notes import note_old_views, others
from dsbranch.cli.parameters import Json, Wait
from dsbranch.cli.quote import one_line
from dsbranch.cli.scope import open_workspace
from dsbranch.cli.wording import count_words, plural, short
from dsbranch.model.operations import Undone

EXAMPLE = "dsbranch undo --dry-run"


def run(
    call: Call,
    operation: Annotated[
        int | None,
        Argument("OPERATION", help="Its number in `op log`; default: the newest.", minimum=1),
    ] = None,
    wait: Wait = 0.0,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Say what would come back; change nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Reverse an operation, uncommitted files included.

    Undoing is an operation itself: a second `undo` redoes what the first one undid. To go back
    further, name the operation before it. What was committed counts as uncommitted again; after
    a rollback, merge or delete the files that were uncommitted then come back.
    """
    with open_workspace(call) as workspace:
        done = workspace.undo(operation, wait=wait, dry_run=dry_run)
    done = done._replace(stale=others(done.stale))
    if json:
        from dsbranch.cli import shapes

        render.as_json(shapes.undone(done))
    else:
        render.line(one_line(_line(done)))
    note_old_views(done.name, done.stale, done.elsewhere)


def _line(done: Undone) -> str:
    redo = done.undone.verb == "undo"
    if done.operation is None:
        line = f"would {'redo' if redo else 'undo'} {done.undone.deed}"
    else:
        line = f"{'redone' if redo else 'undone'}: {done.undone.deed}"
    if done.head is None:
        line += f"; {done.name} {'would be' if done.operation is None else 'is'} gone"
    else:
        line += f"; {done.name} {'would be' if done.operation is None else 'is'} at commit"
        line += f" {short(done.head)}"
    if done.counts:
        line += f" with {_uncommitted(done.counts)}"
    if done.set_aside:
        line += f"; {plural(sum(done.set_aside.values()), 'uncommitted change')} set aside"
    return line if done.operation is None else line + _way_back(redo=redo)


def _uncommitted(counts: Mapping[str, int]) -> str:
    return f"{plural(sum(counts.values()), 'uncommitted change')} ({count_words(counts)})"


def _way_back(*, redo: bool) -> str:
    return f"; `dsbranch undo` {'undoes it again' if redo else 'brings it back'}"

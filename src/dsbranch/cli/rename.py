"""Room ``cli``: ``dsbranch rename``."""

from __future__ import annotations

from typing import Annotated

from dsbranch.cli import render
from dsbranch.cli.call import Argument, Call
from dsbranch.cli.notes import others
from dsbranch.cli.parameters import Json, utf8
from dsbranch.cli.quote import one_line
from dsbranch.cli.scope import branch_or_current, open_workspace
from dsbranch.cli.wording import plural
from dsbranch.errors import UsageError

EXAMPLE = "dsbranch rename exp1 blur-removed"


def run(
    call: Call,
    names: Annotated[
        list[str],
        Argument(
            "[OLD] NEW",
            help="The branch, default: the one you stand in; and its new name.",
            parse=utf8,
            offer="branches",
        ),
    ],
    json: Json = False,
) -> None:
    """Rename a branch, and move its mount to WORKSPACE/NEW.

    Whoever works in the branch goes on: open files and current directories stay valid.
    """
    if len(names) > 2:
        raise UsageError("rename takes the old name and the new one")
    with open_workspace(call) as workspace:
        old = branch_or_current(call, workspace, names[0] if len(names) == 2 else None)
        done = workspace.rename(old, names[-1])
    done = done._replace(stale=others(done.stale))
    if json:
        from dsbranch.cli import shapes

        render.as_json(shapes.renamed(done))
    else:
        where = "" if done.mountpoint is None else f", mounted at {done.mountpoint}"
        render.line(one_line(f"renamed {done.old} to {done.new}{where}"))
    if done.stale:
        render.note(
            f"the current directory of {plural(len(done.stale), 'process', 'processes')} has no "
            f"path any more; `cd {done.mountpoint}` there gives it one"
        )
        render.processes(done.stale)

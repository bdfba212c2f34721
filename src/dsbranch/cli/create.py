"""Room ``cli``: ``dsbranch create``."""

from __future__ import annotations

from typing import Annotated

from dsbranch.cli import render
from dsbranch.cli.call import Argument, Call
from dsbranch.cli.parameters import Json, NoMount, ref_option, utf8
from dsbranch.cli.quote import one_line
from dsbranch.cli.scope import open_workspace
from dsbranch.cli.wording import short

EXAMPLE = "dsbranch create exp2 --from exp1"


def run(
    call: Call,
    name: Annotated[str, Argument("NAME", help="The new branch.", parse=utf8)],
    start: Annotated[
        str | None,
        ref_option("--from", "REF", "Where it starts; default: main."),
    ] = None,
    no_mount: NoMount = False,
    json: Json = False,
) -> None:
    """Make a branch and mount it at WORKSPACE/NAME.

    It starts at a commit: uncommitted changes of another branch stay there.
    """
    with open_workspace(call) as workspace:
        created = workspace.create(name, start=start, mount=not no_mount)
    branch = created.branch
    if json:
        from dsbranch.cli import shapes

        render.as_json(shapes.created(created))
    else:
        where = "" if created.mountpoint is None else f", mounted at {created.mountpoint}"
        render.line(one_line(f"created {branch.name} at commit {short(branch.head)}{where}"))
    if created.dirty_source is not None:
        source = created.dirty_source
        render.note(
            f"uncommitted changes of {source} stay in {source}; "
            f"{branch.name} starts at its last commit {short(branch.head)}"
        )

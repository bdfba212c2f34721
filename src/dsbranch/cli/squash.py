"""Room ``cli``: ``dsbranch squash``."""

from __future__ import annotations

from typing import Annotated

from dsbranch.cli import render
from dsbranch.cli.call import Call
from dsbranch.cli.parameters import BranchName, Json, NewMessage, ref_option
from dsbranch.cli.scope import branch_or_current, open_workspace
from dsbranch.cli.wording import human_size, plural, short

EXAMPLE = "dsbranch squash exp1 -m 'cleaned labels'"


def run(
    call: Call,
    name: BranchName = None,
    since: Annotated[
        str | None,
        ref_option(
            "--since",
            "REF",
            "Squash the commits after this one; default: all since the branch forked.",
        ),
    ] = None,
    message: NewMessage = None,
    json: Json = False,
) -> None:
    """Make one commit of several, out of hard links: no data is read.

    The branch looks the same before and after; the commits replaced are kept until gc.
    """
    with open_workspace(call) as workspace:
        branch = branch_or_current(call, workspace, name)
        result = workspace.squash(branch, since=since, message=message)
    if json:
        from dsbranch.cli import shapes

        render.as_json(shapes.squashed(branch, result))
    else:
        files = f"{plural(result.linked, 'file')} linked"
        if result.copied:
            files += f", {result.copied:,} copied ({human_size(result.copied_bytes)})"
        head = render.paint_commit(short(result.commit.id))
        render.line(f"[{branch} {head}] {plural(result.replaced, 'commit')} became one; {files}")
    if not result.remounted:
        render.note(f"{branch} is in use and goes on with the old layers until mounted again")

"""Room ``cli``: ``dsbranch rollback``."""

from __future__ import annotations

from typing import Annotated

from dsbranch.cli import render
from dsbranch.cli.call import Call
from dsbranch.cli.notes import note_old_views, others
from dsbranch.cli.parameters import BranchName, Json, Wait, ref_option
from dsbranch.cli.scope import branch_or_current, open_workspace
from dsbranch.cli.wording import plural, short

EXAMPLE = "dsbranch rollback exp1 --to exp1~1"


def run(
    call: Call,
    name: BranchName = None,
    to: Annotated[
        str | None,
        ref_option("--to", "REF", "The commit to go back to; default: the branch's last one."),
    ] = None,
    wait: Wait = 0.0,
    json: Json = False,
) -> None:
    """Put a branch back to a commit, without its uncommitted changes.

    What is replaced is kept until gc.
    """
    with open_workspace(call) as workspace:
        branch = branch_or_current(call, workspace, name)
        result = workspace.rollback(branch, to, wait=wait)
    result = result._replace(stale=others(result.stale))
    if json:
        from dsbranch.cli import shapes

        render.as_json(shapes.rolled_back(result))
    else:
        aside = "its uncommitted changes, uncounted, are"
        if result.counts is not None:
            aside = plural(sum(result.counts.values()), "uncommitted change")
        render.line(
            f"{branch} is back at commit {short(result.head)}; {aside} set aside, "
            f"kept by operation {result.operation}"
        )
    if result.damage is not None:
        render.note(f"{result.damage}; `dsbranch verify` tells more")
    note_old_views(branch, result.stale, result.elsewhere)

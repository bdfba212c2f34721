"""Room ``cli``: ``dsbranch restore``."""

from __future__ import annotations

from typing import Annotated

from dsbranch.cli import render
from dsbranch.cli.call import Argument, Call
from dsbranch.cli.notes import note_old_views, others
from dsbranch.cli.parameters import Json, Wait, ref_option
from dsbranch.cli.scope import branch_or_current, branch_paths, open_workspace
from dsbranch.cli.wording import count_words, short

EXAMPLE = "dsbranch restore labels/train.csv --from exp1~2"


def run(
    call: Call,
    paths: Annotated[list[str], Argument("PATH...", help="What to restore, with all below it.")],
    start: Annotated[
        str | None,
        ref_option(
            "--from",
            "REF",
            "The commit that has them as they should be; default: the branch's last one.",
        ),
    ] = None,
    branch: Annotated[
        str | None,
        ref_option(
            "--branch", "NAME", "The branch to change; default: the one you stand in.", "branches"
        ),
    ] = None,
    wait: Wait = 0.0,
    json: Json = False,
) -> None:
    """Put files and directories back as they are in a commit.

    What the commit does not have is removed. The result is uncommitted; `dsbranch undo` brings
    back what was there. PATHs count from where you stand inside a branch, else from its root.
    """
    with open_workspace(call) as workspace:
        name = branch_or_current(call, workspace, branch)
        result = workspace.restore(
            name, branch_paths(workspace, paths) or [b""], start=start, wait=wait
        )
    result = result._replace(stale=others(result.stale))
    if json:
        from dsbranch.cli import shapes

        render.as_json(shapes.restored(result))
    elif result.counts:
        render.line(f"restored from commit {short(result.commit)}: {count_words(result.counts)}")
    else:
        render.line(f"nothing to restore: all is as in commit {short(result.commit)}")
    note_old_views(name, result.stale, result.elsewhere)

"""Room ``cli``: ``dsbranch diff``."""

from __future__ import annotations

from typing import Annotated

from dsbranch.cli import render
from dsbranch.cli.call import Call, Option
from dsbranch.cli.forms import form, print_diff
from dsbranch.cli.parameters import Json, NameStatus, NoRenames, Null, Stat, ref_argument
from dsbranch.cli.scope import branch_or_current, branch_paths, current_branch, open_workspace

EXAMPLE = "dsbranch diff main exp1 --stat -- labels"

TAIL = "[-- PATH...]"


def run(
    call: Call,
    a: Annotated[
        str | None,
        ref_argument("A", "A branch, any other ref, A..B or A...B."),
    ] = None,
    b: Annotated[
        str | None,
        ref_argument("B", "Any ref."),
    ] = None,
    stat: Stat = False,
    name_status: NameStatus = False,
    null: Null = False,
    json: Json = False,
    exit_code: Annotated[
        bool, Option("--exit-code", help="Exit with 1 if there are differences.")
    ] = False,
    no_renames: NoRenames = False,
) -> int:
    """Show what changed, true to content.

    Without arguments: the uncommitted changes of the branch you stand in. With a branch:
    everything since it forked, uncommitted changes included. With another ref: from it to the
    branch you stand in. With two refs: from A to B, as committed.
    PATHs limit the answer to themselves and what lies below them; inside a branch they count
    from where you stand, elsewhere from the branch's root.

    Letters: A added, M content modified, m metadata only, D deleted, R renamed, T type changed.
    """
    asked = form(stat=stat, name_status=name_status, null=null, json=json)
    with open_workspace(call) as workspace:
        if a is None:
            branch: str | None = branch_or_current(call, workspace, None)
        else:
            branch = current_branch(call, workspace) if b is None else None
        paths = branch_paths(workspace, call.paths)
        diff = workspace.diff(a, b, branch=branch, paths=paths, renames=not no_renames)
        print_diff(diff, asked)
    if diff.pending is not None:
        render.note(f"uncommitted changes of {diff.pending} are not in this comparison")
    if exit_code and any(diff.counts().values()):
        return 1
    return 0

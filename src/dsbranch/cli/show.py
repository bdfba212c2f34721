"""Room ``cli``: ``dsbranch show``."""

from __future__ import annotations

from dsbranch.cli import history, render, shapes
from dsbranch.cli.call import Call
from dsbranch.cli.forms import form, print_diff
from dsbranch.cli.parameters import Json, NameStatus, Null, Ref, Stat
from dsbranch.cli.scope import branch_or_current, open_workspace

EXAMPLE = "dsbranch show exp1~1 --stat"


def run(
    call: Call,
    ref: Ref = None,
    stat: Stat = False,
    name_status: NameStatus = False,
    null: Null = False,
    json: Json = False,
) -> None:
    """Show a commit and what it changed against its parent."""
    asked = form(stat=stat, name_status=name_status, null=null, json=json)
    with open_workspace(call) as workspace:
        commit, diff = workspace.show(branch_or_current(call, workspace, ref))
        if asked not in ("json", "json-stat", "z"):
            render.lines(history.full(commit, render.paint_commit))
            render.line("")
        print_diff(diff, asked, head={"commit": shapes.commit(commit)})

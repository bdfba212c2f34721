"""Room ``cli``: ``dsbranch log``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated

import typer

from dsbranch.cli import history, render, shapes
from dsbranch.cli.parameters import Json, Limit, Ref
from dsbranch.cli.scope import branch_or_current, open_workspace
from dsbranch.model import Commit

EXAMPLE = "dsbranch log exp1 --oneline -n 10"


def run(
    ctx: typer.Context,
    ref: Ref = None,
    limit: Limit = None,
    oneline: Annotated[bool, typer.Option("--oneline", help="One line a commit.")] = False,
    json: Json = False,
) -> None:
    """Show the commits that a branch or ref is made of, newest first."""
    with open_workspace(ctx) as workspace:
        commits = workspace.log(branch_or_current(ctx, workspace, ref), limit=limit)
    if json:
        render.as_json(shapes.log(commits))
    elif oneline:
        render.lines(history.oneline(commit, render.paint_commit) for commit in commits)
    else:
        render.lines(_paragraphs(commits))


def _paragraphs(commits: Iterable[Commit]) -> Iterator[str]:
    for number, commit in enumerate(commits):
        if number:
            yield ""
        yield from history.full(commit, render.paint_commit)

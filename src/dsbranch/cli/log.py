"""Room ``cli``: ``dsbranch log``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any

from dsbranch.cli import changes, history, render, shapes
from dsbranch.cli.call import Call, Option
from dsbranch.cli.graph import draw
from dsbranch.cli.parameters import Json, Limit, Ref, Stat
from dsbranch.cli.scope import branch_or_current, branch_paths, open_workspace
from dsbranch.errors import UsageError
from dsbranch.model.facts import Commit
from dsbranch.workspace import Workspace

EXAMPLE = "dsbranch log exp1 --graph --oneline -n 10 -- labels"

TAIL = "[-- PATH...]"

Text = Callable[[Commit], Iterable[str]]


def run(
    call: Call,
    ref: Ref = None,
    limit: Limit = None,
    oneline: Annotated[bool, Option("--oneline", help="One line a commit.")] = False,
    graph: Annotated[
        bool, Option("--graph", help="Draw how the commits descend from each other.")
    ] = False,
    stat: Stat = False,
    json: Json = False,
) -> None:
    """Show the commits that a branch or ref is made of, newest first.

    PATHs pick the commits that changed something there or below, renames included; a merge counts
    by what it changed against its first parent.
    """
    if json and (graph or oneline):
        raise UsageError("--json excludes --graph and --oneline")
    with open_workspace(call) as workspace:
        paths = branch_paths(workspace, call.paths)
        commits = workspace.log(
            branch_or_current(call, workspace, ref), limit=limit, paths=paths, simplify=graph
        )
        if json:
            _as_json(workspace, commits, paths, stat=stat)
            return

        def text(commit: Commit) -> Iterator[str]:
            if oneline:
                yield history.oneline(commit, render.paint_commit)
            else:
                yield from history.full(commit, render.paint_commit)
            if stat:
                _, diff = workspace.show(commit.id, paths=paths)
                if len(diff) and not oneline:
                    yield ""
                yield from changes.stat(diff, render.paint_letter)

        spaced = text if oneline else _apart(commits, text)
        if graph:
            render.lines(draw((c.id, c.parents, spaced(c)) for c in commits))
        else:
            render.lines(line for commit in commits for line in spaced(commit))


def _apart(commits: Sequence[Commit], text: Text) -> Text:
    """With an empty line after each but the last."""

    def spaced(commit: Commit) -> Iterator[str]:
        yield from text(commit)
        if commit is not commits[-1]:
            yield ""

    return spaced


def _as_json(
    workspace: Workspace, commits: Sequence[Commit], paths: Sequence[bytes], *, stat: bool
) -> None:
    answer: dict[str, Any] = shapes.log(commits)
    if stat:
        for commit, shape in zip(commits, answer["commits"], strict=True):
            _, diff = workspace.show(commit.id, paths=paths)
            shape.update(shapes.totals(changes.totals_of(diff)))
    render.as_json(answer)

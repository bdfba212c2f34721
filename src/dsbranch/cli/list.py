"""Room ``cli``: ``dsbranch list``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from dsbranch.cli import render
from dsbranch.cli.call import Call
from dsbranch.cli.parameters import Json
from dsbranch.cli.quote import quote_path
from dsbranch.cli.scope import current_branch, open_workspace
from dsbranch.cli.wording import aligned, short
from dsbranch.model.mounts import BranchInfo

EXAMPLE = "dsbranch list"


def run(call: Call, json: Json = False) -> None:
    """List the branches and where they are mounted.

    A star marks the branch you stand in; DEPTH counts the layers below its own.
    """
    with open_workspace(call) as workspace:
        branches = workspace.list()
        if json:
            from dsbranch.cli import shapes

            render.as_json(shapes.branches(branches))
        else:
            render.lines(_table(branches, current_branch(call, workspace)))


def _table(branches: Sequence[BranchInfo], current: str | None) -> Iterator[str]:
    rows = [("BRANCH", "COMMIT", "DEPTH", "MOUNTED AT")]
    for info in branches:
        where = "-"
        if info.mountpoint is not None and info.mounted:
            where = quote_path(os.fsencode(info.mountpoint))
        rows.append((info.name, short(info.head), str(info.depth), where))
    for row, cells in zip(rows, aligned(rows), strict=True):
        mark = "*" if row[0] == current and row is not rows[0] else " "
        yield f"{mark} {'  '.join(cells)}"

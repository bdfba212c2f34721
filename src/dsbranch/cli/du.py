"""Room ``cli``: ``dsbranch du``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

from dsbranch.cli import history, render
from dsbranch.cli.call import Argument, Call
from dsbranch.cli.parameters import Json, utf8
from dsbranch.cli.scope import open_workspace
from dsbranch.cli.wording import columns, human_size
from dsbranch.model.space import Space

EXAMPLE = "dsbranch du exp1"


def run(
    call: Call,
    names: Annotated[
        list[str] | None,
        Argument(
            "NAME",
            help="Branches, to be shown commit by commit; default: all, without commits.",
            offer="branches",
            parse=utf8,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Show what branches, commits and the store occupy on the disk.

    ALONE is freed if that branch goes, SHARED is not, since others hold it, too. The dataset
    itself is not counted. Data shared by reflinks count in full, as they cannot be told.
    """
    with open_workspace(call) as workspace:
        space = workspace.du(*(names or ()))
    if json:
        from dsbranch.cli import shapes

        render.as_json(shapes.space(space))
        return
    render.lines(_branches(space))
    if space.commits:
        render.line("")
        render.lines(_commits(space))
    render.line("")
    render.lines(_totals(space))


def _branches(space: Space) -> Iterator[str]:
    yield from _table(
        [("ALONE", "SHARED", "UNCOMMITTED", "BRANCH")]
        + [
            (human_size(one.alone), human_size(one.shared), human_size(one.uncommitted), one.name)
            for one in space.branches
        ]
    )


def _commits(space: Space) -> Iterator[str]:
    yield from _table(
        [("ALONE", "SHARED", "COMMIT")]
        + [
            (
                human_size(one.alone),
                human_size(one.shared),
                history.oneline(one.commit, render.paint_commit),
            )
            for one in space.commits
        ]
    )


def _totals(space: Space) -> Iterator[str]:
    inodes = f", {space.checkpoint_inodes:,} inodes of their own" if space.checkpoints else ""
    words = (
        (space.history, "in commits"),
        (space.uncommitted, "uncommitted"),
        (space.log, "kept by the operation log only: `dsbranch gc` frees it after 30 days"),
        (space.checkpoints, f"checkpoints{inodes}"),
        (space.manifests, "manifests"),
        (space.database, "database, locks and reserve"),
        (space.garbage, "left by interrupted commands: `dsbranch gc` frees it after an hour"),
    )
    rows = [(human_size(size), what) for size, what in words if size]
    yield from _table([*rows, (human_size(space.total), "in all")])


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Sizes to the right, what they are of after them."""
    widths = [max(columns(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [" " * (w - columns(cell)) + cell for cell, w in zip(row, widths, strict=False)]
        yield "  ".join([*cells, row[-1]])

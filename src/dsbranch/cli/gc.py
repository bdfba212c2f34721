"""Room ``cli``: ``dsbranch gc``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from dsbranch.cli import history, render
from dsbranch.cli.call import Call, Option
from dsbranch.cli.parameters import Json
from dsbranch.cli.scope import open_workspace
from dsbranch.cli.wording import human_size, plural, seconds_of
from dsbranch.errors import Interrupted
from dsbranch.model.space import Collected

EXAMPLE = "dsbranch gc --keep 7d --dry-run"


def _age(value: str) -> str:
    try:
        seconds_of(value)
    except ValueError as error:
        raise ValueError(f"{error}: give a number and one of s m h d w") from None
    return value


def run(
    call: Call,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Only show what would go; remove nothing.")
    ] = False,
    keep: Annotated[
        str,
        Option(
            "--keep",
            metavar="AGE",
            show_default=False,
            parse=_age,
            help="Keep what operations of this age need: 12h, 7d, 2w; 0 keeps none. Default: 30d.",
        ),
    ] = "30d",
    json: Json = False,
) -> None:
    """Remove what nothing needs any more, and free its space.

    What a branch, a tag or a mount reaches stays, and what operations younger than --keep
    need to be undone. It may be interrupted at any time; the next gc goes on.
    """
    with open_workspace(call) as workspace:
        try:
            collected = workspace.gc(keep=seconds_of(keep), dry_run=dry_run)
        except KeyboardInterrupt:
            raise Interrupted(
                "interrupted; what nothing needs may be gone in part",
                hint="`dsbranch gc` goes on with the rest",
            ) from None
    if json:
        from dsbranch.cli import shapes

        render.as_json(shapes.collected(collected, dry_run=dry_run))
        return
    render.lines(_lines(collected, dry_run=dry_run))
    for problem in collected.problems:
        render.note(problem)


def _lines(item: Collected, *, dry_run: bool) -> Iterator[str]:
    counts = (
        (len(item.commits), "commit", "commits"),
        (len(item.layers), "layer", "layers"),
        (len(item.checkpoints), "checkpoint", "checkpoints"),
        (len(item.garbage), "leftover directory", "leftover directories"),
        (item.operations, "operation of the log", "operations of the log"),
    )
    words = [plural(count, one, many) for count, one, many in counts if count]
    if not words:
        yield "nothing to remove"
        return
    if dry_run:
        for commit in item.commits:
            yield history.oneline(commit, render.paint_commit)
    verb = "would remove" if dry_run else "removed"
    free = "would free" if dry_run else "freed"
    yield f"{verb} {', '.join(words)}; {free} {human_size(item.bytes)}"

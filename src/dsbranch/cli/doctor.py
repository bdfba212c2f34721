"""Room ``cli``: ``dsbranch doctor``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from dsbranch.cli import render
from dsbranch.cli.call import Argument, Call, Option
from dsbranch.cli.parameters import Json
from dsbranch.cli.quote import one_line
from dsbranch.cli.scope import chosen_directory, from_here, here
from dsbranch.errors import UnsupportedError, UsageError
from dsbranch.model.health import Checkup
from dsbranch.workspace import doctor

EXAMPLE = "dsbranch doctor /data/experiments --base /data/imagenet"


def run(
    call: Call,
    directory: Annotated[
        Path | None,
        Argument("DIR", help="A workspace, or where one could be put; default: here."),
    ] = None,
    base: Annotated[
        Path | None,
        Option("--base", metavar="DATASET", help="The dataset; default: the workspace's own."),
    ] = None,
    json: Json = False,
) -> None:
    """Find out what this machine allows, by trying it, and what to do about the rest.

    Nothing of the trials stays, and the dataset is not written to. The exit code is 6 where
    branches cannot work.
    """
    chosen = chosen_directory(call)
    if directory is not None and chosen is not None:
        raise UsageError("the directory is named twice, by -C and by DIR")
    start = chosen or here() if directory is None else from_here(directory)
    found = doctor(start, dataset=None if base is None else from_here(base))
    if json:
        from dsbranch.cli import shapes

        render.as_json(shapes.checkup(found))
    else:
        render.lines(_page(found))
    if found.failed:
        first = found.failed[0]
        raise UnsupportedError(f"branches cannot work here: {first.found}", hint=first.advice)


def _page(found: Checkup) -> Iterator[str]:
    yield one_line(f"workspace  {found.place}")
    yield one_line(f"dataset    {found.dataset or 'none named'}")
    yield ""
    for check in found.checks:
        state = render.paint_state(f"{check.state:<4}", check.state)
        yield f"{state}  {check.name:<16}  {one_line(check.found)}"
        if check.advice is not None:
            yield f"{'':<24}{one_line(check.advice)}"

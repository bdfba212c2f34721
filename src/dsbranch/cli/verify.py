"""Room ``cli``: ``dsbranch verify``."""

from __future__ import annotations

from typing import Annotated

from dsbranch.cli import render, shapes
from dsbranch.cli.call import Call, Option
from dsbranch.cli.parameters import Json
from dsbranch.cli.quote import one_line, quote_path
from dsbranch.cli.scope import open_workspace
from dsbranch.cli.wording import plural
from dsbranch.errors import IntegrityError
from dsbranch.model import Finding

EXAMPLE = "dsbranch verify --full"


def run(
    call: Call,
    full: Annotated[
        bool, Option("--full", help="Read every file, and compare its content, too.")
    ] = False,
    json: Json = False,
) -> None:
    """Check that everything committed is as it was recorded.

    Nothing is repaired. Each thing that is wrong is one line, and the exit code is then 5. The
    dataset itself and uncommitted changes have nothing recorded to be compared with.
    """
    with open_workspace(call) as workspace:
        verified = workspace.verify(full=full)
    if json:
        render.as_json(shapes.verified(verified))
    else:
        render.lines(map(_line, verified.findings))
    if verified.garbage:
        render.note(
            f"{plural(verified.garbage, 'directory belongs', 'directories belong')} to no layer;"
            " `dsbranch gc` removes what interrupted commands left"
        )
    if full and verified.undigested:
        render.note(
            f"{plural(verified.undigested, 'file has', 'files have')} no recorded digest"
            " (committed with --no-hash); its content was not compared"
        )
    checked = f"{plural(verified.layers, 'layer')}, {plural(verified.entries, 'entry', 'entries')}"
    if verified.findings:
        found = plural(len(verified.findings), "thing is not", "things are not")
        raise IntegrityError(
            f"{found} as recorded, in {checked}",
            hint="nothing was changed; the lines above say what each means",
        )
    if not json:
        content = f", {plural(verified.digested, 'content')}" if full else ""
        render.line(f"{checked}{content} are as recorded")


def _line(item: Finding) -> str:
    path = "" if item.path is None else f" {quote_path(item.path or b'.')}:"
    return one_line(f"{item.where}:{path} {item.what}; {item.means}")

"""Room ``cli``: ``dsbranch export``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from dsbranch.cli import render
from dsbranch.cli.call import Call, Option
from dsbranch.cli.parameters import Json, ref_argument
from dsbranch.cli.quote import quote_path
from dsbranch.cli.scope import from_here, open_workspace
from dsbranch.cli.wording import human_size, plural

EXAMPLE = "dsbranch export main..exp1 -o exp1.tar.zst"


def run(
    call: Call,
    spec: Annotated[
        str,
        ref_argument("SPEC", "A ref for the whole view, A..B for what changed."),
    ],
    output: Annotated[
        Path,
        Option(
            "-o --output",
            metavar="FILE",
            help="NAME.tar or NAME.tar.zst; any other name is a new directory.",
        ),
    ],
    json: Json = False,
) -> None:
    """Write a view, or what changed, as a tar or a directory.

    A tar holds deletions as OCI whiteouts, as container tools read them.
    """
    with open_workspace(call) as workspace:
        exported = workspace.export(spec, from_here(output))
    if json:
        from dsbranch.cli import shapes

        render.as_json(shapes.exported(exported))
    else:
        path = quote_path(os.fsencode(exported.path))
        count = plural(exported.entries, "entry", "entries")
        render.line(f"exported {spec} to {path}: {count}, {human_size(exported.bytes)}")
    for note in exported.notes:
        render.note(note)

"""Room ``cli``: ``dsbranch umount``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from dsbranch.cli import render
from dsbranch.cli.call import Argument, Call, Option
from dsbranch.cli.quote import quote_path
from dsbranch.cli.scope import from_here, open_workspace

EXAMPLE = "dsbranch umount exp1"


def run(
    call: Call,
    target: Annotated[
        str,
        Argument(
            "NAME|PATH",
            help="A branch, or the path of a view.",
            offer="branches",
        ),
    ],
    lazy: Annotated[
        bool,
        Option("--lazy", help="Detach now, even if processes use it; they keep their view."),
    ] = False,
) -> None:
    """Unmount a branch or a read-only view.

    Uncommitted changes stay in the branch.
    """
    # A name holds no slash, so this is a path, and one counts from where the user stands.
    if "/" in target or target in (".", ".."):
        target = os.path.normpath(from_here(Path(target)))
    with open_workspace(call) as workspace:
        paths = workspace.umount(target, lazy=lazy)
    render.lines(f"unmounted {quote_path(os.fsencode(path))}" for path in paths)

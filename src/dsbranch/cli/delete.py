"""Room ``cli``: ``dsbranch delete``."""

from __future__ import annotations

from typing import Annotated

from dsbranch.cli import render
from dsbranch.cli.call import Call, Option
from dsbranch.cli.parameters import ref_argument
from dsbranch.cli.scope import open_workspace
from dsbranch.cli.wording import short

EXAMPLE = "dsbranch delete exp2 --force"


def run(
    call: Call,
    name: Annotated[
        str,
        ref_argument("NAME", "The branch.", "branches"),
    ],
    force: Annotated[
        bool,
        Option(
            "--force", help="Even with uncommitted changes, or commits that nothing else reaches."
        ),
    ] = False,
) -> None:
    """Remove a branch.

    What it held is kept until gc.
    """
    with open_workspace(call) as workspace:
        deleted = workspace.delete(name, force=force)
    render.line(
        f"deleted {deleted.branch}, which was at commit {short(deleted.head)}; "
        f"kept by operation {deleted.operation}"
    )

"""Room ``cli``: ``dsbranch init``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from dsbranch.cli import render
from dsbranch.cli.call import Argument, Call
from dsbranch.cli.parameters import NoMount
from dsbranch.cli.quote import one_line
from dsbranch.cli.scope import chosen_directory, from_here
from dsbranch.errors import UsageError
from dsbranch.workspace import init

EXAMPLE = "dsbranch init /data/imagenet /data/experiments"


def run(
    call: Call,
    dataset: Annotated[Path, Argument("DATASET", help="The directory to adopt, used in place.")],
    workspace: Annotated[
        Path | None,
        Argument("WORKSPACE", help="Where branches will appear; default: DATASET.ws beside it."),
    ] = None,
    no_mount: NoMount = False,
) -> None:
    """Adopt a dataset where it lies, with the branch main.

    The dataset is not copied, not walked and never written: from now on it must not change.
    """
    elsewhere = chosen_directory(call)
    if workspace is not None and elsewhere is not None:
        raise UsageError("the workspace is named twice, by -C and by WORKSPACE")
    root = elsewhere if workspace is None else from_here(workspace)
    with init(from_here(dataset), root, mount=not no_mount) as made:
        (main,) = made.list()
        where = f"mounted at {main.mountpoint}" if main.mounted else "not mounted"
        render.line(one_line(f"adopted {made.base} in {made.root}; branch {main.name} {where}"))
        for note in made.notes:
            render.note(note)

"""Room ``cli``: ``dsbranch mount``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

from dsbranch.cli import render
from dsbranch.cli.call import Call, Option
from dsbranch.cli.parameters import Json, Ref
from dsbranch.cli.quote import quote_path
from dsbranch.cli.scope import branch_or_current, from_here, open_workspace
from dsbranch.errors import UsageError
from dsbranch.model.mounts import Mounted

EXAMPLE = "dsbranch mount exp1~2 --at /mnt/before"


def run(
    call: Call,
    ref: Ref = None,
    at: Annotated[
        Path | None,
        Option("--at", metavar="PATH", help="Where; a branch's default is WORKSPACE/NAME."),
    ] = None,
    read_only: Annotated[
        bool, Option("--read-only", help="Show the branch's last commit, read-only.")
    ] = False,
    everything: Annotated[
        bool, Option("--all", help="Mount every branch, as after a reboot.")
    ] = False,
    json: Json = False,
) -> None:
    """Mount a branch for work, or any commit read-only.

    For all to see this takes root. An ordinary user's own mounts are made by fuse-overlayfs, where
    user namespaces are forbidden or DSBRANCH_DRIVER=fuse-overlayfs is set.
    """
    if everything and (ref is not None or at is not None or read_only):
        raise UsageError("--all mounts every branch at its own place and takes nothing else")
    with open_workspace(call) as workspace:
        if everything:
            mounted = workspace.mount_all()
        else:
            name = branch_or_current(call, workspace, ref)
            mounted = [
                workspace.mount(name, at=None if at is None else from_here(at), read_only=read_only)
            ]
    if json:
        from dsbranch.cli import shapes

        render.as_json(shapes.mounted(mounted))
    else:
        render.lines(_lines(mounted) if mounted else ["every branch is mounted already"])


def _lines(mounted: Iterable[Mounted]) -> Iterator[str]:
    for item in mounted:
        state = "was already mounted" if item.already else "is mounted"
        how = ", read-only" if item.read_only else ""
        yield f"{item.ref} {state} at {quote_path(os.fsencode(item.path))}{how}"

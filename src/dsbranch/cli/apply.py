"""Room ``cli``: ``dsbranch apply``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from dsbranch.cli import render
from dsbranch.cli.call import Argument, Call, Option
from dsbranch.cli.notes import note_old_views, others
from dsbranch.cli.parameters import BranchName, Json, NewMessage, Wait
from dsbranch.cli.quote import one_line
from dsbranch.cli.scope import branch_or_current, from_here, open_workspace
from dsbranch.cli.wording import count_words, short

EXAMPLE = "dsbranch apply exp1.tar.zst main -m 'labels from the cluster'"


def run(
    call: Call,
    file: Annotated[
        Path,
        Argument(
            "FILE",
            help="A .tar or .tar.zst, of export, a container image or `tar cf`; or a directory.",
        ),
    ],
    name: BranchName = None,
    message: NewMessage = None,
    full: Annotated[
        bool,
        Option("--full", help="FILE is the whole tree: what it lacks is deleted."),
    ] = False,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Say what would change, and change nothing.")
    ] = False,
    force: Annotated[
        bool,
        Option("--force", help="Apply a range also where it was not made from."),
    ] = False,
    allow_devices: Annotated[bool, Option("--allow-devices", help="Accept device files.")] = False,
    wait: Wait = 0.0,
    json: Json = False,
) -> None:
    """Make a commit out of an archive.

    What `dsbranch export REF` wrote, and any directory, becomes the new view; a range or any
    other tar changes the present one, and a range only where it was made from (exit code 3).
    """
    with open_workspace(call) as workspace:
        branch = branch_or_current(call, workspace, name)
        applied = workspace.apply(
            branch,
            from_here(file),
            message,
            full=full,
            dry_run=dry_run,
            force=force,
            allow_devices=allow_devices,
            wait=wait,
        )
    applied = applied._replace(stale=others(applied.stale))
    if json:
        from dsbranch.cli import shapes

        render.as_json(shapes.applied(branch, applied))
    elif applied.commit is None:
        render.line(f"{branch} would change: {count_words(applied.counts)}")
    else:
        subject = applied.commit.message.split("\n", 1)[0]
        head = render.paint_commit(short(applied.commit.id))
        render.line(f"[{branch} {head}] {one_line(subject)} ({count_words(applied.counts)})")
    note_old_views(branch, applied.stale, applied.elsewhere)

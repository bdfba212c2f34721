"""Room ``cli``: ``dsbranch status``."""

from __future__ import annotations

import os
from collections.abc import Iterator

from dsbranch.cli import render
from dsbranch.cli.call import Call
from dsbranch.cli.parameters import BranchName, Json
from dsbranch.cli.quote import one_line, quote_path
from dsbranch.cli.scope import branch_or_current, open_workspace
from dsbranch.cli.wording import count_words, plural, short
from dsbranch.model.changes import Status

EXAMPLE = "dsbranch status exp1"


def run(call: Call, name: BranchName = None, json: Json = False) -> None:
    """Show where a branch stands and how much is uncommitted."""
    with open_workspace(call) as workspace:
        status = workspace.status(branch_or_current(call, workspace, name))
    if json:
        from dsbranch.cli import shapes

        render.as_json(shapes.status(status))
    else:
        render.lines(_lines(status))


def _lines(status: Status) -> Iterator[str]:
    yield f"On branch {status.branch} at commit {short(status.head)}"
    if status.mounted and status.mountpoint is not None:
        yield f"Mounted at {quote_path(os.fsencode(status.mountpoint))}"
    elif not status.running:
        way = "mount" if os.geteuid() == 0 else "shell"
        yield f"Not mounted (`dsbranch {way} {status.branch}` shows it)"
    for process in status.running:
        yield one_line(f"In use at {process.path} by {process.command} (pid {process.pid})")
    if status.clean:
        yield "No uncommitted changes"
    else:
        count = plural(sum(status.counts.values()), "uncommitted change")
        yield f"{count}: {count_words(status.counts)}"

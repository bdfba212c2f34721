"""Room ``cli``: what is told when a branch's view was replaced under running processes."""

from __future__ import annotations

import os
from collections.abc import Sequence

from dsbranch.cli import render
from dsbranch.cli.wording import plural
from dsbranch.model.views import LOST, Process


def others(items: Sequence[Process]) -> tuple[Process, ...]:
    """Without this very process, which stands where the user does and ends in a moment."""
    return tuple(item for item in items if item.pid != os.getpid())


def note_old_views(branch: str, stale: Sequence[Process], elsewhere: Sequence[Process]) -> None:
    lost = [item for item in stale if item.what == LOST]
    if lost:
        render.note(
            f"{plural(len(lost), 'process has', 'processes have')} lost the directory in {branch}"
            " that it stood in; `cd .` there gets it again"
        )
        render.processes(lost)
    stale = [item for item in stale if item.what != LOST]
    if stale:
        render.note(
            f"{plural(len(stale), 'process still sees', 'processes still see')} the old view of "
            f"{branch}, now read-only; `cd .` there gets the new one"
        )
        render.processes(stale)
    if elsewhere:
        render.note(
            f"{plural(len(elsewhere), 'process keeps', 'processes keep')} the old view of "
            f"{branch}, now read-only, in another mount namespace (a container, say) until it "
            "is mounted there again"
        )
        render.processes(elsewhere)

"""``status``: where a branch stands and what is uncommitted."""

from __future__ import annotations

from contextlib import suppress

from dsbranch.errors import DsbranchError
from dsbranch.model.changes import Status
from dsbranch.model.facts import Branch
from dsbranch.ops import views
from dsbranch.ops.context import Context
from dsbranch.ops.dirty import uncommitted_counts
from dsbranch.overlay.mountinfo import MountEntry


def status(context: Context, name: str) -> Status:
    branch, shown = _put_right(context, name)
    counts = uncommitted_counts(context, branch)
    whole = views.whole(shown)
    place = views.home_first(context, branch, [entry for entry in whole if entry.pid == 0])
    return Status(
        branch=branch.name,
        head=branch.head,
        mounted=place is not None,
        mountpoint=place,
        clean=not counts,
        counts=counts,
        running=() if place is not None else views.users(whole),
    )


def _put_right(context: Context, name: str) -> tuple[Branch, list[MountEntry]]:
    """Put right what an interrupted command left, if nobody minds; the branch, and where it is
    shown.

    A frozen mount or an old view may also belong to a command that is still at work; then, and
    without the right to mount, nothing happens.
    """
    branch = context.store.branch(name)
    shown = _shown(context, branch)
    former, left = views.left_behind(context, branch)
    if former != branch.layer and not left and all(entry.pid for entry in shown):
        left = views.private_views(context, former)
    astray = views.mount_of_former_name(context, branch)
    undone = left or astray or (former != branch.layer and views.is_unfinished(context, former))
    if undone or any(map(views.is_read_only, shown)):
        from dsbranch.ops.mounting import locked

        with suppress(DsbranchError), locked(context, name, "status", patience=0.0):
            pass
        branch = context.store.branch(name)
        shown = _shown(context, branch)
    return branch, shown


def _shown(context: Context, branch: Branch) -> list[MountEntry]:
    """Where a branch is mounted; in private views only where nothing here shows all of it, as that
    takes a look at every process."""
    here = views.mounts_of(context, branch.layer)
    return here if views.whole(here) else [*here, *views.private_views(context, branch.layer)]

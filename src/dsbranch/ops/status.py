"""``status``: where a branch stands and what is uncommitted."""

from __future__ import annotations

from contextlib import suppress

from dsbranch.errors import DsbranchError
from dsbranch.model.changes import Status
from dsbranch.ops import views
from dsbranch.ops.context import Context
from dsbranch.ops.diff import uncommitted


def status(context: Context, name: str) -> Status:
    _put_right(context, name)
    branch = context.store.branch(name)
    counts = uncommitted(context, branch, branch.head).counts()
    place = views.mountpoint(context, branch)
    return Status(
        branch=branch.name,
        head=branch.head,
        mounted=place is not None,
        mountpoint=place,
        clean=not counts,
        counts=counts,
        running=() if place is not None else views.users_of_private_views(context, branch),
    )


def _put_right(context: Context, name: str) -> None:
    """Put right what an interrupted command left, if nobody minds.

    A frozen mount or an old view may also belong to a command that is still at work; then, and
    without the right to mount, nothing happens.
    """
    branch = context.store.branch(name)
    former, left = views.left_behind(context, branch)
    here = views.mounts_of(context, branch.layer)
    if not here and not left:
        # Only looked for where it may be: that takes a look at every process.
        here = views.private_views(context, branch.layer)
        if former != branch.layer:
            left = views.private_views(context, former)
    astray = views.mount_of_former_name(context, branch)
    undone = left or astray or (former != branch.layer and views.is_unfinished(context, former))
    if undone or any(map(views.is_read_only, here)):
        from dsbranch.ops.mounting import locked

        with suppress(DsbranchError), locked(context, name, "status", patience=0.0):
            pass

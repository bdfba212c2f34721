"""``status``: where a branch stands and what is uncommitted."""

from __future__ import annotations

from dsbranch.model.changes import Status
from dsbranch.ops import mounting, views
from dsbranch.ops.context import Context
from dsbranch.ops.diff import uncommitted


def status(context: Context, name: str) -> Status:
    mounting.heal_if_idle(context, name)
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

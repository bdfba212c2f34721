"""``rename``: another name for a branch, and its mount at the place of that name.

The transaction comes first, the mount follows: whoever works in the branch goes on. A mount that
is still at the place of the old name is moved by the next command (`mounting.heal`).
"""

from __future__ import annotations

import os

from dsbranch.errors import MountRefused
from dsbranch.model.branches import Renamed
from dsbranch.model.facts import Branch, Move
from dsbranch.model.views import Process
from dsbranch.ops import mounting, serving, views
from dsbranch.ops.context import Context, whoami
from dsbranch.ops.create import PATIENCE_SECONDS
from dsbranch.ops.mountpoints import make_mountpoint, remove_mountpoint
from dsbranch.ops.names import check_name
from dsbranch.ops.refs import require_free
from dsbranch.overlay.mountinfo import MountEntry
from dsbranch.store.lock import names_lock


def rename(context: Context, old: str, new: str) -> Renamed:
    check_name(new)
    with (
        names_lock(context.layout, verb=f"rename {old}", timeout=PATIENCE_SECONDS),
        mounting.locked(context, old, "rename") as branch,
    ):
        require_free(context, new)
        return give_name(context, branch, new, verb="rename", detail=f"{old} to {new}")


def give_name(
    context: Context,
    branch: Branch,
    new: str,
    *,
    verb: str,
    detail: str,
    undoes: int | None = None,
) -> Renamed:
    """Record the operation and move the mount. The caller holds the names and the branch.

    :raises AlreadyExists: something lies at the place of the new name; nothing was changed
    :raises BusyError: something is mounted on the branch; nothing was changed
    """
    after = branch._replace(name=new)
    place = context.root / new
    entry = views.mount_at_place_of(context, branch, branch.name)
    views.require_bare([] if entry is None else [entry])
    if entry is not None:
        serving.require_movable(branch, entry)
    made = make_mountpoint(place)
    try:
        operation = context.store.record(
            verb,
            Move(branch, None),
            Move(None, after),
            author=whoami(),
            detail=detail,
            undoes=undoes,
        )
    except BaseException:
        if made:
            remove_mountpoint(place)
        raise
    standing: tuple[Process, ...] = ()
    if entry is not None:
        standing = _move(context, branch, after, entry)
    else:
        # As from before a reboot: it would be mounted where it had its former name.
        mounting.forget(context, branch.layer, at=context.root / branch.name)
        if made:
            remove_mountpoint(place)
    remove_mountpoint(context.root / branch.name)
    return Renamed(branch.name, new, operation.id, views.mountpoint(context, after), standing)


def _move(
    context: Context, before: Branch, after: Branch, entry: MountEntry
) -> tuple[Process, ...]:
    try:
        return mounting.move_home(context, after, entry)
    except MountRefused as error:
        raise error.after(
            f"{before.name} was renamed to {after.name}, but it is still mounted at"
            f" {os.fsdecode(entry.path)}",
            hint=f"`dsbranch mount {after.name}` tries again",
        ) from error

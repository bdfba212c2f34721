"""``delete``: remove a branch's name. Its layers and commits stay until gc."""

from __future__ import annotations

from dsbranch.errors import ConflictError, DirtyBranch
from dsbranch.model.branches import Deleted
from dsbranch.model.facts import Branch, Move, Operation
from dsbranch.ops import mounting, views
from dsbranch.ops.context import Context, whoami
from dsbranch.ops.create import PATIENCE_SECONDS
from dsbranch.ops.dirty import changes_in_words, uncommitted_counts
from dsbranch.ops.mountpoints import remove_mountpoint
from dsbranch.ops.refs import SHORT
from dsbranch.ops.umount import detach_all
from dsbranch.store.lock import names_lock


def delete(context: Context, name: str, *, force: bool) -> Deleted:
    with (
        context.store.spending_reserve(),
        names_lock(context.layout, verb=f"delete {name}", timeout=PATIENCE_SECONDS),
        mounting.locked(context, name, "delete") as branch,
    ):
        others = require_others(context, branch)
        if not force:
            _require_nothing_lost(context, branch, others)
        detail = f"{name}, which was at {branch.head[:SHORT]}"
        operation = take_away(context, branch, verb="delete", detail=detail)
        return Deleted(name, branch.head, operation.id, branch.layer)


def take_away(
    context: Context, branch: Branch, *, verb: str, detail: str, undoes: int | None = None
) -> Operation:
    """Unmount the branch and record that it is gone. The caller holds the names and the branch.

    :raises BusyError: it is in use; nothing was changed
    """
    mounts = views.mounts_of(context, branch.layer)
    views.require_nowhere_else(context, branch.layer)
    if not mounts:
        mounting.require_unused(context, branch)
    views.require_bare(mounts)
    detach_all(context, mounts, lazy=False)
    operation = context.store.record(
        verb, Move(branch, None), author=whoami(), detail=detail, undoes=undoes
    )
    mounting.forget(context, branch.layer)
    remove_mountpoint(context.root / branch.name)
    return operation


def require_others(context: Context, branch: Branch) -> list[Branch]:
    """The other branches.

    :raises ConflictError: there are none
    """
    others = [other for other in context.store.branches() if other.id != branch.id]
    if not others:
        raise ConflictError(
            f"{branch.name} is the only branch of this workspace",
            hint="`dsbranch create NAME` makes another one first",
        )
    return others


def _require_nothing_lost(context: Context, branch: Branch, others: list[Branch]) -> None:
    counts = uncommitted_counts(context, branch, renames=False)
    if counts:
        raise DirtyBranch(
            f"{branch.name} has {changes_in_words(counts)}",
            hint=f"commit them, or `dsbranch delete --force {branch.name}`",
        )
    tags = [tag.commit for tag in context.store.tags()]
    heads = [*(other.head for other in others), *tags]
    if not any(context.store.is_ancestor(branch.head, head) for head in heads):
        raise ConflictError(
            f"the commits of {branch.name} are on no other branch",
            hint=f"`dsbranch delete --force {branch.name}` removes it all the same",
        )

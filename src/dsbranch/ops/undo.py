"""``undo``: reverse one operation, uncommitted files included. It is an operation itself.

What was moved goes back to where it was before. A commit or squash left the view as it was, so
undoing it is one transaction: the mount and whoever works in it stay, and what had been committed
counts as uncommitted again (`Branch.pending`). Any other move of a branch brings back the open
layer it had, and what is uncommitted now stays with the layer it is in, kept by the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from dsbranch.errors import ConflictError, NoPrivilege, UnknownRef
from dsbranch.model.facts import Branch, Move, Operation, Tag
from dsbranch.model.operations import Undone
from dsbranch.ops import mounting, views
from dsbranch.ops.advance import switching
from dsbranch.ops.checkpoint import mountable
from dsbranch.ops.context import Context, whoami
from dsbranch.ops.create import PATIENCE_SECONDS
from dsbranch.ops.delete import require_others, take_away
from dsbranch.ops.dirty import uncommitted_counts
from dsbranch.ops.mountpoints import make_mountpoint, remove_mountpoint
from dsbranch.ops.oplog import require_last, sides, to_reverse
from dsbranch.ops.rename import give_name
from dsbranch.overlay.driver import Prepared
from dsbranch.store.lock import branch_lock, names_lock

# They give the branch another open layer, which shows what the one before showed. Undoing them,
# and redoing that, keeps the layer, which tells the same.
_SAME_VIEW = ("commit", "squash")


def undo(context: Context, number: int | None, *, wait: float, dry_run: bool) -> Undone:
    operation = to_reverse(context, number)
    before, after = sides(operation)
    require_last(context, operation)
    _require_kept(context, operation, before)
    with _held(context, before, after) as branch:
        # Another command may have come in between.
        require_last(context, operation)
        if branch is None:
            if isinstance(before, Branch):
                return _bring_back(context, operation, before, dry_run=dry_run)
            return _put_tag(context, operation, before, dry_run=dry_run)
        if not isinstance(before, Branch):
            return _take_away(context, operation, branch, dry_run=dry_run)
        if before.name != branch.name:
            return _give_name(context, operation, branch, before.name, dry_run=dry_run)
        assert isinstance(after, Branch)
        if operation.verb in _SAME_VIEW or before.layer == after.layer:
            return _put_back(context, operation, branch, before, after, dry_run=dry_run)
        return _show_again(context, operation, branch, before, wait=wait, dry_run=dry_run)


@contextmanager
def _held(
    context: Context, before: Branch | Tag | None, after: Branch | Tag | None
) -> Iterator[Branch | None]:
    """Hold the locks that the way back from `after` takes; the branch as it is now, if any."""
    names = before is None or after is None or isinstance(after, Tag) or before.name != after.name
    with ExitStack() as held:
        if names:
            held.enter_context(
                names_lock(context.layout, verb="undo", timeout=PATIENCE_SECONDS),
            )
        if isinstance(after, Branch):
            yield held.enter_context(mounting.locked(context, after.name, "undo"))
        else:
            yield None


def _require_kept(context: Context, operation: Operation, before: Branch | Tag | None) -> None:
    """:raises ConflictError: gc has removed the commit or a layer to go back to"""
    if before is None:
        return
    try:
        context.store.commit(before.head if isinstance(before, Branch) else before.commit)
        layers = (before.layer, *before.pending) if isinstance(before, Branch) else ()
        kept = all(context.store.may_have_layer(id) for id in layers)
    except UnknownRef:
        kept = False
    if not kept:
        raise ConflictError(
            f"gc has removed what operation {operation.id} replaced",
            hint="`dsbranch op log` shows what else can be undone",
        )


def _verb(operation: Operation) -> str:
    return "redo" if operation.verb == "undo" else "undo"


def _put_tag(
    context: Context, operation: Operation, before: Tag | None, *, dry_run: bool
) -> Undone:
    number = None if dry_run else _record(context, operation, *operation.moves).id
    head = None if before is None else before.commit
    return Undone(number, operation, operation.moves[0].name, head)


def _record(context: Context, operation: Operation, *moves: Move) -> Operation:
    """Record that these moves were reversed."""
    return context.store.record(
        _verb(operation),
        *(Move(move.after, move.before) for move in moves),
        author=whoami(),
        detail=operation.deed,
        undoes=operation.id,
    )


def _put_back(
    context: Context,
    operation: Operation,
    branch: Branch,
    before: Branch,
    after: Branch,
    *,
    dry_run: bool,
) -> Undone:
    """The head moves under the open layer, which stays where it is and mounted."""
    # Commits since, undone meanwhile, have left their layers on top.
    since = branch.pending[: len(branch.pending) - len(after.pending)]
    pending = before.pending
    if before.layer != after.layer and context.store.layer(before.layer).state == "sealed":
        pending = (before.layer, *pending)
    target = before._replace(layer=branch.layer, pending=(*since, *pending))
    counts = uncommitted_counts(context, target)
    number = None if dry_run else _record(context, operation, Move(target, branch)).id
    place = views.mountpoint(context, target)
    return Undone(number, operation, target.name, target.head, counts, mountpoint=place)


def _show_again(
    context: Context,
    operation: Operation,
    branch: Branch,
    before: Branch,
    *,
    wait: float,
    dry_run: bool,
) -> Undone:
    """The open layer of before comes back, with what was uncommitted in it."""
    target, root_like = before, None
    counts = uncommitted_counts(context, target)
    if context.store.layer(before.layer).state == "sealed":
        # Never to be written to again: it lies below a fresh one.
        root_like = context.layout.fs(before.layer)
        target = before._replace(pending=(before.layer, *before.pending))
    else:
        mounting.require_unused(context, target)
    if dry_run:
        aside = uncommitted_counts(context, branch)
        place = views.mountpoint(context, branch)
        return Undone(None, operation, target.name, target.head, counts, aside, place)
    with switching(context, branch, wait) as switch:
        aside = uncommitted_counts(context, branch)
        done = switch.to(
            _verb(operation),
            target,
            lowers=[*target.pending, *mountable(context, target.head)],
            detail=operation.deed,
            done=f"operation {operation.id} was undone",
            root_like=root_like,
            undoes=operation.id,
        )
    return Undone(
        done.id,
        operation,
        target.name,
        target.head,
        counts,
        aside,
        switch.mountpoint,
        switch.stale,
        switch.elsewhere,
    )


def _give_name(
    context: Context, operation: Operation, branch: Branch, name: str, *, dry_run: bool
) -> Undone:
    counts = uncommitted_counts(context, branch)
    if dry_run:
        place = views.mountpoint(context, branch)
        return Undone(None, operation, name, branch.head, counts, mountpoint=place)
    done = give_name(
        context,
        branch,
        name,
        verb=_verb(operation),
        detail=operation.deed,
        undoes=operation.id,
    )
    return Undone(
        done.operation,
        operation,
        name,
        branch.head,
        counts,
        mountpoint=done.mountpoint,
        stale=done.stale,
    )


def _take_away(context: Context, operation: Operation, branch: Branch, *, dry_run: bool) -> Undone:
    """What is uncommitted is no reason to refuse: undoing this brings it back."""
    require_others(context, branch)
    aside = uncommitted_counts(context, branch)
    number = None
    if not dry_run:
        number = take_away(
            context,
            branch,
            verb=_verb(operation),
            detail=operation.deed,
            undoes=operation.id,
        ).id
    return Undone(number, operation, branch.name, None, set_aside=aside)


def _bring_back(context: Context, operation: Operation, before: Branch, *, dry_run: bool) -> Undone:
    """A deleted branch, mounted at its place where mounting is allowed."""
    counts = uncommitted_counts(context, before)
    if dry_run:
        return Undone(None, operation, before.name, before.head, counts)
    place = context.root / before.name
    made = make_mountpoint(place)
    view: Prepared | None = None
    try:
        with ExitStack() as held:
            held.enter_context(branch_lock(context.layout, before.id, verb="undo"))
            with suppress(NoPrivilege):
                view = held.enter_context(mounting.prepare_branch(context, before))
            number = _record(context, operation, Move(before, None)).id
            if view is not None:
                mounting.attach(context, view, place, commit=before.head, layer=before.layer)
    except BaseException:
        if made:
            remove_mountpoint(place)
        raise
    if made and view is None:
        remove_mountpoint(place)
    mountpoint = views.mountpoint(context, before)
    return Undone(number, operation, before.name, before.head, counts, mountpoint=mountpoint)

"""What is reached from names, mounts and the operation log, and what is not. Pure.

It decides for gc; whatever it does not name may be removed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from dsbranch.model.facts import Branch, Checkpoint, Operation, Tag
from dsbranch.model.history import Doomed, History
from dsbranch.overlay.inuse import InUse

YOUNG_SECONDS = 3600
"""What is younger may be in the hands of a command that has not said so yet."""


def doomed(
    history: History,
    *,
    now_ns: int,
    keep_ns: int,
    mounted: InUse,
    lowers: Callable[[str], list[str]],
) -> Doomed:
    """What gc removes at `now_ns`, with operations younger than `keep_ns` kept.

    `lowers` gives the layers that a mount of a commit consists of; a checkpoint that is in none
    of those of a branch or a tag is wanted no more.
    """
    kept = _kept(history, now_ns, keep_ns, mounted)
    sides = [*history.branches, *history.tags, *_sides(kept)]
    here = {branch.layer for branch in history.branches}
    commits = ancestors(history, [*_commits(sides), *mounted.commits])
    checkpoints = _checkpoints(history, now_ns, mounted, commits, lowers)
    layers = {*_layers(sides), *mounted.layers}
    layers.update(layer for checkpoint in checkpoints for layer in checkpoint.layers)
    layers.update(layer for id in commits if (layer := history.commits[id].layer) is not None)
    gone = {operation.id for operation in history.operations} - {o.id for o in kept}
    return Doomed(
        operations=tuple(sorted(gone)),
        commits=tuple(id for id in history.commits if id not in commits),
        layers=tuple(id for id in history.layers if id not in layers),
        checkpoints=tuple(c.layer for c in history.checkpoints if c not in checkpoints),
        mounts=tuple(
            record.id
            for record in history.mounts
            if (record.layer is not None and record.layer not in layers)
            or (record.layer not in here and record.commit not in commits)
        ),
    )


def ancestors(history: History, starts: Iterable[str]) -> set[str]:
    """The commits in `starts` and all they descend from; ids that no commit has are left out."""
    found: set[str] = set()
    rest = list(starts)
    while rest:
        id = rest.pop()
        if id not in found and id in history.commits:
            found.add(id)
            rest.extend(history.commits[id].parents)
    return found


def held(side: Branch) -> tuple[str, ...]:
    """The layers of a branch that no commit of its own has yet."""
    return (side.layer, *side.pending)


def _kept(history: History, now_ns: int, keep_ns: int, mounted: InUse) -> list[Operation]:
    # With nothing to keep, not even what a clock that went wrong dated into the future.
    since = now_ns - keep_ns if keep_ns > 0 else None
    telling = _telling_of_old_views(history, mounted)
    return [
        operation
        for operation in history.operations
        if (since is not None and operation.time_ns > since) or operation.id in telling
    ]


def _telling_of_old_views(history: History, mounted: InUse) -> set[int]:
    """The operations whose interrupted command left a view mounted: nothing else says whose it is.

    Only the last one that gave a branch another layer can. One before it may have replaced the
    very layer that the branch has again since an undo.
    """
    living = {branch.id for branch in history.branches}
    last = {
        move.before.id: (operation.id, move.before.layer)
        for operation in history.operations
        for move in operation.moves
        if isinstance(move.before, Branch)
        and isinstance(move.after, Branch)
        and move.before.layer != move.after.layer
    }
    return {
        operation
        for branch, (operation, layer) in last.items()
        if branch in living and layer in mounted.views
    }


def _sides(operations: Iterable[Operation]) -> Iterator[Branch | Tag]:
    for operation in operations:
        for move in operation.moves:
            yield from (side for side in (move.before, move.after) if side is not None)


def _commits(sides: Iterable[Branch | Tag]) -> Iterator[str]:
    for side in sides:
        yield from (side.head, side.fork) if isinstance(side, Branch) else (side.commit,)


def _layers(sides: Iterable[Branch | Tag]) -> Iterator[str]:
    for side in sides:
        if isinstance(side, Branch):
            yield from held(side)


def _checkpoints(
    history: History,
    now_ns: int,
    mounted: InUse,
    commits: set[str],
    lowers: Callable[[str], list[str]],
) -> set[Checkpoint]:
    """The checkpoints that stay."""
    if not history.checkpoints:
        return set()
    heads = {branch.head for branch in history.branches} | {tag.commit for tag in history.tags}
    used = {layer for head in heads for layer in lowers(head)}
    return {
        checkpoint
        for checkpoint in history.checkpoints
        if {checkpoint.top, checkpoint.bottom} <= commits
        and (
            checkpoint.layer in used
            or not mounted.layers.isdisjoint(checkpoint.layers)
            or _is_young(history.layers[checkpoint.layer].sealed_ns, now_ns)
        )
    }


def _is_young(time_ns: int | None, now_ns: int) -> bool:
    return time_ns is not None and now_ns - time_ns < YOUNG_SECONDS * 10**9

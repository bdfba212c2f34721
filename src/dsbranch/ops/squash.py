"""``squash``: one commit in place of several. The view stays the same, byte for byte.

The new layer is made of hard links into the old ones. An open layer goes on lying on the new
stack, since it sees the same view; a mounted branch is shown the new stack if nobody writes
and nothing is uncommitted, and otherwise goes on with the old layers until it is next mounted.
"""

from __future__ import annotations

from dsbranch.errors import BusyError, ConflictError, DirtyBranch, NothingToCommit
from dsbranch.model.commits import Squashed
from dsbranch.model.facts import Branch, Commit, Layer, Move
from dsbranch.ops import layers, mounting, stacks, views
from dsbranch.ops.advance import require_clean, switching
from dsbranch.ops.build import squashed
from dsbranch.ops.checkpoint import climb, mountable, stretch
from dsbranch.ops.context import Context, whoami
from dsbranch.ops.lowers import lowers_of, root_of_view
from dsbranch.ops.refs import SHORT, fork_point, resolve


def squash(context: Context, name: str, *, since: str | None, message: str | None) -> Squashed:
    if message is not None:
        message = layers.require_message(message)
    with mounting.locked(context, name, "squash") as branch:
        start = fork_point(context, branch) if since is None else resolve(context, since)
        commits = _between(context, branch, start)
        with layers.new_layer(context, root_of_view(context, branch.head), work=False) as new:
            runs = stretch(context, branch.head, start)
            parts = stacks.tables(context, [layer for run in runs for layer in run.layers])
            sealed, checksum, effort = squashed(context, parts, lowers_of(context, start), new)
            made = layers.new_commit(
                sealed,
                checksum,
                parents=(start,),
                message=_message(commits) if message is None else message,
                author=whoami(),
            )
            remounted = _advance(context, branch, made, sealed, len(commits))
    climb(context, made.id)
    linked, copied, copied_bytes = effort
    return Squashed(made, len(commits), linked, copied, copied_bytes, remounted)


def _between(context: Context, branch: Branch, start: str) -> list[Commit]:
    """The commits after `start` up to the branch's head, newest first."""
    line = context.store.first_parents(branch.head, until=start)
    if line[-1] != start:
        raise ConflictError(
            f"{start[:SHORT]} is not in the history of {branch.name}",
            hint=f"`dsbranch log {branch.name}` shows what is",
        )
    found = [context.store.commit(id) for id in line[:-1]]
    if len(found) < 2:
        raise NothingToCommit(
            f"nothing to squash: {branch.name} has {len(found) or 'no'}"
            f" {'commit' if len(found) == 1 else 'commits'} since {start[:SHORT]}",
            hint="`--since REF` reaches further back",
        )
    return found


def _message(commits: list[Commit]) -> str:
    lines = [f"- {layers.subject(commit.message)}" for commit in reversed(commits)]
    return "\n".join([f"squash {len(commits)} commits", "", *lines])


def _advance(context: Context, branch: Branch, made: Commit, sealed: Layer, replaced: int) -> bool:
    """Move the branch; whether its view now lies on the new stack."""
    detail = f"{replaced} commits of {branch.name} into {made.id[:SHORT]}"
    if not views.all_views(context, branch.layer):
        views.require_nowhere_else(context, branch.layer)
        _keep_layer(context, branch, made, sealed, detail)
        return True
    try:
        with switching(context, branch, 0.0) as switch:
            if not switch.mounts:
                raise BusyError("only a part of it is mounted")
            require_clean(context, branch, "squash", directory_times=True)
            switch.to(
                "squash",
                branch._replace(head=made.id, pending=()),
                lowers=[sealed.id, *mountable(context, made.parents[0])],
                detail=detail,
                done=f"{branch.name} was squashed",
                root_like=root_of_view(context, branch.head),
                layers=[sealed],
                commit=made,
            )
    except (BusyError, DirtyBranch):
        _keep_layer(context, branch, made, sealed, detail)
        return False
    return True


def _keep_layer(context: Context, branch: Branch, made: Commit, sealed: Layer, detail: str) -> None:
    """The open layer goes on lying on the new stack, as it sees the same view."""
    layers.sync(context)
    context.store.record(
        "squash",
        Move(branch, branch._replace(head=made.id)),
        author=whoami(),
        detail=detail,
        layers=[sealed],
        commit=made,
    )

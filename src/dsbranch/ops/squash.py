"""``squash``: one commit in place of several. The view stays the same, byte for byte.

The new layer is made of hard links into the old ones. An open layer goes on lying on the new
stack, since it sees the same view; a mounted branch is shown the new stack if nobody writes
and nothing is uncommitted, and otherwise goes on with the old layers until it is next mounted.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from dsbranch._core.build import build, inherit
from dsbranch._core.content import digest_files
from dsbranch._core.scan import scan
from dsbranch._core.squash import plan
from dsbranch.errors import BusyError, ConflictError, NothingToCommit
from dsbranch.model import Branch, Commit, Layer, Squashed
from dsbranch.ops import layers, mounting, stacks
from dsbranch.ops.context import Context, whoami
from dsbranch.ops.diff import fork_point, uncommitted
from dsbranch.ops.freezing import frozen
from dsbranch.ops.refs import SHORT, resolve
from dsbranch.store.faults import storage


def squash(context: Context, name: str, *, since: str | None, message: str | None) -> Squashed:
    if message is not None:
        message = layers.require_message(message)
    with mounting.locked(context, name, "squash") as branch:
        start = fork_point(context, branch) if since is None else resolve(context, since)
        commits = _between(context, branch, start)
        with layers.new_layer(
            context, stacks.root_of_view(context, branch.head), work=False
        ) as new:
            sealed, checksum, built = _build(context, commits, start, new)
            made = layers.new_commit(
                sealed,
                checksum,
                parents=(start,),
                message=_message(commits) if message is None else message,
                author=whoami(),
            )
            layers.sync(context)
            remounted = _advance(context, branch, made, sealed, len(commits))
        linked, copied, copied_bytes = built
        return Squashed(made, len(commits), linked, copied, copied_bytes, remounted)


def _between(context: Context, branch: Branch, start: str) -> list[Commit]:
    """The commits after `start` up to the branch's head, newest first."""
    line = context.store.first_parents(branch.head)
    if start not in line:
        raise ConflictError(
            f"{start[:SHORT]} is not in the history of {branch.name}",
            hint=f"`dsbranch log {branch.name}` shows what is",
        )
    found = [context.store.commit(id) for id in line[: line.index(start)]]
    if len(found) < 2:
        raise NothingToCommit(
            f"nothing to squash: {branch.name} has {len(found) or 'no'}"
            f" {'commit' if len(found) == 1 else 'commits'} since {start[:SHORT]}",
            hint="`--since REF` reaches further back",
        )
    return found


def _build(
    context: Context, commits: list[Commit], start: str, new: Layer
) -> tuple[Layer, str, tuple[int, int, int]]:
    place = context.layout.fs(new.id)
    merged = [stacks.sealed(context, c.layer) for c in commits if c.layer is not None]
    with stacks.reading(context.root):
        steps = plan(merged, stacks.sealed_stack(context, start), stacks.base(context))
    with storage(f"make the layer {place}"), stacks.consistent(context.root):
        built = build(steps, os.fsencode(place), dialect=new.dialect)
    with stacks.reading(place):
        table = scan(os.fsencode(place), dialect=new.dialect)
        inherit(table, steps)
        if all(context.store.layer(c.layer).hashed for c in commits if c.layer is not None):
            # Only what had to be copied, with metadata of its own, can still lack a digest.
            digest_files(table, progress=context.report("hashing"))
    sealed, checksum = layers.write_manifest(context, new, table)
    return sealed, checksum, built


def _message(commits: list[Commit]) -> str:
    lines = [f"- {layers.subject(commit.message)}" for commit in reversed(commits)]
    return "\n".join([f"squash {len(commits)} commits", "", *lines])


def _advance(context: Context, branch: Branch, made: Commit, sealed: Layer, replaced: int) -> bool:
    """Move the branch; whether its view now lies on the new stack."""
    detail = f"{replaced} commits of {branch.name} into {made.id[:SHORT]}"
    mounts = mounting.mounts_of(context, branch.layer)
    if not mounts:
        mounting.require_nowhere_else(context, branch.layer)
        context.store.insert_squash(branch, made, sealed, None, detail=detail)
        return True
    with ExitStack() as held:
        try:
            with frozen(context, branch, 0.0) as mounts:
                pending = uncommitted(context, branch, branch.head, directory_times=True)
                if not mounts or len(pending):
                    raise BusyError("what lies in the open layer would go with it")
                place = stacks.root_of_view(context, branch.head)
                with layers.new_layer(context, place) as fresh:
                    stack = [sealed.id, *context.store.stack(made.parents[0])]
                    plan = mounting.branch_plan(context, stack, fresh.id)
                    view = held.enter_context(context.driver.prepare(plan))
                    layers.sync(context)
                    context.store.insert_squash(branch, made, sealed, fresh, detail=detail)
        except BusyError:
            context.store.insert_squash(branch, made, sealed, None, detail=detail)
            return False
        mounting.settle(context, branch, mounts, view, done=f"{branch.name} was squashed")
    return True

"""``show``: one commit, and what it changed against its first parent."""

from __future__ import annotations

from collections.abc import Sequence

from dsbranch._core.delta import Deltas
from dsbranch.model.facts import Commit
from dsbranch.ops.context import Context
from dsbranch.ops.diff import Diff, between
from dsbranch.ops.refs import resolve


def show(context: Context, ref: str, *, paths: Sequence[bytes]) -> tuple[Commit, Diff]:
    commit = context.store.commit(resolve(context, ref))
    if not commit.parents:
        # The root commit is the base as it was adopted: nothing was changed to make it.
        return commit, Diff(commit.id, commit.id, Deltas())
    return commit, between(context, commit.parents[0], commit.id, paths)

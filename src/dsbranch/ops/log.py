"""``log``: the commits that a ref reaches, newest first."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import islice

from dsbranch.model.facts import Commit
from dsbranch.ops.context import Context
from dsbranch.ops.refs import resolve


def log(
    context: Context, ref: str, *, limit: int | None, paths: Sequence[bytes], simplify: bool
) -> list[Commit]:
    # One state: a gc in the middle would take away what is left to read.
    with context.store.snapshot():
        return _log(context, ref, limit, [path.strip(b"/") for path in paths], simplify)


def _log(
    context: Context, ref: str, limit: int | None, wanted: Sequence[bytes], simplify: bool
) -> list[Commit]:
    line = context.store.ancestors(resolve(context, ref))
    if not wanted or b"" in wanted:
        return list(islice(line, limit))
    from dsbranch.ops.touched import touches

    walked: list[Commit] = []
    shown: list[Commit] = []
    while limit is None or len(shown) < limit:
        commit = next(line, None)
        if commit is None:
            break
        walked.append(commit)
        if touches(context, commit, wanted):
            shown.append(commit)
    return _joined(walked, {commit.id for commit in shown}) if simplify else shown


def _joined(walked: Sequence[Commit], shown: Collection[str]) -> list[Commit]:
    """The shown ones with the nearest shown ancestors as parents."""
    nearest: dict[str, tuple[str, ...]] = {}
    found = []
    for commit in reversed(walked):
        above = [near for id in commit.parents for near in nearest.get(id, (id,))]
        parents = tuple(dict.fromkeys(above))
        nearest[commit.id] = (commit.id,) if commit.id in shown else parents
        if commit.id in shown:
            found.append(commit._replace(parents=parents))
    return found[::-1]

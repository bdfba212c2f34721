"""``diff``: what changed, between the open layer, commits, and branches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from dsbranch._core.algebra import changes
from dsbranch._core.delta import Delta, Deltas
from dsbranch._core.view import View
from dsbranch.errors import UsageError
from dsbranch.model.changes import LETTERS, Change
from dsbranch.model.facts import Branch
from dsbranch.ops import stacks
from dsbranch.ops.context import Context
from dsbranch.ops.dirty import is_dirty
from dsbranch.ops.lowers import apart
from dsbranch.ops.refs import fork_point, is_branch, resolve, split_range

if TYPE_CHECKING:
    import pyarrow as pa


class Diff:
    """The changes from one view to another, sorted by path with ``/`` lowest.

    Iterating gives `Change`. `from_` and `to` are commit ids; `to` is None where uncommitted
    changes are included, and both are for an overlay that is not of a workspace. `pending` names
    a branch with uncommitted changes that are not.
    """

    def __init__(
        self, from_: str | None, to: str | None, deltas: Deltas, *, pending: str | None = None
    ) -> None:
        self.from_ = from_
        self.to = to
        self.pending = pending
        self._deltas = deltas

    def __len__(self) -> int:
        return len(self._deltas)

    def __iter__(self) -> Iterator[Change]:
        return map(Change._make, self._deltas.tuples())

    def counts(self) -> dict[str, int]:
        """How many changes there are of each letter that occurs."""
        return count(self._deltas)

    def to_arrow(self) -> pa.Table:
        """The changes as a table: status, path, old_path, kind, size, old_size."""
        import pyarrow as pa

        columns = {
            "status": pa.string(),
            "path": pa.binary(),
            "old_path": pa.binary(),
            "kind": pa.string(),
            "size": pa.int64(),
            "old_size": pa.int64(),
        }
        rows = list(self)
        return pa.table(
            {
                name: pa.array([getattr(row, name) for row in rows], type)
                for name, type in columns.items()
            }
        )


def count(deltas: Deltas) -> dict[str, int]:
    counts = deltas.counts()
    return {letter: counts[letter] for letter in LETTERS if letter in counts}


def diff(
    context: Context,
    a: str | None,
    b: str | None,
    *,
    branch: str | None,
    paths: Sequence[bytes],
    renames: bool,
) -> Diff:
    spread = split_range(a) if a is not None and b is None else None
    if spread is not None:
        one, two = resolve(context, spread[0]), resolve(context, spread[1])
        if spread[2]:
            one = context.store.merge_base(one, two)
        return between(context, one, two, paths, renames, shown=spread[1])
    if a is not None and b is not None:
        return between(context, resolve(context, a), resolve(context, b), paths, renames, shown=b)
    if a is None:
        if branch is None:
            raise UsageError("which branch?", hint="name one, or run this inside a mounted branch")
        here = context.store.branch(branch)
        return uncommitted(context, here, here.head, paths, renames)
    if is_branch(context, a):
        here = context.store.branch(a)
        return uncommitted(context, here, fork_point(context, here), paths, renames)
    start = resolve(context, a)
    if branch is None:
        raise UsageError(
            f"`{a}` is no branch, and there is nothing to compare it with",
            hint=f"name two sides: `dsbranch diff {a} main`",
        )
    return uncommitted(context, context.store.branch(branch), start, paths, renames)


def uncommitted(
    context: Context,
    branch: Branch,
    start: str,
    paths: Sequence[bytes] = (),
    renames: bool = True,
    *,
    directory_times: bool = False,
) -> Diff:
    """From the commit `start` to the branch as it is, its open layer included."""
    below = stacks.base(context)
    before, head = apart(context, start, branch.head)
    stack = stacks.tables(context, [*branch.pending, *head])
    old = View(stacks.tables(context, before), below)
    new = View([stacks.open_table(context, branch), *stack], below)
    found = compare(context, old, new, paths, renames, directory_times=directory_times)
    return Diff(start, None, found)


def between(
    context: Context,
    one: str,
    two: str,
    paths: Sequence[bytes] = (),
    renames: bool = True,
    *,
    shown: str | None = None,
) -> Diff:
    """From one commit to another. `shown` is what the user called the second."""
    old, new = stacks.pair(context, one, two)
    pending = None
    if shown is not None and is_dirty(context, shown):
        pending = shown
    return Diff(one, two, compare(context, old, new, paths, renames), pending=pending)


def compare(
    context: Context,
    old: View | None,
    new: View,
    paths: Sequence[bytes] = (),
    renames: bool = True,
    *,
    directory_times: bool = False,
) -> Deltas:
    with stacks.reading(context.root):
        found = changes(
            old,
            new,
            renames=renames,
            directory_times=directory_times,
            known=context.digests,
            spill=stacks.spill(context),
            progress=context.report("comparing"),
        )
    wanted = [path.strip(b"/") for path in paths]
    if not wanted or b"" in wanted:
        return found
    return found.only(lambda delta: within(delta, wanted))


def within(delta: Delta, wanted: Sequence[bytes]) -> bool:
    """Whether a change is at or below one of these paths, or was before a rename."""
    names = [delta.path] if delta.old_path is None else [delta.path, delta.old_path]
    return any(name == top or name.startswith(top + b"/") for name in names for top in wanted)

"""``merge``: what another branch changed, replayed as a layer on top of this one.

The layer is made of hard links into theirs and references to ours; nothing that neither side
changed is read. Conflicts are found before anything is written. The layer is garbage without a
row until the one transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from dsbranch._core.merge import Clash, Merge, decide
from dsbranch._core.replay import replay
from dsbranch._core.squash import Step
from dsbranch.errors import MergeConflict, UnsupportedError
from dsbranch.model.facts import Branch
from dsbranch.model.merges import Conflict, Merged, Preference, Seen
from dsbranch.ops import layers, mounting, stacks
from dsbranch.ops.advance import commit_clean, require_clean
from dsbranch.ops.build import built
from dsbranch.ops.checkpoint import climb
from dsbranch.ops.context import Context, whoami
from dsbranch.ops.dirty import is_dirty
from dsbranch.ops.lowers import apart, root_of_view
from dsbranch.ops.patterns import compiled
from dsbranch.ops.refs import resolve

if TYPE_CHECKING:
    from dsbranch._core.merge import Face

Choose = Callable[[bytes], Literal["ours", "theirs"] | None]


def merge(
    context: Context,
    other: str,
    name: str,
    *,
    message: str | None,
    strategy: Literal["fail", "ours", "theirs"],
    prefer: Sequence[Preference],
    dry_run: bool,
    wait: float,
    author: str | None,
) -> Merged:
    text = layers.require_message(f"merge {other} into {name}" if message is None else message)
    choose = _chooser(strategy, prefer)
    dirty = None
    if other != name and is_dirty(context, other):
        dirty = other
    with mounting.locked(context, name, "merge") as branch:
        theirs = resolve(context, other)
        base = context.store.merge_base(branch.head, theirs)
        if base == theirs:
            merged = Merged(name, None, up_to_date=True, dirty_source=dirty)
        else:
            require_clean(context, branch, "merge")
            decided = _decided(context, (base, branch.head, theirs), choose)
            conflicts = tuple(_conflict(clash) for clash in decided.conflicts)
            if conflicts and not dry_run:
                raise _refusal(other, name, conflicts)
            steps, counts = ([], {}) if conflicts else _steps(context, decided)
            merged = Merged(name, None, counts, conflicts, dirty_source=dirty)
            if not dry_run:
                merged = _commit(context, branch, theirs, steps, merged, text, wait, author)
    if merged.commit is not None:
        climb(context, merged.commit.id)
    return merged


def _refusal(other: str, name: str, conflicts: tuple[Conflict, ...]) -> MergeConflict:
    return MergeConflict(
        f"{other} and {name} conflict at {len(conflicts)}"
        f" {'path' if len(conflicts) == 1 else 'paths'}; nothing was changed",
        conflicts=conflicts,
        hint="take a side with `--strategy ours|theirs`, or by path with"
        " `--prefer 'GLOB=ours|theirs'`",
    )


def _decided(context: Context, commits: tuple[str, str, str], choose: Choose | None) -> Merge:
    views = stacks.trio(context, *commits)
    with stacks.reading(context.root):
        return decide(*views, choose=choose, progress=context.report("comparing"))


def _steps(context: Context, decided: Merge) -> tuple[list[Step], dict[str, int]]:
    with stacks.consistent(context.root):
        try:
            return replay(decided, dialect=context.store.dialect)
        except NotImplementedError as error:
            raise UnsupportedError(
                f"the merge cannot move a directory to {error}: its path here is too long",
                hint="rename it on this branch first, commit, and merge then",
            ) from error


def _commit(
    context: Context,
    branch: Branch,
    theirs: str,
    steps: list[Step],
    merged: Merged,
    text: str,
    wait: float,
    author: str | None,
) -> Merged:
    one, other = apart(context, branch.head, theirs)
    hash = all(context.store.layer(layer).hashed for layer in {*one} ^ {*other})
    with layers.new_layer(context, root_of_view(context, branch.head), work=False) as new:
        sealed, checksum, (linked, copied, copied_bytes) = built(context, steps, new, hash=hash)
        made = layers.new_commit(
            sealed,
            checksum,
            parents=(branch.head, theirs),
            message=text,
            author=author or whoami(),
        )
        switch = commit_clean(context, branch, "merge", made, sealed, wait)
    return merged._replace(
        commit=made,
        linked=linked,
        copied=copied,
        copied_bytes=copied_bytes,
        mountpoint=switch.mountpoint,
        stale=switch.stale,
        elsewhere=switch.elsewhere,
    )


def _chooser(strategy: str, prefer: Sequence[Preference]) -> Choose | None:
    rules = [(compiled(rule.glob), rule.side) for rule in prefer]
    rest: Literal["ours", "theirs"] | None = (
        "ours" if strategy == "ours" else "theirs" if strategy == "theirs" else None
    )
    if not rules and rest is None:
        return None

    def choose(path: bytes) -> Literal["ours", "theirs"] | None:
        return next((side for pattern, side in rules if pattern.fullmatch(path)), rest)

    return choose


def _conflict(clash: Clash) -> Conflict:
    path, reason, base, ours, theirs = clash.astuple()
    return Conflict(path, reason, _seen(base), _seen(ours), _seen(theirs))


def _seen(face: Face | None) -> Seen | None:
    return None if face is None else Seen(*face)

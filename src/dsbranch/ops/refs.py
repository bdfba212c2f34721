"""From what a user writes to a commit: names, prefixes, ``REF~N``, ``BRANCH@{N}``, ranges."""

from __future__ import annotations

import re

from dsbranch.errors import AlreadyExists, AmbiguousRef, UnknownRef, UsageError
from dsbranch.model.facts import Branch
from dsbranch.ops.context import Context
from dsbranch.ops.names import escaped

SHORT = 10
"""How many digits of a commit's id are shown to people."""

_SHORTEST_PREFIX = 4
# Compiled only for a ref that may match: 0.1 ms each, as long as a query.
_SUFFIX = r"^(?P<ref>[^~]*)(?P<steps>(~[0-9]{0,9})+)$"
_POSITION = r"^(?P<branch>.+)@\{(?P<count>[0-9]{1,9})\}$"


def resolve(context: Context, ref: str) -> str:
    """The id of the commit that `ref` names.

    :raises UnknownRef: nothing has that name; with names close to it
    :raises AmbiguousRef: several commits begin with these digits
    """
    suffix = re.match(_SUFFIX, ref) if "~" in ref else None
    if suffix:
        start = resolve(context, suffix["ref"])
        count = sum(int(step or 1) for step in suffix["steps"][1:].split("~"))
        steps, found = context.store.ancestor(start, count)
        if steps < count:
            raise UnknownRef(f"{suffix['ref']} has only {steps} ancestors", ref=ref)
        return found
    position = re.match(_POSITION, ref, re.DOTALL) if "@{" in ref else None
    if position:
        branch = context.store.branch(position["branch"])
        count = int(position["count"])
        former = [branch.head, *context.store.positions(branch)]
        if count >= len(former):
            raise UnknownRef(f"{branch.name} has only {len(former) - 1} former positions", ref=ref)
        return former[count]
    return _plain(context, ref)


def fork_point(context: Context, branch: Branch) -> str:
    """Where the branch left the history it was made from, also after it was rolled back."""
    return context.store.merge_base(branch.fork, branch.head)


def _plain(context: Context, ref: str) -> str:
    if is_branch(context, ref):
        return context.store.branch(ref).head
    tag = context.store.tag(ref)
    if tag is not None:
        return tag.commit
    if len(ref) >= _SHORTEST_PREFIX:
        found = context.store.commits_with_prefix(ref.lower(), 10)
        if len(found) == 1:
            return found[0].id
        if found:
            raise AmbiguousRef(
                f"`{ref}` is the beginning of {len(found)} commits",
                ref=ref,
                candidates=[commit.id for commit in found],
            )
    raise UnknownRef(
        f"there is no branch, tag or commit `{escaped(ref)}`",
        ref=ref,
        suggestions=context.store.close_names(ref),
    )


def is_branch(context: Context, ref: str) -> bool:
    return context.store.has_branch(ref)


def require_free(context: Context, name: str) -> None:
    """:raises AlreadyExists: a branch or a tag has that name, and a ref would mean both"""
    if is_branch(context, name):
        raise AlreadyExists(
            f"a branch {name} exists already", hint=f"`dsbranch mount {name}` shows where it is"
        )
    if context.store.tag(name) is not None:
        raise AlreadyExists(
            f"a tag {name} exists already", hint=f"`dsbranch tag --delete {name}` removes it"
        )


def split_range(spec: str) -> tuple[str, str, bool] | None:
    """``A..B`` as (A, B, False), ``A...B`` as (A, B, True); None if `spec` is no range.

    :raises UsageError: a side is missing
    """
    for dots, from_base in (("...", True), ("..", False)):
        if dots in spec:
            a, _, b = spec.partition(dots)
            if not a or not b:
                raise UsageError(
                    f"`{spec}` is half a range", hint=f"name both sides: `main{dots}exp1`"
                )
            return a, b, from_base
    return None

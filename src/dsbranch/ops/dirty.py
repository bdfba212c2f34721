"""Whether a branch has uncommitted changes, and how many, for verbs that do not list them.

An open layer that is as it was made has none. That is asked first: most branches that are made or
deleted are untouched, and to load what compares takes as long as such a verb's own work.
"""

from __future__ import annotations

import os
from contextlib import suppress

from dsbranch.model.facts import Branch
from dsbranch.ops.context import Context
from dsbranch.ops.lowers import is_there, lowers_of, root_of_stack
from dsbranch.ops.refs import is_branch
from dsbranch.overlay.markers import has_root_of


def is_dirty(context: Context, ref: str) -> bool:
    """Whether `ref` is a branch with uncommitted changes."""
    return is_branch(context, ref) and bool(
        uncommitted_counts(context, context.store.branch(ref), renames=False)
    )


def uncommitted_counts(
    context: Context, branch: Branch, *, renames: bool = True, directory_times: bool = False
) -> dict[str, int]:
    """How many uncommitted changes there are of each letter that occurs.

    `directory_times` counts also what is no change to a user: a directory's time alone.
    """
    if _is_untouched(context, branch, time=directory_times):
        return {}
    from dsbranch.ops.diff import uncommitted

    return uncommitted(
        context, branch, branch.head, renames=renames, directory_times=directory_times
    ).counts()


def changes_in_words(counts: dict[str, int]) -> str:
    number = sum(counts.values())
    return "one uncommitted change" if number == 1 else f"{number} uncommitted changes"


def _is_untouched(context: Context, branch: Branch, *, time: bool) -> bool:
    """Whether the open layer is as it was made. False decides nothing: then compare."""
    if branch.pending:
        return False
    upper = context.layout.fs(branch.layer)
    # What is gone or cannot be read is reported by the comparison.
    with suppress(OSError):
        with os.scandir(upper) as names:
            if any(names):
                return False
        lowers = lowers_of(context, branch.head)
        if all(is_there(context, layer) for layer in lowers):
            root = root_of_stack(context, lowers)
            return has_root_of(root, upper, dialect=context.store.dialect, time=time)
    return False

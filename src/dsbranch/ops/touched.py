"""Which commits changed something at some paths, told by their manifests: no file is read."""

from __future__ import annotations

from collections.abc import Sequence

from dsbranch._core.algebra import changes
from dsbranch._core.base import Base
from dsbranch._core.entries import glance
from dsbranch._core.table import Table
from dsbranch._core.view import View
from dsbranch.model.facts import Commit
from dsbranch.ops import stacks
from dsbranch.ops.context import Context
from dsbranch.ops.diff import within
from dsbranch.ops.lowers import lowers_of


def touches(context: Context, commit: Commit, paths: Sequence[bytes]) -> bool:
    """Whether a commit made one of `paths`, or anything below, other than its first parent has it.

    A file that the commit has written anew, or given a further name, is taken for changed.
    """
    if commit.layer is None:
        return False
    table = stacks.recorded(context, commit.layer)
    found = [(path, *glance(table, path)) for path in paths]
    if any(changed for _, changed, _, _ in found):
        return True
    below = [path for path, _, _, above in found if above]
    if below and _came_or_went(context, commit, below):
        return True
    unclear = [path for path, _, unclear, _ in found if unclear]
    return bool(unclear) and _shape_changed(context, commit, unclear)


def _views(context: Context, commit: Commit, table: Table) -> tuple[View, View]:
    """What the commit's first parent shows, and that with `table` on top."""
    below: Base = stacks.base(context)
    stack = stacks.tables(context, lowers_of(context, commit.parents[0]))
    return View(stack, below), View([table, *stack], below)


def _came_or_went(context: Context, commit: Commit, paths: Sequence[bytes]) -> bool:
    """A directory above was deleted, replaced or renamed: is each path what it was before?"""
    assert commit.layer is not None
    old, new = _views(context, commit, stacks.sealed(context, commit.layer))
    with stacks.reading(context.root):
        return any(old.find(path) != new.find(path) for path in paths)


def _shape_changed(context: Context, commit: Commit, paths: Sequence[bytes]) -> bool:
    """Directories are in a layer also when only something in them was: is anything gone, or other?

    Compared without the files, so that there is no content to read.
    """
    assert commit.layer is not None
    table = stacks.sealed(context, commit.layer)
    entries = (table.entry(row) for row in range(len(table)))
    shape = table.without([e.path for e in entries if e.kind not in ("directory", "whiteout")])
    old, new = _views(context, commit, shape)
    with stacks.reading(context.root):
        found = changes(old, new, renames=False)
    return any(within(delta, paths) for delta in found)

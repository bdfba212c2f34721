"""``export``: a view, or what changed between two commits, as a tar or a directory.

What is written appears complete or not at all: it is made under a temporary name beside its
place, synced and renamed. What the format cannot say is refused before anything is written.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dsbranch._core.view import View
from dsbranch.errors import AlreadyExists, BadPath
from dsbranch.model.archives import Exported
from dsbranch.ops import stacks
from dsbranch.ops.archive.items import Items, plan_changes, plan_full, refuse_unsayable
from dsbranch.ops.archive.tar_write import TAR_SUFFIXES, write_tar
from dsbranch.ops.archive.tree_write import write_tree
from dsbranch.ops.context import Context
from dsbranch.ops.diff import compare
from dsbranch.ops.dirty import is_dirty
from dsbranch.ops.lowers import apart, lowers_of
from dsbranch.ops.refs import resolve, split_range
from dsbranch.store.faults import storage
from dsbranch.store.layout import sync_directory
from dsbranch.store.removal import remove_soon, remove_tree

_OTHER_ARCHIVES = (".gz", ".tgz", ".bz2", ".xz", ".lz4", ".zip", ".zst", ".7z", ".tzst")


def export(context: Context, spec: str, output: Path) -> Exported:
    output = Path(os.path.abspath(output))
    as_tar = output.name.endswith(TAR_SUFFIXES)
    with storage(f"write {output}"):
        _check_output(context, output, as_tar=as_tar)
    view, items, last, full = _select(context, spec)
    entries = size = 0
    for item in stacks.told(context, items):
        refuse_unsayable(item, as_tar=as_tar)
        entries += 1
        size += 0 if item.first is not None else item.size
    with (
        storage(f"write {output}"),
        stacks.consistent(context.root),
        _scratch(context, output.parent) as scratch,
    ):
        draft = scratch / "draft"
        if as_tar:
            write_tar(
                draft,
                stacks.told(context, items.marked()),
                entries,
                dialect=context.store.dialect,
                zst=output.suffix == ".zst",
                progress=context.report("writing"),
            )
            size = draft.stat().st_size
        else:
            write_tree(draft, items, context, view, full=full)
        _move(draft, output)
        sync_directory(output.parent)
    notes: tuple[str, ...] = ()
    if is_dirty(context, last):
        notes = (f"the uncommitted changes of {last} are not in it",)
    return Exported(output, entries, size, notes)


def _move(draft: Path, output: Path) -> None:
    """rename(2) replaces an empty directory, as it does a file. It moves no directory that its
    owner, who is not root, may not write to."""
    mode = draft.stat().st_mode
    closed = stat.S_ISDIR(mode) and not mode & stat.S_IWUSR
    if closed:
        draft.chmod(stat.S_IMODE(mode) | stat.S_IWUSR)
    draft.rename(output)
    if closed:
        output.chmod(stat.S_IMODE(mode))


@contextmanager
def _scratch(context: Context, above: Path) -> Iterator[Path]:
    """A directory of ours in `above`, by its descriptor: what is at its name meanwhile does not
    matter. Gone afterwards."""
    place = Path(tempfile.mkdtemp(prefix=".dsbranch-export-", dir=above))
    try:
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = os.fstat(fd)
            if found.st_uid != os.geteuid() or found.st_mode & 0o077:
                raise BadPath(
                    f"somebody replaced {place} while it was being made",
                    hint="name a place in a directory of your own",
                )
            yield Path(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
    except BaseException as error:
        # Whoever interrupts does not wait. Beside the workspace, gc knows by its name what is left.
        if isinstance(error, KeyboardInterrupt):
            remove_soon(place)
            if place.exists():
                context.notes.append(f"{place} is left of it; `rm -r` removes that")
        else:
            remove_tree(place, lambda _gone: None)
        raise
    remove_tree(place, lambda _gone: None)


def _select(context: Context, spec: str) -> tuple[View, Items, str, bool]:
    """The new view, what of it is to be written, what the user called it, and whether it is all."""
    spread = split_range(spec)
    below = stacks.base(context)
    if spread is None:
        view = View(stacks.tables(context, lowers_of(context, resolve(context, spec))), below)
        return view, plan_full(compare(context, None, view)), spec, True
    one, two = resolve(context, spread[0]), resolve(context, spread[1])
    if spread[2]:
        one = context.store.merge_base(one, two)
    lowers, stack = (stacks.tables(context, found) for found in apart(context, one, two))
    old, view = View(lowers, below), View(stack, below)
    deltas = compare(context, old, view, renames=False, directory_times=True)
    with stacks.reading(context.root):
        return view, plan_changes(deltas, old, view, stack), spread[1], False


def _check_output(context: Context, output: Path, *, as_tar: bool) -> None:
    if not output.parent.is_dir():
        raise BadPath(f"{output.parent} is no directory", hint="make it first")
    physical = output.parent.resolve() / output.name
    for place, what in ((context.base, "the base"), (context.layout.dot, "the store")):
        if place == physical or place in physical.parents:
            raise BadPath(f"{output} lies inside {what} {place}", hint="name a place elsewhere")
    if not as_tar and output.name.lower().endswith(_OTHER_ARCHIVES):
        raise BadPath(
            f"{output.name} names an archive of a kind that export does not write",
            hint="name a file that ends in .tar or .tar.zst, or a directory",
        )
    if as_tar:
        if output.exists() and not output.is_file():
            raise AlreadyExists(f"{output} is no regular file", hint="name another file")
        return
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise AlreadyExists(
            f"{output} exists and is no directory",
            hint="name a new directory, or a file that ends in .tar or .tar.zst",
        )
    if output.is_dir() and any(output.iterdir()):
        raise AlreadyExists(
            f"the directory {output} is not empty", hint="name a new or an empty directory"
        )

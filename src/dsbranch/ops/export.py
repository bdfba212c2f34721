"""``export``: a view, or what changed between two commits, as a tar or a directory.

What is written appears complete or not at all: it is made under a temporary name beside its
place, synced and renamed. What the format cannot say is refused before anything is written.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dsbranch._core import syscalls
from dsbranch._core.build import build
from dsbranch._core.delta import Delta
from dsbranch._core.entries import inode
from dsbranch._core.squash import Step, export_step
from dsbranch._core.view import View
from dsbranch.errors import AlreadyExists, BadPath, UnsupportedError
from dsbranch.model import Exported
from dsbranch.ops import stacks
from dsbranch.ops.context import Context
from dsbranch.ops.diff import compare, is_dirty
from dsbranch.ops.refs import is_branch, resolve, split_range
from dsbranch.ops.tar import TAR_SUFFIXES, write_tar
from dsbranch.store.faults import storage
from dsbranch.store.layout import sync_directory

WHITEOUT_PREFIX = b".wh."
_OTHER_ARCHIVES = (".gz", ".tgz", ".bz2", ".xz", ".lz4", ".zip", ".zst", ".7z", ".tzst")


@dataclass(frozen=True, slots=True)
class Item:
    """One entry to write. `delta` is None for a whiteout; `first` is the path of an earlier item
    that is the same inode."""

    path: bytes
    delta: Delta | None
    first: bytes | None = None


def export(context: Context, spec: str, output: Path) -> Exported:
    output = Path(os.path.abspath(output))
    as_tar = output.name.endswith(TAR_SUFFIXES)
    with storage(f"write {output}"):
        _check_output(context, output, as_tar=as_tar)
    view, deltas, last = _select(context, spec)
    items = list(plan_items(deltas))
    for item in items:
        _refuse_unsayable(item, as_tar=as_tar)
    with storage(f"write {output}"), stacks.consistent(context.root):
        scratch = Path(tempfile.mkdtemp(prefix=".dsbranch-export-", dir=output.parent))
        draft = scratch / "draft"
        try:
            if as_tar:
                write_tar(
                    draft,
                    items,
                    dialect=context.store.dialect,
                    zst=output.suffix == ".zst",
                    progress=context.report("writing"),
                )
                size = draft.stat().st_size
            else:
                _write_directory(draft, items, view, context.store.dialect)
                size = _size(items)
            # rename(2) replaces an empty directory, as it does a file.
            draft.rename(output)
            sync_directory(output.parent)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    notes: tuple[str, ...] = ()
    if is_branch(context, last) and is_dirty(context, last):
        notes = (f"the uncommitted changes of {last} are not in it",)
    return Exported(output, len(items), size, notes)


def _select(context: Context, spec: str) -> tuple[View, list[Delta], str]:
    """The new view, what of it is to be written, and what the user called it."""
    spread = split_range(spec)
    if spread is None:
        below = stacks.base(context)
        view = View(stacks.tables(context, stacks.lowers(context, resolve(context, spec))), below)
        return view, compare(context, None, view), spec
    one, two = resolve(context, spread[0]), resolve(context, spread[1])
    if spread[2]:
        one = context.store.merge_base(one, two)
    old, view = stacks.pair(context, one, two)
    return view, compare(context, old, view, renames=False, directory_times=True), spread[1]


def plan_items(deltas: Sequence[Delta]) -> Iterator[Item]:
    """What to write, parents first. Pure.

    Only the top of a deleted tree becomes a whiteout, and what vanished because its directory
    became something else needs none.
    """
    first_names: dict[object, bytes] = {}
    gone: bytes | None = None
    for delta in deltas:
        if delta.status == "D":
            if gone is not None and delta.path.startswith(gone + b"/"):
                continue
            gone = delta.path
            directory, _, name = delta.path.rpartition(b"/")
            tomb = WHITEOUT_PREFIX + name
            yield Item(directory + b"/" + tomb if directory else tomb, None)
            continue
        if delta.status == "T" and delta.kind != "directory":
            gone = delta.path
        assert delta.new is not None
        key = inode(*delta.new)
        first = None if key is None else first_names.setdefault(key, delta.path)
        yield Item(delta.path, delta, None if first == delta.path else first)


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


def _refuse_unsayable(item: Item, *, as_tar: bool) -> None:
    if item.delta is None:
        return
    text = item.path.decode("utf-8", "backslashreplace")
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    if any(part.startswith(WHITEOUT_PREFIX) for part in item.path.split(b"/")):
        raise UnsupportedError(
            f"{shown} cannot be exported: a name that begins with `.wh.` means a deletion",
            hint="rename it in the branch and commit",
        )
    if as_tar and item.delta.kind == "socket":
        raise UnsupportedError(
            f"{shown} cannot be exported: a tar cannot hold a socket",
            hint="delete it and commit, or export into a directory",
        )


def _write_directory(draft: Path, items: Sequence[Item], view: View, dialect: str) -> None:
    draft.mkdir()
    build(_steps(items, view), os.fsencode(draft), dialect=dialect, layer=False)
    fd = os.open(draft, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syscalls.syncfs(fd)
    finally:
        os.close(fd)


def _steps(items: Sequence[Item], view: View) -> list[Step]:
    """The steps that write the items, with the unchanged directories that hold them."""
    # The root is there even if nothing in it changed, and is what the view shows of it.
    made = {b""}
    steps = [export_step("directory", b"", view.find(b""))]
    for item in items:
        for ancestor in _ancestors(item.path):
            if ancestor not in made:
                made.add(ancestor)
                steps.append(export_step("directory", ancestor, view.find(ancestor)))
        delta = item.delta
        if delta is None:
            steps.append(export_step("tomb", item.path))
        elif delta.kind == "directory":
            if item.path not in made:
                made.add(item.path)
                steps.append(export_step("directory", item.path, delta.new))
        elif item.first is not None:
            steps.append(export_step("again", item.path, first=item.first))
        elif delta.kind == "file":
            steps.append(export_step("copy", item.path, delta.new, delta.content))
        else:
            steps.append(export_step("node", item.path, delta.new))
    return steps


def _ancestors(path: bytes) -> Iterator[bytes]:
    at = path.find(b"/")
    while at >= 0:
        yield path[:at]
        at = path.find(b"/", at + 1)


def _size(items: Sequence[Item]) -> int:
    return sum(
        item.delta.size or 0 for item in items if item.delta is not None and item.first is None
    )

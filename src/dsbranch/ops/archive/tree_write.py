"""Writing a directory: the entries as they are, whiteouts as in a tar."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from dsbranch._core import syscalls
from dsbranch._core.build import build
from dsbranch._core.squash import Step, export_step
from dsbranch._core.view import View
from dsbranch.ops import stacks
from dsbranch.ops.archive.items import Item, Items
from dsbranch.ops.archive.mark import SIDECAR, sidecar
from dsbranch.ops.context import Context


def write_tree(draft: Path, items: Items, context: Context, view: View, *, full: bool) -> None:
    """Write `items` to the new directory `draft`, and to the disk; `full`: they are all of `view`.

    :raises OSError: a source cannot be read or the disk is full
    """
    draft.mkdir()
    if not full:
        # First: the times of the root are set when all is there.
        marked = stacks.told(context, items.marked())
        _write_sidecar(draft / os.fsdecode(SIDECAR), marked)
    steps = stacks.told(context, _steps(items, view))
    build(steps, os.fsencode(draft), dialect=context.store.dialect, layer=False)
    fd = os.open(draft, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syscalls.syncfs(fd)
    finally:
        os.close(fd)


def _write_sidecar(path: Path, items: Iterable[Item]) -> None:
    with path.open("wb") as file:
        file.writelines(sidecar((i.path, i.before) for i in items if i.before is not None))
    for name in os.listxattr(path):
        if name.startswith("system.posix_acl_"):  # of the directory it was made in
            os.removexattr(path, name)
    path.chmod(0o644)


def _steps(items: Iterable[Item], view: View) -> Iterator[Step]:
    """The steps that write the items, with the unchanged directories that hold them."""
    # The root is there even if nothing in it changed, and is what the view shows of it.
    made = {b""}
    yield export_step("directory", b"", view.find(b""))
    for item in items:
        for ancestor in _ancestors(item.path):
            if ancestor not in made:
                made.add(ancestor)
                yield export_step("directory", ancestor, view.find(ancestor))
        if item.place is None:
            yield export_step("tomb", item.name)
        elif item.kind == "directory":
            if item.path not in made:
                made.add(item.path)
                yield export_step("directory", item.path, item.place)
        elif item.first is not None:
            yield export_step("again", item.path, first=item.first)
        elif item.kind == "file":
            yield export_step("copy", item.path, item.place, item.content)
        else:
            yield export_step("node", item.path, item.place)


def _ancestors(path: bytes) -> Iterator[bytes]:
    at = path.find(b"/")
    while at >= 0:
        yield path[:at]
        at = path.find(b"/", at + 1)

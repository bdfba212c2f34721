"""Leaving in a layer only what changes the view below it, and saying there what is gone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from dsbranch._core.delta import Delta
from dsbranch._core.entries import inode
from dsbranch._core.table import Table
from dsbranch._core.view import View
from dsbranch.model.facts import Dialect
from dsbranch.ops.archive.below import Below, split
from dsbranch.overlay.markers import prefix

_OPAQUE = 2  # a flag of manifests


def trim(place: Path, table: Table, deltas: Sequence[Delta], old: View, dialect: Dialect) -> None:
    """Make `place`, of which `table` was read, a layer that turns the view `old` into what
    `deltas` say, and holds no more than that. Its directories keep their times.

    :raises OSError: with the path
    """
    hiding = _opaque(table)
    wanted = _wanted(table, deltas, old, hiding)
    below = Below(place)
    before: dict[bytes, os.stat_result] = {}
    try:
        for row in reversed(range(1, len(table))):
            path = table.path(row)
            if path not in wanted:
                _open(below, split(path)[0], before)
                below.remove(path)
        for path in _gone(deltas, hiding):
            if below.find(path) is not None:
                continue  # it is a whiteout already
            directory, name = split(path)
            _open(below, directory, before)
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=below.directory(directory))
        for delta in deltas:
            # As the kernel marks what it makes anew, so that no lookup goes further down.
            if delta.status in ("A", "T") and delta.kind == "directory":
                _open(below, delta.path, before)
                os.setxattr(below.directory(delta.path), prefix(dialect) + b"opaque", b"y")
        for path, status in sorted(before.items(), reverse=True):
            if path in wanted:
                fd = below.directory(path)
                if _is_closed(status):
                    os.fchmod(fd, stat.S_IMODE(status.st_mode))
                os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
    finally:
        below.close()


def _open(below: Below, directory: bytes, before: dict[bytes, os.stat_result]) -> None:
    """Have a directory that may be written to, and remember what it was `before`."""
    if directory not in before:
        fd = below.directory(directory)
        status = before[directory] = os.fstat(fd)
        if _is_closed(status):
            os.fchmod(fd, stat.S_IMODE(status.st_mode) | stat.S_IRWXU)


def _is_closed(status: os.stat_result) -> bool:
    return status.st_mode & stat.S_IRWXU != stat.S_IRWXU


def _opaque(table: Table) -> set[bytes]:
    rows = map(table.entry, range(len(table)))
    return {entry.path for entry in rows if entry.flags & _OPAQUE}


def _hidden(path: bytes, hiding: set[bytes]) -> bool:
    """Whether nothing of the view below shows at `path`."""
    while path and hiding:
        path = split(path)[0]
        if path in hiding:
            return True
    return False


def _wanted(table: Table, deltas: Sequence[Delta], old: View, hiding: set[bytes]) -> set[bytes]:
    """The paths of the layer that must stay: what changed, where it is, what says it is gone."""
    wanted = {b""}
    for delta in deltas:
        _keep(delta.path, wanted)
    groups: dict[int, list[bytes]] = {}
    for row in range(len(table)):
        entry = table.entry(row)
        if entry.nlink_group and entry.kind != "whiteout":
            groups.setdefault(entry.nlink_group, []).append(entry.path)
        if entry.path in hiding or _hidden(entry.path, hiding):
            _keep(entry.path, wanted)
    for paths in groups.values():
        if not wanted.isdisjoint(paths) or not _one_inode(paths, old):
            for path in paths:
                _keep(path, wanted)
    return wanted


def _keep(path: bytes, wanted: set[bytes]) -> None:
    while path not in wanted:
        wanted.add(path)
        path = split(path)[0]


def _one_inode(paths: Sequence[bytes], view: View) -> bool:
    """Whether these names are one inode in the view, too."""
    places = [view.find(path) for path in paths]
    inodes = {None if place is None else inode(*place) for place in places}
    return len(inodes) == 1 and None not in inodes


def _gone(deltas: Sequence[Delta], hiding: set[bytes]) -> Iterator[bytes]:
    """The tops of the deleted trees that nothing hides."""
    last: bytes | None = None
    for delta in deltas:
        if last is not None and delta.path.startswith(last):
            continue
        if delta.status == "D" or (delta.status == "T" and delta.kind != "directory"):
            last = delta.path + b"/"
        if delta.status == "D" and not _hidden(delta.path, hiding):
            yield delta.path

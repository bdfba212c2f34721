"""The slow, obvious twin of the core's file renames: four rules, one after another.

An origin is opened, where the core compares handles. It shares no code with `dsbranch`.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING

from tests.beneath import beneath

if TYPE_CHECKING:
    from tests.reference import Entry, Layer, Place, View

Inode = tuple[int, int]

libc = ctypes.CDLL(None, use_errno=True)


def renamed_files(
    old: View, new: View, gone: set[bytes], come: set[bytes]
) -> Iterator[tuple[bytes, bytes]]:
    """Pairs of new and old path out of what only one side has, directories left out."""
    both = {layer.root for layer in old.layers} & {layer.root for layer in new.layers}
    origins = {
        _inode(layer, entry.path): _opened(layer, entry.origin)
        for view in (old, new)
        for layer in view.layers
        if layer.root not in both
        for entry in layer.values()
        if entry.origin and entry.kind != "directory"
    }

    def place(view: View, path: bytes) -> Hashable:
        """Where the data lie, if both have that layer."""
        root, at = view.place(view[path].stack[-1])
        return (root, at) if root in both else None

    def inode(view: View, path: bytes) -> Hashable:
        """The inode of something made on one side, which the other may have linked to."""
        layer, entry = _row(view, view[path].stack[0])
        return None if layer.root in both or entry.nlink_group else _inode(layer, entry.path)

    def ancestor(view: View, path: bytes) -> Hashable:
        """The inode in a common layer that it was copied up from, through all copies of copies."""
        for at in (view[path].stack[0], view[path].stack[-1]):
            layer, entry = _row(view, at)
            if entry.origin and layer.root not in both:
                found = _opened(layer, entry.origin)
                while found in origins:
                    found = origins[found]
                return found and (entry.kind, found)
        return None

    def ancestor_or_self(view: View, path: bytes) -> Hashable:
        layer, entry = _row(view, view[path].stack[0])
        if layer.root in both:
            return entry.kind, _inode(layer, entry.path)
        return ancestor(view, path)

    def digest(view: View, path: bytes) -> Hashable:
        return _row(view, view[path].stack[-1])[1].digest if _size(view, path) else None

    for rule_of_old, rule_of_new in (
        (place, place),
        (inode, inode),
        (ancestor_or_self, ancestor),
        (ancestor, ancestor_or_self),
        (digest, digest),
    ):
        pairs = list(_pairs(old, new, gone, come, rule_of_old, rule_of_new))
        yield from pairs
        come = come - {path for path, _ in pairs}
        gone = gone - {source for _, source in pairs}


def _pairs(
    old: View,
    new: View,
    gone: set[bytes],
    come: set[bytes],
    rule_of_old: Callable[[View, bytes], Hashable],
    rule_of_new: Callable[[View, bytes], Hashable],
) -> Iterator[tuple[bytes, bytes]]:
    before = {path: rule_of_old(old, path) for path in gone}
    after = {path: rule_of_new(new, path) for path in come}
    for alike in range(6):
        for path in sorted(after, key=_order):
            for source in sorted(before, key=_order):
                same = after[path] is not None and after[path] == before[source]
                if same and _traits(new, path)[alike] == _traits(old, source)[alike]:
                    yield path, source
                    del after[path], before[source]
                    break


def _traits(view: View, path: bytes) -> tuple[Hashable, ...]:
    """What a pair should have in common if it can be had, the most telling first."""
    size, name = _size(view, path), path.rpartition(b"/")[2]
    content = (size, _row(view, view[path].stack[-1])[1].digest if size else None)
    return (content, name), content, (size, name), size, name, None


def _order(path: bytes) -> list[bytes]:
    return path.split(b"/")


def _row(view: View, place: Place) -> tuple[Layer, Entry]:
    layer = view.layers[place[0]]
    return layer, layer[place[1]]


def _size(view: View, path: bytes) -> int | None:
    entry = view[path].entry
    return entry.size if entry.kind == "file" else None


def _inode(layer: Layer, path: bytes) -> Inode:
    with beneath(layer.root, path) as at:
        status = os.lstat(at)
    return status.st_dev, status.st_ino


def _opened(layer: Layer, origin: bytes) -> Inode | None:
    """The inode that an origin (`struct ovl_fb`) means; None if it is gone."""
    size, kind, handle = origin[2], origin[4], origin[21 : origin[2]]
    if size > len(origin):
        return None
    packed = struct.pack("<Ii", len(handle), kind) + handle
    mount = os.open(layer.root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fd = libc.open_by_handle_at(mount, packed, os.O_PATH)
        if fd < 0:
            if ctypes.get_errno() == errno.ESTALE:
                return None
            raise OSError(ctypes.get_errno(), "open_by_handle_at")
        try:
            status = os.fstat(fd)
        finally:
            os.close(fd)
    finally:
        os.close(mount)
    return status.st_dev, status.st_ino

"""What directories of the store occupy, by inode, and so what their removal gives back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from errno import EACCES, ENOENT, ENOTDIR
from pathlib import Path

from dsbranch._core.scan import scan_in_parts
from dsbranch._core.usage import Usage
from dsbranch.store.faults import storage
from dsbranch.store.layout import is_directory

_FEW = 2000
_BLOCK = 512


@dataclass(slots=True)
class Weight:
    bytes: int = 0
    inodes: int = 0

    def add(self, bytes: int, inodes: int) -> None:
        self.bytes += bytes
        self.inodes += inodes


def weigh(usage: Usage, path: Path, owner: int, *, entries: int | None = None) -> None:
    """Count a directory and all in it as the owner's; what vanishes meanwhile is not counted.

    `entries` is about how many there are, if that is known: few are not worth a thread each.
    """
    threads = 1 if entries is not None and entries < _FEW else None
    with storage(f"read {path}"):
        try:
            scan_in_parts(
                os.fsencode(path), lambda rows: usage.add(rows, owner), live=True, threads=threads
            )
        except OSError as error:
            if error.errno in (ENOENT, ENOTDIR):
                return
            if error.errno != EACCES:
                raise
            _piecewise(usage, path, owner)


def _piecewise(usage: Usage, path: Path, owner: int) -> None:
    """Count a tree that has directories which let nobody in, as workdirs have an empty one."""
    with os.scandir(path) as entries:
        inner = [Path(entry.path) for entry in entries]
    usage.put(owner, lone(path), 1)
    for place in inner:
        if is_directory(place) and os.access(place, os.R_OK | os.X_OK):
            weigh(usage, place, owner)
        else:
            usage.put(owner, lone(place), 1)


def freed(directories: Sequence[Path]) -> Weight:
    """What the filesystem gets back when all these directories go."""
    usage = Usage()
    for directory in directories:
        weigh(usage, directory, 0)
    return Weight(*usage.shares().get((0,), (0, 0)))


def lone(path: Path) -> int:
    """What one file or directory itself occupies; nothing where it is gone."""
    with storage(f"look at {path}"):
        try:
            return os.lstat(path).st_blocks * _BLOCK
        except FileNotFoundError:
            return 0

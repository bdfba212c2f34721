"""Space and inodes set aside for the day on which the disk is full. Room ``store``.

It promises that what is kept can be had on that day: its blocks are allocated. Commands that free
space spend all of it; any other borrows one file of it, for SQLite's log. Whatever was taken is
set aside again in the end. ``docs/decisions/0022-full-disks.md`` says why.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import ENOSPC
from pathlib import Path

from dsbranch.errors import StorageError
from dsbranch.store.faults import storage
from dsbranch.store.layout import Layout

# A deletion, and the collection after it, need an inode for the log and one or two for locks. Some
# 60 pages in all are enough for their rows, and 15 for those of most other verbs.
_FILES = 4
_BYTES = 64 << 10
# Four times what is set aside: below that, a disk counts as full.
_LOW_BYTES = 1 << 20
_LOW_INODES = 32


def keep(directory: Path) -> None:
    """Make what is missing of the reserve.

    :raises StorageError: there is no space for it
    """
    with storage(f"set space aside in {directory}"):
        directory.mkdir(exist_ok=True)
        for number in range(_FILES):
            fd = os.open(directory / str(number), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, _BYTES)
            finally:
                os.close(fd)


def is_needed(layout: Layout) -> bool:
    """Whether the disk is full, or soon will be; not one that cannot be written to anyway."""
    with storage(f"look at {layout.dot}"):
        disk = os.statvfs(layout.dot)
    few_inodes = disk.f_files > 0 and disk.f_ffree < _LOW_INODES  # btrfs counts none
    full = few_inodes or disk.f_bfree * disk.f_frsize < _LOW_BYTES
    return full and not disk.f_flag & os.ST_RDONLY


@contextmanager
def spent(layout: Layout) -> Iterator[None]:
    """Let the body have the reserve's space. It is set aside again afterwards, if it can be."""
    with storage(f"use the reserve {layout.reserve}"):
        for path in _files(layout):
            path.unlink(missing_ok=True)
    try:
        yield
    finally:
        take_back(layout)


def take_back(layout: Layout) -> None:
    """Set aside again what was lent or spent, as far as there is space for it."""
    with suppress(StorageError):
        keep(layout.reserve)


def lend_log(layout: Layout) -> None:
    """Make a file of the reserve the database's write-ahead log, unless it has one.

    Its zeros are no log to SQLite, which writes its own over them, into blocks that are there.
    """
    wal = layout.db.with_name(layout.db.name + "-wal")
    with storage(f"use the reserve {layout.reserve}"):
        for path in _files(layout)[:1]:
            with suppress(FileExistsError, FileNotFoundError):
                # A link never replaces the log that another process makes at this moment.
                try:
                    os.link(path, wal)
                except OSError as error:
                    if error.errno != ENOSPC:
                        raise
                    # A tmpfs counts each name as an inode.
                    _files(layout)[-1].unlink()
                    os.link(path, wal)
                path.unlink()


def _files(layout: Layout) -> list[Path]:
    try:
        return sorted(layout.reserve.iterdir())
    except FileNotFoundError:  # of a workspace that is older than the reserve
        return []

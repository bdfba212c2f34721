"""Digests that were computed after the manifest they belong to was written. Room ``store``.

A file of chunks, each with a checksum, appended and synced while files are read. It promises that
what was appended is found again by whoever comes after a kill, and that nothing is taken from
behind a damaged place. ``docs/internals/format.md`` defines it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dsbranch._core.digest import digest_bytes
from dsbranch._core.kept import unpack_digests
from dsbranch._core.table import Table
from dsbranch.store.faults import storage
from dsbranch.store.layout import sync_directory

_CHUNK = struct.Struct("<Q16s")


def take(path: Path, table: Table) -> bool:
    """Put the digests of a file into the table of its manifest; False: there is no such file.

    :raises ValueError: they are of another manifest
    :raises StorageError: it cannot be read
    """
    with storage(f"read {path}"):
        try:
            file = open(path, "rb")  # noqa: SIM115 - closed below
        except FileNotFoundError:
            return False
        with file:
            for records in _chunks(file.fileno()):
                unpack_digests(table, records)
    return True


@contextmanager
def appending(path: Path) -> Iterator[Appender]:
    """Append digests to a file, behind all that is whole in it."""
    with storage(f"write {path}"):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        with storage(f"write {path}"):
            whole = sum(_CHUNK.size + len(records) for records in _chunks(fd))
            os.ftruncate(fd, whole)
            os.lseek(fd, whole, os.SEEK_SET)
            sync_directory(path.parent)
        yield Appender(path, fd)
    finally:
        os.close(fd)


class Appender:
    """Where digests go while they are computed."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd = fd

    def append(self, records: bytes) -> None:
        """Have records, of `dsbranch._core.kept.pack_digests`, on the disk.

        :raises StorageError: the disk is full or failing; what was appended before is there
        """
        if not records:
            return
        with storage(f"write {self._path}"):
            rest = memoryview(_CHUNK.pack(len(records), digest_bytes(records)) + records)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
            os.fdatasync(self._fd)


def _chunks(fd: int) -> Iterator[bytes]:
    """The whole chunks at the beginning of a file."""
    at, size = 0, os.fstat(fd).st_size
    while len(head := os.pread(fd, _CHUNK.size, at)) == _CHUNK.size:
        length, checksum = _CHUNK.unpack(head)
        at += _CHUNK.size
        if length > size - at:
            return
        records = os.pread(fd, length, at)
        if len(records) != length or digest_bytes(records) != checksum:
            return
        at += length
        yield records

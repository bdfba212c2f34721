"""Writing and reading what was recorded of the dataset: ``base/`` in the store. Room ``store``.

``docs/internals/format.md`` defines the files. It promises that a seal is complete or not there,
and that digests which were appended to it are found again by whoever comes after a kill. It knows
nothing of the dataset.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dsbranch._core.columns import Columns
from dsbranch._core.digest import digest_bytes
from dsbranch._core.kept import unpack_digests
from dsbranch._core.table import Table
from dsbranch.errors import IntegrityError
from dsbranch.model.facts import Seal
from dsbranch.store import manifest
from dsbranch.store.faults import storage
from dsbranch.store.identity import new_id
from dsbranch.store.layout import Layout, sync_directory
from dsbranch.store.seal import AGAIN, FORMAT, RECORD

_CHUNK = struct.Struct("<Q16s")


def write(layout: Layout, parts: Iterable[Columns], facts: Seal) -> Seal:
    """Seal: write a manifest, and then the record of it; the seal with its id and checksum.

    What earlier seals left goes afterwards.

    :raises StorageError: the disk is full or failing; the seal of before still holds
    """
    with storage(f"make {layout.seals}"):
        layout.seals.mkdir(exist_ok=True)
        sync_directory(layout.dot)
    id = new_id()
    sha256 = manifest.write(manifest_file(layout, id), parts, layer="base", dialect="trusted")
    made = facts._replace(id=id, sha256=sha256)
    path = layout.seals / RECORD
    draft = path.with_name(f"{RECORD}.tmp")
    with storage(f"write {path}"):
        with open(draft, "wb") as file:
            file.write(json.dumps({"format": FORMAT, **made._asdict()}).encode())
            file.flush()
            os.fsync(file.fileno())
        draft.rename(path)
        sync_directory(layout.seals)
        for left in layout.seals.iterdir():
            if left != path and left.name.partition(".")[0] != id:
                left.unlink()
    return made


def read(layout: Layout, seal: Seal, *, spill: bytes) -> Table:
    """What a seal says the dataset is, digests that came later included; `spill` as in the core.

    :raises IntegrityError: its manifest is missing or damaged, or not the one that was written
    """
    path = manifest_file(layout, seal.id)
    if manifest.digest_file(path) != seal.sha256:
        raise IntegrityError(f"{path} is not what was written", hint=AGAIN)
    try:
        table = Table.from_batches(manifest.read(path, ctime=True), spill=spill)
        for records in _chunks(digests_file(layout, seal.id)):
            unpack_digests(table, records)
    except ValueError as error:
        raise IntegrityError(f"{path} is malformed: {error}", hint=AGAIN) from error
    return table


@contextmanager
def appending(layout: Layout, seal: Seal) -> Iterator[Appender]:
    """Append digests to a seal that nobody has appended to yet."""
    path = digests_file(layout, seal.id)
    with storage(f"write {path}"):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        with storage(f"write {path}"):
            sync_directory(layout.seals)
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


def manifest_file(layout: Layout, id: str) -> Path:
    return layout.seals / f"{id}.parquet"


def digests_file(layout: Layout, id: str) -> Path:
    return layout.seals / f"{id}.digests"


def _chunks(path: Path) -> Iterator[bytes]:
    """The whole chunks at the beginning of a file, which need not be there."""
    with storage(f"read {path}"):
        try:
            file = open(path, "rb")  # noqa: SIM115 - closed below
        except FileNotFoundError:
            return
        with file:
            size = os.fstat(file.fileno()).st_size
            while len(head := file.read(_CHUNK.size)) == _CHUNK.size:
                length, checksum = _CHUNK.unpack(head)
                if length > size - file.tell():
                    return
                records = file.read(length)
                if digest_bytes(records) != checksum:
                    return
                yield records

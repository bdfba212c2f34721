"""Indexes: what manifests say, as the core maps it into memory. Room ``store``.

``docs/internals/format.md`` defines the file. It is disposable: the manifest is the record. So it
promises an index only that was made from the manifest as it lies there now, and otherwise none;
and that one is complete under its name or not there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dsbranch._core import image
from dsbranch._core.table import Table
from dsbranch.store.faults import is_shortage, storage
from dsbranch.store.identity import new_id
from dsbranch.store.layout import LATER, sync_directory

if TYPE_CHECKING:
    from dsbranch._core.jobs import FileKey, Known

LARGE = 16 << 20
"""Bytes from which on it costs less to ask whether a file was checked than to check it."""


def write(path: Path, table: Table, manifest: Path, *, sync: bool = True) -> None:
    """Write the index of `manifest`, which says what `table` does.

    `sync` False: the caller puts it on the disk before anybody may rely on it.

    :raises StorageError: the disk is full or failing, or it may not be written to
    """
    # Two that find none may write it at the same time.
    draft = path.with_name(f"{path.name}.{new_id()}")
    with storage(f"write {path}"):
        try:
            with open(draft, "xb") as file:
                image.write(table, file, _stamp(manifest))
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            draft.rename(path)
            if sync:
                sync_directory(path.parent)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


def read(path: Path, manifest: Path, known: Known) -> Table | None:
    """Map the index of `manifest`, or None where there is none that can be used.

    It is checked; a large one only if `known` has not heard of it since it was written.
    """
    try:
        with _opened(path) as fd:
            key = _key(fd)
            large = key[2] > LARGE
            check = not large or known.find([key]) == [None]
            began = time.time_ns()
            table = image.load(fd, _stamp(manifest), check=check)
            found = image.checksum(fd)
    except (OSError, ValueError):
        # Whatever is wrong with it, the manifest says the same.
        return None
    if large and check and table is not None:
        known.learn([(key, found, began)])
    return table


def flaw(path: Path, manifest: Path, table: Table) -> str | None:
    """Why an index that would be read is not one of `table`, which is what its manifest says."""
    try:
        with _opened(path) as fd:
            found = image.load(fd, _stamp(manifest))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        if is_shortage(error):
            with storage(f"read {path}"):
                raise
        return str(error)
    if found is None or image.digest(found) == image.digest(table):
        return None
    return "it does not say what its manifest says"


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def _key(fd: int) -> FileKey:
    found = os.fstat(fd)
    device = os.major(found.st_dev) << 32 | os.minor(found.st_dev)
    return device, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _stamp(manifest: Path) -> tuple[int, int]:
    """What tells a manifest from another that was under its name, and survives a copy; also from
    itself before digests came later (see `store.later`), which the index has, too."""
    status = os.stat(manifest)
    try:
        more = os.stat(manifest.with_name(LATER)).st_size
    except FileNotFoundError:
        more = 0
    return status.st_size + more, status.st_mtime_ns

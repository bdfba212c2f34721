"""Manifests: the rows of one sealed layer, as Parquet, in row groups. Room ``store``.

``docs/internals/format.md`` defines the file. It promises that a manifest is complete on the
disk under its name or not there, and that a file which is none, or not what was written, is
refused by name. arro3 writes, since it is loaded in a tenth of the time; pyarrow reads, since it
checks more. Each is imported on use only.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsbranch._core.columnar import from_batches, to_batches
from dsbranch._core.columns import CTIME, Columns
from dsbranch._core.table import Table
from dsbranch.errors import IntegrityError, NewerFormat
from dsbranch.model.facts import Dialect
from dsbranch.store.faults import MANIFEST_HINT, storage
from dsbranch.store.identity import sha256
from dsbranch.store.layout import sync_directory

if TYPE_CHECKING:
    from dsbranch._core.jobs import Report
    from dsbranch._core.record import Stream

FORMAT = 1
ROWS_IN_GROUP = 1 << 17
ROWS_AT_ONCE = 1 << 16


def write(
    path: Path,
    table: Table,
    *,
    layer: str,
    dialect: Dialect,
    rebuilt: bool = False,
    ctime: bool = False,
    sync: bool = True,
    progress: Report | None = None,
) -> str:
    """Write a manifest and give its SHA-256 (hex), once it is on the disk under `path`.

    `sync` False: the caller puts it on the disk before anybody may rely on it.

    A row group at a time is held in memory. `rebuilt`: out of what the layer holds later, not when
    it was sealed. `ctime`: with the times of change, for the dataset. `progress` is told of rows.

    :raises StorageError: the disk is full or failing; nothing is left under `path`
    """
    from dsbranch._core.record import Stream
    from dsbranch._core.rowsum import digest

    metadata = {
        "dsbranch.format": str(FORMAT),
        "dsbranch.layer": layer,
        "dsbranch.dialect": dialect,
        "dsbranch.rows": digest(table).hex(),
    }
    if rebuilt:
        metadata["dsbranch.rebuilt"] = "1"
    # One name per layer: a killed writer's file is overwritten by the next.
    draft = path.with_name(path.name + ".tmp")
    with storage(f"write {path}"):
        try:
            with open(draft, "wb", buffering=0) as file:
                parts = _told(to_batches(table, ctime=ctime), len(table), progress)
                checksum = _write(file.fileno(), Stream(parts, metadata, ctime=ctime))
                if sync:
                    os.fsync(file.fileno())
            draft.rename(path)
            if sync:
                sync_directory(path.parent)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    return checksum


def _told(parts: Iterable[Columns], rows: int, progress: Report | None) -> Iterator[Columns]:
    done = 0
    for part in parts:
        yield part
        done += part.length
        if progress is not None:
            progress(done, rows, 0)


def _write(fd: int, rows: Stream) -> str:
    from arro3.io import write_parquet

    from dsbranch._core.record import Sink

    hasher = sha256()
    file: Any = Sink(fd, hasher)  # it asks for all that IO[bytes] has, and calls three of it
    try:
        write_parquet(
            rows,
            file,
            compression="zstd(1)",
            created_by="dsbranch",  # for the same bytes by the next arro3
            dictionary_enabled=False,
            column_dictionary_enabled=dict.fromkeys(["kind", "flags", "mode", "uid", "gid"], True),
            max_row_group_size=ROWS_IN_GROUP,
        )
    finally:
        # Also where that raises: it is by the error here.
        for error in (rows.error, file.error):
            if error is not None:
                raise error
    return hasher.hexdigest()


def read(path: Path, *, spill: bytes, ctime: bool = False, hint: str = MANIFEST_HINT) -> Table:
    """What a manifest says; `spill` as in the core. `ctime`: that of the dataset. `hint`: what
    helps where it is damaged.

    :raises NewerFormat: a newer dsbranch wrote it
    :raises IntegrityError: it is damaged, or no manifest
    :raises StorageError: it is missing, or the disk is failing
    """
    from dsbranch._core.rowsum import digest

    with _opened(path, hint) as file:
        table = from_batches(_parts(file, ctime=ctime), spill=spill)
        written = _metadata(file).get(b"dsbranch.rows")
        if written is not None and written.decode() != digest(table).hex():
            raise ValueError("its rows are not those that were written")
    return table


def _parts(file: Any, *, ctime: bool) -> Iterator[Columns]:
    import pyarrow as pa

    from dsbranch.store import arrow

    rows = 0
    columns = [*arrow.COLUMNS, CTIME] if ctime else arrow.COLUMNS
    # In threads it is no faster, and where none can be started libparquet crashes.
    for batch in file.iter_batches(ROWS_AT_ONCE, columns=columns, use_threads=False):
        rows += batch.num_rows
        yield arrow.from_table(pa.Table.from_batches([batch]))
    # pyarrow takes some damaged pages for the end.
    if rows != file.metadata.num_rows:
        raise ValueError(f"{rows} rows of {file.metadata.num_rows}")


@contextmanager
def _opened(path: Path, hint: str | None = None) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import parquet

    with storage(f"read {path}"), open(path, "rb") as file:
        try:
            parts = parquet.ParquetFile(
                file, read_dictionary=["kind"], page_checksum_verification=True, pre_buffer=False
            )
            _check_format(path, _metadata(parts))
            yield parts
        except MemoryError:
            raise
        except (pa.ArrowException, ValueError, KeyError) as error:
            raise _malformed(path, error, hint) from error
        except OSError as error:
            if error.errno is not None:
                raise
            # pyarrow reports damaged pages as an OSError that no system call made.
            raise _malformed(path, error, hint) from error


def _metadata(file: Any) -> dict[bytes, bytes]:
    return file.schema_arrow.metadata or {}


def is_rebuilt(path: Path) -> bool:
    """Whether a manifest was rebuilt out of what its layer held then.

    :raises IntegrityError: it is missing, damaged, or no manifest
    """
    with _opened(path) as file:
        return b"dsbranch.rebuilt" in _metadata(file)


def digest_file(path: Path) -> str:
    """The SHA-256 (hex) of a manifest as it lies on the disk; part of its commit's id."""
    import hashlib

    with storage(f"read {path}"), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _malformed(path: Path, error: Exception, hint: str | None) -> IntegrityError:
    reason = (str(error).splitlines() or ["unreadable"])[0]
    return IntegrityError(f"{path} is not a valid manifest: {reason}", hint=hint)


def _check_format(path: Path, metadata: dict[bytes, bytes]) -> None:
    text = metadata.get(b"dsbranch.format", b"")
    if not text.isdigit():
        raise ValueError("its metadata name no dsbranch.format")
    if int(text) > FORMAT:
        raise NewerFormat(
            f"{path} has format {int(text)}, this dsbranch knows up to {FORMAT}",
            hint="use a newer dsbranch: `pip install --upgrade dsbranch`",
        )

"""Manifests: the columns of one sealed layer, as Parquet, in row groups. Room ``store``.

``docs/internals/format.md`` defines the file. It promises that a manifest is complete on the
disk under its name or not there, and that a file which is none is refused by name. Whether
the rows make sense (order, parents) is the core's to judge. pyarrow is imported on use only.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from dsbranch._core.columns import Columns
from dsbranch.errors import IntegrityError, NewerFormat
from dsbranch.model.facts import Dialect
from dsbranch.store.faults import storage
from dsbranch.store.layout import sync_directory

FORMAT = 1
ROWS_AT_ONCE = 1 << 16


def write(
    path: Path,
    parts: Iterable[Columns],
    *,
    layer: str,
    dialect: Dialect,
    rebuilt: bool = False,
) -> str:
    """Write a manifest and give its SHA-256 (hex), once it is on the disk under `path`.

    Each of `parts`, one at least, becomes a row group; one at a time is held in memory. `rebuilt`:
    out of what the layer holds later, not when it was sealed.

    :raises StorageError: the disk is full or failing; nothing is left under `path`
    :raises ValueError: the columns are malformed
    """
    metadata = {
        "dsbranch.format": str(FORMAT),
        "dsbranch.layer": layer,
        "dsbranch.dialect": dialect,
    }
    if rebuilt:
        metadata["dsbranch.rebuilt"] = "1"
    # One name per layer: a killed writer's file is overwritten by the next.
    draft = path.with_name(path.name + ".tmp")
    with storage(f"write {path}"):
        try:
            with open(draft, "wb") as file:
                _write(file, parts, metadata)
                file.flush()
                os.fsync(file.fileno())
            digest = _sha256(draft)
            draft.rename(path)
            sync_directory(path.parent)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    return digest


def _write(file: BinaryIO, parts: Iterable[Columns], metadata: dict[str, str]) -> None:
    from dsbranch.store import arrow

    tables = (arrow.to_table(columns, metadata) for columns in parts)
    first = next(tables)
    with closing(_writer(file, first.schema)) as writer:
        for table in chain([first], tables):
            writer.write_table(table)


def _writer(file: BinaryIO, schema: Any) -> Any:
    """A `pyarrow.parquet.ParquetWriter`, or what that hands all its work on to.

    The module around it takes 40 of the 100 ms of import that a commit waits for. Where it is not
    as it is known here, the public one does the same; a test holds both to the same bytes.
    """
    options = {
        "compression": "zstd",
        "use_dictionary": ["kind", "flags", "mode", "uid", "gid"],
        "write_page_checksum": True,
    }
    try:
        from pyarrow import _parquet

        # What follows are the public one's defaults.
        return _parquet.ParquetWriter(
            file,
            schema,
            version="2.6",
            writer_engine_version="V2",
            data_page_version="1.0",
            write_statistics=True,
            store_schema=True,
            use_compliant_nested_type=True,
            **options,
        )
    except (ImportError, AttributeError, TypeError, ValueError):
        from pyarrow import parquet

        return parquet.ParquetWriter(file, schema, **options)


def read(path: Path, *, ctime: bool = False) -> Iterator[Columns]:
    """Read a manifest, some rows at a time. `ctime`: that of the dataset.

    :raises NewerFormat: a newer dsbranch wrote it
    :raises IntegrityError: it is missing, damaged, or no manifest
    """
    import pyarrow as pa

    from dsbranch.store import arrow

    with _opened(path) as file:
        rows = 0
        columns = [*arrow.COLUMNS, arrow.CTIME] if ctime else arrow.COLUMNS
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=columns):
            rows += batch.num_rows
            yield arrow.from_table(pa.Table.from_batches([batch]))
        # pyarrow takes some damaged pages for the end.
        if rows != file.metadata.num_rows:
            raise ValueError(f"{rows} rows of {file.metadata.num_rows}")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import parquet

    with storage(f"read {path}"), open(path, "rb") as file:
        try:
            parts = parquet.ParquetFile(
                file, read_dictionary=["kind"], page_checksum_verification=True
            )
            _check_format(path, parts.schema_arrow.metadata or {})
            yield parts
        except (pa.ArrowException, ValueError, KeyError) as error:
            raise _malformed(path, error) from error
        except OSError as error:
            if error.errno is not None:
                raise
            # pyarrow reports damaged pages as an OSError that no system call made.
            raise _malformed(path, error) from error


def is_rebuilt(path: Path) -> bool:
    """Whether a manifest was rebuilt out of what its layer held then.

    :raises IntegrityError: it is missing, damaged, or no manifest
    """
    with _opened(path) as file:
        return b"dsbranch.rebuilt" in (file.schema_arrow.metadata or {})


def digest_file(path: Path) -> str:
    """The SHA-256 (hex) of a manifest as it lies on the disk; part of its commit's id."""
    with storage(f"read {path}"):
        return _sha256(path)


def _sha256(path: Path) -> str:
    import hashlib

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _malformed(path: Path, error: Exception) -> IntegrityError:
    reason = (str(error).splitlines() or ["unreadable"])[0]
    return IntegrityError(f"{path} is not a valid manifest: {reason}")


def _check_format(path: Path, metadata: dict[bytes, bytes]) -> None:
    text = metadata.get(b"dsbranch.format", b"")
    if not text.isdigit():
        raise ValueError("its metadata name no dsbranch.format")
    if int(text) > FORMAT:
        raise NewerFormat(
            f"{path} has format {int(text)}, this dsbranch knows up to {FORMAT}",
            hint="use a newer dsbranch: `pip install --upgrade dsbranch`",
        )

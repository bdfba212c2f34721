"""Manifests: the columns of one sealed layer, as Parquet. Room ``store``.

``docs/internals/format.md`` defines the file. It promises that a manifest is complete on the
disk under its name or not there, and that a file which is none is refused by name. Whether
the rows make sense (order, parents) is the core's to judge. pyarrow is imported on use only.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dsbranch._core.columns import Columns
from dsbranch.errors import IntegrityError, NewerFormat
from dsbranch.model import Dialect
from dsbranch.store import arrow
from dsbranch.store.faults import storage
from dsbranch.store.layout import sync_directory

FORMAT = 1


def write(path: Path, columns: Columns, *, layer: str, dialect: Dialect) -> str:
    """Write a manifest and give its SHA-256 (hex), once it is on the disk under `path`.

    :raises StorageError: the disk is full or failing; nothing is left under `path`
    :raises ValueError: the columns are malformed
    """
    from pyarrow import parquet

    table = arrow.to_table(
        columns,
        {
            "dsbranch.format": str(FORMAT),
            "dsbranch.layer": layer,
            "dsbranch.dialect": dialect,
        },
    )
    # One name per layer: a killed writer's file is overwritten by the next.
    draft = path.with_name(path.name + ".tmp")
    with storage(f"write {path}"):
        try:
            with open(draft, "wb") as file:
                parquet.write_table(
                    table,
                    file,
                    compression="zstd",
                    use_dictionary=["kind", "flags", "mode", "uid", "gid"],
                    write_page_checksum=True,
                )
                file.flush()
                os.fsync(file.fileno())
            digest = _sha256(draft)
            draft.rename(path)
            sync_directory(path.parent)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    return digest


def read(path: Path) -> Columns:
    """Read a manifest.

    :raises NewerFormat: a newer dsbranch wrote it
    :raises IntegrityError: it is missing, damaged, or no manifest
    """
    with _columns(path, arrow.COLUMNS) as table:
        return arrow.from_table(table)


def glance(path: Path, wanted: Sequence[bytes]) -> list[arrow.Glance]:
    """What a manifest says of each of these paths, from three of its columns.

    :raises NewerFormat: a newer dsbranch wrote it
    :raises IntegrityError: it is missing, damaged, or no manifest
    """
    with _columns(path, ["path", "kind", "flags"]) as table:
        return [arrow.glance(table, item) for item in wanted]


@contextmanager
def _columns(path: Path, names: Sequence[str]) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import parquet

    with storage(f"read {path}"), open(path, "rb") as file:
        try:
            parts = parquet.ParquetFile(
                file, read_dictionary=["kind"], page_checksum_verification=True
            )
            _check_format(path, parts.schema_arrow.metadata or {})
            yield parts.read(columns=list(names))
        except (pa.ArrowException, ValueError, KeyError) as error:
            raise _malformed(path, error) from error
        except OSError as error:
            if error.errno is not None:
                raise
            # pyarrow reports damaged pages as an OSError that no system call made.
            raise _malformed(path, error) from error


def digest_file(path: Path) -> str:
    """The SHA-256 (hex) of a manifest as it lies on the disk; part of its commit's id."""
    with storage(f"read {path}"):
        return _sha256(path)


def _sha256(path: Path) -> str:
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

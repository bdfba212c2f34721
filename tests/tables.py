"""Test foundation: tables made of rows, for stacks that no kernel need have written."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterable, Sequence

from dsbranch._core.columnar import from_batches
from dsbranch._core.columns import DIGEST_BYTES, Columns
from dsbranch._core.table import KINDS, Table
from tests.reference import REDIRECT, Entry, Layer, order

DEFAULTS = Entry(b"", "file", 0, 0o644, 0, 0, 0, 0, 0, 0, None, None, None, None, None)


def entry(path: bytes, kind: str = "file", **facts: object) -> Entry:
    """A row with whatever else is said of it."""
    return DEFAULTS._replace(path=path, kind=kind, **facts)


def from_columns(columns: Columns) -> Table:
    return from_batches([columns])


def table(rows: Iterable[Entry]) -> Table:
    """A table of rows in any order, each with its parent among them."""
    found = sorted(rows, key=lambda row: order(row.path))

    def texts(name: str) -> dict[str, bytes]:
        values = [getattr(row, name) for row in found]
        offsets = array("q", [0])
        for value in values:
            offsets.append(offsets[-1] + len(value or b""))
        return {
            f"{name}_offsets": offsets.tobytes(),
            f"{name}_data": b"".join(value or b"" for value in values),
            f"{name}_valid": bytes(value is not None for value in values),
        }

    def numbers(name: str, code: str, of: Callable[[int], int] = lambda value: value) -> bytes:
        return struct.pack(f"<{len(found)}{code}", *(of(getattr(row, name)) for row in found))

    def digests(name: str) -> dict[str, bytes]:
        values = [getattr(row, name) for row in found]
        return {
            name: b"".join(value or bytes(DIGEST_BYTES) for value in values),
            f"{name}_valid": bytes(value is not None for value in values),
        }

    paths = texts("path")
    return from_columns(
        Columns(
            length=len(found),
            path_offsets=paths["path_offsets"],
            path_data=paths["path_data"],
            kind=bytes(KINDS.index(row.kind) for row in found),
            flags=numbers("flags", "B"),
            mode=numbers("mode", "H"),
            **{name: numbers(name, "I") for name in ("uid", "gid", "nlink_group")},
            rdev=numbers("rdev", "Q"),
            **{name: numbers(name, "q") for name in ("size", "mtime_ns")},
            **texts("target"),
            **texts("redirect"),
            **texts("origin"),
            **digests("xattrs"),
            **digests("digest"),
        )
    )


def layer(rows: Sequence[Entry]) -> Layer:
    """The same rows for the reference."""
    made = Layer(b"", "trusted")
    for row in sorted(rows, key=lambda row: order(row.path)):
        made[row.path] = row
        if row.path:
            directory, _, name = row.path.rpartition(b"/")
            made.names.setdefault(directory, []).append(name)
    return made


def redirected(row: Entry, to: bytes) -> Entry:
    return row._replace(flags=row.flags | REDIRECT, redirect=to)

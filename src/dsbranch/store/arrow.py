"""What pyarrow reads in a manifest as `Columns`. Room ``store``; no I/O.

The way there is `dsbranch._core.record`. Buffers are wrapped, not copied, wherever the two layouts
agree: all but validity (a byte per row here, a bit there) and the offsets of short columns (64 bits
here, 32 there). pyarrow is imported on use only. Everything malformed leaves as a ValueError.
"""

from __future__ import annotations

from typing import Any

from dsbranch._core.columns import CTIME, DIGEST_BYTES, DIGESTS, NUMBERS, OPTIONAL_TEXTS, Columns
from dsbranch._core.table import KINDS

COLUMNS = ["path", "kind", *NUMBERS, *OPTIONAL_TEXTS, *DIGESTS]
"""The columns a manifest must have, in their order."""


def from_table(table: Any) -> Columns:
    """The rows of a pyarrow.Table, however it is chunked, sliced or dictionary-encoded.

    :raises ValueError: a column is missing, of another type, or null where it must not be
    """
    fields: dict[str, Any] = {"length": table.num_rows}
    fields |= _text(_column(table, "path", nullable=False), "path")
    fields["kind"] = _kinds(_column(table, "kind", nullable=False))
    for name, kind in NUMBERS.items():
        fields[name] = _numbers(_column(table, name, nullable=False), name, kind)
    for name in OPTIONAL_TEXTS:
        column = _column(table, name, nullable=True)
        fields |= _text(column, name)
        fields[f"{name}_valid"] = _valid(column)
    for name, field in DIGESTS.items():
        column = _column(table, name, nullable=True)
        fields[field] = _digests(column, name)
        fields[f"{field}_valid"] = _valid(column)
    if CTIME in table.column_names:
        fields[CTIME] = _numbers(_column(table, CTIME, nullable=False), CTIME, "int64")
    return Columns(**fields)


def _column(table: Any, name: str, *, nullable: bool) -> Any:
    if table.column_names.count(name) != 1:
        raise ValueError(f"column {name} is missing")
    column = table.column(name)
    if column.null_count and not nullable:
        raise ValueError(f"column {name} has nulls")
    return column


def _text(column: Any, name: str) -> dict[str, Any]:
    import pyarrow as pa
    from pyarrow import compute

    if column.type not in (pa.binary(), pa.large_binary()):
        raise ValueError(f"column {name} is {column.type}, not binary")
    # To 64-bit offsets first: several chunks together may pass what 32 bits can reach.
    array = _one(column.cast(pa.large_binary()))
    _, offsets, data = array.buffers()
    if len(array) == 0:
        return {f"{name}_offsets": bytes(8), f"{name}_data": b""}
    starts = pa.Array.from_buffers(pa.int64(), len(array) + 1, [None, offsets], 0, array.offset)
    first, last = starts[0].as_py(), starts[-1].as_py()
    if first:
        starts = compute.subtract(starts, first)
    return {
        f"{name}_offsets": _values(starts, 8),
        f"{name}_data": b"" if data is None else _bytes(data.slice(first, last - first)),
    }


def _kinds(column: Any) -> memoryview:
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    if column.type.value_type not in (pa.string(), pa.large_string()):
        raise ValueError(f"column kind is {column.type}, not string")
    array = _one(column.unify_dictionaries())
    # Each writer numbers the names as it meets them; only the names mean something.
    names = array.dictionary.to_pylist()
    unknown = set(names) - set(KINDS)
    if unknown:
        raise ValueError(f"unknown kind {min(unknown, key=str)!r}")
    codes = pa.array([KINDS.index(name) for name in names], pa.uint8())
    return _values(codes.take(array.indices), 1)


def _numbers(column: Any, name: str, kind: str) -> memoryview:
    import pyarrow as pa

    if column.type != pa.type_for_alias(kind):
        raise ValueError(f"column {name} is {column.type}, not {kind}")
    return _values(_one(column), column.type.bit_width // 8)


def _digests(column: Any, name: str) -> memoryview:
    import pyarrow as pa

    if column.type != pa.binary(DIGEST_BYTES):
        raise ValueError(f"column {name} is {column.type}, not fixed 16 bytes")
    return _values(_one(column), DIGEST_BYTES)


def _valid(column: Any) -> memoryview:
    import pyarrow as pa

    return _values(_one(column.is_valid().cast(pa.uint8())), 1)


def _one(column: Any) -> Any:
    # combine_chunks would copy a single chunk, too.
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _values(array: Any, width: int) -> memoryview:
    values = array.buffers()[1]
    if values is None:
        return memoryview(b"")
    return _bytes(values.slice(array.offset * width, len(array) * width))


def _bytes(buffer: Any) -> memoryview:
    return memoryview(buffer).cast("B")

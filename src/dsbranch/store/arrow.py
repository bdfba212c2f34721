"""`Columns` and Arrow tables, both ways. Room ``store``; no I/O.

Buffers are wrapped, not copied, wherever the two layouts agree: all but validity (a byte per
row here, a bit there) and the offsets of short columns (64 bits here, 32 there). pyarrow is
imported on use only, and `pyarrow.compute`, which takes 17 ms, for reading only. Everything
malformed leaves as a ValueError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dsbranch._core import narrow
from dsbranch._core.columns import DIGEST_BYTES, KINDS, Columns

if TYPE_CHECKING:
    from typing_extensions import Buffer

_NUMBERS = {
    "flags": "uint8",
    "mode": "uint16",
    "uid": "uint32",
    "gid": "uint32",
    "rdev": "uint64",
    "size": "int64",
    "mtime_ns": "int64",
    "nlink_group": "uint32",
}
_TEXTS = ("target", "redirect", "origin")
_DIGESTS = {"xattrs": "xattrs", "xxh3_128": "digest"}  # name in the table: field of Columns

COLUMNS = ["path", "kind", *_NUMBERS, *_TEXTS, *_DIGESTS]
"""The columns a manifest must have, in their order."""

CTIME = "ctime_ns"
"""One more that the manifest of the dataset has."""


def to_table(columns: Columns, metadata: dict[str, str]) -> Any:
    """The rows as a pyarrow.Table with the types of ``docs/internals/format.md``."""
    import pyarrow as pa

    arrays = {"path": _text_array(columns, "path"), "kind": _kind_array(columns)}
    for name, kind in _NUMBERS.items():
        arrays[name] = _array(pa.type_for_alias(kind), columns.length, None, getattr(columns, name))
    for name in _TEXTS:
        arrays[name] = _text_array(columns, name, getattr(columns, f"{name}_valid"))
    for name, field in _DIGESTS.items():
        bitmap = _bitmap(getattr(columns, f"{field}_valid"), columns.length)
        values = getattr(columns, field)
        arrays[name] = _array(pa.binary(DIGEST_BYTES), columns.length, bitmap, values)
    if columns.ctime_ns is not None:
        arrays[CTIME] = _array(pa.int64(), columns.length, None, columns.ctime_ns)
    nullable = {*_TEXTS, *_DIGESTS}
    schema = pa.schema(
        [pa.field(name, array.type, nullable=name in nullable) for name, array in arrays.items()],
        metadata=metadata,
    )
    return pa.Table.from_arrays(list(arrays.values()), schema=schema)


def _array(kind: Any, length: int, bitmap: Any, *buffers: Buffer) -> Any:
    import pyarrow as pa

    return pa.Array.from_buffers(kind, length, [bitmap, *(pa.py_buffer(b) for b in buffers)])


def _bitmap(valid: Buffer, length: int) -> Any:
    import pyarrow as pa

    return pa.py_buffer(narrow.bits(memoryview(valid)[:length]))


def _text_array(columns: Columns, name: str, valid: Buffer | None = None) -> Any:
    import pyarrow as pa

    bitmap = None if valid is None else _bitmap(valid, columns.length)
    offsets = narrow.offsets(getattr(columns, f"{name}_offsets"))
    array = _array(pa.binary(), columns.length, bitmap, offsets, getattr(columns, f"{name}_data"))
    array.validate(full=True)  # offsets out of order would be written as garbage
    return array


def _kind_array(columns: Columns) -> Any:
    import pyarrow as pa

    codes = _array(pa.int8(), columns.length, None, columns.kind)
    try:
        return pa.DictionaryArray.from_arrays(codes, pa.array(KINDS))
    except IndexError as error:
        raise ValueError(f"column kind: {error}") from error


def from_table(table: Any) -> Columns:
    """The rows of a pyarrow.Table, however it is chunked, sliced or dictionary-encoded.

    :raises ValueError: a column is missing, of another type, or null where it must not be
    """
    fields: dict[str, Any] = {"length": table.num_rows}
    fields |= _text(_column(table, "path", nullable=False), "path")
    fields["kind"] = _kinds(_column(table, "kind", nullable=False))
    for name, kind in _NUMBERS.items():
        fields[name] = _numbers(_column(table, name, nullable=False), name, kind)
    for name in _TEXTS:
        column = _column(table, name, nullable=True)
        fields |= _text(column, name)
        fields[f"{name}_valid"] = _valid(column)
    for name, field in _DIGESTS.items():
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

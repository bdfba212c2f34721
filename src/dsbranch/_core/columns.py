"""What tables are handed over in, to whoever stores them. Room ``_core``, pure Python.

It promises buffers that are long enough for the number of rows they claim. It names the columns of
a manifest and their types as Arrow does, and knows no library of that and no file.
"""

from collections.abc import Iterable
from struct import unpack_from
from typing import TYPE_CHECKING, Any, NamedTuple, Self

if TYPE_CHECKING:
    from typing_extensions import Buffer
else:
    Buffer = Any

DIGEST_BYTES = 16

# The columns of a manifest are `path`, `kind`, and these in their order, by their names there.
NUMBERS = {
    "flags": "uint8",
    "mode": "uint16",
    "uid": "uint32",
    "gid": "uint32",
    "rdev": "uint64",
    "size": "int64",
    "mtime_ns": "int64",
    "nlink_group": "uint32",
}
OPTIONAL_TEXTS = ("target", "redirect", "origin")
DIGESTS = {"xattrs": "xattrs", "xxh3_128": "digest"}
"""Names in a manifest, and in `Columns`."""
CTIME = "ctime_ns"
"""One more that the manifest of the dataset has."""

_BYTES = {"uint8": 1, "uint16": 2, "uint32": 4, "uint64": 8, "int64": 8}
_WIDTHS = {
    "kind": 1,
    **{name: _BYTES[kind] for name, kind in NUMBERS.items()},
    **dict.fromkeys(DIGESTS.values(), DIGEST_BYTES),
    **{f"{name}_valid": 1 for name in (*OPTIONAL_TEXTS, *DIGESTS.values())},
}
_VARIABLE = ("path", *OPTIONAL_TEXTS)


class _Buffers(NamedTuple):
    length: int
    path_offsets: Buffer
    path_data: Buffer
    kind: Buffer  # uint8, index into `table.KINDS`
    flags: Buffer  # uint8
    mode: Buffer  # uint16
    uid: Buffer  # uint32
    gid: Buffer  # uint32
    rdev: Buffer  # uint64
    size: Buffer  # int64
    mtime_ns: Buffer  # int64
    nlink_group: Buffer  # uint32
    target_offsets: Buffer
    target_data: Buffer
    target_valid: Buffer
    redirect_offsets: Buffer
    redirect_data: Buffer
    redirect_valid: Buffer
    origin_offsets: Buffer
    origin_data: Buffer
    origin_valid: Buffer
    xattrs: Buffer  # 16 bytes per row
    xattrs_valid: Buffer
    digest: Buffer  # 16 bytes per row
    digest_valid: Buffer
    ctime_ns: Buffer | None = None  # int64; of the base's manifest only


class Columns(_Buffers):
    """The rows of one layer, column by column, as raw little-endian buffers.

    Row i of a variable-length column is ``data[offsets[i]:offsets[i + 1]]``; offsets are
    int64, start at 0 and number `length` + 1. A ``*_valid`` column has one byte per row, 1
    where there is a value and 0 where there is none; what the value column holds there means
    nothing. Units and meanings are those of ``docs/internals/format.md``.

    :raises ValueError: a buffer is too short for `length` rows
    """

    __slots__ = ()

    def __new__(cls, *buffers: Any, **named: Any) -> Self:
        made = super().__new__(cls, *buffers, **named)
        made._check()
        return made

    @classmethod
    def _make(cls, iterable: Iterable[Any]) -> Self:  # type: ignore[override]
        # By which `_replace` makes one, too.
        return cls(*iterable)

    def _check(self) -> None:
        if self.length < 0:
            raise ValueError(f"{self.length} rows")
        for name, width in _WIDTHS.items():
            self._require(name, self.length * width)
        if self.ctime_ns is not None:
            self._require("ctime_ns", self.length * 8)
        for name in _VARIABLE:
            self._require(f"{name}_offsets", (self.length + 1) * 8)
            offsets = getattr(self, f"{name}_offsets")
            first, last = (unpack_from("<q", offsets, row * 8)[0] for row in (0, self.length))
            if first != 0 or last < 0:
                raise ValueError(f"column {name}: offsets run from {first} to {last}")
            self._require(f"{name}_data", last)

    def _require(self, name: str, size: int) -> None:
        found = memoryview(getattr(self, name)).nbytes
        if found < size:
            raise ValueError(f"column {name}: {found} bytes for {self.length} rows, not {size}")

import struct

import pytest

from dsbranch._core.columns import Columns
from dsbranch._core.table import KINDS
from tests.store.facts import GOLDEN, columns_of, rows_of


def test_the_codes_of_the_kinds_are_fixed():
    assert KINDS == (
        "file",
        "directory",
        "symlink",
        "fifo",
        "socket",
        "char",
        "block",
        "whiteout",
    )


@pytest.mark.parametrize("name", [name for name in Columns._fields if name != "length"])
def test_a_buffer_too_short_is_refused(name):
    columns = columns_of(GOLDEN)
    columns = columns._replace(ctime_ns=bytes(8 * columns.length))
    short = bytes(getattr(columns, name))[:-1]
    with pytest.raises(ValueError, match=name.removesuffix("_offsets")):
        Columns(**columns._asdict() | {name: short})


@pytest.mark.parametrize(("first", "last"), [(1, 0), (0, -1)])
def test_offsets_begin_at_zero(first, last):
    columns = columns_of(GOLDEN)
    offsets = bytearray(columns.target_offsets)
    struct.pack_into("<q", offsets, 0, first)
    if last:
        struct.pack_into("<q", offsets, len(offsets) - 8, last)
    with pytest.raises(ValueError, match="target"):
        Columns(**columns._asdict() | {"target_offsets": offsets})


def test_no_rows():
    assert rows_of(columns_of([])) == []

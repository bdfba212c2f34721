from __future__ import annotations

import struct
from itertools import accumulate

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsbranch._core import narrow


@given(st.lists(st.integers(0, 255), max_size=40))
def test_bits_are_what_arrow_makes_of_them(values: list[int]) -> None:
    bitmap = pa.array(map(bool, values), pa.bool_()).buffers()[1]
    assert narrow.bits(bytes(values)) == bytes(bitmap)[: (len(values) + 7) // 8]


@given(st.lists(st.integers(0, 1 << 20), max_size=40))
def test_offsets(sizes: list[int]) -> None:
    wide = [0, *accumulate(sizes)]
    assert narrow.offsets(struct.pack(f"<{len(wide)}q", *wide)) == struct.pack(
        f"<{len(wide)}i", *wide
    )


@pytest.mark.parametrize("value", [-1, 1 << 31, 1 << 40, -(1 << 63)])
def test_offsets_that_do_not_fit(value: int) -> None:
    with pytest.raises(ValueError, match=str(value)):
        narrow.offsets(struct.pack("<3q", 0, value, 5))
    assert narrow.offsets(struct.pack("<q", (1 << 31) - 1)) == b"\xff\xff\xff\x7f"

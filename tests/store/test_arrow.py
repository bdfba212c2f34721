from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsbranch._core.record import Stream
from dsbranch._core.table import KINDS
from dsbranch.store import arrow
from tests.store.facts import GOLDEN, Row, columns_of, rows_of

optional = st.none() | st.binary(max_size=6)
digest = st.none() | st.binary(min_size=16, max_size=16)
some_rows = st.lists(
    st.builds(
        Row,
        path=st.binary(max_size=8),
        kind=st.sampled_from(KINDS),
        flags=st.integers(0, 255),
        mode=st.integers(0, 0xFFFF),
        uid=st.integers(0, 2**32 - 1),
        gid=st.integers(0, 2**32 - 1),
        rdev=st.integers(0, 2**64 - 1),
        size=st.integers(-(2**63), 2**63 - 1),
        mtime_ns=st.integers(-(2**63), 2**63 - 1),
        nlink_group=st.integers(0, 2**32 - 1),
        target=optional,
        redirect=optional,
        origin=optional,
        xattrs=digest,
        digest=digest,
    ),
    max_size=20,
)


def golden_table():
    return pa.table(Stream([columns_of(GOLDEN)], {}))


@given(some_rows)
@settings(deadline=None, max_examples=60)
def test_there_and_back(rows):
    assert rows_of(arrow.from_table(pa.table(Stream([columns_of(rows)], {})))) == rows


@given(some_rows, st.data())
@settings(deadline=None, max_examples=60)
def test_any_slicing_and_chunking(rows, data):
    table = pa.table(Stream([columns_of(rows)], {}))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    bounds = [0, *cuts, len(rows)]
    parts = [table.slice(a, b - a) for a, b in pairwise(bounds)]
    assert rows_of(arrow.from_table(pa.concat_tables(parts))) == rows
    for part, (a, b) in zip(parts, pairwise(bounds), strict=True):
        assert rows_of(arrow.from_table(part)) == rows[a:b]


@pytest.mark.parametrize(
    "order",
    [list(KINDS), list(reversed(KINDS)), sorted({row.kind for row in GOLDEN}), None],
    ids=["ours", "reversed", "only those used", "not a dictionary"],
)
def test_a_dictionary_of_another_order(order):
    kinds = [row.kind for row in GOLDEN]
    if order is None:
        column = pa.array(kinds)
    else:
        codes = pa.array([order.index(kind) for kind in kinds], pa.int32())
        column = pa.DictionaryArray.from_arrays(codes, pa.array(order))
    table = golden_table().set_column(1, "kind", column)
    assert rows_of(arrow.from_table(table)) == GOLDEN


def test_chunks_with_dictionaries_of_their_own():
    halves = [[r.kind for r in GOLDEN[:7]], [r.kind for r in GOLDEN[7:]]]
    column = pa.chunked_array([pa.array(half).dictionary_encode() for half in halves])
    table = golden_table().set_column(1, "kind", column)
    assert rows_of(arrow.from_table(table)) == GOLDEN


def test_unknown_columns_are_ignored():
    table = golden_table()
    extra = pa.array(range(len(GOLDEN)))
    table = table.add_column(3, "from the future", extra).append_column("later", extra)
    assert rows_of(arrow.from_table(table)) == GOLDEN


def test_large_binary_is_read_as_well():
    table = golden_table()
    for name in ("path", "target"):
        at = table.column_names.index(name)
        table = table.set_column(at, name, table.column(name).cast(pa.large_binary()))
    assert rows_of(arrow.from_table(table)) == GOLDEN

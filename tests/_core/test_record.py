"""``_core.record`` and ``rowsum``: rows as Arrow's C data, the file they go to, and their sum."""

from __future__ import annotations

import errno
import gc
import hashlib
import os
import signal
import struct
import weakref
from collections.abc import Iterator
from contextlib import suppress
from itertools import repeat
from pathlib import Path

import pyarrow as pa
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from dsbranch._core.columnar import from_batches, to_columns
from dsbranch._core.columns import Columns
from dsbranch._core.record import Sink, Stream
from dsbranch._core.rowsum import digest
from dsbranch._core.table import KINDS
from tests.store.facts import GOLDEN, Row, columns_of, table_of

ROOT = Row(b"", "directory")


def arrow_of(*parts: Columns) -> pa.Table:
    table = pa.table(Stream(parts, {}))
    table.validate(full=True)
    return table


# --- the stream ---


def test_columns_and_types() -> None:
    table = arrow_of(columns_of(GOLDEN))
    for name in table.column_names:
        field = "digest" if name == "xxh3_128" else name
        assert table[name].to_pylist() == [getattr(row, field) for row in GOLDEN], name
    assert table.schema.field("kind").type == pa.dictionary(pa.int8(), pa.string())
    assert [f.name for f in table.schema if f.nullable] == [
        "target",
        "redirect",
        "origin",
        "xattrs",
        "xxh3_128",
    ]


def test_metadata() -> None:
    given = {"dsbranch.format": "1", "\u00e4": "", "": "\u00f6"}
    found = pa.table(Stream([], given)).schema.metadata
    assert found == {key.encode(): value.encode() for key, value in given.items()}


def test_ctime() -> None:
    columns = columns_of(GOLDEN)._replace(ctime_ns=struct.pack("<14q", *range(-7, 7)))
    table = pa.table(Stream([columns], {}, ctime=True))
    assert table.column_names[-1] == "ctime_ns"
    assert table["ctime_ns"].to_pylist() == list(range(-7, 7))


def test_several_parts() -> None:
    table = arrow_of(*(columns_of(GOLDEN[a : a + 5]) for a in range(0, 14, 5)), columns_of([]))
    assert table["path"].to_pylist() == [row.path for row in GOLDEN]
    assert table["kind"].to_pylist() == [row.kind for row in GOLDEN]


@given(st.lists(st.none() | st.binary(max_size=4), max_size=40))
def test_validity(targets: list[bytes | None]) -> None:
    columns = columns_of([Row(b"%d" % i, target=text) for i, text in enumerate(targets)])
    assert arrow_of(columns)["target"].to_pylist() == targets


def test_buffers_are_wrapped_not_copied() -> None:
    columns = columns_of(GOLDEN)
    table = arrow_of(columns)
    for name, values in (
        ("size", columns.size),
        ("xxh3_128", columns.digest),
        ("path", columns.path_data),
    ):
        address = table.column(name).chunk(0).buffers()[-1].address
        assert address == pa.py_buffer(values).address


class Parts:
    """Parts that tell when nobody holds them any more."""

    def __init__(self, *parts: Columns) -> None:
        self.parts = iter(parts)

    def __iter__(self) -> Iterator[Columns]:
        return self

    def __next__(self) -> Columns:
        return next(self.parts)


def test_what_is_taken_outlives_the_stream_and_nothing_outlives_that() -> None:
    parts = Parts(columns_of(GOLDEN), columns_of(GOLDEN))
    gone = weakref.ref(parts)
    stream = Stream(parts, {})
    reader = pa.RecordBatchReader.from_stream(stream)
    del stream, parts
    column = reader.read_next_batch().column("path")
    reader.close()
    del reader
    gc.collect()
    assert gone() is None
    assert column.to_pylist() == [row.path for row in GOLDEN]


def test_a_stream_that_nobody_takes() -> None:
    parts = Parts(columns_of(GOLDEN))
    gone = weakref.ref(parts)
    capsule = Stream(parts, {}).__arrow_c_stream__()
    del parts
    assert gone() is not None
    del capsule
    assert gone() is None


def offsets(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}q", *values)


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        (2, {"path_offsets": offsets(0, 2, 1), "path_data": b"abc"}),
        (2, {"path_offsets": offsets(0, -1, 1), "path_data": b"abc"}),
        (2, {"path_offsets": offsets(0, 1 << 40, 1), "path_data": b"abc"}),
        (2, {"path_offsets": offsets(0, 5, 3), "path_data": b"abc"}),
        (1, {"kind": bytes([len(KINDS)])}),
    ],
)
def test_malformed_columns_end_it(rows: int, wrong: dict[str, bytes]) -> None:
    columns = columns_of([Row(b"")] * rows)._replace(**wrong)
    stream = Stream([columns_of(GOLDEN), columns, columns_of(GOLDEN)], {})
    assert pa.table(stream).num_rows == len(GOLDEN)
    assert isinstance(stream.error, ValueError)


def test_what_the_parts_raise_ends_it() -> None:
    def parts() -> Iterator[Columns]:
        yield columns_of(GOLDEN)
        raise LookupError("gone")

    stream = Stream(parts(), {})
    assert pa.table(stream).num_rows == len(GOLDEN)
    assert isinstance(stream.error, LookupError)


def test_an_interrupt_ends_it() -> None:
    parts = 20_000
    # No Python runs between these, and none of who watches the garbage collector, so that it is the
    # stream itself that has to look.
    stream = Stream(repeat(columns_of(GOLDEN[:1]), parts), {})
    reader = pa.RecordBatchReader.from_stream(stream)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    gc.disable()
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    try:
        rows = reader.read_all().num_rows
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        gc.enable()
        signal.signal(signal.SIGALRM, before)
    assert isinstance(stream.error, KeyboardInterrupt)
    assert 0 < rows < parts


def test_a_schema_that_cannot_be_told_is_refused() -> None:
    stream = Stream([columns_of(GOLDEN)], {"a": "\udc80"})
    with pytest.raises(pa.ArrowInvalid):
        pa.table(stream)
    assert isinstance(stream.error, UnicodeEncodeError)


def test_memory_that_ends_anywhere() -> None:
    memory = pytest.importorskip("_testcapi")

    def parts() -> Iterator[Columns]:
        yield columns
        memory.set_nomemory(after, after + 1)
        yield columns

    columns, after = columns_of(GOLDEN), 0
    while True:
        stream = Stream(parts(), {})
        reader = pa.RecordBatchReader.from_stream(stream)
        assert reader.read_next_batch().num_rows == len(GOLDEN)
        # Beyond our own calls one of pyarrow's fails.
        with suppress(StopIteration, MemoryError):
            try:
                reader.read_next_batch()
            finally:
                memory.remove_mem_hooks()
        if stream.error is None:
            break
        assert isinstance(stream.error, MemoryError)
        after += 1
    assert after > 50


# --- the sink ---


def test_what_is_written_is_there_and_summed(tmp_path: Path) -> None:
    hasher = hashlib.sha256()
    pieces = [b"", b"a", bytes(1 << 20), b"end"]
    with open(tmp_path / "f", "wb", buffering=0) as file:
        sink = Sink(file.fileno(), hasher)
        assert [sink.write(piece) for piece in pieces] == list(map(len, pieces))
        sink.flush()
    assert (tmp_path / "f").read_bytes() == b"".join(pieces)
    assert hasher.digest() == hashlib.sha256(b"".join(pieces)).digest()
    assert sink.error is None


def test_a_full_disk_is_kept_for_later(capfd: pytest.CaptureFixture[str]) -> None:
    from arro3.io import write_parquet

    with open("/dev/full", "wb", buffering=0) as file:
        sink = Sink(file.fileno(), hashlib.sha256())
        assert sink.write(b"abc") == 3
        assert sink.error is not None
        assert sink.error.errno == errno.ENOSPC
        with open(os.devnull, "wb") as null:
            os.dup2(null.fileno(), file.fileno())
        assert sink.write(b"abc") == 3
        assert sink.error.errno == errno.ENOSPC
    with open("/dev/full", "wb", buffering=0) as file:
        sink = Sink(file.fileno(), hashlib.sha256())
        write_parquet(pa.table({"a": [1]}), sink)  # type: ignore[arg-type]
    assert sink.error is not None
    assert capfd.readouterr() == ("", "")


def test_a_pipe_takes_it_in_parts() -> None:
    data = os.urandom(1 << 20)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        sink = Sink(writer, hashlib.sha256())
        os._exit(not (sink.write(data) == len(data) and sink.error is None))
    os.close(writer)
    with open(reader, "rb") as file:
        assert file.read() == data
    assert os.waitpid(child, 0)[1] == 0


# --- the sum ---


def sum_of(rows: list[Row]) -> bytes:
    """By the words of ``docs/internals/format.md``."""
    hasher = xxhash.xxh3_128()
    for row in rows:
        texts = [row.path, row.target, row.redirect, row.origin]
        flags = row.flags & 15
        for bit, value in (
            (16, row.target),
            (32, row.origin),
            (64, row.xattrs),
            (128, row.digest),
        ):
            flags |= bit * (value is not None)
        numbers = struct.pack(
            "<QqqIII4IHBB",
            row.rdev,
            row.size,
            row.mtime_ns,
            row.uid,
            row.gid,
            row.nlink_group,
            *(len(text or b"") for text in texts),
            row.mode,
            KINDS.index(row.kind),
            flags,
        )
        digests = (row.xattrs or bytes(16)) + (row.digest or bytes(16))
        hasher.update(numbers + digests + b"".join(text or b"" for text in texts))
    return hasher.digest()


def test_the_sum_is_what_the_format_says() -> None:
    assert digest(table_of(GOLDEN)) == sum_of(GOLDEN)


@pytest.mark.parametrize("count", [1, 1023, 1024, 1025, 5000])
def test_of_any_number_of_rows(count: int) -> None:
    rows = [ROOT, *(Row(b"%06d" % i, size=i, digest=b"d" * 16) for i in range(1, count))]
    assert digest(table_of(rows)) == sum_of(rows)


def test_every_field_is_in_it() -> None:
    row = Row(b"x", digest=b"d" * 16, xattrs=b"x" * 16, target=b"t", origin=b"o", redirect=b"r")
    sums = {digest(table_of([ROOT, row]))}
    others = Row(
        b"y",
        "symlink",
        flags=8,
        mode=0o600,
        uid=1,
        gid=1,
        rdev=1,
        size=1,
        mtime_ns=1,
        nlink_group=1,
        target=b"u",
        redirect=b"s",
        origin=b"p",
        xattrs=b"y" * 16,
        digest=b"e" * 16,
    )
    for name in Row._fields:
        sums.add(digest(table_of([ROOT, row._replace(**{name: getattr(others, name)})])))
    for name in ("target", "redirect", "origin", "xattrs", "digest"):
        sums.add(digest(table_of([ROOT, row._replace(**{name: None})])))
    assert len(sums) == 1 + len(Row._fields) + 5


def test_it_does_not_depend_on_where_the_rows_come_from() -> None:
    table = table_of(GOLDEN)
    again = from_batches([to_columns(table, 0, 5), to_columns(table, 5)])
    assert digest(again) == digest(table)

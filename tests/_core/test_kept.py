"""Digests that are kept: taken over only where nothing tells against it, and whole as bytes."""

from __future__ import annotations

import os
import struct
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dsbranch._core import kept
from dsbranch._core.columnar import from_batches, to_batches
from dsbranch._core.content import digest_files
from dsbranch._core.drift import drift
from dsbranch._core.table import Table
from tests import core, trees
from tests.trees import Dir, File, Link, Symlink

TREE = Dir(
    {
        "a": File(b"a"),
        "b": Dir({"c": File(b"ccc"), "linked": Link("a")}),
        "b-": File(b""),
        "s": Symlink("a"),
        "z": File(b"zz"),
    }
)
PATHS = [b"", b"a", b"b", b"b/c", b"b/linked", b"b-", b"s", b"z"]
LATER = 1 << 62

Job = Callable[[Table, Any], object]

JOBS: list[Job] = [
    lambda table, given: kept.portion(table, given, 0, 1),
    kept.pack_digests,
    lambda table, given: digest_files(table, rows=given),
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    trees.make(TREE, tmp_path / "t")
    return tmp_path / "t"


def digested(place: Path) -> Table:
    table = core.scan(place)
    digest_files(table)
    return table


def known(table: Table) -> list[bytes]:
    return [entry.path for entry in core.entries(table) if entry.digest is not None]


def test_which_digests_are_missing(place: Path) -> None:
    table = core.scan(place)
    rows = kept.undigested(table)
    assert [PATHS[row] for row in rows] == [b"a", b"b/c", b"b-", b"z"]
    digest_files(table, rows=rows[1:2])
    assert known(table) == [b"b/c"]
    assert [PATHS[row] for row in kept.undigested(table)] == [b"a", b"b-", b"z"]


@pytest.mark.parametrize("given", [array("i", [0]), b"1234567", memoryview(b"12345678")])
@pytest.mark.parametrize("job", JOBS)
def test_numbers_are_of_eight_bytes(given: Any, job: Job, place: Path) -> None:
    with pytest.raises(ValueError, match="not 8"):
        job(core.scan(place), given)


@pytest.mark.parametrize("number", [-1, len(PATHS), 1 << 40])
@pytest.mark.parametrize("job", JOBS)
def test_numbers_are_of_rows(number: int, job: Job, place: Path) -> None:
    with pytest.raises(IndexError):
        job(core.scan(place), array("q", [number]))


def test_a_portion_begins_with_a_row(place: Path) -> None:
    with pytest.raises(IndexError):
        kept.portion(core.scan(place), array("q", [0]), -1, 1)


def test_each_row_has_a_number(place: Path) -> None:
    with pytest.raises(ValueError, match="1 numbers for 2 rows"):
        kept.pack_digests(core.scan(place), array("q", [0, 1]), array("q", [1]))


@pytest.mark.parametrize(("start", "most", "end"), [(0, 3, 1), (0, 4, 3), (1, 0, 2), (3, 9, 4)])
def test_portions(place: Path, start: int, most: int, end: int) -> None:
    table = core.scan(place)  # files of 1, 3, 0 and 2 bytes
    assert kept.portion(table, kept.undigested(table), start, most) == end


def test_a_row_that_is_not_there(place: Path) -> None:
    for row in (-1, len(PATHS)):
        with pytest.raises(IndexError):
            digest_files(core.scan(place), rows=array("q", [row]))


def grown(path: Path) -> None:
    path.write_bytes(b"AAAA")


def touched(path: Path) -> None:
    os.utime(path, ns=(0, 0))


def rewritten(path: Path) -> None:
    before = path.stat()
    path.write_bytes(b"A")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def removed(path: Path) -> None:
    path.unlink()


def replaced(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("change", [grown, touched, rewritten, removed, replaced])
def test_what_changed_gets_nothing(place: Path, change: Callable[[Path], None]) -> None:
    (place / "b/linked").unlink()
    source = digested(place)
    (place / "A").write_bytes(b"new")
    change(place / "a")
    table = core.scan(place)
    assert kept.take_digests(table, source, LATER) == 3
    assert known(table) == [b"b/c", b"b-", b"z"]
    expected = {entry.path: entry.digest for entry in core.entries(source)}
    for entry in core.entries(table):
        assert entry.digest in (None, expected.get(entry.path))
    assert kept.take_digests(table, source, LATER) == 0


def test_the_young_are_not_trusted(place: Path) -> None:
    for name in ("a", "b/c", "b-"):
        (place / name).unlink()
    changed = os.stat(place / "z").st_ctime_ns
    for walked, taken in ((changed + 10**8 - 1, 0), (changed + 10**8, 1)):
        (place / "b/linked").unlink(missing_ok=True)
        assert kept.take_digests(core.scan(place), digested(place), walked) == taken


def test_a_digest_survives_as_bytes(place: Path) -> None:
    table = digested(place)
    rows = kept.undigested(core.scan(place))
    records = kept.pack_digests(table, rows)
    assert len(records) == 4 * kept.RECORD_BYTES
    assert records[:8] == struct.pack("<Q", 1)
    again = core.scan(place)
    kept.unpack_digests(again, records)
    assert known(again) == [b"a", b"b/c", b"b-", b"z"]
    assert kept.pack_digests(again, rows) == records
    assert kept.pack_digests(core.scan(place), rows) == b""


@pytest.mark.parametrize(
    "records", [b"x", bytes(24), struct.pack("<Q16x", 6), struct.pack("<Q16x", 8), b"\xff" * 24]
)
def test_bytes_of_another_table(place: Path, records: bytes) -> None:
    with pytest.raises(ValueError, match=r"row \d+|no whole records"):
        kept.unpack_digests(core.scan(place), records)


def test_what_a_digest_can_tell(place: Path) -> None:
    expected = digested(place)
    (place / "a").write_bytes(b"longer")
    (place / "z").write_bytes(b"ZZ")
    (place / "b-").unlink()
    (place / "new").write_bytes(b"n")
    found = core.scan(place)
    rows = kept.comparable(found, expected)
    assert [found.path(row) for row in rows] == [b"b/c", b"z"]
    assert list(kept.comparable(found, core.scan(place))) == []


def test_times_of_change_survive_columns(place: Path) -> None:
    table = core.scan(place)
    again = from_batches(to_batches(table, ctime=True))
    assert list(drift(table, again, base=True)) == []
    without = from_batches(to_batches(table))
    assert list(drift(table, without)) == []
    assert {aspect for _, aspect, _, _ in drift(table, without, base=True)} == {"touched"}

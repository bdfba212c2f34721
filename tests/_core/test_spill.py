"""Tables too large for memory: in a file without a name, in memory all the same on a full disk."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsbranch._core.algebra import changes
from dsbranch._core.columnar import from_batches, to_batches
from dsbranch._core.columns import Columns
from dsbranch._core.image import digest
from dsbranch._core.view import View
from tests._core.test_table import columns
from tests.tables import from_columns

PART = 100_000
PARTS = 5  # 76 MB of rows, where 64 MiB stay in memory


def batches() -> Iterator[Columns]:
    for part in range(PARTS):
        rows = [(b"%07d" % number, "file") for number in range(part * PART, (part + 1) * PART)]
        yield columns(rows if part else [(b"", "directory"), *rows])


def files_mapped() -> list[str]:
    """Files without a name that this process has mapped."""
    return re.findall(r"(/\S*#\d+) \(deleted\)", Path("/proc/self/maps").read_text())


def test_a_large_table_lies_in_a_file_without_a_name(tmp_path: Path) -> None:
    before = files_mapped()
    table = from_batches(batches(), spill=os.fsencode(tmp_path))
    assert len(files_mapped()) == len(before) + 1
    assert os.listdir(tmp_path) == []
    in_memory = from_batches(batches())
    assert len(files_mapped()) == len(before) + 1
    assert len(table) == PART * PARTS + 1
    assert digest(table) == digest(in_memory)
    parts = list(to_batches(table))
    assert [part.length for part in parts] == [131_072, 131_072, 131_072, 106_785]
    fewer = table.without([b"0000001", b"0499999"])
    assert len(files_mapped()) == len(before) + 2
    assert [fewer.path(at) for at in (1, 2, len(fewer) - 1)] == [b"0000000", b"0000002", b"0499998"]
    del table, fewer
    assert files_mapped() == before


def test_so_do_changes_that_are_too_many(tmp_path: Path) -> None:
    rows = [(b"%07d" % number, "file") for number in range(2_000_000)]
    table = from_columns(columns([(b"", "directory"), *rows]))
    del rows
    before = files_mapped()
    found = changes(None, View([table]), spill=os.fsencode(tmp_path))
    assert len(files_mapped()) == len(before) + 1
    assert os.listdir(tmp_path) == []
    assert found.counts() == {"A": 2_000_001}
    assert [delta.path for delta in (found[0], found[-1])] == [b"", b"1999999"]
    del found
    assert files_mapped() == before


def test_a_directory_that_holds_no_such_files(tmp_path: Path) -> None:
    before = files_mapped()
    table = from_batches(batches(), spill=b"/proc")
    assert files_mapped() == before
    assert len(table) == PART * PARTS + 1


@pytest.mark.root
@pytest.mark.parametrize("megabytes", [16, 70])
def test_on_a_full_disk_it_stays_in_memory(megabytes: int, tmp_path: Path) -> None:
    """Also what has begun to go there, if it is the disk that ends later."""
    disk = ["-t", "tmpfs", "-o", f"size={megabytes}m", "none"]
    subprocess.run(["mount", *disk, tmp_path], check=True)
    try:
        before = files_mapped()
        table = from_batches(batches(), spill=os.fsencode(tmp_path))
        assert files_mapped() == before
        assert digest(table) == digest(from_batches(batches()))
        del table
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)

"""Tables too large for memory: in a file without a name, and an error on a full disk."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsbranch._core.columns import Columns
from dsbranch._core.image import digest
from dsbranch._core.table import Table
from tests._core.test_table import columns

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
    table = Table.from_batches(batches(), spill=os.fsencode(tmp_path))
    assert len(files_mapped()) == len(before) + 1
    assert os.listdir(tmp_path) == []
    in_memory = Table.from_batches(batches())
    assert len(files_mapped()) == len(before) + 1
    assert len(table) == PART * PARTS + 1
    assert digest(table) == digest(in_memory)
    parts = list(table.batches())
    assert [part.length for part in parts] == [131_072, 131_072, 131_072, 106_785]
    fewer = table.without([b"0000001", b"0499999"])
    assert len(files_mapped()) == len(before) + 2
    assert [fewer.path(at) for at in (1, 2, len(fewer) - 1)] == [b"0000000", b"0000002", b"0499998"]
    del table, fewer
    assert files_mapped() == before


def test_a_directory_that_holds_no_such_files(tmp_path: Path) -> None:
    before = files_mapped()
    table = Table.from_batches(batches(), spill=b"/proc")
    assert files_mapped() == before
    assert len(table) == PART * PARTS + 1


@pytest.mark.root
def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", tmp_path], check=True)
    try:
        with pytest.raises(OSError, match="No space left") as caught:
            Table.from_batches(batches(), spill=os.fsencode(tmp_path))
        assert caught.value.errno == errno.ENOSPC
    finally:
        subprocess.run(["umount", tmp_path], check=True)

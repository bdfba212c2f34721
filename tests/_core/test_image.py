"""Images of tables: written, mapped again, and what damage may do to them."""

from __future__ import annotations

import io
import os
import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import xxhash

from dsbranch._core.columnar import to_columns
from dsbranch._core.content import digest_files
from dsbranch._core.image import digest, load, write
from dsbranch._core.table import Table
from dsbranch._core.view import View
from tests import children, core, trees
from tests import edits as e
from tests._core.test_table import marked
from tests.cases import BASE, LONG, MANY
from tests.tables import from_columns
from tests.trees import Dir, File, Symlink

STAMP = (123, -5)


def stored(table: Table, path: Path) -> Path:
    with open(path, "wb") as file:
        write(table, file, STAMP)
    return path


def loaded(path: Path, stamp: tuple[int, int] = STAMP, *, check: bool = True) -> Table | None:
    fd = os.open(path, os.O_RDONLY)
    try:
        return load(fd, stamp, check=check)
    finally:
        os.close(fd)


def tree(tmp_path: Path) -> Table:
    made = {
        "d": Dir({"x": File(b"x", xattrs={"user.a": b""})}),
        "s": Symlink("out"),
        "w": File(b""),
    }
    trees.make(Dir({**made, "z": Dir({"f": File(b"f")})}), tmp_path / "t")
    e.link("d/x", "linked")(tmp_path / "t")
    return core.scan(tmp_path / "t")


@pytest.mark.parametrize("shape", [BASE, MANY, LONG, Dir()], ids=["base", "names", "long", "empty"])
def test_what_is_written_is_loaded(shape: Dir, tmp_path: Path) -> None:
    trees.make(shape, tmp_path / "t")
    table = core.scan(tmp_path / "t")
    digest_files(table)
    again = loaded(stored(table, tmp_path / "image"))
    assert again is not None
    assert core.entries(again) == core.entries(table)
    view = View([again])
    for entry in core.entries(table):
        found = view.find(entry.path)
        assert found is not None
        assert again.entry(found[1]).path == entry.path


@pytest.mark.root
def test_markers_are_kept(tmp_path: Path) -> None:
    table = marked(tmp_path)
    again = loaded(stored(table, tmp_path / "image"))
    assert again is not None
    assert core.entries(again) == core.entries(table)


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    table = tree(tmp_path)
    columns = from_columns(to_columns(table))
    without = table.without([b"w"])
    path = stored(table, tmp_path / "a")
    again = loaded(path)
    assert again is not None
    assert digest(table) == digest(columns) == digest(again) != digest(without)
    whole = path.read_bytes()
    assert stored(columns, tmp_path / "b").read_bytes() == whole
    assert stored(again, tmp_path / "b").read_bytes() == whole
    assert digest(without) == digest(from_columns(to_columns(without)))


def test_a_mapped_table_is_written_to_in_memory_only(tmp_path: Path) -> None:
    path = stored(tree(tmp_path), tmp_path / "image")
    before = path.read_bytes()
    table = loaded(path)
    assert table is not None
    table.open(os.fsencode(tmp_path / "t"))
    digest_files(table)
    assert all(x.digest for x in core.entries(table) if x.kind == "file")
    assert path.read_bytes() == before
    path.unlink()
    assert len(core.entries(table)) == 8


@pytest.mark.parametrize("stamp", [(124, -5), (123, -6)])
def test_another_stamp(stamp: tuple[int, int], tmp_path: Path) -> None:
    assert loaded(stored(tree(tmp_path), tmp_path / "image"), stamp) is None


@pytest.mark.parametrize("at", [0, 8, 16, 20], ids=["magic", "byte-order", "format", "row"])
def test_another_build(at: int, tmp_path: Path) -> None:
    path = stored(tree(tmp_path), tmp_path / "image")
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    size = 8 + 8 + 4 + 4 + 4 * 8 + 16
    data[size : size + 16] = xxhash.xxh3_128_digest(bytes(data[:size]))
    path.write_bytes(data)
    assert loaded(path) is None


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.999])
def test_truncated(share: float, tmp_path: Path) -> None:
    path = stored(tree(tmp_path), tmp_path / "image")
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(ValueError):
        loaded(path)


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    path = stored(tree(tmp_path), tmp_path / "image")
    whole = bytearray(path.read_bytes())
    for at in range(len(whole)):
        whole[at] ^= 0x10
        path.write_bytes(whole)
        with pytest.raises(ValueError):
            loaded(path)
        whole[at] ^= 0x10


def test_it_is_checked_unless_that_is_not_wanted(tmp_path: Path) -> None:
    path = stored(tree(tmp_path), tmp_path / "image")
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    assert loaded(path, check=False) is not None
    with pytest.raises(ValueError, match="checksum"):
        loaded(path)


ROAM = """
import os, sys
from contextlib import suppress
from dsbranch._core import image
from dsbranch._core.view import View
table = image.load(os.open(sys.argv[1], os.O_RDONLY), (123, -5), check=False)
view = View([table])
for i in range(len(table)):
    with suppress(IndexError):
        table.entry(i)
for path in (b"d", b"d/x", b"s", b"z/f", b"none"):
    view.find(path)
table.summary()
image.digest(table)
print("alive")
"""


def apart(code: str, path: Path) -> subprocess.CompletedProcess[str]:
    """A process of its own that may die of what it finds in an image."""
    return subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=False,
        env=children.environment(),
        timeout=60,
    )


def test_what_an_unchecked_one_says_leads_nowhere_outside(tmp_path: Path) -> None:
    path = stored(tree(tmp_path), tmp_path / "image")
    whole = path.read_bytes()
    rows = 8 + 8 + 4 + 4 + 4 * 8 + 16 + 16
    draw = random.Random(4)
    for _ in range(24):
        data = bytearray(whole)
        for at in range(rows, len(data)):
            # Where a row's texts and its children are, and everything at times.
            if (at - rows) % 152 < 32 or 104 <= (at - rows) % 152 < 112 or draw.random() < 0.01:
                data[at] = draw.choice([0, 255, draw.randrange(256)])
        path.write_bytes(data)
        done = apart(ROAM, path)
        assert done.stdout == "alive\n", (done.returncode, done.stderr)


@pytest.mark.parametrize("whole", [True, False])
def test_it_is_checked_where_there_is_no_room_for_the_reserve(whole: bool, tmp_path: Path) -> None:
    if any(name in os.environ.get("LD_PRELOAD", "") for name in ("libasan", "libtsan")):
        pytest.skip("a sanitizer needs more addresses than that itself")
    path = stored(tree(tmp_path), tmp_path / "image")
    if not whole:
        data = path.read_bytes()
        path.write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
    code = (
        "import os, resource, sys; from dsbranch._core.image import load;"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 32));"
        "print(len(load(os.open(sys.argv[1], os.O_RDONLY), (123, -5), check=False)))"
    )
    done = apart(code, path)
    assert done.stdout == ("8\n" if whole else "")
    assert ("ValueError: its checksum is wrong" in done.stderr) is not whole


def test_the_header_is_what_the_format_says(tmp_path: Path) -> None:
    table = tree(tmp_path)
    file = io.BytesIO()
    write(table, file, STAMP)
    data = file.getvalue()
    head = struct.unpack_from("=8sQIIQQQq", data)
    texts = sum(
        len(text) + 1
        for x in core.entries(table)
        for text in (x.path, x.target, x.redirect, x.origin)
        if text is not None
    )
    assert head == (b"dsbindex", 0x0102030405060708, 1, 152, 8, texts, *STAMP)
    assert data[56:72] == xxhash.xxh3_128_digest(data[88:]) == digest(table)
    assert data[72:88] == xxhash.xxh3_128_digest(data[:72])
    assert len(data) == 88 + 8 * 152 + texts

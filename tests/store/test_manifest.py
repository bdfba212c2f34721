import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from dsbranch._core.columnar import to_columns
from dsbranch.errors import IntegrityError, NewerFormat, StorageError
from dsbranch.store import arrow, manifest
from tests import children
from tests.store.facts import GOLDEN, Row, rows_of, table_of

ROOT = Row(b"", "directory")
GOLDEN_FILE = Path(__file__).parents[1] / "golden/manifest-1.parquet"
GOLDEN_SUMMED = GOLDEN_FILE.with_name("manifest-1-summed.parquet")

FORMAT = {  # as docs/internals/format.md has it
    "path": (pa.binary(), False),
    "kind": (pa.dictionary(pa.int8(), pa.string()), False),
    "flags": (pa.uint8(), False),
    "mode": (pa.uint16(), False),
    "uid": (pa.uint32(), False),
    "gid": (pa.uint32(), False),
    "rdev": (pa.uint64(), False),
    "size": (pa.int64(), False),
    "mtime_ns": (pa.int64(), False),
    "nlink_group": (pa.uint32(), False),
    "target": (pa.binary(), True),
    "redirect": (pa.binary(), True),
    "origin": (pa.binary(), True),
    "xattrs": (pa.binary(16), True),
    "xxh3_128": (pa.binary(16), True),
}


def rows_in(path):
    return rows_of(to_columns(manifest.read(path, spill=os.fsencode(path.parent))))


@pytest.fixture
def file(tmp_path):
    """A manifest of the golden rows."""
    path = tmp_path / "manifest.parquet"
    manifest.write(path, table_of(GOLDEN), layer="0123456789", dialect="trusted")
    return path


def test_what_is_written_is_read(file):
    assert rows_in(file) == GOLDEN


@pytest.mark.parametrize("path", [GOLDEN_FILE, GOLDEN_SUMMED], ids=["by pyarrow", "by arro3"])
def test_the_golden_files_are_still_read(path):
    assert rows_in(path) == GOLDEN


def test_the_golden_file_is_still_what_is_written(file):
    """Else no manifest of before can be made again; a new arro3 may have to change this file."""
    assert file.read_bytes() == GOLDEN_SUMMED.read_bytes()


@pytest.mark.parametrize("which", ["golden", "fresh"])
def test_the_file_is_what_the_format_says(file, which):
    schema = parquet.read_schema(GOLDEN_FILE if which == "golden" else file)
    assert {f.name: (f.type, f.nullable) for f in schema} == FORMAT
    assert schema.names == list(FORMAT)
    assert schema.metadata[b"dsbranch.format"] == b"1"
    assert schema.metadata[b"dsbranch.layer"] == b"0123456789"
    assert schema.metadata[b"dsbranch.dialect"] == b"trusted"
    column = parquet.ParquetFile(file).metadata.row_group(0).column(0)
    assert column.compression == "ZSTD"
    assert which == "golden" or len(parquet.read_schema(file).metadata[b"dsbranch.rows"]) == 32


def test_anyone_can_read_it(file):
    table = parquet.read_table(file)
    assert table["path"].to_pylist() == [row.path for row in GOLDEN]
    assert table["kind"].to_pylist() == [row.kind for row in GOLDEN]
    assert table["xxh3_128"].to_pylist() == [row.digest for row in GOLDEN]


@pytest.mark.parametrize("count", [1, 7, 8, 9, 1000])
def test_any_number_of_rows(tmp_path, count):
    rows = [ROOT] + [
        Row(b"%06d" % i, target=b"t" * (i % 3) if i % 2 else None, digest=bytes([i % 256]) * 16)
        for i in range(1, count)
    ]
    path = tmp_path / "m"
    manifest.write(path, table_of(rows), layer="l", dialect="user")
    assert rows_in(path) == rows


def test_no_row_is_lost_between_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "ROWS_IN_GROUP", 5)
    path = tmp_path / "m"
    manifest.write(path, table_of(GOLDEN), layer="l", dialect="trusted")
    groups = parquet.ParquetFile(path).metadata
    assert [groups.row_group(i).num_rows for i in range(3)] == [5, 5, 4]
    assert rows_in(path) == GOLDEN
    assert parquet.read_table(path)["kind"].to_pylist() == [row.kind for row in GOLDEN]


def test_large_row_groups_are_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "ROWS_AT_ONCE", 4)
    path = tmp_path / "m"
    manifest.write(path, table_of(GOLDEN), layer="l", dialect="trusted")
    parts = []
    real = arrow.from_table
    monkeypatch.setattr(arrow, "from_table", lambda part: parts.append(part.num_rows) or real(part))
    assert rows_in(path) == GOLDEN
    assert parts == [4, 4, 4, 2]


def test_the_answer_is_the_digest_of_the_file(tmp_path):
    path = tmp_path / "m"
    digest = manifest.write(path, table_of(GOLDEN), layer="l", dialect="trusted")
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest() == manifest.digest_file(path)
    assert os.listdir(tmp_path) == ["m"]
    again = manifest.write(path, table_of(GOLDEN), layer="l", dialect="trusted")
    assert again == digest


def test_a_path_that_is_no_utf8(tmp_path):
    path = tmp_path / os.fsdecode(b"m\xff")
    manifest.write(path, table_of(GOLDEN), layer="l", dialect="trusted")
    assert rows_in(path) == GOLDEN


def test_the_same_rows_give_the_same_file_in_any_process(file):
    code = f"""
from pathlib import Path
from dsbranch.store import manifest
from tests.store.facts import GOLDEN, table_of
print(manifest.write(Path({str(file)!r}), table_of(GOLDEN), layer="0123456789", dialect="trusted"))
"""
    first = manifest.digest_file(file)
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            capture_output=True,
            text=True,
            env=children.environment(),
        )
        assert done.stdout.strip() == first


@pytest.mark.parametrize("failing", [ValueError("malformed"), KeyboardInterrupt()])
def test_what_ends_the_rows_too_early_ends_the_writing(tmp_path, failing, capfd):
    def batches(table, *, ctime):
        yield to_columns(table)
        raise failing

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(manifest, "to_batches", batches)
        with pytest.raises(type(failing)):
            manifest.write(tmp_path / "m", table_of(GOLDEN), layer="l", dialect="trusted")
    assert os.listdir(tmp_path) == []
    assert capfd.readouterr() == ("", "")


# --- files that must not be read ---


def rewrite(path, metadata=None, /, **columns):
    """The manifest at `path` with columns replaced (or dropped: None)."""
    table = parquet.read_table(path)
    for name, column in columns.items():
        at = table.column_names.index(name)
        table = table.remove_column(at)
        if column is not None:
            table = table.add_column(at, name, column)
    if metadata is not None:
        table = table.replace_schema_metadata(metadata)
    parquet.write_table(table, path)


def refused(path):
    with pytest.raises(IntegrityError) as caught:
        rows_in(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.9, 0.999])
def test_truncated(file, share):
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    refused(file)


def test_garbage(file):
    file.write_bytes(os.urandom(5000))
    refused(file)


def test_every_flipped_bit_of_a_page_is_found_or_harmless(file):
    whole = bytearray(file.read_bytes())
    metadata = parquet.ParquetFile(file).metadata
    last = metadata.row_group(0).column(metadata.num_columns - 1)
    found = 0
    for at in range(4, last.data_page_offset + last.total_compressed_size, 7):
        whole[at] ^= 0x10
        file.write_bytes(whole)
        try:
            assert rows_in(file) == GOLDEN
        except IntegrityError:
            found += 1
        whole[at] ^= 0x10
    assert found > 50


def test_memory_that_ends_is_no_damage(file, monkeypatch):
    def fail(*arguments, **keywords):
        raise pa.ArrowMemoryError("malloc of size 65536 failed")

    monkeypatch.setattr(parquet, "ParquetFile", fail)
    with pytest.raises(MemoryError):
        rows_in(file)


def test_a_writer_that_fails_by_itself(tmp_path, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("a bug in the library")

    import arro3.io

    monkeypatch.setattr(arro3.io, "write_parquet", broken)
    with pytest.raises(RuntimeError, match="a bug in the library"):
        manifest.write(tmp_path / "m", table_of(GOLDEN), layer="l", dialect="trusted")
    assert os.listdir(tmp_path) == []


def test_what_ended_the_writing_is_told_whatever_the_writer_says_of_it(tmp_path, monkeypatch):
    import arro3.io

    def confused(rows, file, **_):
        pa.table(rows)
        raise RuntimeError("external error")

    monkeypatch.setattr(arro3.io, "write_parquet", confused)
    monkeypatch.setattr(manifest, "to_batches", lambda *_, **__: (1 // 0 for _ in "x"))
    with pytest.raises(ZeroDivisionError):
        manifest.write(tmp_path / "m", table_of(GOLDEN), layer="l", dialect="trusted")
    assert os.listdir(tmp_path) == []


def test_rows_that_were_not_written(file):
    """As after damage that no page's checksum finds."""
    table = parquet.read_table(file)
    sizes = table["size"].to_pylist()
    rewrite(file, size=pa.array([*sizes[:-1], 7]))
    assert "its rows are not those that were written" in refused(file)
    without = {k: v for k, v in table.schema.metadata.items() if k != b"dsbranch.rows"}
    rewrite(file, without)  # as it was before there were sums
    assert [row.size for row in rows_in(file)] == [*sizes[:-1], 7]


def test_missing(tmp_path):
    with pytest.raises(StorageError, match="No such file"):
        rows_in(tmp_path / "m")
    with pytest.raises(StorageError, match="No such file"):
        manifest.digest_file(tmp_path / "m")


def test_a_newer_format(file):
    rewrite(file, {"dsbranch.format": "2"}, path=None)
    with pytest.raises(NewerFormat, match="format 2"):
        rows_in(file)


@pytest.mark.parametrize("metadata", [{}, {"dsbranch.format": "x"}], ids=["none", "no number"])
def test_no_format(file, metadata):
    rewrite(file, metadata)
    assert "dsbranch.format" in refused(file)


COUNT = len(GOLDEN)
KINDS_WITH_ONE_UNKNOWN = pa.array([*["file"] * (COUNT - 1), "door"])


@pytest.mark.parametrize("name", FORMAT)
def test_a_missing_column(file, name):
    rewrite(file, **{name: None})
    assert name in refused(file)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("path", pa.array(["x"] * COUNT)),
        ("path", pa.array([None] * COUNT, pa.binary())),
        ("kind", KINDS_WITH_ONE_UNKNOWN),
        ("kind", pa.array([1] * COUNT)),
        ("mode", pa.array([1] * COUNT, pa.int32())),
        ("size", pa.array([None] * COUNT, pa.int64())),
        ("xattrs", pa.array([b"x" * 15] * COUNT, pa.binary(15))),
        ("target", pa.array([1] * COUNT)),
    ],
)
def test_a_column_of_another_kind(file, name, column):
    rewrite(file, **{name: column})
    assert name in refused(file)


def test_a_directory(tmp_path):
    with pytest.raises(StorageError, match="Is a directory"):
        rows_in(tmp_path)


# --- a full disk ---


@pytest.mark.root
def test_a_full_disk_leaves_nothing_under_the_name(small_disk):
    (small_disk / "filler").write_bytes(bytes((1 << 20) - 8192))
    names = sorted({os.urandom(16).replace(b"/", b"x").replace(b"\0", b"x") for _ in range(5000)})
    rows = [ROOT, *map(Row, names)]
    path = small_disk / "manifest.parquet"
    with pytest.raises(StorageError, match=r"manifest\.parquet: No space left on device"):
        manifest.write(path, table_of(rows), layer="l", dialect="trusted")
    assert os.listdir(small_disk) == ["filler"]

import os
import shutil

import pytest

from dsbranch.errors import StorageError
from dsbranch.store import index, manifest
from tests.core import entries
from tests.store.facts import Row, table_of

ROWS = [Row(b"", "directory"), Row(b"a", "directory"), Row(b"a/b", digest=b"d" * 16), Row(b"c")]


def made(place, rows=ROWS):
    """A manifest with its index in the directory `place`."""
    place.mkdir(exist_ok=True)
    table = table_of(rows)
    manifest.write(place / "m", table, layer="l", dialect="trusted")
    index.write(place / "index", table, place / "m")
    return table


class Memory:
    """What a cache of digests was told, and how often it was asked."""

    def __init__(self):
        self.facts = {}
        self.asked = 0

    def find(self, keys):
        self.asked += 1
        return [self.facts.get(key) for key in keys]

    def learn(self, facts):
        self.facts |= {key: digest for key, digest, _ in facts}


def read(place, known=None):
    return index.read(place / "index", place / "m", known or Memory())


def test_what_is_written_is_read(tmp_path):
    table = made(tmp_path)
    assert entries(read(tmp_path)) == entries(table)
    assert index.flaw(tmp_path / "index", tmp_path / "m", table) is None
    assert sorted(os.listdir(tmp_path)) == ["index", "m"]


def test_it_survives_a_copy(tmp_path):
    made(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")  # with times, as `cp -a` does
    assert read(tmp_path / "b") is not None


def test_none(tmp_path):
    assert read(tmp_path) is None
    made(tmp_path)
    (tmp_path / "index").unlink()
    assert read(tmp_path) is None


def test_another_manifest_has_another_index(tmp_path):
    made(tmp_path)
    manifest.write(tmp_path / "m", table_of(ROWS[:3]), layer="l", dialect="trusted")
    assert read(tmp_path) is None
    (tmp_path / "m").unlink()
    assert read(tmp_path) is None


@pytest.mark.parametrize("damage", ["empty", "flipped", "directory"])
def test_a_damaged_one_is_none(tmp_path, damage):
    table = made(tmp_path)
    path = tmp_path / "index"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.unlink()
    if damage == "directory":
        path.mkdir()
    else:
        path.write_bytes(b"" if damage == "empty" else data)
    assert read(tmp_path) is None
    assert index.flaw(path, tmp_path / "m", table) is not None


def test_an_index_that_says_something_else(tmp_path):
    made(tmp_path)
    other = table_of(ROWS[:3])
    index.write(tmp_path / "index", other, tmp_path / "m")
    flaw = index.flaw(tmp_path / "index", tmp_path / "m", table_of(ROWS))
    assert flaw == "it does not say what its manifest says"


def test_a_large_one_is_checked_once(tmp_path, monkeypatch):
    table = made(tmp_path)
    path = tmp_path / "index"
    monkeypatch.setattr(index, "LARGE", 100)
    known = Memory()
    assert read(tmp_path, known) is not None
    (fact,) = known.facts.items()
    status = path.stat()
    assert fact[0][1:] == (
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
    assert fact[1] == index.image.digest(table)
    checks = []
    real = index.image.load
    monkeypatch.setattr(
        index.image, "load", lambda *a, check: checks.append(check) or real(*a, check=check)
    )
    assert read(tmp_path, known) is not None
    # Whoever writes into it moves its times.
    data = path.read_bytes()
    with open(path, "r+b") as file:
        file.seek(-2, os.SEEK_END)
        file.write(bytes([data[-2] ^ 1]))
    os.utime(path, ns=(0, status.st_mtime_ns))
    assert read(tmp_path, known) is None
    assert checks == [False, True]


def test_a_small_one_is_always_checked(tmp_path):
    made(tmp_path)
    known = Memory()
    assert read(tmp_path, known) is not None
    assert not known.asked
    assert not known.facts


@pytest.mark.root
def test_a_full_disk_leaves_nothing_under_the_name(small_disk):
    manifest.write(small_disk / "m", table_of(ROWS), layer="l", dialect="trusted")
    (small_disk / "filler").write_bytes(bytes((1 << 20) - 12288))
    rows = [ROWS[0], *(Row(b"%09d" % i) for i in range(5000))]
    with pytest.raises(StorageError, match="index: No space left on device"):
        index.write(small_disk / "index", table_of(rows), small_disk / "m")
    assert sorted(os.listdir(small_disk)) == ["filler", "m"]

"""The verbs read a large file once, and are never wrong for having remembered it.

What is read is counted in bytes, as the kernel does, not in seconds.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import xxhash

import dsbranch
from dsbranch import errors
from dsbranch.store import manifest
from tests import edits as e
from tests.trees import Dir, File

from .conftest import command, mount_filesystem

pytestmark = pytest.mark.root

SIZE = 8 << 20
DATA = random.Random(1).randbytes(SIZE)
LITTLE = SIZE // 4  # manifests, mount tables, modules and the store itself


@pytest.fixture
def large(adopt):
    return adopt(Dir({"big": File(DATA), "d": Dir({"small": File(b"small")})}))


def settle() -> None:
    """Wait until a write of now can be told from the next one by its time."""
    time.sleep(0.15)


def reads(action: Callable[[], object]) -> tuple[object, int]:
    """What an action gives, and how many bytes it read."""
    before = _read_bytes()
    answer = action()
    return answer, _read_bytes() - before


def _read_bytes() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


def counts(bench) -> tuple[dict[str, int], int]:
    """The status of main as another process sees it, and what it read for it."""
    bench.reopen()
    return reads(lambda: bench.ws.status("main").counts)


def times(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_ctime_ns


def digest_of(place: Path, path: bytes) -> bytes:
    """The digest that a manifest has."""
    table = manifest.read(place, spill=os.fsencode(place.parent))
    entries = map(table.entry, range(len(table)))
    (digest,) = (entry.digest for entry in entries if entry.path == path)
    return digest


def test_a_touched_file_is_read_once(large):
    large.edit(e.open_and_close("big"))
    settle()
    answer, read = counts(large)
    assert answer == {}
    assert read >= 2 * SIZE
    answer, read = counts(large)
    assert answer == {}
    assert read < LITTLE
    with pytest.raises(errors.NothingToCommit):
        reads(lambda: large.ws.commit("main", "nothing"))
    _, read = counts(large)
    assert read < LITTLE


def test_commit_reads_nothing_that_status_has_read(large):
    large.edit(e.write_at("big", SIZE // 2, b"changed"))
    settle()
    answer, read = counts(large)
    assert answer == {"M": 1}
    assert read >= 2 * SIZE
    assert counts(large)[0] == {"M": 1}
    assert counts(large)[1] < LITTLE
    done, read = reads(lambda: large.ws.commit("main", "changed"))
    assert read < LITTLE
    assert done.counts == {"M": 1}
    expected = xxhash.xxh3_128_digest((large.path() / "big").read_bytes())
    assert digest_of(large.manifest(done.commit.layer), b"big") == expected
    diff, read = reads(lambda: large.ws.diff("main~1", "main").counts())
    assert diff == {"M": 1}
    assert read < LITTLE


def test_without_the_cache_it_is_read_again(large):
    large.edit(e.write_at("big", SIZE // 2, b"changed"))
    settle()
    assert counts(large)[0] == {"M": 1}
    large.ws.close()
    cache = large.place / ".dsbranch/digests.db"
    assert cache.exists()
    cache.unlink()
    answer, read = counts(large)
    assert answer == {"M": 1}
    assert read >= 2 * SIZE
    assert counts(large)[1] < LITTLE


def test_layers_without_digests_are_read_once(large):
    large.edit(e.write_at("big", SIZE - 5, b"x"))
    settle()
    large.ws.commit("main", "one", hash=False)
    settle()
    for least in (SIZE, 0):  # commit has read what it covers
        large.reopen()
        diff, read = reads(lambda: large.lines("main~1", "main"))
        assert len(diff) == 1
        assert least <= read < least + LITTLE


def test_the_same_size_and_time_with_other_bytes(large):
    before = (large.data / "big").stat().st_mtime_ns
    large.edit(e.open_and_close("big"))
    settle()
    assert counts(large)[0] == {}
    large.edit(e.write_at("big", SIZE // 2, b"changed"), e.utime("big", before))
    settle()
    answer, read = counts(large)
    assert answer == {"M": 1}
    assert read >= SIZE
    assert counts(large) == ({"M": 1}, pytest.approx(0, abs=LITTLE))
    large.edit(e.write("big", DATA), e.utime("big", before))
    settle()
    assert counts(large)[0] == {}


@pytest.fixture(params=["fine", "whole-seconds"])
def clock(request, swept) -> Path:
    """A directory on a filesystem whose times have fine steps, or steps of a second."""
    # There is no room for more in inodes of this size.
    return swept if request.param == "fine" else disk(swept, "-I", "128")


def disk(root: Path, *options: str) -> Path:
    """A filesystem of our own, which no other process makes write to its disk."""
    image = root / "image"
    with image.open("wb") as file:
        file.truncate(128 << 20)
    command(["mkfs.ext4", "-q", *options, image])
    return mount_filesystem("ext4", root / "disk", "-o", "loop", source=image)


def test_however_fast_it_is_rewritten(clock):
    """300 times other bytes of the same size and time, some so old that they are remembered."""
    size = 1 << 16
    old, new = b"a" * size, b"a" * (size - 1) + b"b"
    (clock / "data").mkdir()
    (clock / "data/f").write_bytes(old)
    stamp = (clock / "data/f").stat().st_mtime_ns
    assert (stamp % 10**9 == 0) == (clock.name == "disk")
    file = clock / "ws/main/f"
    wrong = []
    with contextlib.closing(dsbranch.init(clock / "data", clock / "ws")) as ws:
        for turn in range(300):
            content = new if turn % 3 else old
            with file.open("r+b") as open_file:
                open_file.write(content)
            os.utime(file, ns=(stamp, stamp))
            if turn % 25 == 24:
                settle()
            for again in range(2):
                found = ws.status("main").counts
                if found != ({} if content is old else {"M": 1}):
                    wrong.append((turn, again, found))
    assert wrong == []


def test_a_mapping_that_changes_a_file_without_moving_its_times(swept):
    """The kernel moves the times at the first write to a page, not at those that follow."""
    root = disk(swept)
    (root / "data").mkdir()
    (root / "data/big").write_bytes(DATA)
    big = root / "ws/main/big"
    with contextlib.closing(dsbranch.init(root / "data", root / "ws")) as ws:
        with big.open("r+b") as file, mmap.mmap(file.fileno(), SIZE) as mapped:
            os.fsync(file.fileno())
            for _ in range(20):
                mapped[SIZE - 1] ^= 1
                before = times(big)
                settle()
                assert ws.status("main").counts == {"M": 1}
                mapped[SIZE - 2] ^= 1
                if times(big) == before:
                    break
            else:
                pytest.skip("each time the page was written to the disk in between")
        layer = ws.commit("main", "mapped").commit.layer
        found = digest_of(root / "ws" / ".dsbranch/layers" / layer / "manifest.parquet", b"big")
        assert found == xxhash.xxh3_128_digest(big.read_bytes())


def test_a_filesystem_in_memory_moves_no_times(swept):
    """A page of tmpfs that was read before it is written to through a mapping does not."""
    root = mount_filesystem("tmpfs", swept / "memory")
    (root / "data").mkdir()
    (root / "data/big").write_bytes(DATA)
    ws = dsbranch.init(root / "data", root / "ws")
    try:
        big = root / "ws/main/big"
        e.open_and_close("big")(root / "ws/main")
        for expected in ({"M": 1}, {}, {"M": 1}):
            settle()
            ws.status("main")
            with big.open("r+b") as file, mmap.mmap(file.fileno(), SIZE) as mapped:
                mapped[0] = mapped[0] ^ 1
            assert ws.status("main").counts == expected
    finally:
        ws.close()


def test_a_damaged_cache_changes_no_answer(large):
    large.edit(e.write_at("big", SIZE // 2, b"changed"))
    settle()
    assert counts(large)[0] == {"M": 1}
    large.ws.close()
    cache = large.place / ".dsbranch/digests.db"
    cache.write_bytes(os.urandom(20_000))
    assert counts(large)[0] == {"M": 1}
    assert large.ws.commit("main", "changed").counts == {"M": 1}
    large.ws.close()
    assert not cache.exists() or cache.read_bytes().startswith(b"SQLite format 3")


def test_no_cache_can_be_written(large):
    (large.place / ".dsbranch/digests.db").mkdir()
    large.edit(e.write_at("big", SIZE // 2, b"changed"))
    settle()
    assert counts(large)[0] == {"M": 1}
    assert large.ws.commit("main", "changed").counts == {"M": 1}

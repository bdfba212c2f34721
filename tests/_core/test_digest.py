"""Digests equal ``xxhsum -H2``, whatever the size, the holes and the number of threads."""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import xxhash

from dsbranch._core import digest as digest_module
from dsbranch._core.content import digest_files
from dsbranch._core.digest import digest_bytes
from tests import core, reference, trees
from tests import edits as e
from tests.cases import LONG
from tests.trees import Dir, File, Link, Symlink, Tree

PIECE = 1 << 18
SIZES = [
    0,
    1,
    3,
    16,
    17,
    128,
    129,
    240,
    241,
    4095,
    4096,
    PIECE - 1,
    PIECE,
    PIECE + 1,
    3 * PIECE + 5,
]


@pytest.fixture(params=["native", "fallback"])
def either(request: pytest.FixtureRequest) -> Iterator[str]:
    """Both ways to hash: the package's C functions, and its Python object."""
    native = digest_module._bind(request.param == "native")
    assert native == (request.param == "native"), "the xxhash package exports no C functions"
    try:
        yield request.param
    finally:
        digest_module._bind()


def check(root: Path, *, threads: int = 2) -> int:
    """Digest everything below `root` and compare; the number of digests."""
    table = core.scan(root)
    digest_files(table, threads=threads)
    found = 0
    for entry in core.entries(table):
        if entry.kind == "file" and not entry.flags & reference.METACOPY:
            assert entry.digest == reference.digest(root, entry.path), entry.path
            found += 1
        else:
            assert entry.digest is None, entry.path
    return found


def test_the_published_value_of_nothing(either: str) -> None:
    # xxhsum -H2 /dev/null
    assert digest_bytes(b"").hex() == "99aa06d3014798d86001c324468d497f"


@pytest.mark.parametrize("size", SIZES)
def test_bytes(size: int, either: str) -> None:
    data = random.Random(size).randbytes(size)
    assert digest_bytes(data) == xxhash.xxh3_128_digest(data)


def test_files_of_many_sizes(tmp_path: Path, either: str) -> None:
    rng = random.Random(1)
    trees.make(Dir({f"{n}": File(rng.randbytes(n)) for n in SIZES}), tmp_path / "t")
    assert check(tmp_path / "t") == len(SIZES)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_same_with_any_number_of_threads(threads: int, tmp_path: Path) -> None:
    files: dict[str | bytes, Tree] = {f"{n:03}": File(f"{n}".encode() * n) for n in range(300)}
    trees.make(Dir({"d": Dir(files), **files}), tmp_path / "t")
    assert check(tmp_path / "t", threads=threads) == 600


@pytest.mark.parametrize(
    ("content", "size", "writes"),
    [
        (b"", PIECE * 5, []),
        (b"start", PIECE * 5 + 7, []),
        (b"", PIECE * 5 + 7, [(PIECE * 5 + 6, b"e")]),
        (b"s", PIECE * 9, [(PIECE * 3 - 10, b"across" * 40), (PIECE * 7, b"x" * PIECE)]),
        (b"x" * (PIECE + 1), PIECE * 4, []),
        (b"", 100, []),
    ],
    ids=["all", "after", "before", "between", "after-more-than-a-piece", "small"],
)
def test_holes(
    content: bytes, size: int, writes: list[tuple[int, bytes]], tmp_path: Path, either: str
) -> None:
    trees.make(Dir({"hole": File(content, sparse=size)}), tmp_path / "t")
    for offset, data in writes:
        e.write_at("hole", offset, data)(tmp_path / "t")
    assert check(tmp_path / "t") == 1


def test_a_large_hole_is_not_read(tmp_path: Path) -> None:
    trees.make(Dir({"hole": File(b"start", sparse=1 << 31)}), tmp_path / "t")
    before = _read_by_this_process()
    assert check_one(tmp_path / "t") is not None
    assert _read_by_this_process() - before < 1 << 24


def check_one(root: Path) -> bytes | None:
    table = core.scan(root)
    digest_files(table, threads=1)
    digest: bytes | None = table.entry(1).digest
    return digest


def _read_by_this_process() -> int:
    """Bytes that read(2) returned, as the kernel counts them."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


def test_only_regular_files_with_data_have_one(tmp_path: Path) -> None:
    tree = Dir(
        {"f": File(b"x"), "s": Symlink("f"), "p": trees.Fifo(), "k": trees.Socket(), "d": Dir()}
    )
    trees.make(tree, tmp_path / "t")
    assert check(tmp_path / "t") == 1


@pytest.mark.root
def test_a_metacopy_file_is_never_hashed(tmp_path: Path) -> None:
    trees.make(Dir({"m": File(sparse=100), "f": File(b"f")}), tmp_path / "t")
    e.marker("m", "metacopy", b"")(tmp_path / "t")
    assert check(tmp_path / "t") == 1


def test_all_names_of_an_inode_have_it(tmp_path: Path) -> None:
    tree = Dir({"a": File(b"linked"), "d": Dir({"b": Link("a"), "c": Link("a")})})
    trees.make(tree, tmp_path / "t")
    assert check(tmp_path / "t") == 3


def test_a_path_longer_than_path_max(tmp_path: Path) -> None:
    trees.make(LONG, tmp_path / "t")
    assert check(tmp_path / "t") == 1


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    trees.make(Dir({"d": Dir({"gone": File(b"x")})}), tmp_path / "t")
    table = core.scan(tmp_path / "t")
    (tmp_path / "t/d/gone").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        digest_files(table)
    assert caught.value.filename == "d/gone"
    assert [entry.digest for entry in core.entries(table)] == [None, None, None]


@pytest.mark.parametrize("size", [0, 5, PIECE * 2])
def test_a_file_that_changed_its_size_is_not_given_a_digest(size: int, tmp_path: Path) -> None:
    trees.make(Dir({"f": File(b"as it was")}), tmp_path / "t")
    table = core.scan(tmp_path / "t")
    os.truncate(tmp_path / "t/f", size)
    with pytest.raises(OSError, match="f"):
        digest_files(table)
    assert table.entry(1).digest is None


def test_other_threads_run_meanwhile(tmp_path: Path) -> None:
    data = os.urandom(1 << 20) * 64
    for n in range(4):
        (tmp_path / f"{n}").write_bytes(data)
    table = core.scan(tmp_path)
    ticks: list[int] = []
    done = threading.Event()

    def tick() -> None:
        while not done.wait(0.001):
            ticks.append(0)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        digest_files(table, threads=1)
    finally:
        done.set()
        thread.join()
    assert len(ticks) >= 3


def test_hashing_waits_for_nobody_who_keeps_the_gil(tmp_path: Path) -> None:
    """Each file that took it would wait for a switch: all of them half a minute."""
    sizes = [n + PIECE * (n % 2) for n in range(60)]
    trees.make(Dir({f"{size}": File(bytes(size)) for size in sizes}), tmp_path)
    table = core.scan(tmp_path)
    done = threading.Event()

    def keep() -> None:
        while not done.is_set():
            pass

    keeper, interval = threading.Thread(target=keep), sys.getswitchinterval()
    sys.setswitchinterval(0.5)
    keeper.start()
    try:
        began = time.monotonic()
        digest_files(table, threads=1)
        taken = time.monotonic() - began
    finally:
        sys.setswitchinterval(interval)
        done.set()
        keeper.join()
    assert taken < 0.25 * len(sizes)

"""What is read of two files, and what is asked and told of their digests."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import xxhash

from dsbranch._core import digest as digest_module
from dsbranch._core.base import Base
from dsbranch._core.columnar import to_columns
from dsbranch._core.content import compare_files, digest_files
from dsbranch._core.jobs import FileKey
from dsbranch._core.table import Table
from dsbranch._core.view import View
from tests import core, interposed, trees
from tests.tables import from_columns
from tests.trees import Dir, File

PIECE = 1 << 18
LEAST = 1 << 16
EARLY = 8


class Memory:
    """Knows what it was told, and counts what it was asked."""

    def __init__(self) -> None:
        self.digests: dict[FileKey, bytes] = {}
        self.asked: list[FileKey] = []
        self.began: list[int] = []

    def find(self, keys: list[FileKey]) -> list[bytes | None]:
        self.asked += keys
        return [self.digests.get(key) for key in keys]

    def learn(self, facts: list[tuple[FileKey, bytes, int]]) -> None:
        for key, digest, began in facts:
            self.digests[key] = digest
            self.began.append(began)


@pytest.fixture(params=["native", "fallback"])
def either(request: pytest.FixtureRequest) -> Iterator[None]:
    assert digest_module._bind(request.param == "native") == (request.param == "native")
    try:
        yield
    finally:
        digest_module._bind()


@pytest.fixture
def known() -> Memory:
    return Memory()


def read_bytes() -> int:
    """Bytes that read(2) returned to this process, as the kernel counts them."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


def key_of(path: Path) -> FileKey:
    s = path.stat()
    device = os.major(s.st_dev) << 32 | os.minor(s.st_dev)
    return (device, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns)


def hashed(path: Path) -> bytes:
    return xxhash.xxh3_128_digest(path.read_bytes())


def pair(root: Path, one: bytes, two: bytes) -> tuple[Path, Path, Table]:
    root.mkdir(exist_ok=True)
    trees.make(Dir({"a": File(one), "b": File(two)}), root / "t")
    return root / "t/a", root / "t/b", core.scan(root / "t")


def ask(table: Table, known: Memory | None) -> tuple[bool, int]:
    """Whether the table's two files are the same, and how much was read to say so."""
    before = read_bytes()
    (same,) = compare_files([(table, 1, table, 2)], known=known, threads=1)
    return same, read_bytes() - before


@pytest.mark.parametrize("size", [LEAST, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 5 * PIECE + 7])
def test_two_files_that_are_the_same_are_read_once(size, tmp_path, known, either):
    data = random.Random(size).randbytes(size)
    one, two, table = pair(tmp_path, data, data)
    started = time.time_ns()
    same, read = ask(table, known)
    assert same
    assert 2 * size <= read < 2 * size + 4096
    assert known.digests == {key_of(path): hashed(path) for path in (one, two)}
    assert all(started <= began <= time.time_ns() for began in known.began)
    one.unlink()
    two.unlink()
    assert compare_files([(table, 1, table, 2)], known=known) == [True]


@pytest.mark.parametrize("size", [1, LEAST - 1])
def test_small_files_are_nobodys_business(size, tmp_path, known):
    one, _, table = pair(tmp_path, b"x" * size, b"x" * size)
    assert ask(table, known)[0]
    digest_files(table, known=known)
    assert (known.asked, known.digests) == ([], {})
    assert table.entry(1).digest == hashed(one)


SIZE = 16 * PIECE + 9


@pytest.mark.parametrize("where", [0, PIECE, 2 * PIECE - 1])
def test_an_early_difference_ends_the_reading(where, tmp_path, known, either):
    data = random.Random(1).randbytes(SIZE)
    other = data[:where] + bytes([data[where] ^ 1]) + data[where + 1 :]
    _, _, table = pair(tmp_path, data, other)
    same, read = ask(table, known)
    assert not same
    assert read <= 2 * (where + PIECE) + 4096
    assert known.digests == {}


@pytest.mark.parametrize("where", [3 * PIECE, 9 * PIECE + 4, SIZE - 1])
def test_a_late_difference_is_remembered(where, tmp_path, known, either):
    data = random.Random(1).randbytes(SIZE)
    other = data[:where] + bytes([data[where] ^ 1]) + data[where + 1 :]
    one, two, table = pair(tmp_path, data, other)
    same, read = ask(table, known)
    assert not same
    assert read <= 2 * (SIZE + PIECE) + 4096
    assert known.digests == {key_of(path): hashed(path) for path in (one, two)}
    same, read = ask(table, known)
    assert not same
    assert read < 4096
    assert ask(table, None)[1] <= 2 * (where + PIECE) + 4096


@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("which", [0, 1])
def test_where_one_digest_is_known_the_other_file_is_read(which, equal, tmp_path, known):
    data = random.Random(1).randbytes(SIZE)
    paths = pair(tmp_path, data, data if equal else data[:-1] + b"!")
    table = paths[2]
    known.digests[key_of(paths[which])] = hashed(paths[which])
    paths[which].unlink()
    same, read = ask(table, known)
    assert same == equal
    assert SIZE <= read < SIZE + 4096
    assert known.digests[key_of(paths[1 - which])] == hashed(paths[1 - which])


def test_holes_that_both_have_are_not_read(tmp_path, known, either):
    size = 1 << 28
    tree = Dir({"a": File(b"start", sparse=size), "b": File(b"start", sparse=size)})
    trees.make(tree, tmp_path / "t")
    for name in "ab":
        with (tmp_path / "t" / name).open("r+b") as file:
            file.seek(size // 2 + 5)
            file.write(b"middle")
    table = core.scan(tmp_path / "t")
    same, read = ask(table, known)
    assert same
    assert read < 8 * PIECE
    assert set(known.digests.values()) == {hashed(tmp_path / "t/a")}
    with (tmp_path / "t/b").open("r+b") as file:
        file.seek(size - 1)
        file.write(b"!")
    assert ask(core.scan(tmp_path / "t"), None)[0] is False


def test_a_hole_and_written_zeros_are_the_same(tmp_path, known):
    size = 4 * PIECE
    trees.make(Dir({"a": File(b"", sparse=size), "b": File(bytes(size))}), tmp_path / "t")
    assert ask(core.scan(tmp_path / "t"), known)[0]
    assert len(known.digests) == 2


def test_digests_of_a_table_are_asked_for_and_told(tmp_path, known):
    data = os.urandom(SIZE)
    one, two, table = pair(tmp_path, data, data[:-1])
    digest_files(table, known=known)
    assert known.digests == {key_of(path): hashed(path) for path in (one, two)}
    again = core.scan(tmp_path / "t")
    before = read_bytes()
    digest_files(again, known=known)
    assert read_bytes() - before < 4096
    assert [again.entry(i).digest for i in (1, 2)] == [known.digests[key_of(p)] for p in (one, two)]


def test_a_manifests_rows_are_told_apart_by_stat(tmp_path, known):
    data = os.urandom(SIZE)
    one, two, scanned = pair(tmp_path, data, data)
    table = from_columns(to_columns(scanned))
    table.open(os.fsencode(tmp_path / "t"))
    assert ask(table, known)[0]
    assert set(known.digests) == {key_of(one), key_of(two)}
    same, read = ask(table, known)
    assert same
    assert read < 4096


def test_a_row_that_changed_since_the_scan_is_told_as_what_was_read(tmp_path, known):
    one, _, table = pair(tmp_path, b"1" * SIZE, b"1" * SIZE)
    stale = key_of(one)
    one.write_bytes(b"2" * SIZE)
    assert not ask(table, known)[0]
    digest_files(table, known=known)
    assert stale not in known.digests
    assert known.digests[key_of(one)] == hashed(one)


def test_a_file_that_somebody_may_write_to_is_not_told_of(tmp_path, known):
    data = os.urandom(SIZE)
    one, two, table = pair(tmp_path, data, data)
    with one.open("ab"):
        assert ask(table, known)[0]
        digest_files(core.scan(tmp_path / "t"), known=known)
    assert set(known.digests) == {key_of(two)}


HASHING = """
import os, sys, threading
from tests.core import scan
from tests._core.test_content import Memory
from dsbranch._core.content import digest_files
from pathlib import Path
place = Path(sys.argv[1])
opened = 0
def write():
    global opened
    while not done.is_set():
        os.close(os.open(place / "f", os.O_WRONLY))
        opened += 1
done = threading.Event()
threads = [threading.Thread(target=write) for _ in range(2)]
for thread in threads:
    thread.start()
known = Memory()
for _ in range(600):
    digest_files(scan(place, threads=1), known=known, threads=1)
    known.digests.clear()
done.set()
for thread in threads:
    thread.join()
print(opened, len(known.began))
"""


def test_looking_for_writers_disturbs_neither_them_nor_us(tmp_path):
    """One that opens the file at that moment waits, and the kernel signals us."""
    (tmp_path / "f").write_bytes(b"x" * LEAST)
    done = subprocess.run(
        [sys.executable, "-c", HASHING, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert all(int(number) > 0 for number in done.stdout.split()), done.stdout


def test_the_base_is_read_only_by_contract(tmp_path, known):
    data = os.urandom(SIZE)
    one, two, _ = pair(tmp_path, data, data)
    base = View([], Base(os.fsencode(tmp_path / "t")))
    with one.open("ab"):
        places = [place for name in (b"a", b"b") if (place := base.find(name)) is not None]
        assert compare_files([(*places[0], *places[1])], known=known) == [True]
    assert set(known.digests) == {key_of(one), key_of(two)}


def test_a_file_that_changes_meanwhile_is_not_told_of(tmp_path, known):
    file = tmp_path / "f"
    file.write_bytes(b"start")
    os.truncate(file, 1 << 35)
    table = core.scan(tmp_path)
    touched: list[int] = []

    def touch(*_: object) -> None:
        if table.entry(1).digest is None:
            os.utime(file)
            touched.append(time.time_ns())

    digest_files(table, known=known, threads=1, progress=touch)
    assert touched
    assert table.entry(1).digest is not None
    assert known.digests == {}


def test_ctrl_c_ends_it_and_keeps_what_was_learnt(tmp_path, known):
    trees.make(Dir({"a": File(b"x" * SIZE), "z": File(b"x", sparse=1 << 42)}), tmp_path / "t")
    table = core.scan(tmp_path / "t")
    pressed: list[float] = []

    def press() -> None:
        pressed.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.5, press)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        digest_files(table, known=known, threads=1)
    assert time.monotonic() - pressed[0] < 0.5  # 0.1 on a machine that has nothing else to do
    assert known.digests == {key_of(tmp_path / "t/a"): hashed(tmp_path / "t/a")}


def test_an_answer_that_is_no_digest_is_refused(tmp_path, known):
    one, _, table = pair(tmp_path, b"x" * SIZE, b"x" * SIZE)
    known.digests[key_of(one)] = b"short"
    with pytest.raises(ValueError, match="5 bytes"):
        ask(table, known)


LONG = 1 << 22


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("size", [LONG + PIECE - 1, LONG + PIECE, 2 * LONG + 5])
def test_a_long_file_that_several_threads_read(threads, size, tmp_path, either):
    data = random.Random(1).randbytes(PIECE + 3) * (size // PIECE)
    one, _, table = pair(tmp_path, data[:size], b"small")
    digest_files(table, threads=threads)
    assert [table.entry(i).digest for i in (1, 2)] == [
        hashed(one),
        xxhash.xxh3_128_digest(b"small"),
    ]


@pytest.mark.parametrize("threads", [1, 2, 7])
@pytest.mark.parametrize("where", [None, 0, 2 * LONG // EARLY + PIECE, LONG, 2 * LONG - 1])
def test_two_long_files_that_several_threads_compare(threads, where, tmp_path, known):
    data = bytearray(random.Random(1).randbytes(LONG) * 2)
    same = bytes(data)
    if where is not None:
        data[where] ^= 1
    one, two, table = pair(tmp_path, same, bytes(data))
    question = (table, 1, table, 2)
    assert compare_files([question], threads=threads) == [where is None]
    assert compare_files([question], threads=threads, known=known) == [where is None]
    both = {key_of(path): hashed(path) for path in (one, two)}
    assert known.digests == ({} if where == 0 else both)


def test_a_long_file_that_shrinks_or_grows_has_no_digest(tmp_path):
    for size in (2 * LONG - 1, 2 * LONG - PIECE, 2 * LONG + 1):
        one, _, table = pair(tmp_path / str(size), os.urandom(2 * LONG), b"")
        os.truncate(one, size)
        with pytest.raises(BlockingIOError) as caught:
            digest_files(table, threads=2)
        assert (caught.value.filename, table.entry(1).digest) == ("a", None)


FAULTY = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <unistd.h>
ssize_t pread64(int fd, void *buffer, size_t size, off64_t at) {
    static ssize_t (*real)(int, void *, size_t, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "pread64");
    if (at >= 6 << 20) { errno = EIO; return -1; }
    return real(fd, buffer, size, at);
}
"""
READING = """
import os, sys
from dsbranch._core.content import compare_files, digest_files
from dsbranch._core.scan import scan
table = scan(os.fsencode(sys.argv[1]))
for threads in (1, 2, 7):
    for job in (lambda: digest_files(table, threads=threads),
                lambda: compare_files([(table, 1, table, 2)], threads=threads)):
        try:
            job()
        except OSError as error:
            print(error.errno, error.filename, table.entry(1).digest)
"""


def test_a_long_file_that_cannot_be_read_to_the_end(tmp_path):
    data = os.urandom(LONG) * 2
    pair(tmp_path, data, data)
    said = interposed.python(FAULTY, tmp_path, READING, tmp_path / "t").splitlines()
    assert len(said) == 6
    assert {line.split()[0] for line in said} == {str(errno.EIO)}
    assert all(line.endswith(("a None", "b None")) for line in said)


STALLED = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>
ssize_t pread64(int fd, void *buffer, size_t size, off64_t at) {
    static ssize_t (*real)(int, void *, size_t, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "pread64");
    usleep(%d);
    return real(fd, buffer, size, at);
}
"""
PRESSED = """
import os, signal, sys, threading, time
from dsbranch._core.content import digest_files
from dsbranch._core.scan import scan
table = scan(os.fsencode(sys.argv[1]))
pressed = []
def press():
    pressed.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)
threading.Timer(0.5, press).start()
try:
    digest_files(table, threads=4)
except KeyboardInterrupt:
    print(time.monotonic() - pressed[0])
"""


def test_ctrl_c_ends_the_waiting_for_turns(tmp_path):
    pair(tmp_path, os.urandom(LONG) * 2, b"")
    said = interposed.python(STALLED % 50000, tmp_path, PRESSED, tmp_path / "t")
    assert 0 < float(said) < 1


ADVISED = """
#include <fcntl.h>
int advised;
int posix_fadvise64(int fd, off64_t at, off64_t size, int advice) {
    __atomic_fetch_add(&advised, advice == POSIX_FADV_WILLNEED, __ATOMIC_RELAXED);
    return 0;
}
"""
WAITED = """
import ctypes, os, sys
import xxhash
from dsbranch._core.content import compare_files, digest_files
from dsbranch._core.scan import scan
root, threads = os.fsencode(sys.argv[1]), int(sys.argv[2]) or None
table = scan(root)
files = [i for i in range(len(table)) if table.entry(i).kind == "file"]
advised = ctypes.c_int.in_dll(ctypes.CDLL(None), "advised")
digest_files(table, threads=threads)
for i in files:
    with open(root + b"/" + table.entry(i).path, "rb") as file:
        assert table.entry(i).digest == xxhash.xxh3_128_digest(file.read()), i
print(advised.value)
advised.value = 0
other = scan(root)
same = compare_files([(other, i, other, j) for i, j in zip(files, files[1:])], threads=threads)
assert same == [table.entry(i).digest == table.entry(j).digest for i, j in zip(files, files[1:])]
print(advised.value)
"""


@pytest.mark.parametrize("threads", [None, 2])
def test_a_disk_that_is_waited_for_is_told_of_files_ahead(threads, tmp_path):
    """And what is read is the same, whoever reads it and in whatever order."""
    texts = [b"%d" % (i // 2 % 40) for i in range(1001)]
    trees.make(Dir({f"f{i:04}": File(text) for i, text in enumerate(texts)}), tmp_path / "t")
    said = interposed.python(
        STALLED % 4000 + ADVISED, tmp_path, WAITED, tmp_path / "t", threads or 0
    )
    hashed, compared = map(int, said.split())
    if threads is None:
        # Those that are told of while there are as many to come; how many, the processors decide.
        assert 0 < hashed <= len(texts)
        assert 0 < compared <= 2 * len(texts)
    else:
        assert hashed == compared == 0


def test_ctrl_c_ends_a_job_of_many_small_files(tmp_path):
    trees.make(Dir({f"{i}": File(b"x") for i in range(400)}), tmp_path / "t")
    said = interposed.python(STALLED % 50000, tmp_path, PRESSED, tmp_path / "t")
    assert 0 < float(said) < 1


# How many files were read between the advice about one and its reading; and how many files are
# open in the end, above what was in the beginning.
GAPS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
static int advised_at[1 << 20];
int reads, most;
static int number_of(int fd) {
    struct stat s;
    return fstat(fd, &s) ? 0 : s.st_ino & ((1 << 20) - 1);
}
ssize_t pread64(int fd, void *buffer, size_t size, off64_t at) {
    static ssize_t (*real)(int, void *, size_t, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "pread64");
    usleep(4000);
    int now = __atomic_add_fetch(&reads, 1, __ATOMIC_RELAXED), then = advised_at[number_of(fd)];
    if (then && now - then > most) most = now - then;
    return real(fd, buffer, size, at);
}
int posix_fadvise64(int fd, off64_t at, off64_t size, int advice) {
    advised_at[number_of(fd)] = __atomic_load_n(&reads, __ATOMIC_RELAXED) + 1;
    return 0;
}
"""
GAPPED = """
import ctypes, os, sys
from dsbranch._core.content import digest_files
from dsbranch._core.scan import scan
table = scan(os.fsencode(sys.argv[1]))
before = len(os.listdir("/proc/self/fd"))
digest_files(table)
print(ctypes.c_int.in_dll(ctypes.CDLL(None), "most").value)
print(len(os.listdir("/proc/self/fd")) - before)
"""


def test_files_are_told_of_long_before_they_are_read_and_closed(tmp_path):
    trees.make(Dir({f"{i:04}": File(b"x") for i in range(1001)}), tmp_path / "t")
    most, left = map(int, interposed.python(GAPS, tmp_path, GAPPED, tmp_path / "t").split())
    assert most > 128
    assert left == 0


@pytest.mark.root
@pytest.mark.parametrize("size", [1, PIECE, LONG, 2 * LONG])
def test_a_device_without_an_end_in_place_of_a_file(tmp_path, known, size):
    one, _, table = pair(tmp_path, bytes(size), bytes(size))
    one.unlink()
    os.mknod(one, 0o20666, os.makedev(1, 5))  # /dev/zero
    with pytest.raises(BlockingIOError):
        digest_files(table, threads=2)
    for known_or_not in (known, None):
        assert compare_files([(table, 1, table, 2)], known=known_or_not) == [False]


def test_no_file_of_a_directory_is_read_through_a_symlink(tmp_path):
    """Also not those after the first, which are opened through their directory."""
    trees.make(Dir({"d": Dir({f"{n}": File(b"x") for n in range(6)})}), tmp_path)
    table = core.scan(tmp_path)
    for n in (0, 3, 5):
        (tmp_path / f"d/{n}").unlink()
        (tmp_path / f"d/{n}").symlink_to("1")
    problems = []
    digest_files(table, problems=problems, threads=1)
    assert problems == [(b"d/%d" % n, errno.ELOOP) for n in (0, 3, 5)]
    assert sum(entry.digest is not None for entry in core.entries(table)) == 3


@pytest.mark.parametrize("threads", [1, 3])
def test_every_one_of_many_files_is_read(threads, tmp_path):
    """So many that threads take several at once; two are missing in the middle of these."""
    inside = {f"{n:04}": File(b"%d" % n) for n in range(1100)}
    trees.make(Dir({"a": Dir(inside), "b": Dir(inside)}), tmp_path)
    table = core.scan(tmp_path)
    missing = [b"a/0007", b"b/0520"]
    for path in missing:
        (tmp_path / os.fsdecode(path)).unlink()
    problems = []
    digest_files(table, problems=problems, threads=threads)
    assert sorted(problems) == [(path, errno.ENOENT) for path in missing]
    for entry in core.entries(table):
        if entry.kind == "file" and entry.path not in missing:
            assert entry.digest == xxhash.xxh3_128_digest(b"%d" % int(entry.path[2:]))


@pytest.mark.parametrize("row", [-1, 3, 1 << 40])
def test_only_rows_are_compared(row: int, tmp_path: Path) -> None:
    trees.make(Dir({"a": File(b"a"), "b": File(b"b")}), tmp_path / "t")
    table = core.scan(tmp_path / "t")
    for question in ((table, row, table, 1), (table, 1, table, row)):
        with pytest.raises(IndexError):
            compare_files([question])

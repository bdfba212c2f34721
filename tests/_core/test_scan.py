"""The walk against the reference: every layer of every case, and trees no case has."""

from __future__ import annotations

import errno
import gc
import os
import random
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dsbranch._core.scan import scan, scan_in_parts
from dsbranch._core.table import Table
from tests import core, interposed, reference, trees
from tests import edits as e
from tests.cases import CASES, LONG, Case
from tests.overlays import Overlay
from tests.steps import START, perform, random_layers
from tests.trees import Dir, File, Link, Symlink


def check(path: Path, *, dialect: str = "trusted", threads: int = 2) -> None:
    found = core.entries(core.scan(path, dialect=dialect, threads=threads))
    expected = core.in_order(reference.scan(path, dialect))
    assert core.comparable(found) == core.comparable(expected)


@pytest.mark.root
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_each_layer_of(case: Case, tmp_path: Path) -> None:
    with case.build(tmp_path) as overlay:
        overlay.unmount()
        for path in (*overlay.layers, overlay.base):
            check(path)


@pytest.mark.root
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("dialect", ["trusted", "user"])
def test_layers_of_random_edits(seed: int, dialect: str, overlay: Callable[..., Overlay]) -> None:
    stack = overlay(START, dialect=dialect)
    for layer in random_layers(seed, 3, 10):
        for step in layer:
            perform(stack.mountpoint, step)
        stack.freeze()
    for path in stack.layers:
        check(path, dialect=dialect)


@pytest.mark.root
def test_a_dialect_is_blind_to_the_other(tmp_path: Path) -> None:
    trees.make(Dir({"d": Dir({"f": File()})}), tmp_path / "layer")
    for edit in (
        e.opaque("d", dialect="trusted"),
        e.marker("d", "redirect", b"elsewhere", dialect="user"),
        e.marker("d/f", "metacopy", b"", dialect="user"),
    ):
        edit(tmp_path / "layer")
    for dialect, flags in (("trusted", [0, 2, 0]), ("user", [0, 4, 8])):
        check(tmp_path / "layer", dialect=dialect)
        table = core.scan(tmp_path / "layer", dialect=dialect)
        assert [entry.flags for entry in core.entries(table)] == flags
        # The other's markers are ordinary xattrs to this one, and the mount shows them.
        shown = [entry.xattrs is not None for entry in core.entries(table)]
        assert shown == [False, True, dialect == "trusted"]


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_the_same_with_any_number_of_threads(threads: int, tmp_path: Path) -> None:
    rng = random.Random(7)
    names = [f"{rng.choice('ab-.0')}{n}" for n in range(40)]
    tree = Dir({n: Dir({m: File(m.encode()) for m in names[:9]}) for n in names})
    trees.make(tree, tmp_path / "t")
    check(tmp_path / "t", threads=threads)


def test_the_order_has_slash_lowest(tmp_path: Path) -> None:
    tree = Dir(
        {"a": Dir({"b": File(), "\x01": File()}), "a\x01": File(), "a-b": File(), "a.b": Dir()}
    )
    trees.make(tree, tmp_path / "t")
    paths = [entry.path for entry in core.entries(core.scan(tmp_path / "t"))]
    assert paths == [b"", b"a", b"a/\x01", b"a/b", b"a\x01", b"a-b", b"a.b"]


def test_links_within_the_tree_are_a_group_and_links_out_of_it_are_not(tmp_path: Path) -> None:
    tree = Dir({"a": File(b"1"), "d": Dir({"b": Link("a")}), "c": File(b"2"), "s": Symlink("a")})
    trees.make(tree, tmp_path / "t")
    os.link(tmp_path / "t" / "c", tmp_path / "outside")
    os.link(tmp_path / "t" / "s", tmp_path / "t" / "s2", follow_symlinks=False)
    check(tmp_path / "t")
    groups = {entry.path: entry.nlink_group for entry in core.entries(core.scan(tmp_path / "t"))}
    assert groups[b"a"] == groups[b"d/b"] != 0
    assert groups[b"s"] == groups[b"s2"] != groups[b"a"]
    assert groups[b"c"] == 0


@pytest.mark.parametrize("threads", [1, 3])
def test_in_parts_it_is_the_same(threads: int, tmp_path: Path) -> None:
    names = [f"{n:04}" for n in range(3000)]
    tree = Dir({name: Dir({n: File() for n in names}) for name in ("a", "b", "c", "d")})
    trees.make(tree, tmp_path / "t")
    parts: list[list[tuple[object, ...]]] = []

    def take(table: Table) -> None:
        parts.append([tuple(table.entry(row)) for row in range(len(table))])

    scan_in_parts(os.fsencode(tmp_path / "t"), take, threads=threads)
    whole = scan(os.fsencode(tmp_path / "t"), xattrs=False)
    assert [row for part in parts for row in part] == [tuple(e) for e in core.entries(whole)]
    assert len(parts) > 1
    assert max(map(len, parts)) < 8192 + 4096


@pytest.mark.parametrize("files", [0, 10_000])
def test_whoever_takes_the_parts_may_fail(files: int, tmp_path: Path) -> None:
    trees.make(Dir({f"{n:05}": File() for n in range(files)}), tmp_path / "t")

    def take(table: Table) -> None:
        raise ValueError(f"of {len(table)}")

    with pytest.raises(ValueError, match="of "):
        scan_in_parts(os.fsencode(tmp_path / "t"), take)


def test_a_path_longer_than_path_max(tmp_path: Path) -> None:
    trees.make(LONG, tmp_path / "t")
    check(tmp_path / "t")
    assert max(len(entry.path) for entry in core.entries(core.scan(tmp_path / "t"))) > 4096


def test_more_names_than_one_directory_read_returns(tmp_path: Path) -> None:
    trees.make(Dir({f"{n:04}" + "x" * 100: File() for n in range(3000)}), tmp_path / "t")
    check(tmp_path / "t")


def test_a_chain_of_directories_deeper_than_the_stack_and_the_descriptors(tmp_path: Path) -> None:
    depth = 3000
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        os.mkdir("t", dir_fd=fd)
        for name in ["t", *["d"] * depth]:
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = inner
            os.mkdir("d", dir_fd=fd)
    finally:
        os.close(fd)
    try:
        table = core.scan(tmp_path / "t")
        assert len(table) == depth + 2
        assert len(table.path(depth + 1)) == 2 * depth + 1
    finally:
        # shutil.rmtree recurses once per level.
        subprocess.run(["rm", "-r", tmp_path / "t"], check=True)


def test_a_symlink_is_read_and_never_followed(tmp_path: Path) -> None:
    long_target = "x/" * 2000
    tree = Dir({"gone": Symlink("nowhere"), "out": Symlink("/"), "long": Symlink(long_target)})
    trees.make(tree, tmp_path / "t")
    check(tmp_path / "t")
    found = {entry.path: entry for entry in core.entries(core.scan(tmp_path / "t"))}
    assert len(found) == 4
    assert found[b"long"].target == long_target.encode()
    assert found[b"long"].size == len(long_target)


def test_large_and_many_xattrs(tmp_path: Path) -> None:
    # As much as one ext4 block holds beside the inode.
    many = {f"user.{'n' * 30}{n:02}": bytes([n]) * 20 for n in range(30)}
    tree = Dir({"many": File(xattrs=many), "large": Dir(xattrs={"user.v": b"v" * 3000})})
    trees.make(tree, tmp_path / "t")
    check(tmp_path / "t")


def test_lists_of_xattrs_longer_than_the_last_ones(tmp_path: Path) -> None:
    def some(count: int) -> File:
        return File(xattrs={f"user.{'n' * 30}{n:02}": bytes([n]) * 20 for n in range(count)})

    # After 13 there is room for 22, after 23 for 37.
    counts = (0, 13, 22, 23, 1, 40, 0, 40, 0, 0, 2)
    trees.make(Dir({f"{n:02}": some(count) for n, count in enumerate(counts)}), tmp_path / "t")
    check(tmp_path / "t", threads=1)


def test_xattrs_tell_name_from_value(tmp_path: Path) -> None:
    tree = Dir({"a": File(xattrs={"user.a": b"bc"}), "b": File(xattrs={"user.ab": b"c"})})
    trees.make(tree, tmp_path / "t")
    check(tmp_path / "t")
    _, a, b = core.entries(core.scan(tmp_path / "t"))
    assert a.xattrs is not None
    assert b.xattrs is not None
    assert a.xattrs != b.xattrs


def test_extreme_values(tmp_path: Path) -> None:
    tree = Dir(
        {
            "hole": File(sparse=1 << 40),
            "early": File(mtime_ns=-2_000_000_001),
            "late": File(mtime_ns=(1 << 32) * 10**9 + 1),
            "bits": Dir(mode=0o7777),
        }
    )
    trees.make(tree, tmp_path / "t")
    check(tmp_path / "t")


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_root_that_is_no_directory(kind: str, tmp_path: Path) -> None:
    if kind == "file":
        (tmp_path / "root").write_bytes(b"")
    with pytest.raises(OSError) as caught:
        core.scan(tmp_path / "root")
    assert caught.value.errno == {"missing": errno.ENOENT, "file": errno.ENOTDIR}[kind]
    assert "root" in str(caught.value)


@pytest.mark.root
def test_a_failure_names_its_path_and_closes_everything(tmp_path: Path) -> None:
    trees.make(Dir({"a": Dir({"locked": Dir()}), "b": File()}), tmp_path / "t")
    (tmp_path / "t/a/locked").chmod(0)
    script = (
        "import os, sys; os.chdir(sys.argv[1]); os.setresuid(65534, 65534, 65534)\n"
        "before = len(os.listdir('/proc/self/fd'))\n"
        "try: scan(b'.')\n"
        "except OSError as error: print(error.errno, error.filename)\n"
        "print(len(os.listdir('/proc/self/fd')) - before)\n"
    )
    found = run_as_nobody(script, tmp_path / "t")
    assert found == [f"{errno.EACCES} a/locked", "0"]


def run_as_nobody(script: str, path: Path) -> list[str]:
    """Run `script` in a forked child, which may drop its privileges. Its printed lines."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(write, 1)
        code = 1
        try:
            import sys

            from dsbranch._core.scan import scan

            sys.stdout = os.fdopen(1, "w")
            sys.argv = ["", str(path)]
            exec(script, {"scan": scan})
            sys.stdout.flush()
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read) as pipe:
        lines = pipe.read().splitlines()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, lines
    return lines


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    trees.make(Dir({f"{n}": Dir({"f": File()}) for n in range(50)}), tmp_path / "t")
    # What earlier tests left to the collector is to go now, not in between.
    gc.collect()
    before = os.listdir("/proc/self/fd")
    table = core.scan(tmp_path / "t")
    assert len(table) == 101
    del table
    assert os.listdir("/proc/self/fd") == before


def test_a_live_tree_may_lose_names_while_it_is_walked(tmp_path: Path) -> None:
    from dsbranch._core.scan import scan

    root = tmp_path / "t"
    trees.make(Dir({f"{n}": Dir({"f": File(b"x")}) for n in range(200)}), root)
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            for n in range(0, 200, 3):
                os.rename(root / f"{n}", root / f"{n}.gone")
                os.rename(root / f"{n}.gone", root / f"{n}")

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(30):
            table = scan(os.fsencode(root), live=True)
            paths = {entry.path for entry in core.entries(table)}
            assert {f"{n}/f".encode() for n in range(1, 200, 3)} <= paths
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("seconds", [13_569_465_600, 1 << 33, -(1 << 31)])
def test_times_beyond_what_64_bits_of_nanoseconds_hold_are_the_last_ones(
    seconds: int, tmp_path: Path
) -> None:
    trees.make(Dir({"d": Dir()}), tmp_path / "t")
    os.utime(tmp_path / "t/d", ns=(0, seconds * 10**9))
    kept = (tmp_path / "t/d").stat().st_mtime_ns  # some filesystems end before
    found = {entry.path: entry.mtime_ns for entry in core.entries(core.scan(tmp_path / "t"))}
    assert found[b"d"] == max(-(1 << 63), min(kept, (1 << 63) - 1))


TWICE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>
#include <sys/syscall.h>
/* Each directory's last name is listed a second time, as XFS does with one made anew meanwhile. */
long syscall(long number, long a, long b, long c, long d, long e, long f) {
    static long (*real)(long, long, long, long, long, long, long);
    if (!real) real = dlsym(RTLD_NEXT, "syscall");
    long got = real(number, a, b, c, d, e, f);
    if (number != SYS_getdents64 || got <= 0) return got;
    char *bytes = (char *)b;
    long at = 0, last = 0;
    unsigned short size = 0;
    while (at < got) {
        last = at;
        memcpy(&size, bytes + at + 16, 2);
        at += size;
    }
    if (got + size > c) return got;
    memcpy(bytes + got, bytes + last, size);
    return got + size;
}
"""
WALK = """
import os, sys
from dsbranch._core.scan import scan
table = scan(os.fsencode(sys.argv[1]), live=sys.argv[2] == "live")
print([os.fsdecode(table.path(row)) for row in range(len(table))])
"""


def test_a_name_that_a_live_directory_lists_twice_is_one(tmp_path: Path) -> None:
    trees.make(Dir({"d": Dir({"e": Dir({"f": File(b"x")})})}), tmp_path / "t")
    said = interposed.python(TWICE, tmp_path, WALK, tmp_path / "t", "live")
    assert said.splitlines() == ["['', 'd', 'd/e', 'd/e/f']"]


PART = 1 << 14
WINDOW = 1 << 16


def fill(directory: Path, count: int) -> None:
    """Many names, and only one inode: small test filesystems have few."""
    directory.mkdir(exist_ok=True)
    (directory / "000000").write_bytes(b"")
    for number in range(1, count):
        os.link(directory / "000000", directory / f"{number:06}")


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_a_directory_that_several_threads_share(threads: int, tmp_path: Path) -> None:
    fill(tmp_path / "t", 2 * PART + 5)
    for number in (1, 7, PART - 1, PART, PART + 1, 2 * PART + 3):
        inner = tmp_path / "t" / f"{number:06}"
        inner.unlink()
        fill(inner, 3)
    table = core.scan(tmp_path / "t", threads=threads)
    found = [table.path(row) for row in range(len(table))]
    assert found == [entry.path for entry in core.in_order(reference.scan(tmp_path / "t"))]


def test_the_end_of_a_part_is_the_end_of_the_directory(tmp_path: Path) -> None:
    fill(tmp_path / "t", PART)
    fill(tmp_path / "t" / "z", 2)
    (tmp_path / "t" / "000000").unlink()
    assert len(core.scan(tmp_path / "t")) == PART + 3  # with the root, z and the two in it


def test_threads_go_where_they_read_and_the_process_stays(tmp_path: Path) -> None:
    trees.make(Dir({f"{n}": Dir({"f": File()}) for n in range(50)}), tmp_path / "t")
    before = os.getcwd()
    core.scan(tmp_path / "t")
    assert os.getcwd() == before


MOVED = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
static int place;
__attribute__((constructor)) static void begin(void) { place = open(".", O_PATH); }
int statx(int dir, const char *name, int flags, unsigned mask, struct statx *out) {
    static int (*real)(int, const char *, int, unsigned, struct statx *);
    if (!real) real = dlsym(RTLD_NEXT, "statx");
    if (!strcmp(name, "now")) renameat(place, "t/d", place, "elsewhere");
    return real(dir, name, flags, mask, out);
}
"""
MOVING = """
import os, sys
from dsbranch._core.scan import scan
live = sys.argv[1] == "True"
try:
    table = scan(b"t", threads=1, live=live)
    print([table.path(row) for row in range(len(table))])
except OSError as error:
    print(error)
"""


@pytest.mark.parametrize("live", [False, True])
def test_what_moved_away_is_not_where_it_was(
    live: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So no directory stays open from one that is in it to the next."""
    monkeypatch.chdir(tmp_path)
    inner = Dir({"1": Dir(), "2": Dir({"now": File()}), "3": Dir({"f": File()})})
    trees.make(Dir({"d": inner}), tmp_path / "t")
    said = interposed.python(MOVED, tmp_path, MOVING, live)
    if live:
        assert said == "[b'', b'd', b'd/1', b'd/2', b'd/2/now', b'd/3']\n"
    else:
        assert "cannot open directory" in said
        assert "d/3" in said


NO_UNSHARE = """
#include <errno.h>
int unshare(int flags) { errno = EPERM; return -1; }
"""
XATTRS = """
import os, sys
from dsbranch._core.scan import scan
table = scan(os.fsencode(sys.argv[1]))
print([table.entry(row).xattrs for row in range(len(table))])
"""


def test_xattrs_are_the_same_where_threads_may_not_go_anywhere(tmp_path: Path) -> None:
    inner = Dir({"f": File(xattrs={"user.a": b"b"}), "s": Symlink("f"), "g": File()})
    trees.make(Dir({"d": inner}), tmp_path / "t")
    table = core.scan(tmp_path / "t")
    expected = [entry.xattrs for entry in core.entries(table)]
    assert any(expected)
    assert interposed.python(NO_UNSHARE, tmp_path, XATTRS, tmp_path / "t") == f"{expected}\n"


CHANGING = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/types.h>
/* Twice a list is of another size by the time it is read. */
ssize_t llistxattr(const char *path, char *list, size_t size) {
    static ssize_t (*real)(const char *, char *, size_t);
    static int times = 2;
    if (!real) real = dlsym(RTLD_NEXT, "llistxattr");
    return size == 0 && times-- > 0 ? 1 : real(path, list, size);
}
"""


def test_lists_of_xattrs_that_change_meanwhile(tmp_path: Path) -> None:
    many = File(xattrs={f"user.{'n' * 30}{n:02}": b"v" for n in range(30)})
    trees.make(Dir({"a": File(), "b": many, "c": many}), tmp_path / "t")
    expected = [entry.xattrs for entry in core.entries(core.scan(tmp_path / "t"))]
    assert expected[1] is None
    assert expected[2] is not None
    assert interposed.python(CHANGING, tmp_path, XATTRS, tmp_path / "t") == f"{expected}\n"


SLOW = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
int statx(int dir, const char *name, int flags, unsigned mask, struct statx *out) {
    static int (*real)(int, const char *, int, unsigned, struct statx *);
    if (!real) real = dlsym(RTLD_NEXT, "statx");
    if (!strcmp(name, "slow")) sleep(3);
    return real(dir, name, flags, mask, out);
}
"""
MEANWHILE = """
import os, statistics, sys
from dsbranch._core.scan import scan
told = []
table = scan(os.fsencode(sys.argv[1]), threads=2, progress=lambda done, *_: told.append(done))
print(statistics.mode(told), len(table))  # where it stood for most of the time
"""


def test_the_walk_does_not_run_ahead_of_what_the_table_can_take(tmp_path: Path) -> None:
    trees.make(Dir({"a": Dir({"slow": File()})}), tmp_path / "t")
    for number in range(8):
        fill(tmp_path / "t" / f"b{number}", PART)
    said = interposed.python(SLOW, tmp_path, MEANWHILE, tmp_path / "t")
    meanwhile, rows = (int(number) for number in said.split())
    assert rows == 8 * PART + 11
    assert meanwhile == WINDOW + 9


PASSED_OVER = """
import os, sys, threading  # while they can be read
from array import array
from dsbranch._core.content import digest_files
from dsbranch._core.scan import scan
os.chdir(sys.argv[1])
os.setgroups([])
os.setgid(1234)
os.setuid(1234)
problems = []
try:
    table = scan(b"t", problems=problems)
except OSError as error:
    print(error.errno)
else:
    rows = array("q", [i for i in range(len(table)) if table.entry(i).kind == "file"])
    digest_files(table, rows=rows, problems=problems)
    print([table.path(i) for i in range(len(table))], sorted(problems))
"""


@pytest.mark.root
def test_what_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    trees.make(
        Dir(
            {
                "a": File(mode=0),
                "b": File(),
                "d": Dir({"x": File()}, mode=0),
                "e": Dir({"y": File()}),
            }
        ),
        tmp_path / "t",
    )
    tmp_path.chmod(0o755)
    # What can be listed and not entered tells names, and nothing of them.
    (tmp_path / "t" / "e").chmod(0o744)
    said = interposed.python("", tmp_path, PASSED_OVER, tmp_path)
    assert said == (
        "[b'', b'a', b'b', b'd', b'e'] "
        f"[(b'a', {errno.EACCES}), (b'd', {errno.EACCES}), (b'e/y', {errno.EACCES})]\n"
    )
    (tmp_path / "t").chmod(0o700)
    assert interposed.python("", tmp_path, PASSED_OVER, tmp_path) == f"{errno.EACCES}\n"


TOO_MANY = """
import os, sys
from dsbranch._core.scan import scan
problems = []
try:
    scan(os.fsencode(sys.argv[1]), problems=problems)
except OSError as error:
    print(error.errno, len(problems))
"""
FAILING = """
#define _GNU_SOURCE
#include <errno.h>
#include <sys/stat.h>
int statx(int dir, const char *name, int flags, unsigned mask, struct statx *out) {
    if (*name) { errno = EIO; return -1; }
    out->stx_mode = S_IFDIR;
    return 0;
}
"""


def test_too_many_are_not_passed_over(tmp_path: Path) -> None:
    fill(tmp_path / "t", 10_001)
    said = interposed.python(FAILING, tmp_path, TOO_MANY, tmp_path / "t")
    assert said == f"{errno.EIO} 10000\n"

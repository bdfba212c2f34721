"""Names that are looked up in the dataset ahead of a comparison."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dsbranch._core import crew, scout
from dsbranch._core.base import Base
from dsbranch._core.view import View
from tests import core, interposed, reference, trees
from tests.trees import Dir, File, Symlink

NEVER = 1 << 60

Compared = tuple[list[str], list[bytes]]


def tree(directories: int, names: range, text: bytes) -> Dir:
    """Directories, ten in one, with a file of each name."""
    files = Dir({f"{i}": File(text) for i in names})
    numbers = range(directories)
    return Dir(
        {f"{top}": Dir({f"{n}": files for n in numbers[top : top + 10]}) for top in numbers[::10]}
    )


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One for each time that threads are started to look ahead."""
    started: list[int] = []

    def run_threads(*arguments: object) -> None:
        started.append(1)
        crew.run_threads(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(scout, "run_threads", run_threads)
    return started


@pytest.fixture
def compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Compared]:
    """What layers, newest first, change in the base, and the paths that it was asked for."""

    def compare(*layers: str, least: int = 1) -> Compared:
        monkeypatch.setattr(scout, "_LEAST", least)
        base = Base(os.fsencode(tmp_path / "base"))
        tables = [core.scan(tmp_path / layer) for layer in layers]
        found = core.changes(View([], base), View(tables, base))
        return reference.lines(found), sorted(entry.path for entry in core.entries(base))

    return compare


def test_all_is_looked_up_at_once_and_once(
    tmp_path: Path, compared: Callable[..., Compared], jobs: list[int]
) -> None:
    trees.make(tree(30, range(20), b"old"), tmp_path / "base")
    trees.make(tree(30, range(10, 30), b"new one"), tmp_path / "layer")
    plain = compared("layer", least=NEVER)
    assert not jobs
    found, asked = compared("layer")
    assert (found, asked) == plain
    assert (len(found), len(asked)) == (30 * 20, 1 + 3 + 30 + 30 * 10)
    assert len(jobs) == 1


def test_too_few_are_not_worth_threads(
    tmp_path: Path, compared: Callable[..., Compared], jobs: list[int]
) -> None:
    trees.make(tree(1, range(10), b"old"), tmp_path / "base")
    trees.make(tree(1, range(10), b"new one"), tmp_path / "layer")
    compared("layer", least=13)
    assert not jobs
    compared("layer", least=12)
    assert len(jobs) == 1


@pytest.mark.root
def test_what_a_layer_hides_is_not_asked_for(
    tmp_path: Path, compared: Callable[..., Compared], jobs: list[int]
) -> None:
    """A directory that was removed and made again, and one that came from elsewhere."""
    inner = Dir({f"{i}": File(b"x") for i in range(9)})
    trees.make(Dir({name: Dir({"d": inner}) for name in "abc"}), tmp_path / "base")
    trees.make(Dir({name: Dir({"d": inner}) for name in "ab"}), tmp_path / "layer")
    os.setxattr(tmp_path / "layer/a", "trusted.overlay.opaque", b"y")
    os.setxattr(tmp_path / "layer/b", "trusted.overlay.redirect", b"c")
    assert compared("layer") == compared("layer", least=NEVER)
    assert jobs


def test_layers_of_the_same_names_ask_once(
    tmp_path: Path, compared: Callable[..., Compared], jobs: list[int]
) -> None:
    trees.make(tree(10, range(10), b"old"), tmp_path / "base")
    for n in range(4):
        trees.make(tree(10, range(10), b"%d" % n), tmp_path / f"{n}")
    assert compared(*"0123") == compared(*"0123", least=NEVER)
    # For the directories one layer, and for the files the lowest, which hides them from the others.
    assert len(jobs) == 2


@pytest.mark.root
@pytest.mark.parametrize("renamed", [False, True])
def test_window_by_window(
    renamed: bool,
    tmp_path: Path,
    compared: Callable[..., Compared],
    jobs: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a directory that was renamed they are gone through backwards, too."""
    monkeypatch.setattr(scout, "_WINDOW", 64)
    for name in ("base", "layer"):
        trees.make(tree(40, range(20), name.encode()), tmp_path / name)
    # And one directory of several windows.
    for name in ("base", "layer"):
        trees.make(Dir({f"{i}": File(name.encode()) for i in range(640)}), tmp_path / name / "w")
    if renamed:
        (tmp_path / "layer/new").mkdir()
        os.setxattr(tmp_path / "layer/new", "trusted.overlay.redirect", b"3")
    assert compared("layer") == compared("layer", least=NEVER)
    rows = 1 + 4 + 40 + 40 * 20 + 1 + 640 + renamed
    # Backwards some are come to again, after others, but looked up once.
    assert rows // 64 <= len(jobs) <= rows // 64 + 1


COUNTED = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>
static pthread_t first;
__attribute__((constructor)) static void begin(void) { first = pthread_self(); }
int here, elsewhere, slow;
int statx(int dir, const char *path, int flags, unsigned mask, struct statx *out) {
    static int (*real)(int, const char *, int, unsigned, struct statx *);
    if (!real) real = dlsym(RTLD_NEXT, "statx");
    int *count = pthread_equal(pthread_self(), first) ? &here : &elsewhere;
    __atomic_fetch_add(count, 1, __ATOMIC_RELAXED);
    if (slow) usleep(slow);
    return real(dir, path, flags, mask, out);
}
"""
PRELUDE = """
import ctypes, os, signal, sys, threading, time
from dsbranch._core.algebra import changes
from dsbranch._core.base import Base
from dsbranch._core.scan import scan
from dsbranch._core.view import View
number = lambda name: ctypes.c_int.in_dll(ctypes.CDLL(None), name)
here, elsewhere, slow = map(number, ("here", "elsewhere", "slow"))
os.chdir(sys.argv[1])
def compare(base):
    return len(changes(View([], base), View([layer], base)))
layer = scan(b"layer")
base = Base(b"base")
here.value = elsewhere.value = 0
"""
ELSEWHERE = """
compare(base)
print(here.value, elsewhere.value)
for _ in range(3):
    base = None
    base = Base(b"base")
    compare(base)
    print(len(os.listdir("/proc/self/fd")))
"""


@pytest.fixture
def large(tmp_path: Path) -> Path:
    for name in ("base", "layer"):
        trees.make(tree(100, range(20), name.encode()), tmp_path / name)
    return tmp_path


def test_threads_do_it_and_close_what_they_open(large: Path) -> None:
    said = interposed.python(COUNTED, large, PRELUDE + ELSEWHERE, large)
    here, elsewhere, *opened = map(int, said.split())
    assert here < 20
    assert elsewhere >= 100 + 100 * 20
    assert len(set(opened)) == 1


XATTRS = """
#include <string.h>
int listed;
ssize_t llistxattr(const char *path, char *names, size_t size) {
    static ssize_t (*real)(const char *, char *, size_t);
    if (!real) real = dlsym(RTLD_NEXT, "llistxattr");
    if (pthread_equal(pthread_self(), first)) listed++;
    return real(path, names, size);
}
"""
WITH_XATTRS = """
listed = number("listed")
for top in ("0", "10"):
    os.setxattr(f"layer/{top}/{top}", "user.new", b"")
    os.setxattr(f"base/{top}/{int(top) + 1}", "user.old", b"")
layer = scan(b"layer")
listed.value = 0
found = changes(View([], base), View([layer], base))
print(listed.value, sorted(d.path for d in found if d.status == "m"))
"""


def test_whoever_opens_a_directory_sees_whether_it_has_xattrs(large: Path) -> None:
    """What has none is not asked again, one directory after the other."""
    if os.listxattr(large / "base"):
        pytest.skip("each directory has xattrs here, as with SELinux")
    said = interposed.python(COUNTED + XATTRS, large, PRELUDE + WITH_XATTRS, large)
    listed, _, found = said.strip().partition(" ")
    # In the ten at the top there are only directories, so nobody opens them for a name.
    assert int(listed) <= 10 + 2 + 1
    assert found == str([b"0/0", b"0/1", b"10/10", b"10/11"])


PRESSED = """
slow.value = 5000
def press(times):
    for _ in range(times):
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)
        pressed.append(time.monotonic())
pressed = []
signal.signal(signal.SIGINT, signal.default_int_handler)
thread = threading.Thread(target=press, args=(int(sys.argv[2]),))
thread.start()
try:
    compare(base)
except KeyboardInterrupt:
    took = time.monotonic() - pressed[0]
    try:
        thread.join()
    except KeyboardInterrupt:
        pass
    slow.value = 0
    print(took, elsewhere.value, compare(base))
"""


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_ends_it_at_once(times: int, large: Path) -> None:
    """Also when it is pressed again while the threads are waited for."""
    said = interposed.python(COUNTED, large, PRELUDE + PRESSED, large, times)
    took, asked, again = map(float, said.split())
    assert took < 1
    assert asked < 1000
    assert again == 100 * 20


def test_without_threads_names_are_looked_up_one_by_one(
    tmp_path: Path, compared: Callable[..., Compared], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("base", "layer"):
        trees.make(tree(3, range(3), name.encode()), tmp_path / name)
    plain = compared("layer", least=NEVER)
    layer = core.scan(tmp_path / "layer")

    def start(work: Callable[[], None], arguments: tuple[()]) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(scout, "_LEAST", 1)
    monkeypatch.setattr(crew, "start_new_thread", start)
    base = Base(os.fsencode(tmp_path / "base"))
    # Files of different size: nothing else of a comparison needs a thread.
    found = core.changes(View([], base), View([layer], base))
    assert reference.lines(found) == plain[0]


@pytest.mark.root
def test_what_is_no_ordinary_entry_is_asked_for_by_who_comes_to_it(tmp_path, compared, jobs):
    """Links, and what the dataset hides."""
    for place, other in (("base", "elsewhere"), ("layer", "nowhere")):
        links = {"same": Symlink("gone"), "other": Symlink(other), "empty": File()}
        trees.make(Dir({**links, "marked": File(), "device": File()}), tmp_path / place)
    os.setxattr(tmp_path / "base/marked", "trusted.overlay.whiteout", b"")
    (tmp_path / "base/device").unlink()
    os.mknod(tmp_path / "base/device", 0o20000, 0)
    plain = compared("layer", least=NEVER)
    assert not jobs
    assert compared("layer")[0] == plain[0]
    assert jobs


BROKEN = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
int statx(int dir, const char *path, int flags, unsigned mask, struct statx *out) {
    static int (*real)(int, const char *, int, unsigned, struct statx *);
    if (!real) real = dlsym(RTLD_NEXT, "statx");
    if (!strcmp(path, "broken")) { errno = EIO; return -1; }
    return real(dir, path, flags, mask, out);
}
"""
BREAKING = """
import os, sys
from dsbranch._core import scout
from dsbranch._core.algebra import changes
from dsbranch._core.base import Base
from dsbranch._core.table import Table
from dsbranch._core.view import View
from tests._core.test_table import columns
from tests.tables import from_columns
scout._LEAST = 1
layer = from_columns(columns([(b"", "directory"), (b"broken", "file")]))
base = Base(os.fsencode(sys.argv[1]))
try:
    print(list(changes(View([], base), View([layer], base))))
except OSError as error:
    print(error.errno)
"""


def test_a_name_that_cannot_be_looked_up_is_no_absent_name(tmp_path):
    trees.make(Dir({"broken": File(b"x")}), tmp_path / "base")
    said = interposed.python(BROKEN, tmp_path, BREAKING, tmp_path / "base")
    assert said == f"{errno.EIO}\n"


COMPARED = "compare(base)\nprint(here.value, elsewhere.value)\n"


def test_names_that_are_not_there_are_kept_too(tmp_path):
    trees.make(tree(100, range(20), b"old"), tmp_path / "base")
    trees.make(tree(100, range(20, 40), b"new"), tmp_path / "layer")
    said = interposed.python(COUNTED, tmp_path, PRELUDE + COMPARED, tmp_path)
    here, elsewhere = map(int, said.split())
    assert here < 20
    assert elsewhere >= 100 + 100 * 20


def test_the_old_sides_layers_are_looked_ahead_for(tmp_path, jobs, monkeypatch):
    monkeypatch.setattr(scout, "_LEAST", 1)
    for name in ("base", "layer"):
        trees.make(tree(10, range(10), name.encode()), tmp_path / name)
    layer = core.scan(tmp_path / "layer")
    base = Base(os.fsencode(tmp_path / "base"))
    assert len(core.changes(View([layer], base), View([], base))) == 100
    assert len(jobs) == 1


CLOSED = """
#include <errno.h>
#include <sys/syscall.h>
int twice;
int close(int fd) {
    int result = syscall(SYS_close, fd);
    if (result < 0 && errno == EBADF) __atomic_fetch_add(&twice, 1, __ATOMIC_RELAXED);
    return result;
}
"""
CLOSING = """
twice = number("twice")
twice.value = 0
for _ in range(3):
    compare(Base(b"base"))
print(twice.value)
"""


def test_nothing_is_closed_twice(large):
    assert interposed.python(COUNTED + CLOSED, large, PRELUDE + CLOSING, large) == "0\n"


@pytest.mark.root
def test_what_layers_between_hide_is_not_asked_for(tmp_path, jobs, monkeypatch):
    monkeypatch.setattr(scout, "_LEAST", 1)
    for name in ("base", "lower", "upper"):
        trees.make(tree(10, range(10), name.encode()), tmp_path / name)
    # The upper changes ten that the lower has, one of a directory that it made anew, one beside.
    for name in ("lower", "upper"):
        trees.make(Dir({"in": File(name.encode())}), tmp_path / name / "anew")
    trees.make(Dir({"in": File(b"base"), "not": File()}), tmp_path / "base/anew")
    os.setxattr(tmp_path / "lower/anew", "trusted.overlay.opaque", b"y")
    (tmp_path / "upper/0/0/new").write_bytes(b"new")
    (tmp_path / "lower/0/1/0").unlink()
    os.mknod(tmp_path / "lower/0/1/0", 0o20000, 0)
    upper, lower = (core.scan(tmp_path / name) for name in ("upper", "lower"))
    asked = []
    for least in (1, NEVER):
        monkeypatch.setattr(scout, "_LEAST", least)
        base = Base(os.fsencode(tmp_path / "base"))
        found = core.changes(View([lower], base), View([upper, lower], base))
        assert len(found) == 10 * 10 + 1 + 1
        asked.append(sorted(entry.path for entry in core.entries(base)))
    assert asked[0] == asked[1]
    assert b"anew/in" not in asked[0]
    assert len(jobs) == 1


@pytest.mark.root
def test_a_walk_that_goes_back_and_forth_asks_once(tmp_path, monkeypatch):
    """Also where there are more names than answers are kept: with a directory that was renamed."""
    for name, text in (("base", b"old"), ("layer", b"new one")):
        root = tmp_path / name
        for top in range(64):
            trees.make(
                Dir({f"{n}": Dir({f"{i}": File(text) for i in range(8)}) for n in range(64)}),
                root / f"{top}",
            )
    (tmp_path / "base/old").mkdir()
    (tmp_path / "layer/new").mkdir()
    os.setxattr(tmp_path / "layer/new", "trusted.overlay.redirect", b"old")
    layer = core.scan(tmp_path / "layer")
    rows = []
    for least in (NEVER, 512):
        monkeypatch.setattr(scout, "_LEAST", least)
        base = Base(os.fsencode(tmp_path / "base"))
        assert len(core.changes(View([], base), View([layer], base))) == 8 * 64 * 64 + 1
        rows.append(len(base))
    assert rows[1] <= rows[0] * 1.1

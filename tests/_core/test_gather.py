"""What small files hold, read into memory together."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dsbranch._core.base import Base
from dsbranch._core.gather import expect, gather
from dsbranch._core.table import Table
from dsbranch._core.view import View
from tests import core, interposed, trees
from tests.trees import Dir, File

from .test_content import ADVISED, STALLED

SPARSE = 1 << 16


def rows(table: Table) -> dict[bytes, int]:
    return {table.path(i): i for i in range(len(table))}


def gathered(
    root: Path, *names: str, threads: int | None = None
) -> list[tuple[bytes, bool] | None]:
    table = core.scan(root)
    found = rows(table)
    return gather([(table, found[name.encode()]) for name in names], threads=threads)


@pytest.mark.parametrize("threads", [None, 1, 7])
def test_each_file_in_the_order_asked_for(tmp_path, threads):
    data = {f"f{i}": os.urandom(i * i) for i in range(60)}
    data["piece"] = os.urandom(1 << 18)
    trees.make(Dir({name: File(content) for name, content in data.items()}), tmp_path)
    order = sorted(data, reverse=True)
    found = gathered(tmp_path, *order, *order[:2], threads=threads)
    assert found == [(data[name], True) for name in (*order, *order[:2])]


def test_nothing():
    assert gather([]) == []


def test_the_base_and_layers_together(tmp_path):
    trees.make(Dir({"b": File(b"base")}), tmp_path / "base")
    trees.make(Dir({"l": File(b"layer")}), tmp_path / "layer")
    table = core.scan(tmp_path / "layer")
    base = Base(os.fsencode(tmp_path / "base"))
    place = View([table], base).find(b"b")
    assert place is not None
    assert gather([place, (table, rows(table)[b"l"])]) == [(b"base", True), (b"layer", True)]


def test_who_has_xattrs(tmp_path):
    trees.make(
        Dir({"a": File(b"a", xattrs={"user.note": b""}), "b": File(b"b")}),
        tmp_path,
    )
    assert gathered(tmp_path, "a", "b") == [(b"a", False), (b"b", True)]


def test_holes_are_for_others(tmp_path):
    trees.make(
        Dir(
            {
                "small": File(b"", sparse=SPARSE - 1),
                "hole": File(b"", sparse=SPARSE),
                "full": File(b"x" * SPARSE),
            }
        ),
        tmp_path,
    )
    small, hole, full = gathered(tmp_path, "small", "hole", "full")
    assert small == (bytes(SPARSE - 1), True)
    assert hole is None
    assert full == (b"x" * SPARSE, True)


def test_what_is_not_as_the_table_says(tmp_path):
    names = ("gone", "closed", "short", "long", "link", "pipe", "directory")
    trees.make(Dir({name: File(b"12345") for name in names}), tmp_path)
    table = core.scan(tmp_path)
    for name in ("gone", "link", "pipe", "directory"):
        (tmp_path / name).unlink()
    (tmp_path / "short").write_bytes(b"1234")
    (tmp_path / "long").write_bytes(b"123456")
    (tmp_path / "link").symlink_to("long")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    found = rows(table)
    before = os.listdir("/proc/self/fd")
    told = dict(zip(names, gather([(table, found[name.encode()]) for name in names]), strict=True))
    assert told.pop("long") == told.pop("closed") == (b"12345", True)
    assert set(told.values()) == {None}
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_not_taken_for_an_empty_one(tmp_path, make):
    trees.make(Dir({"empty": File()}), tmp_path)
    table = core.scan(tmp_path)
    (tmp_path / "empty").unlink()
    make(tmp_path / "empty")
    assert gather([(table, 1)]) == [None]


SHORT = """
/* The first thread that asks has all that malloc would have had. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
extern void *memalign(size_t, size_t);
int posix_memalign(void **got, size_t to, size_t size) {
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static pthread_t first;
    pthread_mutex_lock(&mutex);
    if (!first && size >= 1 << 16) first = pthread_self();
    pthread_mutex_unlock(&mutex);
    if (size >= 1 << 16 && first != pthread_self()) return ENOMEM;
    *got = memalign(to, size);
    return *got ? 0 : ENOMEM;
}
"""
WHOLE = """
import os, sys
from dsbranch._core.gather import gather
from dsbranch._core.scan import scan
table = scan(os.fsencode(sys.argv[1]))
print(len(set(gather([(table, i) for i in range(1, len(table))], threads=4))))
"""


def test_threads_without_memory_are_done_without(tmp_path):
    trees.make(Dir({f"f{i}": File(b"%d" % i) for i in range(100)}), tmp_path / "t")
    assert int(interposed.python(SHORT, tmp_path, WHOLE, tmp_path / "t")) == 100


NOBODY = """
import os, sys
from dsbranch._core.gather import gather
from dsbranch._core.scan import scan
table = scan(os.fsencode(sys.argv[1]))
try: gather([(table, 1)])
except MemoryError as error: print(error)
"""


def test_no_thread_has_memory(tmp_path):
    trees.make(Dir({"f": File(b"f")}), tmp_path / "t")
    none = SHORT.replace("first = pthread_self()", "first = 1")
    said = interposed.python(none, tmp_path, NOBODY, tmp_path / "t")
    assert said.strip() == "not enough memory to read"


FORBIDDEN = """
#include <errno.h>
#include <sys/types.h>
ssize_t flistxattr(int fd, char *list, size_t size) { errno = EACCES; return -1; }
"""
TOLD = """
import os, sys
from dsbranch._core.gather import gather
from dsbranch._core.scan import scan
print(gather([(scan(os.fsencode(sys.argv[1])), 1)]))
"""


def test_xattrs_that_cannot_be_listed_are_not_none(tmp_path):
    trees.make(Dir({"f": File(b"f")}), tmp_path / "t")
    said = interposed.python(FORBIDDEN, tmp_path, TOLD, tmp_path / "t")
    assert said.strip() == "[(b'f', False)]"


NO_XATTRS = """
#include <errno.h>
#include <sys/types.h>
ssize_t listxattr(const char *path, char *list, size_t size) { errno = ENOTSUP; return -1; }
ssize_t llistxattr(const char *path, char *list, size_t size) { errno = ENOTSUP; return -1; }
"""
OWN = """
import os, sys
from dsbranch._core.base import Base
from dsbranch._core.entries import own_xattrs
from dsbranch._core.view import View
print(own_xattrs(*View([], Base(os.fsencode(sys.argv[1]))).find(b"f")))
"""


def test_a_filesystem_that_knows_no_xattrs(tmp_path):
    trees.make(Dir({"f": File(b"f")}), tmp_path / "t")
    assert interposed.python(NO_XATTRS, tmp_path, OWN, tmp_path / "t").strip() == "{}"


UNREADABLE = """
#include <errno.h>
#include <sys/types.h>
ssize_t lgetxattr(const char *path, const char *name, void *value, size_t size) {
    errno = ENOTSUP;
    return -1;
}
"""
REFUSED = (
    OWN.replace("print(", "try: print(")
    + """
except OSError as error: print(error.filename)
"""
)


def test_an_xattr_that_is_listed_and_cannot_be_read_is_not_left_out(tmp_path):
    trees.make(Dir({"f": File(b"f", xattrs={"user.note": b"1"})}), tmp_path / "t")
    assert interposed.python(UNREADABLE, tmp_path, REFUSED, tmp_path / "t").strip() == "f"


def test_no_such_row(tmp_path):
    table = core.scan(tmp_path)
    for row in (-1, len(table)):
        with pytest.raises(IndexError):
            gather([(table, row)])


WAITED = """
import ctypes, os, sys
from dsbranch._core.gather import gather
from dsbranch._core.scan import scan
root = os.fsencode(sys.argv[1])
table = scan(root)
files = [i for i in range(len(table)) if table.entry(i).kind == "file"]
advised = ctypes.c_int.in_dll(ctypes.CDLL(None), "advised")
for i, (content, bare) in zip(files, gather([(table, i) for i in files]), strict=True):
    assert bare
    with open(root + b"/" + table.path(i), "rb") as file:
        assert content == file.read(), i
print(advised.value)
"""


def test_a_disk_that_is_waited_for_is_told_of_files_ahead(tmp_path):
    trees.make(Dir({f"f{i:04}": File(b"%d" % i) for i in range(1001)}), tmp_path / "t")
    said = interposed.python(STALLED % 4000 + ADVISED, tmp_path, WAITED, tmp_path / "t")
    assert 0 < int(said) <= 1001


EXPECTED = """
import ctypes, os, sys
from dsbranch._core.gather import expect
from dsbranch._core.scan import scan
root = os.fsencode(sys.argv[1])
table = scan(root)
os.unlink(root + b"/f0")
expect([])
expect([(table, i) for i in range(1, len(table))])
print(ctypes.c_int.in_dll(ctypes.CDLL(None), "advised").value, len(os.listdir("/proc/self/fd")))
"""


def test_the_disk_begins_with_what_is_expected(tmp_path):
    trees.make(Dir({f"f{i}": File(b"%d" % i) for i in range(700)}), tmp_path / "t")
    advised, left = map(
        int,
        interposed.python(
            "#define _GNU_SOURCE\n" + ADVISED, tmp_path, EXPECTED, tmp_path / "t"
        ).split(),
    )
    assert advised == 699
    assert left < 20


def test_no_such_row_is_expected(tmp_path):
    table = core.scan(tmp_path)
    for row in (-1, len(table)):
        with pytest.raises(IndexError):
            expect([(table, row)])


FAULTY = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <unistd.h>
ssize_t pread64(int fd, void *buffer, size_t size, off64_t at) {
    static ssize_t (*real)(int, void *, size_t, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "pread64");
    if (size == 5) { errno = EIO; return -1; }
    return real(fd, buffer, size > 7 ? 7 : size, at);
}
"""
FAILED = """
import os, sys
from dsbranch._core.gather import gather
from dsbranch._core.scan import scan
table = scan(os.fsencode(sys.argv[1]))
print(gather([(table, 1), (table, 2)]))
"""


def test_a_read_that_fails_and_one_that_takes_several(tmp_path):
    trees.make(Dir({"a": File(b"12345"), "b": File(b"0123456789abcdef")}), tmp_path / "t")
    said = interposed.python(FAULTY, tmp_path, FAILED, tmp_path / "t")
    assert said.strip() == "[None, (b'0123456789abcdef', True)]"

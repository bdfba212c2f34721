"""The adopted directory, looked into where the overlay would look, and seen as it sees it."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dsbranch._core.base import Base
from dsbranch._core.view import View
from tests import edits as e
from tests import interposed, trees
from tests.core import changes
from tests.overlays import Overlay
from tests.trees import Dir, File


def paths(base: Base) -> set[bytes]:
    return {change.path for change in changes(None, View([], base))}


@pytest.mark.root
@pytest.mark.parametrize("dialect", ["trusted", "user"])
def test_xattr_whiteouts_of_the_base_are_not_seen(
    dialect: str, overlay: Callable[..., Overlay]
) -> None:
    stack = overlay(
        Dir({"d": Dir({"gone": File(), "kept": File()}), "full": File(b"1"), "gone": File()}),
        dialect=dialect,
    )
    stack.unmount()
    for path in ("d", "d/gone", "full", "gone"):
        e.marker(path, "whiteout", b"", dialect=dialect)(stack.base)
    stack.mount()
    assert paths(Base(os.fsencode(stack.base), dialect=dialect)) == set(stack.snapshot())
    view = View([], Base(os.fsencode(stack.base), dialect=dialect))
    assert view.find(b"gone") is None
    assert view.find(b"full") is not None


@pytest.fixture
def with_a_mount(tmp_path: Path) -> Iterator[Path]:
    trees.make(Dir({"d": Dir({"x": File(b"x")})}), tmp_path / "base")
    place = tmp_path / "base/d"
    subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
    try:
        (place / "foreign").touch()
        yield tmp_path / "base"
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.root
def test_what_is_mounted_inside_is_not_seen(with_a_mount: Path) -> None:
    assert paths(Base(os.fsencode(with_a_mount))) == {b"", b"d", b"d/x"}


@pytest.mark.root
def test_only_want_of_privilege_lets_mounts_inside_be_seen(
    with_a_mount: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: bytes) -> int:
        raise OSError(code, os.strerror(code), os.fsdecode(path))

    monkeypatch.setattr("dsbranch._core.base.open_tree_clone", refuse)
    code = errno.EPERM
    assert paths(Base(os.fsencode(with_a_mount))) == {b"", b"d", b"d/foreign"}
    code = errno.EMFILE
    with pytest.raises(OSError) as caught:
        Base(os.fsencode(with_a_mount))
    assert caught.value.errno == errno.EMFILE


NO_MEMORY = """
#include <stddef.h>
void *__libc_malloc(size_t size);
void *malloc(size_t size) { return size == 200 + 300 + 2 ? NULL : __libc_malloc(size); }
"""
LOOK = """
import os, sys
from dsbranch._core.base import Base
from dsbranch._core.view import View
view = View([], Base(os.fsencode(sys.argv[1])))
for name in (300, 299):
    try:
        print(view.find(b"d" * 200 + b"/" + b"n" * name))
    except (MemoryError, OSError) as error:
        print(type(error).__name__, getattr(error, "errno", None))
"""


def test_no_memory_to_name_a_failure_is_no_absent_name(tmp_path: Path) -> None:
    trees.make(Dir({"d" * 200: Dir()}), tmp_path / "base")
    said = interposed.python(NO_MEMORY, tmp_path, LOOK, tmp_path / "base")
    # The second is an honest failure again: nothing of the first is left behind.
    assert said.splitlines() == ["MemoryError None", f"OSError {errno.ENAMETOOLONG}"]


def test_a_name_that_cannot_be_looked_up_fails_each_time(tmp_path):
    trees.make(Dir({"d": Dir()}), tmp_path / "base")
    view = View([], Base(os.fsencode(tmp_path / "base")))
    for _ in range(2):
        with pytest.raises(OSError) as caught:
            view.find(b"d/" + b"n" * 300)
        assert caught.value.errno == errno.ENAMETOOLONG


def test_nothing_is_asked_twice(tmp_path):
    """An answer that was asked for again would be one more row."""
    names = [b"d/%d" % number for number in range(3000)]
    trees.make(Dir({"d": Dir({f"{number}": File() for number in range(3000)})}), tmp_path / "base")
    base = Base(os.fsencode(tmp_path / "base"))
    view = View([], base)
    for name in 2 * names:
        assert view.find(name) is not None
    assert len(base) == 1 + 1 + 3000


def test_a_directory_keeps_its_answer_however_many_names_follow(tmp_path):
    """Lost, it would take along what was said of all that is in it."""
    trees.make(Dir({"d": Dir({"e": Dir({"f": File(b"x")})})}), tmp_path / "base")
    base = Base(os.fsencode(tmp_path / "base"))
    view = View([], base)
    for number in range(150_000):
        assert view.find(b"d/e/%d" % number) is None
    assert view.find(b"d/e/f") is not None
    assert len(base) == 1 + 3

"""Links of a new layer, by one thread and by several."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dsbranch._core import links
from dsbranch._core.base import Base
from dsbranch._core.build import build
from dsbranch._core.squash import plan
from tests import core, interposed, trees
from tests.trees import Dir, File

# Around the number of links of which a thread takes the directories at once.
SIZES = (1, 2, 63, 64, 65, 130, 300, 1, 1, 64)

FEW = """
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>
int linkat(int from, const char *old, int to, const char *new, int flags) {
    if (syscall(SYS_gettid) == getpid()) return syscall(SYS_linkat, from, old, to, new, flags);
    errno = EMFILE;
    return -1;
}
"""
BUILD = """
import os, sys
from dsbranch._core.base import Base
from dsbranch._core.build import build
from dsbranch._core.scan import scan
from dsbranch._core.squash import plan
layer, target = map(os.fsencode, sys.argv[1:])
print(build(plan([scan(layer)], [], Base(target)), target))
"""


@pytest.fixture(params=[1, 1 << 40], ids=["threads", "alone"])
def least(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "_LEAST", request.param)


@pytest.fixture
def layers(tmp_path: Path, least: None) -> list[Path]:
    """Two layers in whose directories every other file is the other layer's."""
    made = [tmp_path / "upper", tmp_path / "lower"]
    for number, layer in enumerate(made):
        inside = {
            f"{at}": Dir({f"{i}": File() for i in range(number, size, 2)})
            for at, size in enumerate(SIZES)
        }
        trees.make(Dir(inside | {f"{number}-at-the-top": File()}), layer)
    return made


def merged(layers: list[Path], first: Callable[[], None] = lambda: None) -> tuple[int, int, int]:
    """Make the target of both, and `first` something else, when they have been scanned."""
    target, empty = layers[0].parent / "target", layers[0].parent / "empty"
    target.mkdir()
    empty.mkdir()
    steps = plan([core.scan(layer) for layer in layers], [], Base(os.fsencode(empty)))
    first()
    return build(steps, os.fsencode(target))


def inodes(root: Path) -> Iterator[tuple[str, int]]:
    for path in root.rglob("*"):
        if not path.is_dir():
            yield str(path.relative_to(root)), path.stat().st_ino


def test_every_file_is_linked(layers: list[Path]) -> None:
    count = sum(SIZES) + 2
    assert merged(layers) == (count, 0, 0)
    wanted = {name: inode for layer in layers for name, inode in inodes(layer)}
    assert len(wanted) == count
    assert dict(inodes(layers[0].parent / "target")) == wanted


def test_what_cannot_be_linked_is_named(layers: list[Path]) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        merged(layers, (layers[0] / "6/200").unlink)
    assert caught.value.filename == "6/200"


def test_what_threads_have_too_few_descriptors_for_one_does_alone(tmp_path: Path) -> None:
    source, target = tmp_path / "layer", tmp_path / "target"
    inside = {f"{n}": Dir({f"{i}": File() for i in range(100)}) for n in range(8)}
    trees.make(Dir(inside), source)
    target.mkdir()
    assert interposed.python(FEW, tmp_path, BUILD, source, target) == "(800, 0, 0)\n"
    assert dict(inodes(target)) == dict(inodes(source))


@pytest.mark.root
def test_what_the_kernel_refuses_to_link_is_copied(layers: list[Path]) -> None:
    stuck = [layers[0] / "6/200", layers[1] / "2/1"]
    for path in stuck:
        path.write_bytes(b"stuck")
    subprocess.run(["chattr", "+i", *stuck], check=True)
    try:
        assert merged(layers) == (sum(SIZES), 2, 10)
    finally:
        subprocess.run(["chattr", "-i", *stuck], check=True)
    for path in stuck:
        copy = layers[0].parent / "target" / path.parent.name / path.name
        assert copy.read_bytes() == b"stuck"
        assert copy.stat().st_ino != path.stat().st_ino


def test_names_of_one_inode_stay_so_where_not_all_can_be_linked(tmp_path: Path) -> None:
    names = [tmp_path / "layer" / name / "f" for name in "abc"]
    trees.make(Dir({name: Dir() for name in "abc"}), tmp_path / "layer")
    names[0].write_bytes(b"x")
    for name in names[1:]:
        os.link(names[0], name)
    table = core.scan(tmp_path / "layer")
    (tmp_path / "outside").mkdir()
    # As many as ext4 allows, but for two.
    for number in range(65_000 - 3 - 2):
        os.link(names[0], tmp_path / f"outside/{number}")
    target, empty = tmp_path / "target", tmp_path / "empty"
    target.mkdir()
    empty.mkdir()
    build(plan([table], [], Base(os.fsencode(empty))), os.fsencode(target))
    found = dict(inodes(target))
    assert sorted(found) == ["a/f", "b/f", "c/f"]
    assert len(set(found.values())) == 1

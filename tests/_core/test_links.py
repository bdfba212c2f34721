"""Links of a new layer, by one thread and by several."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dsbranch._core import build as build_module
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


def test_the_first_that_cannot_be_linked_is_named(layers: list[Path]) -> None:
    def remove() -> None:
        for name in ("7/0", "6/200"):
            (layers[0] / name).unlink()

    with pytest.raises(FileNotFoundError) as caught:
        merged(layers, remove)
    assert caught.value.filename == "7/0"


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


@pytest.fixture
def names(tmp_path: Path) -> list[Path]:
    """Names of one inode in a layer."""
    found = [tmp_path / "layer" / f"{n}" / "f" for n in range(10)]
    trees.make(Dir({f"{n}": Dir({"g": File()}) for n in range(10)}), tmp_path / "layer")
    found[0].write_bytes(b"x")
    for name in found[1:]:
        os.link(found[0], name)
    return found


def built(tmp_path: Path) -> set[int]:
    """The inodes that the names have in a new layer."""
    merged([tmp_path / "layer"])
    found = dict(inodes(tmp_path / "target"))
    assert len(found) == 20
    return {found[f"{n}/f"] for n in range(10)}


@pytest.mark.parametrize(("crowded", "copied"), [(16_000, False), (10, True), (11, False)])
def test_names_of_one_inode_stay_so(
    crowded: int, copied: bool, names: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its links come to be many while they are made, a few at once."""
    monkeypatch.setattr(build_module, "_CROWDED", crowded)
    monkeypatch.setattr(build_module, "_AT_ONCE", 3)
    (inode,) = built(tmp_path)
    assert (inode != names[0].stat().st_ino) == copied


def test_names_of_one_inode_stay_so_where_not_all_can_be_linked(
    names: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    for number in range(16_000):
        os.link(names[0], tmp_path / f"outside/{number}")
    (inode,) = built(tmp_path)
    assert inode != names[0].stat().st_ino

"""Links of a new layer, by one thread and by several."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsbranch._core import links
from dsbranch._core.base import Base
from dsbranch._core.build import build
from dsbranch._core.squash import plan
from tests import core, trees
from tests.trees import Dir, File

# Around the number of links of which a thread takes the directories at once.
SIZES = (1, 2, 63, 64, 65, 130, 300, 1, 1, 64)


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


def merged(layers: list[Path], missing: Path | None = None) -> tuple[int, int, int]:
    """Make the target of both; a file may be missing since it was scanned."""
    target, empty = layers[0].parent / "target", layers[0].parent / "empty"
    target.mkdir()
    empty.mkdir()
    steps = plan([core.scan(layer) for layer in layers], [], Base(os.fsencode(empty)))
    if missing is not None:
        missing.unlink()
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
        merged(layers, missing=layers[0] / "6/200")
    assert caught.value.filename == "6/200"


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

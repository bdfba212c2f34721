"""What an open layer loses before it is sealed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dsbranch._core.base import Base
from dsbranch._core.seal import idle_copies, strip
from dsbranch._core.view import View
from tests import core, trees
from tests import edits as e
from tests.trees import Dir, File


@pytest.mark.root
def test_a_metadata_only_copy_without_data_is_no_idle_copy(tmp_path: Path) -> None:
    trees.make(Dir(), tmp_path / "base")
    for name in ("lower", "upper"):
        trees.make(Dir({"f": File(sparse=5)}), tmp_path / name)
        e.marker("f", "metacopy", b"")(tmp_path / name)
    view = View(
        [core.scan(tmp_path / "upper"), core.scan(tmp_path / "lower")],
        Base(os.fsencode(tmp_path / "base")),
    )
    assert idle_copies(view) == []


@pytest.mark.root
def test_what_overlay_left_is_stripped_wherever_it_leaves_it(tmp_path: Path) -> None:
    place = tmp_path / "upper"
    trees.make(Dir({"d": Dir({"one": File(b"1"), "two": File(b"2")}), "p": Dir()}), place)
    os.link(place / "d/two", place / "d/three")
    left = {
        "": ["origin", "impure", "uuid"],
        "d": ["origin", "impure"],
        "p": ["impure"],
        "d/one": ["origin"],
        "d/two": ["origin", "nlink"],
    }
    for path, names in left.items():
        for name in names:
            os.setxattr(place / path, f"trusted.overlay.{name}", b"\0\xfb" + bytes(27))
    os.setxattr(place / "d", "trusted.overlay.opaque", b"y")
    os.setxattr(place / "d/one", "user.origin", b"mine")
    table = core.scan(place)
    table.open(os.fsencode(place))
    strip(table)
    kept = {path: os.listxattr(place / path) for path in left}
    assert kept == {
        "": [],
        "d": ["trusted.overlay.opaque"],
        "p": [],
        "d/one": ["user.origin"],
        "d/two": [],
    }


@pytest.mark.root
def test_a_directory_that_became_a_symlink_leads_nowhere(tmp_path: Path) -> None:
    """Who owns a directory of the layer may exchange it while root works there."""
    place, outside = tmp_path / "upper", tmp_path / "outside"
    trees.make(Dir({"d": Dir({"f": File(b"1")})}), place)
    trees.make(Dir({"f": File(b"1")}), outside)
    for path in (place / "d/f", outside / "f"):
        os.setxattr(path, "trusted.overlay.origin", b"\0\xfb" + bytes(27))
    table = core.scan(place)
    table.open(os.fsencode(place))
    (place / "d").rename(tmp_path / "aside")
    (place / "d").symlink_to(outside)
    with pytest.raises(OSError, match="d"):
        strip(table)
    assert os.listxattr(outside / "f") == ["trusted.overlay.origin"]

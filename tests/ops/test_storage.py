"""Xattrs that a filesystem has for its own purposes, which no other one can hold."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import dsbranch
from tests import edits as e
from tests.trees import Dir, File, make

from .conftest import command, mount_filesystem, said

pytestmark = pytest.mark.root


@pytest.fixture
def data(swept: Path) -> Path:
    """A dataset on btrfs, compressed: itself and the file `f` have a property that says so."""
    image, disk = swept / "image", swept / "disk"
    with image.open("wb") as file:
        file.truncate(120 << 20)
    command(["mkfs.btrfs", "-q", image])
    mount_filesystem("btrfs", disk, "-o", "loop", source=image)
    data = disk / "data"
    make(Dir({"f": File(b"one\n"), "g": File(b"two\n"), "d": Dir({"x": File(b"x")})}), data)
    for path in (data, data / "f"):
        os.setxattr(path, "btrfs.compression", b"zstd")
    return data


@pytest.mark.parametrize("beside", [True, False])
def test_a_property_of_the_dataset_is_no_change(swept, data, beside):
    place = (data.parent if beside else swept) / "ws"
    with dsbranch.init(data, place) as ws:
        main = place / "main"

        def lines() -> list[str]:
            return said(ws.diff(branch="main"))

        assert lines() == []
        # A branch that was written to, too: elsewhere the copies cannot have it.
        e.sequence(e.chmod("f", 0o600), e.chmod("f", 0o644), e.open_and_close("g"))(main)
        e.sequence(e.add("new", File()), e.unlink("new"))(main)
        assert lines() == []
        assert ws.status("main").clean
        e.append("f", b"more")(main)
        assert lines() == ["M f"]
        first = ws.commit("main", "f").commit.id
        e.sequence(e.chmod("f", 0o600), e.add("new", File()))(main)
        assert lines() == ["m f", "A new"]
        ws.commit("main", "f again")
        ws.squash("main")
        assert lines() == []
        assert ws.verify(full=True).findings == ()
        ws.export("main", swept / "tree")
        ws.create("other", start=first)
        ws.apply("other", swept / "tree", "applied", full=True)
        assert said(ws.diff("main", "other")) == []
        ws.restore("other", [b"f"], start=first)
        assert (place / "other" / "f").read_bytes() == b"one\nmore"

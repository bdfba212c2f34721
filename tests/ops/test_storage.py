"""Xattrs that a filesystem has for its own purposes, or lists in ways of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import dsbranch
from dsbranch._core.entries import value_of
from dsbranch.overlay.markers import copy_root, has_root_of
from tests import edits as e
from tests.overlay.conftest import become_nobody
from tests.trees import Dir, File, acl, make
from tests.users import in_child

from .conftest import command, mount_filesystem, said

pytestmark = pytest.mark.root


def disk(swept: Path, kind: str) -> Path:
    """A new filesystem."""
    image = swept / "image"
    with image.open("wb") as file:
        file.truncate(400 << 20)
    command([f"mkfs.{kind}", "-q", image])
    return mount_filesystem(kind, swept / "disk", "-o", "loop", source=image)


@pytest.fixture
def data(swept: Path) -> Path:
    """A dataset on btrfs, compressed: itself and the file `f` have a property that says so."""
    data = disk(swept, "btrfs") / "data"
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


def test_acls_are_no_change_where_xfs_tells_of_them_twice(swept):
    data, place = swept / "data", disk(swept, "xfs") / "ws"
    make(Dir({"f": File(b"one\n", mode=0o664)}), data)
    for path in (data, data / "f"):
        os.setxattr(path, "system.posix_acl_access", acl(1234, 6))
    with dsbranch.init(data, place) as ws:
        mode = os.stat(data / "f").st_mode & 0o777
        e.sequence(e.chmod("f", 0o600), e.chmod("f", mode))(place / "main")
        assert "trusted.SGI_ACL_FILE" in os.listxattr(ws.mount("main").path / "f")
        assert said(ws.diff(branch="main")) == []
        e.removexattr("f", "system.posix_acl_access")(place / "main")
        assert said(ws.diff(branch="main")) == ["m f"]
        ws.create("bare")
        e.removexattr(".", "system.posix_acl_access")(place / "bare")
        ws.commit("bare", "without")
        ws.export("bare", swept / "bare.tar")
        ws.create("again")
        ws.apply("again", swept / "bare.tar")
        assert said(ws.diff("bare", "again")) == []


def test_what_btrfs_lists_and_only_root_may_read_is_not_there(data):
    upper = data.parent / "upper"
    upper.mkdir()
    os.chown(upper, 65534, 65534)
    for path in (data, data / "f"):
        os.setxattr(path, "trusted.mine", b"1")
    os.setxattr(data, "user.note", b"n")

    def act() -> None:
        os.chdir(data.parent)
        become_nobody()
        assert "trusted.mine" in os.listxattr("data")
        copy_root(Path("data"), Path("upper"), dialect="user")
        assert has_root_of(Path("data"), Path("upper"), dialect="user", time=True)
        assert value_of(b"data/f", b"trusted.mine") is None

    in_child(act)
    assert os.listxattr(upper) == ["user.note"]

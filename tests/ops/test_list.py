"""``list``: every branch, where it stands and where it is mounted."""

from __future__ import annotations

import subprocess

import pytest

import dsbranch
from dsbranch.store.database import Store
from tests import edits as e

pytestmark = pytest.mark.root


def test_by_name_with_depth_and_place(bench):
    bench.ws.create("b")
    bench.ws.create("a", mount=False)
    bench.commit(e.append("f", b"1"), branch="b")
    bench.commit(e.append("f", b"2"), branch="b")
    a, b, main = bench.ws.list()
    assert (a.name, a.mounted, a.mountpoint, a.depth) == ("a", False, None, 1)
    assert (b.name, b.mounted, b.mountpoint, b.depth) == ("b", True, bench.path("b"), 3)
    assert (main.name, main.head, main.depth) == ("main", bench.head(), 1)
    assert b.head == bench.head("b")


def test_mounted_elsewhere_only(bench):
    bench.ws.umount("main")
    bench.ws.mount("main", at=bench.root / "other")
    (main,) = bench.ws.list()
    assert (main.mounted, main.mountpoint) == (True, bench.root / "other")


def test_its_own_place_comes_first(bench):
    other = bench.root / "other"
    other.mkdir()
    subprocess.run(["mount", "--bind", bench.path(), other], check=True)
    assert bench.ws.list()[0].mountpoint == bench.path()
    bench.ws.umount("main")
    assert not bench.ws.list()[0].mounted


def test_a_bind_mount_of_a_part_is_no_mount_of_the_branch(bench):
    other = bench.root / "other"
    other.mkdir()
    subprocess.run(["mount", "--bind", bench.path() / "d", other], check=True)
    subprocess.run(["umount", bench.path()], check=True)
    (main,) = bench.ws.list()
    assert not main.mounted


def test_another_workspace_is_not_seen(adopt):
    one, two = adopt(), adopt()
    one.ws.create("exp1")
    assert [b.name for b in two.ws.list()] == ["main"]
    assert two.ws.list()[0].mountpoint == two.path()


def test_gone_by_hand(bench):
    subprocess.run(["umount", bench.path()], check=True)
    assert not bench.ws.list()[0].mounted


def test_a_branch_that_moves_meanwhile(bench, monkeypatch):
    """Found by a crowd: its depth was asked for before it moved, its head after."""
    real = Store.head_depths

    def slow(self):
        found = real(self)
        with dsbranch.open(bench.place) as other:
            other.commit("main", "meanwhile", allow_empty=True)
        return found

    head = bench.head()
    monkeypatch.setattr(Store, "head_depths", slow)
    (main,) = bench.ws.list()
    assert (main.head, main.depth) == (head, 1)
    monkeypatch.undo()
    assert bench.ws.list()[0].depth == 2

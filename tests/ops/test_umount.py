"""``umount``: a branch, wherever it is mounted, or the read-only view at a path."""

from __future__ import annotations

import errno
import os
import subprocess

import pytest

from dsbranch import errors
from tests import edits as e
from tests.trees import assert_same

from .conftest import mounts, one_sentence, rows

pytestmark = pytest.mark.root

STAND = "os.chdir(sys.argv[1])"
READ = "held = open(sys.argv[1])"
WRITE = "held = open(sys.argv[1], 'a')"


def test_a_branch_with_all_its_bind_mounts(bench):
    other = bench.root / "other"
    other.mkdir()
    subprocess.run(["mount", "--bind", bench.path(), other], check=True)
    assert sorted(bench.ws.umount("main")) == [other, bench.path()]
    assert mounts(bench.root) == []
    assert rows(bench.place)["mounts"] == []


def test_by_path(bench):
    bench.edit(e.append("f", b"kept"))
    assert bench.ws.umount(str(bench.path())) == [bench.path()]
    assert mounts(bench.root) == []
    assert rows(bench.place)["mounts"] == []
    bench.ws.mount("main")
    assert bench.lines() == ["M f"]


def test_by_a_relative_path(bench, monkeypatch):
    bench.ws.mount("main", at=bench.root / "view", read_only=True)
    monkeypatch.chdir(bench.root)
    assert bench.ws.umount("view") == [bench.root / "view"]
    assert [point for point, _, _ in mounts(bench.root)] == [str(bench.path())]


def test_a_view_is_forgotten(bench):
    before = rows(bench.place)["mounts"]
    bench.ws.mount("main", at=bench.root / "view", read_only=True)
    assert len(rows(bench.place)["mounts"]) == 2
    bench.ws.umount(str(bench.root / "view"))
    assert rows(bench.place)["mounts"] == before


def test_not_mounted(bench):
    bench.ws.umount("main")
    before = bench.traces()
    with pytest.raises(errors.BadPath, match="main is not mounted") as caught:
        bench.ws.umount("main")
    one_sentence(caught.value)
    assert bench.traces() == before


@pytest.mark.parametrize("ref", ["nothing", "/", "/proc", "", "main/d"])
def test_what_is_no_mount_of_ours(bench, monkeypatch, ref):
    monkeypatch.chdir(bench.place)
    before = bench.traces()
    with pytest.raises(errors.BadPath) as caught:
        bench.ws.umount(ref)
    one_sentence(caught.value)
    assert bench.traces() == before


def test_a_view_of_another_workspace(adopt):
    one, two = adopt(), adopt()
    two.ws.mount("main", at=two.root / "view", read_only=True)
    for path in (two.root / "view", two.path()):
        with pytest.raises(errors.BadPath, match="another workspace") as caught:
            one.ws.umount(str(path))
        one_sentence(caught.value)
    assert len(mounts(two.root)) == 2


@pytest.mark.parametrize(("code", "at"), [(STAND, "d"), (READ, "f"), (WRITE, "f")])
def test_in_use(bench, hold, code, at):
    holder = hold(code, bench.path() / at)
    before = bench.traces()
    with pytest.raises(errors.MountInUse, match="in use") as caught:
        bench.ws.umount("main")
    one_sentence(caught.value)
    (process,) = caught.value.processes
    assert process.pid == holder.pid
    assert "python" in process.command
    assert process.path == str(bench.path() / at)
    assert caught.value.exit_code == 4
    now = bench.traces()
    if code == WRITE:  # opening it copied it up
        assert now["rows"] == before["rows"]
    assert now["mounts"] == before["mounts"]
    bench.edit(e.append("g", b"still writable"))


def test_lazily_from_under_a_reader(bench, hold):
    holder = hold(STAND, bench.path() / "d")
    bench.edit(e.append("f", b"kept"))
    expected = bench.see()
    assert bench.ws.umount("main", lazy=True) == [bench.path()]
    assert mounts(bench.root) == []
    assert os.listdir(bench.path()) == []
    # Two superblocks of one upper break each other, so it is not mounted anew until he leaves.
    before = bench.traces()
    with pytest.raises(errors.MountInUse) as caught:
        bench.ws.mount("main")
    one_sentence(caught.value)
    assert bench.traces() == before
    holder.end()
    bench.ws.mount("main")
    assert_same(bench.see(), expected)
    bench.edit(e.append("f", b"and on"))


def test_what_was_taken_off_lazily_is_read_only(bench, monkeypatch):
    monkeypatch.chdir(bench.path() / "d")
    bench.ws.umount("main", lazy=True)
    with open("x", "rb") as file:
        assert file.read() == b"x"
    with pytest.raises(OSError) as caught:
        os.open("x", os.O_WRONLY)
    assert caught.value.errno == errno.EROFS
    os.chdir("/")
    bench.ws.mount("main")
    assert bench.lines() == []
    bench.edit(e.append("d/x", b"writable"))


def test_lazily_never_from_under_a_writer(bench, hold):
    holder = hold(WRITE, bench.path() / "f")
    with pytest.raises(errors.WritersPresent) as caught:
        bench.ws.umount("main", lazy=True)
    one_sentence(caught.value)
    assert [process.pid for process in caught.value.processes] == [holder.pid]
    assert [point for point, _, _ in mounts(bench.root)] == [str(bench.path())]
    bench.edit(e.append("g", b"still writable"))


def test_a_refused_one_of_several_leaves_the_branch_usable(bench, hold):
    other = bench.root / "other"
    other.mkdir()
    subprocess.run(["mount", "--bind", bench.path(), other], check=True)
    hold(STAND, other / "d")
    with pytest.raises(errors.MountInUse):
        bench.ws.umount("main")
    where = bench.ws.mount("main").path
    e.append("f", b"still writable")(where)
    assert bench.ws.status("main").counts == {"M": 1}


def test_a_stranger_on_top_is_not_taken_off_for_it(bench):
    bench.ws.mount("main", at=bench.root / "view", read_only=True)
    for place in (bench.path(), bench.root / "view"):
        subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
        (place / "precious").write_bytes(b"x")
    before = bench.traces()
    for lazy in (False, True):
        with pytest.raises(errors.BusyError, match=f"tmpfs .*, at {bench.path()}$") as caught:
            bench.ws.umount("main", lazy=lazy)
        one_sentence(caught.value)
        for place in (bench.path(), bench.root / "view"):
            with pytest.raises(errors.BadPath, match=str(place)):
                bench.ws.umount(str(place), lazy=lazy)
    assert bench.traces() == before
    for place in (bench.path(), bench.root / "view"):
        assert (place / "precious").read_bytes() == b"x"
        subprocess.run(["umount", place], check=True)
    bench.edit(e.append("f", b"still writable"))
    bench.ws.umount("main")
    bench.ws.umount(str(bench.root / "view"))
    assert mounts(bench.root) == []

"""``rename``: the name and the mount move, and whoever works in the branch does not notice."""

from __future__ import annotations

import os
import subprocess

import pytest

from dsbranch import errors
from tests import edits as e
from tests.trees import Dir, File, assert_same, snapshot

from .conftest import Bench, command, mount_filesystem, mounts, one_sentence, rows

pytestmark = pytest.mark.root


def points(bench):
    return [point for point, _, _ in mounts(bench.root)]


def test_a_mounted_branch(bench):
    head = bench.commit(e.append("f", b"1"))
    bench.edit(e.append("f", b"2"), e.unlink("g"))
    view, upper = bench.see(), bench.upper()
    done = bench.ws.rename("main", "clean")
    assert (done.old, done.new, done.mountpoint, done.stale) == (
        "main",
        "clean",
        bench.path("clean"),
        (),
    )
    assert points(bench) == [str(bench.path("clean"))]
    assert not bench.path().exists()
    assert_same(bench.see("clean"), view)
    assert (bench.head("clean"), bench.upper("clean")) == (head, upper)
    assert [branch.name for branch in bench.ws.list()] == ["clean"]
    assert bench.lines(branch="clean") == ["M f", "D g"]
    assert [c.id for c in bench.ws.log("clean@{1}")] == [bench.ws.log("clean")[-1].id]
    bench.commit(branch="clean")
    assert_same(bench.see("clean"), view)


def test_it_is_one_operation_with_the_same_id(bench):
    before = bench.ws._context.store.branch("main")
    done = bench.ws.rename("main", "clean")
    (operation,) = bench.ws._context.store.operations(1)
    assert (operation.id, operation.verb, operation.detail) == (
        done.operation,
        "rename",
        "main to clean",
    )
    gone, made = operation.moves
    assert (gone.before, gone.after, made.before) == (before, None, None)
    assert made.after == bench.ws._context.store.branch("clean")
    assert made.after.id == before.id


def test_whoever_works_there_goes_on(bench, hold):
    holder = hold(
        "os.chdir(sys.argv[1]); held = open('../f', 'a', buffering=1)", bench.path() / "d"
    )
    bench.ws.rename("main", "clean")
    assert os.readlink(f"/proc/{holder.pid}/cwd") == str(bench.path("clean") / "d")
    with pytest.raises(errors.WritersPresent) as caught:
        bench.ws.commit("clean", "x")
    assert [process.pid for process in caught.value.processes] == [holder.pid]


def test_open_files_and_the_current_directory_stay(bench, monkeypatch):
    monkeypatch.chdir(bench.path() / "d")
    with open("x", "ab") as writer, (bench.path() / "f").open("rb") as reader:
        bench.ws.rename("main", "clean")
        writer.write(b"1")
        writer.flush()
        assert reader.read() == b"one\n"
    assert (bench.path("clean") / "d/x").read_bytes() == b"x1"
    assert bench.ws.current_branch() == "clean"


def test_below_a_shared_mount_the_kernel_moves_none(swept, hold):
    """As on most systems, where the root directory itself is shared."""
    shared = mount_filesystem("tmpfs", swept / "0")
    subprocess.run(["mount", "--make-shared", shared], check=True)
    bench = Bench(shared, Dir({"d": Dir({"x": File(b"x")}), "f": File()}))
    peer = hold("", before=["unshare", "-m", "--propagation", "unchanged"])
    holder = hold(
        "os.chdir(sys.argv[1]); held = open('x', 'ab', buffering=0)",
        bench.path() / "d",
        then="held.write(b'written')",
    )
    done = bench.ws.rename("main", "clean")
    assert [process.pid for process in done.stale] == [holder.pid]
    assert points(bench) == [str(bench.path("clean"))]
    assert not bench.path().exists()
    holder.go_on()
    assert (bench.path("clean") / "d/x").read_bytes() == b"xwritten"
    with pytest.raises(errors.WritersPresent):
        bench.ws.commit("clean", "x")
    inside = subprocess.run(
        ["cat", f"/proc/{peer.pid}/mountinfo"], capture_output=True, text=True, check=True
    ).stdout
    assert f" {bench.path('clean')} " in inside
    assert f" {bench.path()} " not in inside
    # The old mount is out of sight and alive: nothing may mount the layer a second time.
    bench.ws.umount("clean")
    with pytest.raises(errors.BusyError, match="in use"):
        bench.ws.mount("clean")
    holder.end()
    bench.ws.mount("clean")
    assert bench.lines(branch="clean") == ["M d/x"]
    bench.close()


def test_unmounted(bench):
    bench.edit(e.append("f", b"1"))
    view = bench.see()
    bench.ws.umount("main")
    assert bench.ws.rename("main", "clean").mountpoint is None
    assert points(bench) == []
    assert sorted(os.listdir(bench.place)) == [".dsbranch"]
    bench.ws.mount("clean")
    assert_same(bench.see("clean"), view)


def test_a_mount_elsewhere_stays(bench):
    bench.ws.umount("main")
    other = bench.root / "other"
    bench.ws.mount("main", at=other)
    assert bench.ws.rename("main", "clean").mountpoint == other
    assert points(bench) == [str(other)]
    e.append("f", b"1")(other)
    bench.ws.commit("clean", "x")
    assert points(bench) == [str(other)]


def test_bind_mounts_stay(bench):
    part = bench.root / "part"
    part.mkdir()
    command(["mount", "--bind", bench.path() / "d", part])
    bench.ws.rename("main", "clean")
    assert sorted(points(bench)) == sorted([str(bench.path("clean")), str(part)])
    (part / "new").touch()
    assert (bench.path("clean") / "d/new").exists()
    bench.ws.commit("clean", "x")
    assert (part / "new").exists()


def test_back_and_on(bench):
    view = bench.see()
    for old, new in [("main", "a"), ("a", "b"), ("b", "a"), ("a", "main")]:
        bench.ws.rename(old, new)
        assert points(bench) == [str(bench.path(new))]
        bench.reopen()
    assert_same(bench.see(), view)
    bench.ws.rename("main", "old")
    bench.ws.create("main", start="old")
    assert sorted(points(bench)) == sorted([str(bench.path("main")), str(bench.path("old"))])


def refused(bench, old, new, kind, words):
    before = bench.traces()
    with pytest.raises(kind, match=words) as caught:
        bench.ws.rename(old, new)
    one_sentence(caught.value)
    assert bench.traces() == before


def test_what_is_taken_or_cannot_be(bench):
    bench.ws.create("exp1", mount=False)
    refused(bench, "main", "exp1", errors.AlreadyExists, "a branch exp1 exists")
    refused(bench, "main", "main", errors.AlreadyExists, "a branch main exists")
    refused(bench, "main", "a/b", errors.BadName, "a slash")
    refused(bench, "mian", "x", errors.UnknownRef, "no branch mian")


@pytest.mark.parametrize("mounted", [True, False])
def test_something_lies_in_the_new_place(bench, mounted):
    (bench.place / "clean").mkdir()
    (bench.place / "clean" / "mine").touch()
    (bench.place / "file").touch()
    (bench.place / "free").mkdir()
    if not mounted:
        bench.ws.umount("main")
    refused(bench, "main", "clean", errors.AlreadyExists, "not empty")
    refused(bench, "main", "file", errors.AlreadyExists, "no directory")
    bench.ws.rename("main", "free")


def test_something_is_mounted_inside(bench):
    mount_filesystem("tmpfs", bench.path() / "d")
    refused(bench, "main", "clean", errors.BusyError, "tmpfs")
    command(["umount", bench.path() / "d"])
    bench.ws.rename("main", "clean")


def test_a_failing_record_changes_nothing(bench, monkeypatch):
    def fail(*arguments, **keywords):
        raise KeyboardInterrupt

    before = bench.traces()
    monkeypatch.setattr("dsbranch.store.writes.log", fail)
    with pytest.raises(KeyboardInterrupt):
        bench.ws.rename("main", "clean")
    monkeypatch.undo()
    assert bench.traces() == before


def test_a_mount_that_cannot_be_moved_is_told_and_moved_later(bench, monkeypatch):
    def refuse(*arguments, **keywords):
        raise errors.MountRefused("cannot move it", errno=1)

    monkeypatch.setattr("dsbranch.overlay.kernel.KernelDriver.move", refuse)
    with pytest.raises(errors.MountRefused, match=r"renamed to clean, but .*cannot move") as caught:
        bench.ws.rename("main", "clean")
    assert one_sentence(caught.value)
    monkeypatch.undo()
    assert points(bench) == [str(bench.path())]
    assert bench.ws.mount("clean").path == bench.path("clean")
    assert points(bench) == [str(bench.path("clean"))]


STEPS = [
    ("dsbranch.store.writes:log", "after", False),
    ("dsbranch.store.database:Store.record", "after", True),
    ("dsbranch.overlay.kernel:KernelDriver.move", "before", True),
    ("dsbranch.overlay.kernel:KernelDriver.move", "after", True),
    ("dsbranch.store.database:Store.record_mount", "after", True),
    ("dsbranch.ops.mounting:remove_mountpoint", "after", True),
]


@pytest.mark.parametrize(("target", "when", "done"), STEPS)
@pytest.mark.parametrize("next_verb", ["status", "commit", "rename", "umount"])
def test_killed(bench, target, when, done, next_verb):
    bench.edit(e.append("f", b"1"))
    view = bench.see()
    bench.killed("rename('main', 'clean')", target, when)
    name = "clean" if done else "main"
    assert [branch.name for branch in bench.ws.list()] == [name]
    if next_verb == "commit":
        bench.ws.commit(name, "x")
    elif next_verb == "rename":
        bench.ws.rename(name, "third")
        name = "third"
    elif next_verb == "umount":
        bench.ws.umount(name)
        assert points(bench) == []
        bench.ws.mount(name)
    else:
        bench.ws.status(name)
    assert points(bench) == [str(bench.path(name))]
    assert_same(bench.see(name), view)
    assert len(rows(bench.place)["mounts"]) <= 1
    bench.edit(e.append("f", b"2"), branch=name)
    bench.commit(branch=name)
    # An empty directory at most is left.
    for left in set(os.listdir(bench.place)) - {".dsbranch", name}:
        assert os.listdir(bench.place / left) == []


def test_killed_and_its_place_is_taken_meanwhile(bench):
    bench.killed("rename('main', 'clean')", "dsbranch.overlay.kernel:KernelDriver.move", "before")
    (bench.path("clean") / "mine").touch()
    assert bench.ws.status("clean").mountpoint == bench.path()
    e.append("f", b"1")(bench.path())
    bench.ws.commit("clean", "x")
    assert points(bench) == [str(bench.path())]
    (bench.path("clean") / "mine").unlink()
    bench.ws.status("clean")
    assert points(bench) == [str(bench.path("clean"))]
    assert snapshot(bench.path("clean"))[b"f"].content == b"one\n1"


def test_killed_and_something_is_mounted_inside_meanwhile(bench):
    bench.killed("rename('main', 'clean')", "dsbranch.overlay.kernel:KernelDriver.move", "before")
    guest = mount_filesystem("tmpfs", bench.path() / "d")
    (guest / "precious").touch()
    bench.ws.mount("clean")
    assert sorted(points(bench)) == sorted([str(bench.path()), str(guest)])
    assert (guest / "precious").exists()
    command(["umount", guest])
    bench.ws.mount("clean")
    assert points(bench) == [str(bench.path("clean"))]

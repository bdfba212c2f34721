"""``rollback``: a fresh open layer; what it replaces is kept."""

from __future__ import annotations

import errno
import os

import pytest

from dsbranch import errors
from tests import edits as e
from tests.trees import Dir, File, assert_same, snapshot

from .conftest import mounts, one_sentence, rows

pytestmark = pytest.mark.root


def test_to_the_head_drops_what_is_uncommitted_from_sight_and_keeps_it(bench):
    bench.commit(e.append("f", b"1"))
    committed = bench.see()
    bench.edit(e.append("f", b"2"), e.add("new", Dir({"in": File(b"precious")})), e.unlink("g"))
    old = bench.upper()
    done = bench.ws.rollback("main")
    assert_same(bench.see(), committed)
    assert bench.lines() == []
    assert (done.branch, done.head, done.mountpoint) == ("main", bench.head(), bench.path())
    assert done.counts == {"A": 2, "M": 1, "D": 1}
    assert (done.stale, done.elsewhere) == ((), ())
    assert bench.fs(done.kept_layer) == old
    assert (old / "new" / "in").read_bytes() == b"precious"
    assert (old / "f").read_bytes() == b"one\n12"
    (operation,) = bench.ws._context.store.operations(1)
    assert (operation.id, operation.verb) == (done.operation, "rollback")
    (move,) = operation.moves
    assert (move.name, move.before.layer) == ("main", done.kept_layer)
    assert move.after.layer == bench.upper().parent.name


def test_to_an_ancestor(bench):
    root = bench.head()
    first = bench.commit(e.append("f", b"1"), e.rename("d", "moved"))
    after_first = bench.see()
    bench.commit(e.append("f", b"2"), e.rmtree("moved"))
    done = bench.ws.rollback("main", "main~1")
    assert (done.head, done.counts) == (first, {})
    assert_same(bench.see(), after_first)
    assert [c.id for c in bench.ws.log("main")] == [first, root]
    bench.ws.rollback("main", root)
    assert_same(bench.see(), snapshot(bench.data))
    bench.edit(e.append("f", b"from here"))
    assert bench.lines("main") == ["M f"]


def test_and_back_again(bench):
    bench.commit(e.append("f", b"1"))
    second = bench.commit(e.append("f", b"2"))
    expected = bench.see()
    bench.ws.rollback("main", "main~2")
    assert bench.ws.rollback("main", "main@{1}").head == second
    assert_same(bench.see(), expected)


def test_to_a_commit_of_another_branch(bench):
    bench.ws.create("exp1")
    theirs = bench.commit(e.append("g", b"theirs"), e.rmtree("d"), branch="exp1")
    bench.commit(e.append("f", b"ours"))
    bench.ws.rollback("main", "exp1")
    assert bench.head() == theirs
    assert_same(bench.see(), bench.see("exp1"))
    bench.edit(e.append("f", b"on"))
    assert bench.lines() == ["M f"]
    assert bench.lines(branch="exp1") == []
    assert snapshot(bench.path("exp1"))[b"f"].content == b"one\n"


def test_what_was_replaced_is_still_a_commit(bench):
    lost = bench.commit(e.append("f", b"1"))
    view = bench.see()
    bench.ws.rollback("main", "main~1")
    assert_same(bench.view(lost), view)
    bench.ws.create("rescue", start=lost)
    assert_same(bench.see("rescue"), view)


def test_unmounted_and_elsewhere(bench):
    bench.commit(e.append("f", b"1"))
    bench.edit(e.append("f", b"2"))
    bench.ws.umount("main")
    assert bench.ws.rollback("main", "main~1").mountpoint is None
    assert mounts(bench.root) == []
    bench.ws.mount("main", at=bench.root / "other")
    assert_same(snapshot(bench.root / "other"), snapshot(bench.data))
    e.append("f", b"3")(bench.root / "other")
    assert bench.ws.rollback("main").mountpoint == bench.root / "other"
    assert_same(snapshot(bench.root / "other"), snapshot(bench.data))


def test_the_root_directory_is_that_of_the_target(adopt):
    bench = adopt(Dir({"f": File()}, mode=0o750, xattrs={"user.a": b"1"}))
    bench.commit(e.chmod("", 0o700), e.setxattr("", "user.a", b"2"))
    bench.ws.rollback("main", "main~1")
    assert bench.see()[b""] == snapshot(bench.data)[b""]
    assert bench.lines() == []


def test_readers_keep_the_old_view_read_only(bench, monkeypatch):
    bench.edit(e.append("d/x", b"1"))
    monkeypatch.chdir(bench.path() / "d")
    with (bench.path() / "f").open("rb") as reader:
        bench.ws.rollback("main")
        assert reader.read() == b"one\n"
    with open("x", "rb") as file:
        assert file.read() == b"x1"
    with pytest.raises(OSError) as caught:
        os.open("x", os.O_WRONLY)
    assert caught.value.errno == errno.EROFS
    assert (bench.path() / "d" / "x").read_bytes() == b"x"


def test_who_stands_there_is_told(bench, hold):
    holder = hold("os.chdir(sys.argv[1])", bench.path() / "d")
    assert [p.pid for p in bench.ws.rollback("main").stale] == [holder.pid]


def test_a_writer_stops_it(bench, hold):
    holder = hold("held = open(sys.argv[1], 'a')", bench.path() / "f")
    bench.edit(e.append("g", b"1"))
    before = bench.traces()
    with pytest.raises(errors.WritersPresent) as caught:
        bench.ws.rollback("main")
    one_sentence(caught.value)
    assert [p.pid for p in caught.value.processes] == [holder.pid]
    assert bench.traces() == before
    bench.edit(e.append("g", b"still writable"))


@pytest.mark.parametrize("to", ["nope", "main~9", "main@{7}", ""])
def test_to_nowhere(bench, to):
    bench.edit(e.append("f", b"1"))
    before = bench.traces()
    with pytest.raises(errors.UnknownRef) as caught:
        bench.ws.rollback("main", to)
    one_sentence(caught.value)
    assert bench.traces() == before
    bench.edit(e.append("f", b"still writable"))


@pytest.mark.parametrize(
    "step",
    [
        "dsbranch.ops.rollback.uncommitted_counts",
        "dsbranch.ops.layers.copy_root",
        "dsbranch.overlay.kernel.KernelDriver.prepare",
        "dsbranch.ops.layers.sync",
        "dsbranch.store.writes.log",
    ],
)
def test_a_failing_step_changes_nothing(bench, monkeypatch, step):
    bench.commit(e.append("f", b"0"))
    bench.edit(e.append("f", b"1"))
    before, stored = bench.see(), rows(bench.place)
    directories = sorted(os.listdir(bench.place / ".dsbranch" / "layers"))

    def fail(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(step, fail)
    with pytest.raises(KeyboardInterrupt):
        bench.ws.rollback("main", "main~1")
    monkeypatch.undo()
    assert rows(bench.place) == stored
    assert sorted(os.listdir(bench.place / ".dsbranch" / "layers")) == directories
    assert_same(bench.see(), before)
    bench.edit(e.append("g", b"writable"))
    assert bench.ws.rollback("main").counts == {"M": 2}

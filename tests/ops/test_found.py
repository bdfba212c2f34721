"""What random histories found (test_stateful.py), each as short as it got."""

from __future__ import annotations

import os

import pytest

from dsbranch import errors
from dsbranch.store import sweep
from tests import edits as e
from tests.trees import Dir, File, assert_same, snapshot

pytestmark = pytest.mark.root


def test_an_empty_range_in_a_directory_has_the_root_of_the_view(adopt):
    bench = adopt(Dir({}, mode=0o750, gid=3, xattrs={"user.root": b"r"}))
    bench.ws.export("main..main", bench.root / "out")
    (bench.root / "out/.wh..wh.dsbranch").unlink()
    assert_same(snapshot(bench.root / "out"), bench.see())


def checkpoint_in_two_parts(bench):
    """A file's metadata and its data come from two commits that a checkpoint stands for."""
    bench.commit(e.write("f", b"longer than before"))
    bench.commit(e.chmod("f", 0o600))
    for number in range(6):
        bench.commit(e.write("g", b"%d" % number))
    store = bench.ws._context.store
    with store.snapshot():
        assert [c for c in sweep.history(store).checkpoints if c.data is not None]


def test_verify_reads_both_parts_of_a_checkpoint(bench):
    checkpoint_in_two_parts(bench)
    assert bench.ws.verify(full=True).findings == ()


def test_gc_keeps_both_parts_of_a_checkpoint(bench):
    checkpoint_in_two_parts(bench)
    before = bench.see()
    assert bench.ws.gc(keep=0).layers == ()
    bench.ws.umount("main")
    bench.ws.gc(keep=0)
    bench.ws.mount("main")
    assert_same(bench.see(), before)
    assert bench.ws.verify(full=True).findings == ()


def test_gc_takes_a_merge_that_was_undone(bench):
    """The branch is back on the layer that the merge had replaced, which is no old view."""
    bench.ws.create("other")
    theirs = bench.commit(e.write("theirs", b"1"), branch="other")
    bench.commit(e.write("ours", b"1"))
    merged = bench.ws.merge(theirs, into="main").commit.id
    bench.ws.undo()
    assert [commit.id for commit in bench.ws.gc(keep=0).commits] == [merged]
    with pytest.raises(errors.ConflictError, match="nothing to undo"):
        bench.ws.undo()


def test_gc_takes_what_a_rollback_that_was_undone_led_to(bench):
    start = bench.head()
    bench.ws.create("other")
    bench.commit(e.write("f", b"1"))
    gone = bench.commit(e.write("f", b"2"), branch="other")
    bench.ws.rollback("main", gone)
    bench.ws.undo()
    bench.ws.rollback("other", start)
    assert [commit.id for commit in bench.ws.gc(keep=0).commits] == [gone]


@pytest.mark.parametrize(
    ("dialect", "kept", "lines"),
    [("trusted", {"a", "b", "f"}, ["D a", "M f", "A t"]), ("user", {"f"}, ["M f", "R t < a"])],
)
def test_equal_files_that_were_exchanged(adopt, monkeypatch, dialect, kept, lines):
    """A copy either tells where its data lie, or equals what it covers: then it never moved."""
    monkeypatch.setattr("dsbranch.ops.init.probe_store", lambda *_: dialect)
    same = File(b"same")
    bench = adopt(Dir({"a": same, "b": same, "f": File(b"1")}))
    id = bench.commit(e.exchange("a", "b"), e.write("f", b"2"))
    assert set(os.listdir(bench.fs(bench.ws._context.store.stack(id)[0]))) == kept
    bench.edit(e.rename("a", "t"), e.write("t", b"other"))
    assert bench.lines("main") == lines

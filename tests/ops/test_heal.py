"""Commands killed at each of their steps: the next one finds the old state or the new."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
import time

import pytest

from dsbranch import errors
from dsbranch.ops.freezing import frozen
from dsbranch.store.database import Store
from dsbranch.store.lock import branch_lock
from tests import children
from tests import edits as e
from tests.trees import Dir, File, assert_same, snapshot

from .conftest import mounts, one_sentence, rows

pytestmark = pytest.mark.root

STORE = "dsbranch.store.database:Store."
PREPARED = "dsbranch.overlay.kernel:KernelPrepared."
DRIVER = "dsbranch.overlay.kernel:KernelDriver."

BEFORE_COMMIT = [
    (DRIVER + "set_read_only", "before"),
    (DRIVER + "set_read_only", "after"),
    ("dsbranch.ops.commit:_examine", "after"),
    ("dsbranch.ops.layers:write_manifest", "after"),
    ("dsbranch.ops.layers:copy_root", "before"),
    (DRIVER + "prepare", "after"),
    ("dsbranch.ops.layers:sync", "after"),
    (STORE + "record", "before"),
    ("dsbranch.store.writes:insert_commit", "after"),
    ("dsbranch.store.writes:log", "after"),
]
AFTER_COMMIT = [
    (STORE + "record", "after"),
    ("dsbranch._core.seal:strip", "before"),
    ("dsbranch._core.seal:strip", "after"),
    ("dsbranch.ops.mounting:settle", "before"),
    (PREPARED + "attach", "before"),
    (PREPARED + "attach", "after"),
    (STORE + "record_mount", "after"),
    (DRIVER + "detach", "before"),
    (DRIVER + "detach", "after"),
    (STORE + "drop_mount", "after"),
    ("dsbranch.ops.layers:drop_workdir_if_sealed", "before"),
]


def ids(point: tuple[str, str]) -> str:
    return f"{point[1]}-{point[0].rpartition(':')[2]}"


EDITS = (
    e.append("f", b"1"),
    e.add("new", Dir({"in": File(b"in")})),
    e.unlink("g"),
    e.rename("d", "moved"),
    e.open_and_close("e/m"),
)


def healthy(bench, view):
    """One writable mount of the branch, which shows `view`; all of it works."""
    assert_same(bench.see(), view)
    layer = bench.upper().parent.name
    ours = mounts(bench.root)
    assert [(p, s.rpartition(":")[2]) for p, s, _ in ours] == [(str(bench.path()), layer)]
    assert "rw" in ours[0][2].split(",")
    records = rows(bench.place)["mounts"]
    assert len(records) <= 1
    bench.edit(e.add("after", File(b"a")))
    assert os.path.exists(bench.upper() / "after")
    assert "A after" in bench.lines()
    bench.ws.commit("main", "after")
    bench.edit(e.unlink("after"))
    bench.ws.commit("main", "without")
    assert_same(bench.see(), view)


@pytest.mark.parametrize("point", BEFORE_COMMIT, ids=ids)
def test_a_commit_killed_before_the_transaction(bench, point):
    bench.commit(e.append("f", b"0"))
    head = bench.head()
    bench.edit(*EDITS)
    view = bench.see()
    changes = bench.lines()
    bench.killed("commit('main', 'x')", *point)
    assert bench.head() == head
    # Reading shows the old state and needs no healing.
    assert bench.lines() == changes
    assert_same(bench.see(), view)
    # The next command heals, even one that has nothing to do.
    assert bench.ws.mount("main").already
    assert bench.lines() == changes
    healthy(bench, view)


@pytest.mark.parametrize("point", AFTER_COMMIT, ids=ids)
def test_a_commit_killed_after_the_transaction(bench, point):
    bench.edit(*EDITS)
    view = bench.see()
    bench.killed("commit('main', 'x')", *point)
    assert bench.ws.log("main")[0].message == "x"
    assert bench.lines() == []
    assert_same(bench.see(), view)
    assert bench.ws.mount("main").path == bench.path()
    sealed = bench.fs(bench.ws.log("main")[0].layer)
    assert "trusted.overlay.origin" not in os.listxattr(sealed / "f")
    healthy(bench, view)


@pytest.mark.parametrize("point", AFTER_COMMIT[:7], ids=ids)
def test_the_next_command_is_another_commit(bench, point):
    bench.edit(*EDITS)
    view = bench.see()
    bench.killed("commit('main', 'x')", *point)
    with pytest.raises(errors.NothingToCommit):
        bench.ws.commit("main", "y")
    healthy(bench, view)


@pytest.mark.parametrize("point", [BEFORE_COMMIT[3], *AFTER_COMMIT[:4]], ids=ids)
def test_the_next_command_only_looks(bench, point):
    bench.edit(*EDITS)
    view = bench.see()
    bench.killed("commit('main', 'x')", *point)
    assert bench.ws.status("main").mounted
    assert not os.statvfs(bench.path()).f_flag & os.ST_RDONLY
    healthy(bench, view)


def test_whoever_looks_leaves_a_command_at_work_alone(bench):
    bench.edit(e.append("f", b"1"))
    branch = bench.ws._context.store.branch("main")
    with (
        branch_lock(bench.ws._context.layout, branch.id, verb="commit main"),
        frozen(bench.ws._context, branch, 0.0),
    ):
        started = time.monotonic()
        assert bench.ws.status("main").counts == {"M": 1}
        assert time.monotonic() - started < 1
        assert os.statvfs(bench.path()).f_flag & os.ST_RDONLY


@pytest.mark.parametrize("point", [BEFORE_COMMIT[3], AFTER_COMMIT[2], AFTER_COMMIT[3]], ids=ids)
def test_the_next_command_is_umount(bench, point):
    bench.edit(*EDITS)
    view = bench.see()
    bench.killed("commit('main', 'x')", *point)
    bench.ws.umount("main")
    assert mounts(bench.root) == []
    bench.ws.mount("main")
    healthy(bench, view)


@pytest.mark.parametrize("point", [AFTER_COMMIT[0], AFTER_COMMIT[3]], ids=ids)
def test_a_shell_stands_inside_meanwhile(bench, hold, point):
    hold("os.chdir(sys.argv[1])", bench.path() / "d")
    bench.edit(e.append("f", b"1"))
    view = bench.see()
    bench.killed("commit('main', 'x')", *point)
    bench.ws.mount("main")
    healthy(bench, view)


def test_mounted_elsewhere_killed_before_the_swap(bench):
    bench.ws.umount("main")
    other = bench.root / "other"
    bench.ws.mount("main", at=other)
    e.append("f", b"1")(other)
    view = snapshot(other)
    bench.killed("commit('main', 'x')", PREPARED + "attach", "before")
    assert bench.ws.mount("main").path == other
    assert_same(snapshot(other), view)
    e.append("f", b"2")(other)
    assert bench.lines() == ["M f"]
    assert [point for point, _, _ in mounts(bench.root)] == [str(other)]


ROLLBACK = [
    (DRIVER + "set_read_only", "after"),
    ("dsbranch.ops.layers:copy_root", "after"),
    (STORE + "record", "before"),
    (STORE + "record", "after"),
    (PREPARED + "attach", "before"),
    (PREPARED + "attach", "after"),
    (DRIVER + "detach", "after"),
]


@pytest.mark.parametrize("point", ROLLBACK, ids=ids)
def test_a_rollback(bench, point):
    root = bench.head()
    head = bench.commit(*EDITS)
    bench.edit(e.append("f", b"uncommitted"))
    old, uncommitted = bench.upper(), bench.see()
    done = ROLLBACK.index(point) >= 3
    bench.killed(f"rollback('main', {root!r})", *point)
    assert bench.head() == (root if done else head)
    assert (old / "f").read_bytes() == b"one\n1uncommitted"
    assert bench.ws.mount("main").path == bench.path()
    healthy(bench, snapshot(bench.data) if done else uncommitted)


SQUASH = [
    ("dsbranch.ops.build:built", "after"),
    (DRIVER + "set_read_only", "after"),
    (DRIVER + "prepare", "after"),
    (STORE + "record", "before"),
    (STORE + "record", "after"),
    (PREPARED + "attach", "before"),
    (PREPARED + "attach", "after"),
    (DRIVER + "detach", "after"),
]


@pytest.mark.parametrize("point", SQUASH, ids=ids)
def test_a_squash(bench, point):
    bench.commit(*EDITS)
    bench.commit(e.append("f", b"2"), e.recreate("e", Dir({"m": File(b"m2")})))
    view = bench.see()
    bench.killed("squash('main')", *point)
    assert len(bench.ws.log("main")) == (2 if SQUASH.index(point) >= 4 else 3)
    bench.ws.mount("main")
    healthy(bench, view)


CREATE = [
    ("dsbranch.ops.layers:copy_root", "after"),
    (DRIVER + "prepare", "after"),
    (STORE + "record", "before"),
    (STORE + "record", "after"),
    (PREPARED + "attach", "after"),
]


@pytest.mark.parametrize("point", CREATE, ids=ids)
def test_a_create(bench, point):
    bench.edit(e.append("f", b"mine"))
    main = bench.see()
    bench.killed("create('exp1')", *point)
    made = CREATE.index(point) >= 3
    assert [b.name for b in bench.ws.list()] == (["exp1", "main"] if made else ["main"])
    if made:
        bench.ws.mount("exp1")
    else:
        bench.ws.create("exp1")
    assert_same(bench.see("exp1"), snapshot(bench.data))
    bench.edit(e.append("g", b"x"), branch="exp1")
    bench.commit(branch="exp1")
    assert_same(bench.see(), main)


def test_garbage_of_a_killed_command_is_in_nobodys_way(bench):
    bench.edit(*EDITS)
    view = bench.see()
    for point in BEFORE_COMMIT[3:6]:
        bench.killed("commit('main', 'x')", *point)
    known = {row.split("'")[1] for row in rows(bench.place)["layers"]}
    there = set(os.listdir(bench.place / ".dsbranch" / "layers"))
    assert known < there
    bench.ws.mount("main")
    healthy(bench, view)


def test_the_old_view_was_taken_off_by_hand(bench):
    bench.edit(*EDITS)
    view = bench.see()
    bench.killed("commit('main', 'x')", PREPARED + "attach", "before")
    subprocess.run(["umount", bench.path()], check=True)
    assert not bench.ws.list()[0].mounted
    bench.ws.mount("main")
    healthy(bench, view)


def test_two_kills_in_a_row(bench):
    bench.edit(*EDITS)
    view = bench.see()
    bench.killed("commit('main', 'x')", STORE + "record", "after")
    bench.killed("commit('main', 'y')", PREPARED + "attach", "after")
    bench.ws.mount("main")
    healthy(bench, view)


def test_a_frozen_mount_and_a_writer_that_could_not_write_loses_nothing(bench):
    bench.edit(*EDITS)
    bench.killed("commit('main', 'x')", STORE + "record", "before")
    with pytest.raises(OSError, match="Read-only"):
        bench.edit(e.append("f", b"2"))
    bench.ws.mount("main")
    bench.edit(e.append("f", b"2"))
    assert (bench.path() / "f").read_bytes() == b"one\n12"


INTERRUPTED = {
    "commit": lambda ws: ws.commit("main", "x"),
    "rollback": lambda ws: ws.rollback("main", "main~2"),
    "squash": lambda ws: ws.squash("main"),
    "create": lambda ws: ws.create("exp1"),
    "create unmounted": lambda ws: ws.create("exp1", mount=False),
}


@pytest.mark.parametrize("verb", INTERRUPTED)
@pytest.mark.parametrize("mounted", [True, False])
def test_interrupted_right_after_the_transaction(bench, monkeypatch, verb, mounted):
    """Ctrl-C can come between the transaction and the next line of the program."""
    bench.commit(e.append("g", b"1"))
    bench.commit(e.append("g", b"2"))
    if verb != "squash":
        bench.edit(e.append("f", b"3"), e.rename("d", "moved"))
    view = bench.see() if verb != "rollback" else snapshot(bench.data)
    if not mounted:
        bench.ws.umount("main")
    real = Store.record

    def interrupted(*arguments, **keywords):
        real(*arguments, **keywords)
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        INTERRUPTED[verb](bench.ws)
    monkeypatch.undo()
    bench.reopen()
    for branch in bench.ws.list():
        assert bench.upper(branch.name).is_dir(), branch.name
    # A sealed layer is not writable through anything.
    for _, source, options in mounts(bench.root):
        layer = source.rpartition(":")[2]
        if bench.ws._context.store.layer(layer).state == "sealed":
            assert "ro" in options.split(",")
    bench.ws.mount("main")
    if verb.startswith("create"):
        bench.ws.mount("exp1")
        bench.ws.delete("exp1")
    healthy(bench, view)


@pytest.mark.parametrize("verb", ["commit", "rollback", "squash"])
@pytest.mark.parametrize(
    "step", ["attach", "detach", "drop_mount", "record_mount", "find_standing", "other_namespaces"]
)
def test_a_failure_after_the_transaction(bench, monkeypatch, verb, step):
    bench.commit(e.append("g", b"1"))
    bench.commit(e.append("g", b"2"))
    if verb != "squash":
        bench.edit(e.append("f", b"3"))
    view = bench.see() if verb != "rollback" else snapshot(bench.data)
    place = {
        "attach": "dsbranch.overlay.kernel.KernelPrepared.attach",
        "detach": "dsbranch.overlay.kernel.KernelDriver.detach",
        "drop_mount": "dsbranch.store.database.Store.drop_mount",
        "record_mount": "dsbranch.store.database.Store.record_mount",
        "find_standing": "dsbranch.overlay.writers.find_standing",
        "other_namespaces": "dsbranch.overlay.mountinfo.other_namespaces",
    }[step]

    def fail(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(place, fail)
    with pytest.raises(KeyboardInterrupt):
        INTERRUPTED[verb](bench.ws)
    monkeypatch.undo()
    bench.reopen()
    bench.ws.mount("main")
    healthy(bench, view)


@pytest.mark.parametrize("where", ["d", ""])
def test_what_was_mounted_on_the_old_view_meanwhile_is_not_torn_away(bench, where):
    bench.edit(e.append("f", b"1"))
    view = bench.see()
    bench.killed("commit('main', 'x')", STORE + "record", "after")
    guest = bench.path() / where
    subprocess.run(["mount", "-t", "tmpfs", "none", guest], check=True)
    (guest / "precious").write_bytes(b"x")
    with pytest.raises(errors.BusyError, match="tmpfs"):
        bench.ws.mount("main")
    assert (guest / "precious").read_bytes() == b"x"
    subprocess.run(["umount", guest], check=True)
    bench.ws.mount("main")
    healthy(bench, view)


def test_another_namespace_has_committed(bench, hold):
    """The new view is there only; showing it here too would be a second superblock."""
    bench.edit(e.append("f", b"1"))
    view = bench.see()
    holder = hold("", before=["unshare", "-m", "--propagation", "private"])
    subprocess.run(
        ["nsenter", "-t", str(holder.pid), "-m", sys.executable, "-P", "-c", COMMIT, bench.place],
        check=True,
        env=children.environment(),
    )
    bench.reopen()
    assert bench.ws.log("main")[0].message == "there"
    before = bench.traces()
    with pytest.raises(errors.BusyError, match=f"pid {holder.pid}"):
        bench.ws.mount("main")
    assert bench.traces() == before
    holder.end()
    bench.ws.mount("main")
    assert_same(bench.see(), view)
    bench.edit(e.append("f", b"2"))
    assert bench.lines() == ["M f"]
    assert len(mounts(bench.root)) == 1


COMMIT = "import sys, dsbranch; dsbranch.open(sys.argv[1]).commit('main', 'there')"


class FailingCommit:
    """A SQLite handle whose COMMIT reports an error, whether the next reader sees its writes
    or not."""

    def __init__(self, real, *, done):
        self.real = real
        self.done = done

    def __getattr__(self, name):
        return getattr(self.real, name)

    def execute(self, sql, *values):
        if sql != "COMMIT":
            return self.real.execute(sql, *values)
        if self.done:
            self.real.execute(sql)
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error


@pytest.mark.parametrize("verb", INTERRUPTED)
def test_a_transaction_that_is_said_to_have_failed_and_has_not(bench, verb):
    bench.commit(e.append("g", b"1"))
    bench.commit(e.append("g", b"2"))
    if verb != "squash":
        bench.edit(e.append("f", b"3"), e.rename("d", "moved"))
    view = bench.see() if verb != "rollback" else snapshot(bench.data)
    db = bench.ws._context.store._db
    db._sqlite = FailingCommit(db._sqlite, done=True)
    with pytest.raises(errors.StorageError, match=r"store\.db"):
        INTERRUPTED[verb](bench.ws)
    bench.reopen()
    for branch in bench.ws.list():
        assert bench.upper(branch.name).is_dir(), branch.name
    for _, source, options in mounts(bench.root):
        if bench.ws._context.store.layer(source.rpartition(":")[2]).state == "sealed":
            assert "ro" in options.split(",")
    bench.ws.mount("main")
    if verb.startswith("create"):
        bench.ws.mount("exp1")
        bench.ws.delete("exp1")
    healthy(bench, view)


@pytest.mark.parametrize("verb", INTERRUPTED)
def test_a_transaction_that_failed_at_its_end_removes_nothing(bench, verb):
    """This process cannot know whether the next one will find the layer's row."""
    bench.commit(e.append("g", b"1"))
    bench.commit(e.append("g", b"2"))
    if verb != "squash":
        bench.edit(e.append("f", b"3"))
    view = bench.see()
    before = set(os.listdir(bench.place / ".dsbranch" / "layers"))
    db = bench.ws._context.store._db
    db._sqlite = FailingCommit(db._sqlite, done=False)
    with pytest.raises(errors.StorageError) as caught:
        INTERRUPTED[verb](bench.ws)
    if verb in ("commit", "rollback", "squash"):
        assert f"{bench.path()} stays read-only until the next command" in caught.value.hint
    assert set(os.listdir(bench.place / ".dsbranch" / "layers")) > before
    bench.reopen()
    assert [branch.name for branch in bench.ws.list()] == ["main"]
    bench.ws.mount("main")
    healthy(bench, view)


@pytest.mark.parametrize(
    ("verb", "done"),
    [("commit", "commit .* was made"), ("rollback", "rolled back"), ("squash", "squashed")],
)
def test_a_new_view_that_is_refused_is_told_as_what_it_is(bench, monkeypatch, verb, done):
    bench.commit(e.append("g", b"1"))
    bench.commit(e.append("g", b"2"))
    if verb != "squash":
        bench.edit(e.append("f", b"3"))
    view = bench.see() if verb != "rollback" else snapshot(bench.data)

    def refuse(*arguments, **keywords):
        raise errors.MountRefused("cannot mount beneath it", errno=22)

    monkeypatch.setattr("dsbranch.overlay.kernel.KernelPrepared.attach", refuse)
    with pytest.raises(errors.MountRefused, match=f"{done}, .*old view.*beneath it") as caught:
        INTERRUPTED[verb](bench.ws)
    assert "`dsbranch mount main`" in one_sentence_hint(caught.value)
    monkeypatch.undo()
    bench.reopen()
    bench.ws.mount("main")
    healthy(bench, view)


def one_sentence_hint(error):
    one_sentence(error)
    return error.hint


@pytest.mark.parametrize("verb", ["commit", "rollback", "squash"])
def test_who_stands_where_is_no_reason_to_fail(bench, monkeypatch, verb):
    bench.commit(e.append("g", b"1"))
    bench.commit(e.append("g", b"2"))
    if verb != "squash":
        bench.edit(e.append("f", b"3"))
    view = bench.see() if verb != "rollback" else snapshot(bench.data)

    def fail(*arguments):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("dsbranch.overlay.writers.find_standing", fail)
    monkeypatch.setattr("dsbranch.overlay.mountinfo.other_namespaces", fail)
    monkeypatch.setattr("dsbranch.ops.views.require_nowhere_else", lambda *_: None)
    INTERRUPTED[verb](bench.ws)
    monkeypatch.undo()
    healthy(bench, view)


@pytest.mark.parametrize("done", [True, False])
def test_a_record_that_could_not_be_kept_casts_no_doubt_on_the_next_command(bench, done):
    bench.ws.umount("main")
    db = bench.ws._context.store._db
    real, db._sqlite = db._sqlite, FailingCommit(db._sqlite, done=done)
    bench.ws.mount("main")
    db._sqlite = real
    with pytest.raises(errors.NothingToCommit):
        bench.ws.commit("main", "x")
    bench.edit(e.append("f", b"still writable"))


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_bind_mount_of_a_part_that_had_not_followed(bench, moment):
    part = bench.root / "part"
    part.mkdir()
    subprocess.run(["mount", "--bind", bench.path() / "d", part], check=True)
    bench.edit(e.append("f", b"1"))
    view = bench.see()
    bench.killed("commit('main', 'x')", DRIVER + "bind", moment)
    bench.ws.status("main")
    assert_same(bench.see(), view)
    (part / "new").touch()
    assert (bench.path() / "d/new").exists()
    assert [point for point, _, _ in mounts(bench.root)].count(str(part)) == 1
    bench.ws.umount("main")
    assert mounts(bench.root) == []

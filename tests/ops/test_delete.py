"""``delete``: a name goes, nothing that only it held goes unasked."""

from __future__ import annotations

import pytest

from dsbranch import errors
from tests import edits as e
from tests.trees import assert_same, snapshot

from .conftest import command, mount_filesystem, mounts, one_sentence, rows

pytestmark = pytest.mark.root


def test_a_branch_that_holds_nothing_of_its_own(bench):
    bench.commit(e.append("f", b"1"))
    bench.ws.create("exp1")
    head, layer = bench.head("exp1"), bench.upper("exp1").parent.name
    done = bench.ws.delete("exp1")
    assert (done.branch, done.head, done.kept_layer) == ("exp1", head, layer)
    (operation,) = bench.ws._context.store.operations(1)
    assert (operation.id, operation.verb) == (done.operation, "delete")
    assert [(m.name, m.before.layer, m.after) for m in operation.moves] == [("exp1", layer, None)]
    assert [b.name for b in bench.ws.list()] == ["main"]
    assert not bench.path("exp1").exists()
    assert [point for point, _, _ in mounts(bench.root)] == [str(bench.path())]
    bench.ws.create("exp1")
    assert_same(bench.see("exp1"), bench.see())


def test_a_merged_ancestor_is_reached_by_another_branch(bench):
    bench.ws.create("exp1")
    bench.commit(e.append("f", b"1"), branch="exp1")
    bench.ws.rollback("main", "exp1")
    bench.commit(e.append("g", b"2"))
    bench.ws.delete("exp1")
    assert [b.name for b in bench.ws.list()] == ["main"]


def refused(bench, name, kind, words):
    before = bench.traces()
    with pytest.raises(kind, match=words) as caught:
        bench.ws.delete(name)
    one_sentence(caught.value)
    assert bench.traces() == before
    return caught.value


def test_uncommitted_changes_stop_it_unless_forced(bench):
    bench.ws.create("exp1")
    bench.edit(e.append("f", b"precious"), e.unlink("g"), branch="exp1")
    upper = bench.upper("exp1")
    error = refused(bench, "exp1", errors.DirtyBranch, "2 uncommitted changes")
    assert error.exit_code == 3
    done = bench.ws.delete("exp1", force=True)
    assert bench.fs(done.kept_layer) == upper
    assert (upper / "f").read_bytes() == b"one\nprecious"
    assert not bench.path("exp1").exists()


def test_uncommitted_changes_of_an_unmounted_branch_count(bench):
    bench.ws.create("exp1")
    bench.edit(e.append("f", b"precious"), branch="exp1")
    bench.ws.umount("exp1")
    refused(bench, "exp1", errors.DirtyBranch, "uncommitted")


def test_commits_that_nothing_else_reaches_stop_it_unless_forced(bench):
    bench.ws.create("exp1")
    head = bench.commit(e.append("f", b"1"), branch="exp1")
    view = bench.see("exp1")
    error = refused(bench, "exp1", errors.ConflictError, "on no other branch")
    assert error.exit_code == 3
    bench.ws.delete("exp1", force=True)
    bench.ws.create("rescue", start=head)
    assert_same(bench.see("rescue"), view)


def test_idle_copy_ups_do_not_stop_it(bench):
    bench.ws.create("exp1")
    bench.edit(e.open_and_close("f"), branch="exp1")
    bench.ws.delete("exp1")


def test_the_only_branch(bench):
    refused(bench, "main", errors.ConflictError, "only branch")
    with pytest.raises(errors.ConflictError):
        bench.ws.delete("main", force=True)
    assert_same(bench.see(), snapshot(bench.data))


def test_main_is_a_branch_like_others(bench):
    bench.ws.create("exp1")
    bench.ws.delete("main")
    assert [b.name for b in bench.ws.list()] == ["exp1"]
    bench.reopen()
    bench.ws.create("main", start="exp1")
    assert_same(bench.see(), snapshot(bench.data))


def test_no_such_branch(bench):
    error = refused(bench, "mian", errors.UnknownRef, "no branch mian")
    assert error.suggestions == ("main",)


@pytest.mark.parametrize("force", [False, True])
def test_in_use(bench, hold, force):
    bench.ws.create("exp1")
    holder = hold("os.chdir(sys.argv[1])", bench.path("exp1") / "d")
    before = bench.traces()
    with pytest.raises(errors.MountInUse) as caught:
        bench.ws.delete("exp1", force=force)
    one_sentence(caught.value)
    assert [p.pid for p in caught.value.processes] == [holder.pid]
    assert bench.traces() == before
    bench.edit(e.append("f", b"still writable"), branch="exp1")


def test_mounted_in_another_namespace(bench, hold):
    bench.ws.create("exp1")
    holder = hold("", before=["unshare", "-m", "--propagation", "private"])
    before = bench.traces()
    with pytest.raises(errors.BusyError, match=f"pid {holder.pid}") as caught:
        bench.ws.delete("exp1")
    one_sentence(caught.value)
    assert bench.traces() == before


def test_mounted_elsewhere_and_its_directory_not_empty(bench):
    bench.ws.create("exp1", mount=False)
    bench.ws.mount("exp1", at=bench.root / "other")
    bench.path("exp1").mkdir()
    (bench.path("exp1") / "mine").touch()
    bench.ws.delete("exp1")
    assert (bench.path("exp1") / "mine").exists()
    assert [point for point, _, _ in mounts(bench.root)] == [str(bench.path())]


def test_killed_after_the_mount_is_gone(bench):
    bench.ws.create("exp1")
    bench.killed("delete('exp1')", "dsbranch.store.database:Store.record", "before")
    assert [b.name for b in bench.ws.list()] == ["exp1", "main"]
    bench.ws.mount("exp1")
    bench.killed("delete('exp1')", "dsbranch.store.database:Store.record", "after")
    assert [b.name for b in bench.ws.list()] == ["main"]
    bench.ws.create("exp1")
    assert_same(bench.see("exp1"), snapshot(bench.data))


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("where", ["d", ""])
def test_a_stranger_on_top_is_not_taken_off_for_it(bench, force, where):
    bench.ws.create("exp1")
    guest = bench.path("exp1") / where
    mount_filesystem("tmpfs", guest)
    (guest / "precious").write_bytes(b"x")
    before = bench.traces()
    with pytest.raises(errors.BusyError, match=f"tmpfs .*, at {guest}$") as caught:
        bench.ws.delete("exp1", force=force)
    one_sentence(caught.value)
    assert bench.traces() == before
    assert (guest / "precious").read_bytes() == b"x"
    command(["umount", guest])
    bench.ws.delete("exp1", force=force)
    assert [point for point, _, _ in mounts(bench.root)] == [str(bench.path())]


def test_another_command_makes_a_name(bench, hold, monkeypatch):
    bench.ws.create("exp1")
    monkeypatch.setattr("dsbranch.ops.delete.PATIENCE_SECONDS", 0.2)
    lock = bench.place / ".dsbranch" / "locks" / "names"
    hold(
        "import fcntl\nheld = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "fcntl.flock(held, fcntl.LOCK_EX)",
        lock,
    )
    before = bench.traces()
    with pytest.raises(errors.Locked) as caught:
        bench.ws.delete("exp1")
    one_sentence(caught.value)
    assert caught.value.exit_code == 4
    assert bench.traces() == before


@pytest.mark.parametrize("force", [False, True])
def test_a_view_that_was_detached_by_hand_and_is_still_written_to(bench, hold, force):
    bench.ws.create("exp1")
    holder = hold("held = open(sys.argv[1], 'a')", bench.path("exp1") / "f")
    command(["umount", "-l", bench.path("exp1")])
    before = rows(bench.place)
    with pytest.raises(errors.MountInUse, match="in use") as caught:
        bench.ws.delete("exp1", force=force)
    one_sentence(caught.value)
    assert rows(bench.place) == before
    holder.end()
    bench.ws.delete("exp1", force=force)
    assert [branch.name for branch in bench.ws.list()] == ["main"]

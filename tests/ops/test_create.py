"""``create``: a fork for the price of two directories."""

from __future__ import annotations

import errno
import os
import subprocess
from contextlib import closing

import pytest

import dsbranch
from dsbranch import errors
from dsbranch._core import syscalls
from dsbranch.overlay.kernel import KernelPrepared
from dsbranch.store.database import Store
from tests import edits as e
from tests.trees import Dir, File, acl, assert_same, make, snapshot

from .conftest import mounts, one_sentence

pytestmark = pytest.mark.root


def test_a_branch_of_main(bench):
    created = bench.ws.create("exp1")
    assert created.branch.name == "exp1"
    assert created.branch.head == created.branch.fork == bench.head()
    assert created.mountpoint == bench.path("exp1")
    assert created.dirty_source is None
    assert_same(bench.see("exp1"), snapshot(bench.data))
    assert os.listdir(bench.upper("exp1")) == []
    assert bench.upper("exp1") != bench.upper("main")
    with closing(Store.open(bench.place)) as store:
        (record,) = store.records_for_layer(created.branch.layer)
    assert record.path == created.mountpoint
    assert record.mount_id == syscalls.mount_id(os.fsencode(created.mountpoint))


def test_branches_do_not_see_each_other(bench):
    bench.ws.create("exp1")
    bench.edit(e.append("f", b"main"), e.unlink("g"))
    bench.edit(e.append("f", b"exp1"), e.rename("d", "moved"), branch="exp1")
    assert bench.lines() == ["M f", "D g"]
    assert bench.lines("exp1") == ["M f", "R moved < d"]
    assert snapshot(bench.data)[b"f"].content == b"one\n"


def test_uncommitted_changes_stay_with_the_source(bench):
    bench.commit(e.write("f", b"committed"))
    bench.edit(e.write("g", b"not committed"), e.add("new", File()))
    created = bench.ws.create("exp1", start="main")
    assert created.dirty_source == "main"
    assert (bench.path("exp1") / "f").read_bytes() == b"committed"
    assert (bench.path("exp1") / "g").read_bytes() == b"two\n"
    assert not (bench.path("exp1") / "new").exists()
    assert bench.lines() == ["M g", "A new"]


def test_a_copied_up_but_equal_file_is_no_uncommitted_change(bench):
    bench.edit(e.open_and_close("f"))
    assert bench.ws.create("exp1", start="main").dirty_source is None


def test_from_any_commit(bench):
    first = bench.commit(e.write("f", b"1"))
    bench.commit(e.write("f", b"2"))
    for name, start in (("a", first[:8]), ("b", "main~1"), ("c", "main@{1}"), ("d", "main")):
        created = bench.ws.create(name, start=start)
        assert (bench.path(name) / "f").read_bytes() == (b"2" if name == "d" else b"1")
        assert created.branch.fork == created.branch.head
    assert bench.ws.diff("main", "a").counts() == {"M": 1}


def test_unmounted(bench):
    created = bench.ws.create("exp1", mount=False)
    assert created.mountpoint is None
    assert not bench.path("exp1").exists()
    assert [b.mounted for b in bench.ws.list()] == [False, True]
    bench.ws.mount("exp1")
    assert_same(bench.see("exp1"), snapshot(bench.data))


def test_the_root_keeps_the_metadata_it_had_at_that_commit(adopt):
    bench = adopt(Dir({"f": File()}, mode=0o700, mtime_ns=5))
    bench.commit(
        e.chmod("", 0o3771),
        e.chown("", 7, 8),
        e.setxattr("", "user.colour", b"red"),
        e.setxattr("", "system.posix_acl_access", acl(77, 5)),
        e.utime("", 123_456_789_012),
    )
    for mounted in (True, False):
        name = f"exp-{mounted}"
        bench.ws.create(name, mount=mounted)
        bench.ws.mount(name)
        assert bench.see(name)[b""] == bench.see("main")[b""]
        assert bench.path(name).stat().st_mtime_ns == 123_456_789_012
        assert bench.lines(name) == []
    assert bench.path("exp-True").stat().st_mode & 0o7000 == 0o3000


def test_an_empty_directory_of_that_name_serves_and_stays(bench, monkeypatch):
    bench.path("exp1").mkdir()
    refuse_prepare(monkeypatch)
    before = bench.traces()
    with pytest.raises(errors.MountRefused):
        bench.ws.create("exp1")
    assert_unchanged(before, bench)
    assert bench.path("exp1").is_dir()
    monkeypatch.undo()
    bench.ws.create("exp1")
    assert_same(bench.see("exp1"), snapshot(bench.data))


def refuse_prepare(monkeypatch):
    def refuse(*arguments, **keywords):
        raise errors.MountRefused("cannot mount", errno=22, hint="no")

    monkeypatch.setattr("dsbranch.overlay.kernel.KernelDriver.prepare", refuse)


def assert_unchanged(before, bench):
    after = bench.traces()
    for part, value in before.items():
        assert after[part] == value, part


def test_a_refused_mount_leaves_nothing(bench, monkeypatch):
    before = bench.traces()
    refuse_prepare(monkeypatch)
    with pytest.raises(errors.MountRefused):
        bench.ws.create("exp1")
    assert_unchanged(before, bench)


@pytest.mark.parametrize(
    ("name", "start", "kind", "words"),
    [
        ("a/b", None, errors.BadName, "slash"),
        ("-x", None, errors.BadName, "begins with"),
        ("new\nline", None, errors.BadName, "newline"),
        ("main", None, errors.AlreadyExists, "exists already"),
        ("full", None, errors.AlreadyExists, "not empty"),
        ("file", None, errors.AlreadyExists, "no directory"),
        ("link", None, errors.AlreadyExists, "no directory"),
        ("exp", "mian", errors.UnknownRef, "mian"),
        ("exp", "main~7", errors.UnknownRef, "ancestors"),
        ("exp", "", errors.UnknownRef, "no branch"),
    ],
)
def test_what_is_refused(bench, name, start, kind, words):
    make(Dir({"in": File()}), bench.path("full"))
    bench.path("file").touch()
    bench.path("link").symlink_to("main")
    before = bench.traces()
    with pytest.raises(kind, match=words) as caught:
        bench.ws.create(name, start=start)
    one_sentence(caught.value)
    assert caught.value.exit_code == 2
    assert_unchanged(before, bench)


def test_did_you_mean(bench):
    with pytest.raises(errors.UnknownRef) as caught:
        bench.ws.create("exp", start="mian")
    assert caught.value.suggestions == ("main",)
    assert "did you mean main?" in caught.value.hint


def test_a_foreign_mount_at_the_place(bench):
    bench.path("exp1").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", bench.path("exp1")], check=True)
    before = bench.traces()
    with pytest.raises(errors.AlreadyExists, match="tmpfs") as caught:
        bench.ws.create("exp1")
    one_sentence(caught.value)
    assert_unchanged(before, bench)


def test_a_branch_of_a_branch_costs_no_bytes(bench):
    bench.commit(e.add("big", File(b"x" * 1_000_000)))
    bench.ws.create("exp1")
    size = sum(p.lstat().st_blocks for p in bench.upper("exp1").parent.rglob("*"))
    assert size * 512 < 50_000
    assert len(mounts(bench.place)) == 2


def test_another_command_makes_a_name(bench, hold, monkeypatch):
    monkeypatch.setattr("dsbranch.ops.create.PATIENCE_SECONDS", 0.2)
    lock = bench.place / ".dsbranch" / "locks" / "names"
    hold(
        "import fcntl\nheld = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "fcntl.flock(held, fcntl.LOCK_EX)",
        lock,
    )
    before = bench.traces()
    with pytest.raises(errors.Locked) as caught:
        bench.ws.create("exp1")
    one_sentence(caught.value)
    assert caught.value.exit_code == 4
    assert_unchanged(before, bench)


def test_a_look_at_the_source_that_fails_leaves_nothing(bench, monkeypatch):
    before = bench.traces()

    def fail(*arguments):
        raise errors.StorageError("cannot read it: too many open files", errno=errno.EMFILE)

    monkeypatch.setattr("dsbranch.ops.create.is_dirty", fail)
    with pytest.raises(errors.StorageError):
        bench.ws.create("exp1", start="main")
    assert_unchanged(before, bench)


def test_a_mount_that_cannot_be_remembered_stays_and_works(bench, monkeypatch):
    def full(*arguments):
        raise errors.StorageError("cannot write it: no space left", errno=errno.ENOSPC)

    bench.ws.create("exp1", mount=False)
    monkeypatch.setattr("dsbranch.store.database.Store.record_mount", full)
    assert bench.ws.mount("exp1").path == bench.path("exp1")
    monkeypatch.undo()
    assert bench.ws.mount("exp1").already
    bench.edit(e.append("f", b"1"), branch="exp1")
    bench.commit(branch="exp1")
    assert bench.lines("exp1") == ["M f"]


@pytest.mark.parametrize(("where", "step"), [(Store, "record"), (KernelPrepared, "attach")])
def test_interrupted_once_the_branch_is_there(bench, monkeypatch, where, step):
    real = getattr(where, step)

    def interrupted(*arguments, **keywords):
        real(*arguments, **keywords)
        raise KeyboardInterrupt

    monkeypatch.setattr(where, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench.ws.create("exp1")
    monkeypatch.undo()
    assert bench.ws.mount("exp1").already
    assert_same(bench.see("exp1"), snapshot(bench.data))


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_where_it_is_mounted(bench, when):
    bench.killed("create('exp1')", "dsbranch.overlay.kernel:KernelPrepared.attach", when)
    assert bench.ws.mount("exp1").already == (when == "after")
    store = bench.ws._context.store
    assert len(store.records_for_layer(store.branch("exp1").layer)) == 1
    assert_same(bench.see("exp1"), snapshot(bench.data))


def test_a_mount_that_is_refused_once_the_branch_is_there(bench, monkeypatch):
    def refuse(*arguments, **keywords):
        raise errors.MountRefused("cannot mount", errno=22, hint="no")

    monkeypatch.setattr(KernelPrepared, "attach", refuse)
    with pytest.raises(errors.MountRefused, match="exp1 was created, but not mounted") as caught:
        bench.ws.create("exp1")
    assert one_sentence(caught.value)
    monkeypatch.undo()
    bench.ws.rename("exp1", "exp2")
    assert [mounted.path for mounted in bench.ws.mount_all()] == [bench.path("exp2")]
    assert not bench.path("exp1").exists()


def test_nobody_else_mounts_it_before_it_is_mounted(bench, monkeypatch):
    """Two superblocks of one open layer would break each other."""
    other = dsbranch.open(bench.place)
    refused = []
    attach = KernelPrepared.attach

    def meanwhile(*arguments, **keywords):
        with pytest.raises(errors.Locked) as caught:
            other.mount("exp1")
        refused.append(caught.value.exit_code)
        return attach(*arguments, **keywords)

    monkeypatch.setattr("dsbranch.ops.mounting._PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(KernelPrepared, "attach", meanwhile)
    bench.ws.create("exp1")
    assert refused == [4]
    monkeypatch.undo()
    assert other.mount("exp1").already
    other.close()


@pytest.mark.parametrize("mounted", [True, False])
def test_its_root_is_on_the_disk_before_anybody_knows_of_it(bench, monkeypatch, mounted):
    bench.commit(e.chmod("", 0o2750), e.chown("", 12, 34), e.setxattr("", "user.note", b"root"))
    on_disk = {}
    fsync, record = os.fsync, Store.record

    def recorded(fd):
        fsync(fd)
        path = os.readlink(f"/proc/self/fd/{fd}")
        on_disk[path] = os.fstat(fd)[:6], os.listxattr(fd)

    def before(store, *arguments, layers, **keywords):
        fs = bench.fs(layers[0].id)
        found, xattrs = on_disk[str(fs)]
        assert found == os.stat(fs)[:6]
        assert found[0] & 0o7777 == 0o2750
        assert "user.note" in xattrs
        return record(store, *arguments, layers=layers, **keywords)

    monkeypatch.setattr(os, "fsync", recorded)
    monkeypatch.setattr(Store, "record", before)
    bench.ws.create("exp1", mount=mounted)
    assert on_disk

"""``mount``: one superblock per open layer, any commit read-only, all branches after a reboot."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

import dsbranch
from dsbranch import errors
from tests import children
from tests import edits as e
from tests.trees import Dir, File, assert_same, make, snapshot

from .conftest import mounts, one_sentence, said

pytestmark = pytest.mark.root


def superblocks(bench, branch="main"):
    layer = bench.upper(branch).parent.name
    return [point for point, source, _ in mounts(bench.root) if source.endswith(f":{layer}")]


def test_what_was_written_is_there_again(bench):
    bench.edit(e.append("f", b"more"), e.rename("d", "moved"), e.unlink("g"))
    before = bench.see()
    bench.ws.umount("main")
    assert os.listdir(bench.path()) == []
    mounted = bench.ws.mount("main")
    assert (mounted.path, mounted.ref, mounted.already, mounted.read_only) == (
        bench.path(),
        "main",
        False,
        False,
    )
    assert_same(bench.see(), before)


def test_again_says_where(bench):
    again = bench.ws.mount("main")
    assert (again.already, again.path) == (True, bench.path())
    assert superblocks(bench) == [str(bench.path())]


def test_elsewhere(bench):
    bench.ws.umount("main")
    other = bench.root / "other"
    assert bench.ws.mount("main", at=other).path == other
    assert bench.ws.mount("main").path == other
    assert bench.ws.mount("main", at=other).already
    assert superblocks(bench) == [str(other)]
    with pytest.raises(errors.AlreadyExists, match=f"mounted already, at {other}") as caught:
        bench.ws.mount("main", at=bench.root / "third")
    one_sentence(caught.value)
    assert not (bench.root / "third").exists()


def test_a_bind_mount_is_joined(bench):
    other = bench.root / "other"
    other.mkdir()
    subprocess.run(["mount", "--bind", bench.path(), other], check=True)
    assert bench.ws.mount("main", at=other).already
    subprocess.run(["umount", bench.path()], check=True)
    assert bench.ws.mount("main").path == other
    assert superblocks(bench) == [str(other)]


def test_many_at_once_make_one_superblock(bench):
    bench.ws.umount("main")
    code = "import sys, dsbranch; print(dsbranch.open(sys.argv[1]).mount('main').path)"
    environment = children.environment()
    running = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", code, bench.place],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for _ in range(4)
    ]
    answers = {process.communicate()[0] for process in running}
    assert [process.returncode for process in running] == [0] * 4
    assert answers == {f"{bench.path()}\n"}
    assert superblocks(bench) == [str(bench.path())]


@pytest.mark.parametrize(
    ("at", "kind", "words"),
    [
        ("full", errors.AlreadyExists, "not empty"),
        ("file", errors.AlreadyExists, "no directory"),
        ("link", errors.AlreadyExists, "no directory"),
        ("missing/deeper", errors.BadPath, "missing"),
        ("file/deeper", errors.BadPath, "file"),
        ("n" * 256, errors.DsbranchError, "nnn"),
        ("busy", errors.AlreadyExists, "tmpfs"),
    ],
)
@pytest.mark.parametrize("read_only", [False, True])
def test_places_that_cannot_serve(bench, at, kind, words, read_only):
    bench.ws.umount("main")
    make(Dir({"full": Dir({"in": File()}), "file": File(), "busy": Dir()}), bench.root / "p")
    (bench.root / "p" / "link").symlink_to("full")
    subprocess.run(["mount", "-t", "tmpfs", "none", bench.root / "p" / "busy"], check=True)
    before = bench.traces()
    with pytest.raises(kind, match=words) as caught:
        bench.ws.mount("main", at=bench.root / "p" / at, read_only=read_only)
    one_sentence(caught.value)
    assert bench.traces() == before


def test_a_refusal_leaves_no_directory(bench, monkeypatch):
    bench.ws.umount("main")
    before = bench.traces()

    def refuse(*arguments, **keywords):
        raise errors.MountRefused("cannot mount", errno=22, hint="no")

    monkeypatch.setattr("dsbranch.overlay.kernel.KernelDriver.prepare", refuse)
    for read_only in (False, True):
        with pytest.raises(errors.MountRefused):
            bench.ws.mount("main", at=bench.root / "new", read_only=read_only)
    assert not (bench.root / "new").exists()
    assert bench.traces() == before


def test_a_branch_is_not_there(bench):
    with pytest.raises(errors.UnknownRef) as caught:
        bench.ws.mount("mian", at=bench.root / "x")
    one_sentence(caught.value)
    with pytest.raises(errors.UsageError, match="needs a place") as caught:
        bench.ws.mount(bench.head())
    one_sentence(caught.value)


def test_any_commit_read_only_beside_the_branches(bench):
    root = bench.head()
    states = {root: snapshot(bench.data)}
    for edit in (e.append("f", b"1"), e.rename("d", "moved"), e.unlink("g")):
        commit = bench.commit(edit)
        states[commit] = bench.see()
    bench.edit(e.append("f", b"uncommitted"))
    for number, (commit, expected) in enumerate(states.items()):
        at = bench.root / f"v{number}"
        mounted = bench.ws.mount(commit[:12], at=at)
        assert (mounted.path, mounted.read_only, mounted.already) == (at, True, False)
        assert_same(snapshot(at), expected)
        with pytest.raises(OSError) as caught:
            (at / "f").write_bytes(b"no")
        assert caught.value.errno == errno.EROFS
        assert bench.ws.mount(commit, at=at).already
        assert len([p for p, _, _ in mounts(bench.root) if p == str(at)]) == 1
    # The branch itself goes on.
    bench.edit(e.append("f", b"more"))


def test_a_branch_read_only_shows_its_head(bench):
    bench.edit(e.append("f", b"uncommitted"))
    at = bench.root / "view"
    assert bench.ws.mount("main", at=at, read_only=True).read_only
    assert (at / "f").read_bytes() == b"one\n"
    # A view stays what it is when the branch moves on.
    bench.commit()
    assert (at / "f").read_bytes() == b"one\n"
    assert (bench.path() / "f").read_bytes() == b"one\nuncommitted"


def test_the_same_commit_in_two_places(bench):
    for name in ("a", "b"):
        bench.ws.mount("main", at=bench.root / name, read_only=True)
    assert_same(snapshot(bench.root / "a"), snapshot(bench.root / "b"))
    assert bench.ws.umount(str(bench.root / "a")) == [bench.root / "a"]
    assert os.listdir(bench.root / "a") == []
    assert (bench.root / "b" / "f").exists()


def reboot(bench):
    """As far as a store can tell: all mounts are gone, all records are of another boot."""
    for point, _, _ in reversed(mounts(bench.root)):
        subprocess.run(["umount", point], check=True)
    with closing(sqlite3.connect(bench.place / ".dsbranch" / "store.db")) as db, db:
        db.execute("UPDATE mounts SET boot_id = '00000000-0000-0000-0000-000000000000'")
    bench.reopen()


def test_after_a_reboot_every_branch_comes_back(bench):
    bench.ws.create("exp1")
    bench.ws.create("exp2", mount=False)
    bench.ws.mount("exp2", at=bench.root / "elsewhere")
    bench.edit(e.append("f", b"uncommitted"))
    e.append("g", b"uncommitted")(bench.root / "elsewhere")
    before = {b.name: snapshot(b.mountpoint) for b in bench.ws.list()}
    reboot(bench)
    assert [b.mounted for b in bench.ws.list()] == [False] * 3
    answers = bench.ws.mount_all()
    assert {m.ref: m.path for m in answers} == {
        "main": bench.path(),
        "exp1": bench.path("exp1"),
        "exp2": bench.root / "elsewhere",
    }
    assert {b.name: snapshot(b.mountpoint) for b in bench.ws.list()} == before
    assert bench.ws.mount_all() == []
    for branch in ("main", "exp1", "exp2"):
        assert len(superblocks(bench, branch)) == 1
    bench.edit(e.append("f", b"and on"))


def test_a_branch_renamed_after_a_reboot_goes_to_its_new_place(bench):
    bench.ws.create("exp1")
    bench.ws.create("exp2", mount=False)
    bench.ws.mount("exp2", at=bench.root / "elsewhere")
    reboot(bench)
    bench.ws.rename("exp1", "new1")
    bench.ws.rename("exp2", "new2")
    assert {m.ref: m.path for m in bench.ws.mount_all()} == {
        "main": bench.path(),
        "new1": bench.path("new1"),
        "new2": bench.root / "elsewhere",
    }
    assert not bench.path("exp1").exists()


def test_a_reboot_after_commits_and_a_squash(bench):
    bench.commit(e.append("f", b"1"), e.rename("d", "moved"))
    bench.commit(e.append("f", b"2"))
    bench.ws.squash("main")
    bench.edit(e.append("f", b"3"))
    before = bench.see()
    reboot(bench)
    bench.ws.mount_all()
    assert_same(bench.see(), before)


def test_after_a_reboot_a_view_is_mounted_anew(bench):
    at = bench.root / "view"
    bench.ws.mount("main", at=at, read_only=True)
    reboot(bench)
    assert not bench.ws.mount("main", at=at, read_only=True).already
    assert_same(snapshot(at), snapshot(bench.data))


def test_mount_all_goes_on_where_one_place_is_taken(bench):
    bench.ws.create("exp1")
    bench.ws.create("exp2")
    reboot(bench)
    make(Dir({"in": File()}), bench.path("exp1") / "taken")
    with pytest.raises(errors.AlreadyExists):
        bench.ws.mount_all()
    mounted = {b.name for b in bench.ws.list() if b.mounted}
    assert mounted == {"exp2", "main"}


def test_another_namespace_holds_it(bench, hold):
    holder = hold("", before=["unshare", "-m", "--propagation", "private"])
    bench.ws.umount("main")
    with pytest.raises(errors.BusyError, match=f"pid {holder.pid}") as caught:
        bench.ws.mount("main")
    one_sentence(caught.value)
    assert caught.value.exit_code == 4
    assert superblocks(bench) == []
    holder.end()
    bench.ws.mount("main")


def test_for_the_length_of_a_block(bench):
    branch = bench.ws.branch("main")
    with branch.mounted() as path:
        assert path == bench.path()
    assert superblocks(bench)
    bench.ws.umount("main")
    with branch.mounted() as path:
        (path / "new").touch()
    assert superblocks(bench) == []
    assert bench.lines() == ["A new"]


def test_locked_by_another_command(bench, hold):
    code = f"""
import fcntl
held = os.open({str(bench.place / ".dsbranch" / "locks" / "1")!r}, os.O_RDWR | os.O_CREAT)
fcntl.flock(held, fcntl.LOCK_EX)
"""
    bench.ws.umount("main")
    hold(code)
    before = bench.traces()
    with pytest.raises(errors.Locked) as caught:
        bench.ws.mount("main")
    one_sentence(caught.value)
    assert caught.value.exit_code == 4
    assert bench.traces() == before
    # Reading needs no lock.
    assert not bench.ws.list()[0].mounted
    assert bench.ws.status("main").clean


def test_a_workspace_that_was_moved(bench):
    bench.commit(e.append("f", b"1"), e.rename("d", "moved"))
    bench.edit(e.append("f", b"2"))
    expected = bench.see()
    bench.ws.umount("main")
    bench.ws.close()
    bench.place = bench.place.rename(bench.root / "moved-ws")
    bench.ws = dsbranch.open(bench.place)
    bench.ws.mount("main")
    assert_same(bench.see(), expected)
    assert bench.lines() == ["M f"]


def test_a_killed_process_holds_nothing(bench):
    bench.ws.umount("main")
    bench.killed("mount('main')", "dsbranch.overlay.kernel:KernelPrepared.attach", "before")
    assert superblocks(bench) == []
    assert not bench.ws.mount("main").already
    bench.ws.umount("main")
    bench.killed("mount('main')", "dsbranch.overlay.kernel:KernelPrepared.attach", "after")
    assert bench.ws.mount("main").already
    assert superblocks(bench) == [str(bench.path())]


@pytest.mark.parametrize("there", ["nothing", "an empty directory"])
def test_the_disk_of_the_dataset_is_not_there(bench, there):
    bench.commit(e.append("f", b"1"))
    view = bench.see()
    bench.ws.umount("main")
    aside = bench.data.rename(bench.root / "aside")
    if there != "nothing":
        bench.data.mkdir()
    before = bench.traces()
    for act in (
        lambda ws: ws.mount("main"),
        lambda ws: ws.mount_all(),
        lambda ws: ws.status("main"),
        lambda ws: ws.diff("main"),
        lambda ws: ws.create("exp1"),
        lambda ws: ws.create("exp1", start="main~1"),
        lambda ws: ws.mount("main~1", at=bench.root / "view"),
        lambda ws: ws.commit("main", "x", allow_empty=True),
        lambda ws: ws.rollback("main"),
        lambda ws: ws.export("main", bench.root / "out"),
    ):
        with pytest.raises(errors.IntegrityError, match=f"the base {bench.data}") as caught:
            act(bench.ws)
        one_sentence(caught.value)
        assert caught.value.exit_code == 5
    assert bench.traces() == before
    if there != "nothing":
        bench.data.rmdir()
    aside.rename(bench.data)
    bench.ws.mount("main")
    assert_same(bench.see(), view)


def test_a_copy_of_a_workspace_leaves_the_mounts_of_the_original_alone(bench):
    bench.ws.umount("main")
    copy = bench.root / "copy"
    subprocess.run(["cp", "-a", bench.place, copy], check=True)
    bench.ws.mount("main")
    bench.edit(e.append("f", b"mine"))
    before = bench.traces()
    with dsbranch.open(copy) as other:
        assert [branch.mounted for branch in other.list()] == [False]
        assert other.status("main").mountpoint is None
        assert other.current_branch(bench.path() / "d") is None
        assert other.commit("main", "x", allow_empty=True).mountpoint is None
        with pytest.raises(errors.BadPath, match="not mounted"):
            other.umount("main")
        assert {**bench.traces(), "names": None} == {**before, "names": None}
        assert not other.mount("main").already
        e.append("f", b"theirs")(copy / "main")
        assert said(other.diff(branch="main")) == ["M f"]
    assert (bench.path() / "f").read_bytes() == b"one\nmine"
    assert (copy / "main" / "f").read_bytes() == b"one\ntheirs"


# --- bind mounts of a branch, made by hand ---


@pytest.fixture
def bind(bench):
    """Bind a path of the mounted branch somewhere: gives where. Taken off at the end."""
    made = []

    def make(inside, name, *options, file=False):
        target = bench.root / name
        target.touch() if file else target.mkdir()
        subprocess.run(["mount", "--bind", bench.path() / inside, target], check=True)
        made.append(target)
        if options:
            flags = ",".join(("remount", "bind", *options))
            subprocess.run(["mount", "-o", flags, target], check=True)
        return target

    yield make
    for target in reversed(made):
        subprocess.run(["umount", "-l", target], check=False, stderr=subprocess.DEVNULL)


def test_bind_mounts_follow_with_their_flags(bench, bind):
    views = [bind("", "all", "ro", "noexec"), bind("d", "part"), bind("f", "one", file=True)]
    bench.commit(e.append("f", b"1"), e.append("d/x", b"1"))
    bench.edit(e.append("f", b"2"), e.append("d/x", b"2"))
    assert (views[0] / "f").read_bytes() == (bench.path() / "f").read_bytes()
    assert (views[1] / "x").read_bytes() == (bench.path() / "d/x").read_bytes()
    assert views[2].read_bytes() == (bench.path() / "f").read_bytes()
    flags = os.statvfs(views[0]).f_flag
    assert flags & os.ST_RDONLY
    assert flags & os.ST_NOEXEC
    assert not os.statvfs(views[1]).f_flag & os.ST_RDONLY


def test_what_is_mounted_in_a_bind_of_a_part_is_not_taken_along(bench, bind):
    inner = bind("d", "part") / "m"
    bench.edit(e.mkdir("d/m"))
    subprocess.run(["mount", "-t", "tmpfs", "none", inner], check=True)
    try:
        (inner / "precious").write_bytes(b"p")
        for act in (
            lambda ws: ws.commit("main", "x"),
            lambda ws: ws.rollback("main"),
            lambda ws: ws.umount("main"),
        ):
            with pytest.raises(errors.BusyError, match="mounted on the branch") as caught:
                act(bench.ws)
            one_sentence(caught.value)
        assert (inner / "precious").read_bytes() == b"p"
    finally:
        subprocess.run(["umount", inner], check=True)


def test_umount_takes_the_binds_of_parts_off(bench, bind):
    home, part = bench.path(), bind("d", "part")
    assert set(bench.ws.umount("main")) == {home, part}
    assert list(part.iterdir()) == []
    bench.ws.mount("main")


def test_a_part_that_stayed_is_named(bench, bind):
    part = bind("d", "part")
    subprocess.run(["umount", bench.path()], check=True)
    with pytest.raises(errors.BusyError, match=str(part)) as caught:
        bench.ws.mount("main")
    one_sentence(caught.value)


def test_a_mount_that_something_hides_is_left_alone(bench):
    bench.ws.umount("main")
    place = bench.root / "p" / "y"
    place.mkdir(parents=True)
    bench.ws.mount("main", at=place)
    e.append("f", b"1")(place)
    try:
        subprocess.run(["mount", "-t", "tmpfs", "none", place.parent], check=True)
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
        (place / "precious").write_bytes(b"p")
        for act in (lambda ws: ws.commit("main", "x"), lambda ws: ws.umount("main")):
            with pytest.raises(errors.BusyError, match="hides it") as caught:
                act(bench.ws)
            one_sentence(caught.value)
        assert (place / "precious").read_bytes() == b"p"
    finally:
        subprocess.run(["umount", place], check=False)
        subprocess.run(["umount", place.parent], check=False)
    bench.ws.commit("main", "x")


def test_umount_where_mounts_propagate(bench):
    bench.ws.umount("main")
    shared, peer = bench.root / "shared", bench.root / "peer"
    shared.mkdir()
    peer.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", shared], check=True)
    try:
        subprocess.run(["mount", "--make-shared", shared], check=True)
        (shared / "at").mkdir()
        subprocess.run(["mount", "--bind", shared, peer], check=True)
        bench.ws.mount("main", at=shared / "at")
        assert (peer / "at" / "f").exists()
        bench.ws.umount("main")
        assert list((peer / "at").iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", peer], check=False)
        subprocess.run(["umount", "-l", shared], check=False)


def test_case_26_a_mark_of_a_volatile_mount(bench):
    """Somebody mounted the layer with `volatile` and crashed: it is refused, and can be kept."""
    bench.edit(e.append("f", b"2"))
    view = bench.see()
    bench.ws.umount("main")
    mark = bench.upper().parent / "work" / "work" / "incompat" / "volatile"
    mark.mkdir(parents=True)
    traces = bench.traces()
    for verb in (bench.ws.mount, bench.ws.rollback, lambda name: bench.ws.commit(name, "x")):
        with pytest.raises(errors.MountRefused, match="volatile") as caught:
            verb("main")
        assert str(mark) in (caught.value.hint or "")
        one_sentence(caught.value)
    assert bench.traces() == traces
    assert bench.lines() == ["M f"]
    mark.rmdir()
    bench.ws.mount("main")
    assert_same(bench.see(), view)

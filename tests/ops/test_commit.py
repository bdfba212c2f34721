"""``commit``: the freezing of a live branch, and what it leaves."""

from __future__ import annotations

import errno
import gc
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import xxhash

import dsbranch
from dsbranch import errors
from dsbranch.ops import mounting
from dsbranch.overlay.kernel import KernelDriver
from tests import children, core
from tests import edits as e
from tests.trees import CAPABILITY, Dir, Fifo, File, Socket, Symlink, assert_same, snapshot

from .conftest import KILLED, command, mounts, one_sentence, recorded, rows, said, with_descriptors

pytestmark = pytest.mark.root

DROP_DESCRIPTORS = """
for name in os.listdir('/proc/self/fd'):
    if int(name) > 2 and os.path.lexists('/proc/self/fd/' + name):
        os.close(int(name))
"""

WRITERS = {
    "open for writing": ("held = open(sys.argv[1], 'a')", "open for writing"),
    "open for both": ("held = os.open(sys.argv[1], os.O_RDWR)", "open for writing"),
    "shared mapping": (
        f"import mmap\nheld = mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 4){DROP_DESCRIPTORS}",
        "mapped for writing",
    ),
    "unlinked open file": ("held = open(sys.argv[1]); os.unlink(sys.argv[1])", "deleted but open"),
}


# --- what it is ---


def test_the_commit(bench):
    root = bench.head()
    layer = bench.upper().parent.name
    bench.edit(e.append("f", b"1"), e.add("new", File(b"n")), e.unlink("g"))
    begin = time.time_ns()
    done = bench.ws.commit("main", "first\n\nmore", author="Ada")
    assert done.counts == {"A": 1, "M": 1, "D": 1}
    assert (done.mountpoint, done.stale, done.elsewhere) == (bench.path(), (), ())
    commit = done.commit
    assert bench.ws.log("main")[0] == commit
    assert (commit.parents, commit.layer) == ((root,), layer)
    assert (commit.message, commit.author) == ("first\n\nmore", "Ada")
    assert begin <= commit.time_ns <= time.time_ns()
    assert bench.head() == commit.id


def test_its_id_is_what_the_format_says(bench):
    commit = bench.ws.show(bench.commit(e.append("f", b"1"), message="é\n"))[0]
    fields = {
        "author": commit.author,
        "layer": commit.layer,
        "manifest": hashlib.sha256(bench.manifest(commit.layer).read_bytes()).hexdigest(),
        "message": commit.message,
        "parents": list(commit.parents),
        "time_ns": commit.time_ns,
    }
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    assert commit.id == hashlib.sha256(text.encode()).hexdigest()[:40]


def test_the_view_is_the_same_and_the_branch_goes_on(bench):
    bench.edit(
        e.append("f", b"1"),
        e.rename("d", "moved"),
        e.recreate("e", Dir({"m": File(b"other")})),
        e.link("g", "g2"),
        e.chmod("h1", 0o600),
    )
    before = bench.see()
    bench.ws.commit("main", "x")
    assert_same(bench.see(), before)
    assert bench.lines() == []
    assert os.listdir(bench.upper()) == []
    bench.edit(e.append("f", b"2"), e.add("moved/new", File()), e.rename("moved", "d"))
    assert bench.lines() == ["R d < moved", "A d/new", "M f"]
    assert bench.ws.diff("main").counts()["M"] >= 1


def test_the_root_directory_keeps_its_metadata(bench):
    bench.edit(e.chmod("", 0o751), e.setxattr("", "user.colour", b"red"), e.chown("", 5, 6))
    bench.edit(e.utime("", 123_456_789))
    before = bench.see()[b""]
    bench.ws.commit("main", "x")
    assert bench.see()[b""] == before
    assert bench.path().stat().st_mtime_ns == 123_456_789
    assert bench.lines() == []
    assert bench.lines("main") == ["m ."]


def test_unmounted(bench):
    bench.edit(e.append("f", b"1"))
    bench.ws.umount("main")
    done = bench.ws.commit("main", "x")
    assert (done.counts, done.mountpoint) == ({"M": 1}, None)
    assert mounts(bench.root) == []
    bench.ws.mount("main")
    assert (bench.path() / "f").read_bytes() == b"one\n1"


def test_mounted_elsewhere_and_bound(bench):
    bench.ws.umount("main")
    other, bound = bench.root / "other", bench.root / "bound"
    bench.ws.mount("main", at=other)
    bound.mkdir()
    subprocess.run(["mount", "--bind", other, bound], check=True)
    e.append("f", b"1")(other)
    part = bench.root / "part"
    part.mkdir()
    subprocess.run(["mount", "--bind", other / "d", part], check=True)
    assert bench.ws.commit("main", "x").mountpoint == other
    # The bind mounts have followed, the one of a directory too, and all are one superblock.
    assert {point for point, _, _ in mounts(bench.root)} == {str(other), str(bound), str(part)}
    e.append("f", b"2")(other)
    e.append("x", b"2")(part)
    assert (bound / "f").read_bytes() == (other / "f").read_bytes()
    assert (part / "x").read_bytes() == (other / "d/x").read_bytes()
    assert bench.lines() == ["M d/x", "M f"]
    subprocess.run(["umount", part], check=True)
    subprocess.run(["umount", bound], check=True)


def test_from_inside(bench, monkeypatch):
    monkeypatch.chdir(bench.path() / "d")
    e.append("x", b"1")(".")
    bench.ws.commit("main", "x")
    # The old view is still there, read-only, until `cd .`
    with open("x", "rb") as file:
        assert file.read() == b"x1"
    with pytest.raises(OSError) as caught:
        os.open("x", os.O_WRONLY)
    assert caught.value.errno == errno.EROFS
    os.chdir(bench.path() / "d")
    e.append("x", b"2")(".")
    assert bench.lines() == ["M d/x"]


def test_nothing_to_commit(bench):
    before = bench.traces()
    with pytest.raises(errors.NothingToCommit, match="main has no uncommitted changes") as caught:
        bench.ws.commit("main", "x")
    one_sentence(caught.value)
    assert caught.value.exit_code == 1
    assert bench.traces() == before
    bench.edit(e.append("f", b"writable again"))


def test_nothing_to_commit_unmounted(bench):
    bench.ws.umount("main")
    before = bench.traces()
    with pytest.raises(errors.NothingToCommit):
        bench.ws.commit("main", "x")
    assert bench.traces() == before


def test_no_descriptor_is_left(bench):
    def one():
        bench.commit(e.append("f", b"1"))
        with pytest.raises(errors.NothingToCommit):
            bench.ws.commit("main", "x")
        bench.ws.rollback("main", "main~1")
        bench.lines("main")

    def open_now():
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    one()
    bench.reopen()
    before = open_now()
    for _ in range(3):
        one()
    # One per sealed layer whose table the workspace keeps, none after it is closed.
    bench.reopen()
    assert open_now() == before


def test_an_empty_one_if_wanted(bench):
    done = bench.ws.commit("main", "nothing", allow_empty=True)
    assert done.counts == {}
    assert len(bench.ws.log("main")) == 2
    assert_same(bench.see(), snapshot(bench.data))


@pytest.mark.parametrize("message", ["", " ", "\n\t "])
def test_a_message_is_needed(bench, message):
    bench.edit(e.append("f", b"1"))
    before = bench.traces()
    with pytest.raises(errors.UsageError, match="needs a message") as caught:
        bench.ws.commit("main", message)
    one_sentence(caught.value)
    assert bench.traces() == before


def test_a_message_of_any_text(bench):
    message = "\n  ünï \x1b[31m 'quoted' \\ \n" + "x" * 10_000
    head = bench.commit(e.append("f", b"1"), message=message)
    # But for blank lines around it, so that the first line is the subject.
    assert bench.ws.show(head)[0].message == message.strip("\n")


def test_no_such_branch(bench):
    with pytest.raises(errors.UnknownRef) as caught:
        bench.ws.commit("mian", "x")
    assert caught.value.suggestions == ("main",)


# --- live ---


def test_a_reader_keeps_what_it_has_open(bench):
    bench.edit(e.append("g", b"more"))
    with (bench.path() / "f").open("rb") as old, (bench.path() / "g").open("rb") as other:
        bench.ws.commit("main", "first")
        bench.edit(e.write("f", b"changed"), e.unlink("g"))
        bench.ws.commit("main", "second")
        assert old.read() == b"one\n"
        assert other.read() == b"two\nmore"
    assert (bench.path() / "f").read_bytes() == b"changed"


def test_the_path_never_disappears(bench):
    bench.commit(e.add("always", File(b"here")))
    if not bench.ws._context.driver.can_mount_beneath:
        pytest.skip("this kernel cannot mount beneath")
    path = bench.path() / "always"
    stop = threading.Event()
    missed: list[OSError] = []
    looks = 0

    def poll():
        nonlocal looks
        while not stop.is_set():
            looks += 1
            try:
                with open(path, "rb") as file:
                    assert file.read() == b"here"
                os.stat(bench.path() / "d" / "x")
            except OSError as error:
                missed.append(error)

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        for number in range(8):
            bench.commit(e.write("f", b"%d" % number))
    finally:
        stop.set()
        thread.join()
    assert missed == []
    assert looks > 100


@pytest.mark.parametrize("writer", WRITERS)
def test_a_writer_stops_it_and_nothing_changes(bench, hold, writer):
    code, what = WRITERS[writer]
    bench.edit(e.append("f", b"1"), e.append("g", b"1"))
    holder = hold(code, bench.path() / "f")
    before = bench.traces()
    with pytest.raises(errors.WritersPresent, match="main") as caught:
        bench.ws.commit("main", "x")
    assert "--wait" in caught.value.hint
    one_sentence(caught.value)
    assert caught.value.exit_code == 4
    (process,) = caught.value.processes
    assert (process.pid, process.path) == (holder.pid, str(bench.path() / "f"))
    assert "python" in process.command
    assert process.what == what
    assert bench.traces() == before
    bench.edit(e.append("g", b"still writable"))
    holder.end()
    counts = bench.ws.commit("main", "x").counts
    assert sum(counts.values()) == 2


def test_every_writer_is_named(bench, hold):
    held = [hold("held = open(sys.argv[1], 'a')", bench.path() / name) for name in ("f", "g")]
    with pytest.raises(errors.WritersPresent, match="2 processes") as caught:
        bench.ws.commit("main", "x")
    assert sorted(p.pid for p in caught.value.processes) == sorted(h.pid for h in held)


def test_a_writer_through_a_bind_mount_and_in_another_namespace(bench, hold):
    bound = bench.root / "bound"
    bound.mkdir()
    subprocess.run(["mount", "--bind", bench.path() / "d", bound], check=True)
    first = hold("held = open(sys.argv[1], 'a')", bound / "x")
    second = hold("held = open(sys.argv[1], 'a')", bench.path() / "g", before=["unshare", "-m"])
    with pytest.raises(errors.WritersPresent) as caught:
        bench.ws.commit("main", "x")
    assert {p.pid for p in caught.value.processes} == {first.pid, second.pid}


def test_a_descriptor_with_a_path_too_long_hides_no_writer(bench, hold):
    aside = bench.root / "aside"
    aside.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", aside], check=True)
    hold(
        "os.chdir(sys.argv[1])\n"
        "for _ in range(20):\n    os.mkdir('n' * 250); os.chdir('n' * 250)\n"
        "held = os.open('.', os.O_RDONLY); os.chdir('/')",
        aside,
    )
    subprocess.run(["umount", "-l", aside], check=True)
    writer = hold("held = open(sys.argv[1], 'a')", bench.path() / "f")
    with pytest.raises(errors.WritersPresent) as caught:
        bench.ws.commit("main", "x")
    assert [process.pid for process in caught.value.processes] == [writer.pid]


def test_waiting_until_the_writer_ends(bench, hold):
    holder = hold(
        "held = open(sys.argv[1], 'a'); held.write('late'); held.flush()", bench.path() / "f"
    )
    timer = threading.Timer(0.7, holder.end)
    timer.start()
    begin = time.monotonic()
    done = bench.ws.commit("main", "x", wait=20)
    timer.join()
    assert 0.4 < time.monotonic() - begin < 10
    assert done.counts == {"M": 1}
    assert (bench.path() / "f").read_bytes() == b"one\nlate"


def test_waiting_in_vain(bench, hold):
    hold("held = open(sys.argv[1], 'a')", bench.path() / "f")
    before = bench.traces()
    begin = time.monotonic()
    with pytest.raises(errors.WritersPresent):
        bench.ws.commit("main", "x", wait=0.5)
    assert 0.4 < time.monotonic() - begin < 5
    assert bench.traces() == before


def test_who_stands_in_the_old_view_is_told(bench, hold):
    holder = hold("os.chdir(sys.argv[1])", bench.path() / "d")
    bench.edit(e.append("f", b"1"))
    (process,) = bench.ws.commit("main", "x").stale
    assert (process.pid, process.what) == (holder.pid, "working directory")
    assert process.path == str(bench.path() / "d")


def test_another_namespace_keeps_the_old_view_and_is_named(bench, hold):
    holder = hold("", before=["unshare", "-m", "--propagation", "private"])
    bench.edit(e.append("f", b"1"))
    (process,) = bench.ws.commit("main", "x").elsewhere
    assert process.pid == holder.pid
    assert process.path == str(bench.path())


def test_mounted_in_another_namespace_only(bench, hold):
    hold("", before=["unshare", "-m", "--propagation", "private"])
    bench.edit(e.append("f", b"1"))
    bench.ws.umount("main")
    before = bench.traces()
    with pytest.raises(errors.BusyError, match="another mount namespace") as caught:
        bench.ws.commit("main", "x")
    one_sentence(caught.value)
    assert bench.traces() == before


@pytest.mark.parametrize(
    "step",
    [
        "dsbranch.ops.commit._examine",
        "dsbranch.ops.layers.write_manifest",
        "dsbranch.ops.layers.copy_root",
        "dsbranch.overlay.kernel.KernelDriver.prepare",
        "dsbranch.ops.layers.sync",
        "dsbranch.store.writes.insert_commit",
        "dsbranch.store.writes.log",
    ],
)
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full", "x"), KeyboardInterrupt()])
def test_a_failing_step_leaves_the_branch_writable(bench, monkeypatch, step, error):
    bench.edit(e.append("f", b"1"), e.rename("d", "moved"))
    before, rows = bench.see(), bench.traces()["rows"]
    directories = sorted(os.listdir(bench.place / ".dsbranch" / "layers"))

    def fail(*arguments, **keywords):
        raise error

    monkeypatch.setattr(step, fail)
    with pytest.raises((errors.DsbranchError, KeyboardInterrupt, OSError)) as caught:
        bench.ws.commit("main", "x")
    if isinstance(error, OSError) and step.startswith("dsbranch.ops.layers.copy"):
        assert isinstance(caught.value, errors.StorageError)
    monkeypatch.undo()
    assert bench.traces()["rows"] == rows
    assert sorted(os.listdir(bench.place / ".dsbranch" / "layers")) == directories
    assert sorted(os.listdir(bench.upper().parent)) == ["fs", "work"]
    assert_same(bench.see(), before)
    bench.edit(e.append("g", b"writable"))
    assert bench.ws.commit("main", "again").counts == {"M": 2, "R": 1}


# --- what it leaves ---


EVERYTHING = (
    e.append("f", b"1"),
    e.add("new", Dir({"a": File(b"a" * 300), "s": Symlink("a"), "p": Fifo(), "o": Socket()})),
    e.rename("d", "new/d"),
    e.unlink("g"),
    e.chmod("h1", 0o640),
    e.setxattr("new/a", "user.note", b"n"),
    e.setxattr("new/a", "security.capability", CAPABILITY),
    e.setfacl("new/d/y", 1000, 7),
    e.link("new/a", "new/b"),
    e.recreate("e", Dir({"m": File(b"new m")})),
    e.add("hole", File(b"start", sparse=1 << 20)),
)


def test_the_manifest_is_what_a_fresh_scan_finds(bench):
    bench.edit(*EVERYTHING)
    commit = bench.ws.commit("main", "x").commit
    kept = core.entries(recorded(bench, commit.layer))
    found = core.entries(core.scan(bench.fs(commit.layer)))
    # Only the commit itself knew the origins, and it alone read the contents.
    plain = [entry._replace(origin=None, digest=None) for entry in kept]
    assert core.comparable(plain) == core.comparable(found)
    facts = bench.ws._context.store.layer(commit.layer)
    assert (facts.state, facts.entries, facts.hashed) == ("sealed", len(kept), True)
    assert (facts.redirects, facts.metacopy) == (True, True)


def test_digests_are_those_of_xxhsum(bench):
    bench.edit(*EVERYTHING)
    commit = bench.ws.commit("main", "x").commit
    top = os.fsencode(bench.fs(commit.layer))
    hashed = 0
    for entry in core.entries(recorded(bench, commit.layer)):
        metacopy = entry.flags & 8
        if entry.kind != "file" or metacopy:
            assert entry.digest is None, entry.path
            continue
        with open(os.path.join(top, entry.path), "rb") as file:
            assert entry.digest == xxhash.xxh3_128_digest(file.read()), entry.path
        hashed += 1
    assert hashed >= 5


def test_without_hashing(bench):
    bench.edit(*EVERYTHING)
    commit = bench.ws.commit("main", "x", hash=False).commit
    assert {entry.digest for entry in core.entries(recorded(bench, commit.layer))} == {None}
    assert not bench.ws._context.store.layer(commit.layer).hashed
    # What follows reads the contents instead, and is as true.
    bench.edit(e.open_and_close("f"), e.rewrite("new/a"))
    # A file of a lower layer that is written to is no longer the same as its other names.
    assert bench.lines() == ["M new/a"]
    bench.ws.commit("main", "y")
    assert said(bench.ws.diff("main~1", "main")) == ["M new/a"]


def test_no_origin_or_impure_remains(bench):
    bench.edit(*EVERYTHING)
    commit = bench.ws.commit("main", "x").commit
    names = set()
    for directory, inner, files in os.walk(os.fsencode(bench.fs(commit.layer))):
        for name in [b"", *inner, *files]:
            path = os.path.join(directory, name)
            names.update(os.listxattr(path, follow_symlinks=False))
    overlay = {name for name in names if name.startswith("trusted.overlay.")}
    assert overlay == {
        "trusted.overlay.opaque",
        "trusted.overlay.redirect",
        "trusted.overlay.metacopy",
    }
    assert not (bench.fs(commit.layer).parent / "work").exists()


@pytest.mark.parametrize(
    "edit",
    [
        e.open_and_close("f"),
        e.sequence(e.chmod("f", 0o777), e.chmod("f", 0o644)),
        e.sequence(e.rename("f", "t"), e.rename("t", "f")),
        e.sequence(e.append("f", b"1"), e.truncate("f", 4), e.utime("f", 1_600_000_000 * 10**9)),
        e.recreate("f", File(b"one\n")),
        e.open_and_close("d/sub/p"),
        e.recreate("dangling", Symlink("nowhere")),
    ],
)
def test_idle_copy_ups_are_dropped(bench, edit):
    bench.edit(edit)
    assert bench.lines() == []
    with pytest.raises(errors.NothingToCommit):
        bench.ws.commit("main", "x")
    bench.edit(edit, e.append("g", b"1"))
    done = bench.ws.commit("main", "x")
    assert done.counts == {"M": 1}
    files = [
        e.path for e in core.entries(recorded(bench, done.commit.layer)) if e.kind != "directory"
    ]
    assert files == [b"g"]
    assert said(bench.ws.diff("main")) == ["M g"]


def test_dropping_them_leaves_the_directory_times(bench):
    bench.edit(e.open_and_close("d/x"), e.append("g", b"1"))
    bench.edit(e.utime("d", 123_456_789))
    bench.ws.commit("main", "x")
    assert (bench.path() / "d").stat().st_mtime_ns == 123_456_789


def test_an_equal_file_in_an_opaque_directory_is_no_idle_copy(bench):
    bench.edit(e.recreate("d", Dir({"x": File(b"x")})))
    commit = bench.ws.commit("main", "x").commit
    assert os.path.exists(bench.fs(commit.layer) / "d" / "x")
    assert (bench.path() / "d" / "x").read_bytes() == b"x"
    assert sorted(os.listdir(bench.path() / "d")) == ["x"]


def test_an_equal_file_under_a_renamed_directory(bench):
    bench.edit(
        e.rename("d", "moved"), e.open_and_close("moved/x"), e.add("d", Dir({"x": File(b"x")}))
    )
    before = bench.see()
    bench.ws.commit("main", "x")
    assert_same(bench.see(), before)
    assert (bench.path() / "d" / "x").read_bytes() == b"x"


def test_a_touched_hard_link_stays_whole(bench):
    bench.edit(e.append("h1", b"!"), e.link("h1", "h3"))
    before = bench.see()
    commit = bench.ws.commit("main", "x").commit
    assert_same(bench.see(), before)
    group = {
        entry.path: entry.nlink_group
        for entry in core.entries(recorded(bench, commit.layer))
        if entry.kind == "file"
    }
    assert group[b"h1"] == group[b"h3"] != 0


def test_shared_whiteouts_are_no_hard_links(bench):
    bench.edit(e.unlink("f"), e.unlink("g"), e.unlink("d/x"))
    commit = bench.ws.commit("main", "x").commit
    found = [
        entry for entry in core.entries(recorded(bench, commit.layer)) if entry.kind == "whiteout"
    ]
    assert [entry.path for entry in found] == [b"d/x", b"f", b"g"]
    assert {entry.nlink_group for entry in found} == {0}


def test_a_sealed_layer_is_never_written_again(bench):
    commit = bench.ws.show(bench.commit(*EVERYTHING))[0]
    place = bench.fs(commit.layer)

    def state():
        return {
            path: (os.lstat(path).st_ctime_ns, os.lstat(path).st_ino) for path in place.rglob("*")
        }

    before = state(), bench.manifest(commit.layer).read_bytes()
    bench.edit(e.append("new/a", b"1"), e.rename("new", "newer"), e.unlink("f"), e.chmod("hole", 0))
    bench.ws.commit("main", "y")
    bench.ws.rollback("main", commit.id)
    bench.edit(e.rmtree("new"))
    bench.ws.rollback("main")
    assert (state(), bench.manifest(commit.layer).read_bytes()) == before


def test_forty_commits_deep(bench):
    for number in range(40):
        bench.commit(
            e.add(f"n{number}", File(b"%d" % number)), e.append("d/x", b"%d" % (number % 10))
        )
    assert len(bench.ws.log("main")) == 41
    assert len(bench.ws._context.store.stack(bench.head())) == 40
    assert bench.ws.list()[0].depth <= 8
    assert len(os.listdir(bench.path())) == len(os.listdir(bench.data)) + 40
    assert bench.lines("main~3", "main") == ["M d/x", "A n37", "A n38", "A n39"]
    assert bench.ws.diff("main").counts() == {"A": 40, "M": 1}


def test_two_branches_at_the_same_time(bench):
    bench.ws.create("exp1")
    bench.edit(e.append("f", b"1"))
    bench.edit(e.append("f", b"2"), branch="exp1")
    failures: list[BaseException] = []

    def commit_exp1():
        import dsbranch

        try:
            with dsbranch.open(bench.place) as ws:
                ws.commit("exp1", "two")
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    thread = threading.Thread(target=commit_exp1)
    thread.start()
    bench.ws.commit("main", "one")
    thread.join()
    assert failures == []
    assert bench.ws.log("exp1")[0].message == "two"
    assert bench.ws.log("main")[0].message == "one"
    assert stat.S_ISREG(os.lstat(bench.path() / "f").st_mode)


@pytest.mark.parametrize("verb", ["commit", "rollback", "squash"])
def test_on_a_kernel_that_cannot_mount_beneath(bench, monkeypatch, verb):
    monkeypatch.setattr("dsbranch.overlay.kernel.KernelDriver.can_mount_beneath", False)
    bench.commit(e.append("f", b"1"), e.rename("d", "moved"))
    bench.commit(e.append("f", b"2"))
    expected = bench.see()
    if verb == "commit":
        bench.edit(e.append("g", b"3"))
        expected = bench.see()
        bench.ws.commit("main", "x")
    elif verb == "rollback":
        bench.edit(e.append("g", b"3"))
        bench.ws.rollback("main")
    else:
        bench.ws.squash("main")
    assert_same(bench.see(), expected)
    assert [point for point, _, _ in mounts(bench.root)] == [str(bench.path())]
    bench.edit(e.append("g", b"4"))
    assert bench.lines() == ["M g"]


# --- what is in the way, and what fails late ---


@pytest.mark.parametrize("step", [None, "dsbranch.ops.layers.sync", "dsbranch.store.writes.log"])
def test_a_commit_that_does_not_happen_drops_no_copy(bench, monkeypatch, step):
    """Whoever has the file open would go on writing into one that nobody sees any more."""
    bench.edit(e.open_and_close("f"))
    with (bench.path() / "f").open("rb"):
        if step is None:
            with pytest.raises(errors.NothingToCommit):
                bench.ws.commit("main", "x")
        else:
            bench.edit(e.append("g", b"1"))
            monkeypatch.setattr(step, interrupted)
            with pytest.raises(KeyboardInterrupt):
                bench.ws.commit("main", "x")
            monkeypatch.undo()
        bench.edit(e.write("f", b"precious"))
    assert "M f" in bench.lines()
    bench.ws.umount("main")
    bench.ws.mount("main")
    assert (bench.path() / "f").read_bytes() == b"precious"


def interrupted(*arguments, **keywords):
    raise KeyboardInterrupt


NESTED = ("trusted.overlay.opaque", b"y")
"""What a container store inside a branch has; the kernel escapes it in the upper directory."""


def test_the_markers_of_an_overlay_inside_the_branch_are_the_users(bench):
    name, value = NESTED
    places = ("", "d", "dangling", "f")
    bench.edit(*(e.setxattr(place, name, value) for place in places))
    assert bench.lines() == ["m .", "m d", "m dangling", "m f"]

    def assert_there(top):
        for place in places:
            found = os.getxattr(top / place, name, follow_symlinks=False)
            assert found == value, (top, place)

    bench.ws.commit("main", "x")
    assert_there(bench.path())
    assert bench.lines("main~1", "main") == ["m .", "m d", "m dangling", "m f"]
    bench.commit(e.append("g", b"1"))
    bench.ws.squash("main")
    assert_there(bench.path())
    bench.ws.umount("main")
    bench.ws.mount("main")
    assert_there(bench.path())
    bench.ws.export("main", bench.root / "out")
    assert_there(bench.root / "out")
    bench.ws.export("main", bench.root / "all.tar")
    (bench.root / "unpacked").mkdir()
    tar = ["tar", "--xattrs", "--xattrs-include=*", "-C", bench.root / "unpacked"]
    command([*tar, "-xpf", bench.root / "all.tar"])
    assert_there(bench.root / "unpacked")
    bench.edit(e.append("f", b"1"), e.add("d/new", File()))
    bench.ws.commit("main", "y")
    assert_there(bench.path())


ON_A_LIVE_BRANCH = {
    "commit": lambda ws: ws.commit("main", "x"),
    "rollback": lambda ws: ws.rollback("main"),
}


@pytest.mark.parametrize("verb", [*ON_A_LIVE_BRANCH, "squash"])
@pytest.mark.parametrize("where", ["d", ""])
def test_what_is_mounted_on_the_branch_is_not_torn_away(bench, verb, where):
    bench.commit(e.append("f", b"1"))
    bench.commit(e.append("f", b"2"))
    if verb != "squash":
        bench.edit(e.append("g", b"3"))
    guest = bench.path() / where
    subprocess.run(["mount", "-t", "tmpfs", "none", guest], check=True)
    (guest / "precious").write_bytes(b"x")
    before = bench.traces()
    if verb == "squash":  # needs no new mount
        assert not bench.ws.squash("main").remounted
    else:
        with pytest.raises(errors.BusyError, match=f"tmpfs .*, at {guest}$") as caught:
            ON_A_LIVE_BRANCH[verb](bench.ws)
        one_sentence(caught.value)
        assert bench.traces() == before
    assert bench.traces()["mounts"] == before["mounts"]
    assert (guest / "precious").read_bytes() == b"x"
    subprocess.run(["umount", guest], check=True)
    bench.edit(e.append("h1", b"still writable"))
    if verb != "squash":
        ON_A_LIVE_BRANCH[verb](bench.ws)
    assert len(mounts(bench.root)) == 1


@pytest.mark.parametrize("verb", ["mount", *ON_A_LIVE_BRANCH])
def test_a_view_that_was_detached_by_hand_and_is_still_used(bench, hold, verb):
    """No mount table shows it, and its writers would go on writing into the layer."""
    act = {"mount": lambda ws: ws.mount("main"), **ON_A_LIVE_BRANCH}[verb]
    bench.edit(e.append("f", b"1"))
    holder = hold("held = open(sys.argv[1], 'a')", bench.path() / "g")
    subprocess.run(["umount", "-l", bench.path()], check=True)
    before = rows(bench.place, "mounts"), bench.traces()["layers"]
    with pytest.raises(errors.MountInUse, match="in use") as caught:
        act(bench.ws)
    one_sentence(caught.value)
    assert caught.value.exit_code == 4
    assert (rows(bench.place, "mounts"), bench.traces()["layers"]) == before
    assert mounts(bench.root) == []
    holder.end()
    act(bench.ws)


def test_a_mount_that_cannot_be_thawed_hides_no_failure(bench, monkeypatch):
    bench.edit(e.append("f", b"1"))
    view = bench.see()

    def full(*arguments):
        raise errors.StorageError("cannot write the layers: it is full", errno=errno.ENOSPC)

    def refuse(*arguments):
        raise errors.MountRefused("cannot make it writable", errno=errno.EMFILE)

    monkeypatch.setattr("dsbranch.ops.layers.sync", full)
    monkeypatch.setattr("dsbranch.overlay.kernel.KernelDriver.set_writable", refuse)
    with pytest.raises(errors.StorageError, match="it is full") as caught:
        bench.ws.commit("main", "x")
    assert caught.value.__notes__ == ["cannot make it writable"]
    monkeypatch.undo()
    bench.ws.mount("main")
    assert_same(bench.see(), view)
    bench.edit(e.append("g", b"writable again"))


@pytest.mark.parametrize("verb", [*ON_A_LIVE_BRANCH, "squash"])
def test_bind_mounts_of_the_branch_follow(bench, verb):
    act = {**ON_A_LIVE_BRANCH, "squash": lambda ws: ws.squash("main")}[verb]
    bench.commit(e.append("f", b"1"))
    bench.commit(e.append("f", b"2"))
    if verb != "squash":
        bench.edit(e.append("g", b"3"), e.add("new", Dir({"in": File(b"in")})))
    bound = {"whole": bench.path(), "d": bench.path() / "d", "new": bench.path() / "new"}
    for name, source in bound.items():
        if source.is_dir():
            bound[name] = bench.root / name
            bound[name].mkdir()
            command(["mount", "--bind", source, bound[name]])
    act(bench.ws)
    bench.edit(e.append("f", b"later"), e.append("d/x", b"later"))
    assert_same(snapshot(bound["whole"]), bench.see())
    assert (bound["d"] / "x").read_bytes() == b"xlater"
    (bound["whole"] / "back").touch()
    assert (bench.path() / "back").exists()
    points = {point for point, _, _ in mounts(bench.root)}
    # After a rollback there is nothing left to show of it.
    assert (str(bench.root / "new") in points) == (verb == "commit")
    # The bind mounts go with the branch: they would hold its layer.
    assert bench.ws.umount("main")
    assert mounts(bench.root) == []


def test_a_name_made_anew_while_it_waits_is_another_branch(bench, monkeypatch):
    bench.ws.create("exp1")
    other = dsbranch.open(bench.place)
    branch_lock = mounting.branch_lock

    def late(*arguments, **keywords):
        monkeypatch.undo()
        other.delete("exp1", force=True)
        other.create("exp1")
        return branch_lock(*arguments, **keywords)

    monkeypatch.setattr(mounting, "branch_lock", late)
    with pytest.raises(errors.Locked, match="exp1") as caught:
        bench.ws.commit("exp1", "x", allow_empty=True)
    one_sentence(caught.value)
    assert caught.value.exit_code == 4
    assert len(bench.ws.log("exp1")) == 1
    other.close()
    bench.ws.commit("exp1", "x", allow_empty=True)


def test_a_metadata_only_copy_without_data_is_not_sealed(bench):
    """Whatever put it there, its content is nowhere, and an export could not write it."""
    bench.ws.umount("main")
    e.add("lost", File(sparse=5))(bench.upper())
    e.marker("lost", "metacopy", b"")(bench.upper())
    before = bench.traces()
    for act in (lambda ws: ws.commit("main", "x"), lambda ws: ws.status("main")):
        with pytest.raises(errors.IntegrityError, match="lost") as caught:
            act(bench.ws)
        one_sentence(caught.value)
        assert caught.value.exit_code == 5
    assert bench.traces() == before


@pytest.mark.parametrize(
    "step", ["store.manifest.write", "ops.layers.sync", "store.writes.insert_commit"]
)
def test_a_commit_that_fails_leaves_what_tells_of_renames(bench, monkeypatch, step):
    bench.edit(e.rename("f", "moved"), e.append("moved", b"1"))
    assert bench.lines() == ["R moved < f"]

    def fail(*arguments, **keywords):
        raise OSError(errno.EIO, "Input/output error", "f")

    monkeypatch.setattr(f"dsbranch.{step}", fail)
    with pytest.raises((errors.StorageError, OSError)):
        bench.ws.commit("main", "x")
    monkeypatch.undo()
    bench.reopen()
    assert bench.lines() == ["R moved < f"]
    made = bench.ws.commit("main", "x").commit
    assert bench.lines("main~1", "main") == ["R moved < f"]
    assert "trusted.overlay.origin" not in os.listxattr(bench.fs(made.layer) / "moved")


@pytest.mark.parametrize("step", ["_core.seal.strip", "ops.commit.remove"])
def test_what_cannot_be_written_is_not_said_to_be_unreadable(bench, monkeypatch, step):
    bench.edit(e.append("f", b"1"))

    def fail(*arguments, **keywords):
        raise OSError(errno.EIO, "Input/output error", "f")

    monkeypatch.setattr(f"dsbranch.{step}", fail)
    with pytest.raises(errors.StorageError, match=f"cannot write {bench.upper()}"):
        bench.ws.commit("main", "x")
    monkeypatch.undo()
    bench.reopen()
    bench.ws.mount("main")
    bench.edit(e.append("f", b"2"))


WAITING_FOR_THE_DISK = """
import os, sys, time
import dsbranch
from dsbranch.ops import layers

wait = os.waitpid

def told(pid, options):
    print(pid, flush=True)
    return wait(pid, options)

layers._MUCH = -1
layers.os.waitpid = told
layers.syscalls.syncfs = lambda fd: time.sleep(60)
dsbranch.open(sys.argv[1]).commit("main", "x")
"""


def test_who_waits_for_the_disk_keeps_no_lock_of_one_that_was_killed(bench):
    bench.edit(e.append("f", b"1"))
    command = [sys.executable, "-P", "-c", WAITING_FOR_THE_DISK, bench.place]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=children.environment()) as killed:
        assert killed.stdout is not None
        waiting = int(killed.stdout.readline())
        killed.kill()
    try:
        assert killed.returncode == KILLED
        bench.ws.commit("main", "x")
    finally:
        os.kill(waiting, signal.SIGKILL)


def test_nobody_else_can_wait_for_the_disk(bench, monkeypatch):
    """As with `ulimit -u`; without it the disk is waited for all the same."""

    def refuse() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr("dsbranch.ops.layers._MUCH", -1)
    monkeypatch.setattr(os, "fork", refuse)
    bench.edit(e.append("f", b"1"))
    bench.ws.commit("main", "x")


def test_a_commit_that_descriptors_do_not_suffice_for_leaves_the_branch_writable(bench):
    codes = []
    for most in range(8, 32):
        bench.edit(e.append("f", b"1"))
        done = with_descriptors(most, bench.place, "commit", "main", "-m", "x")
        assert done.returncode in (0, errors.IntegrityError.exit_code), done.stderr
        assert done.returncode == 0 or "Too many open files" in done.stderr
        codes.append(done.returncode)
    bench.edit(e.append("f", b"1"))
    assert len(set(codes)) == 2


@pytest.mark.parametrize("verb", ["commit", "restore", "rollback"])
def test_interrupted_while_it_becomes_read_only(bench, monkeypatch, verb):
    """The kernel writes out what is unwritten first, and a signal waits for that."""
    bench.edit(e.append("f", b"1"))
    made = KernelDriver.set_read_only

    def interrupted(self: KernelDriver, path: Path) -> bool:
        assert made(self, path)
        raise KeyboardInterrupt

    monkeypatch.setattr(KernelDriver, "set_read_only", interrupted)
    words = {"commit": ("main", "x"), "restore": ("main", [b"f"]), "rollback": ("main",)}[verb]
    with pytest.raises(KeyboardInterrupt):
        getattr(bench.ws, verb)(*words)
    bench.edit(e.append("f", b"2"))
    assert bench.lines() == ["M f"]

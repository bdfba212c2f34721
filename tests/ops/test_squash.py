"""``squash``: one commit for several; the same view, no data read."""

from __future__ import annotations

import errno
import os

import pytest

from dsbranch import errors
from tests import core
from tests import edits as e
from tests.trees import Device, Dir, Fifo, File, Symlink, acl, assert_same, snapshot

from .conftest import command, mounts, one_sentence, recorded, rows, said

pytestmark = pytest.mark.root


def squashed(bench, *layers, since=None):
    """Commit each of `layers`, squash, and hold the view and the diffs against those before."""
    start = bench.head() if since is None else since
    for layer in layers:
        bench.commit(*layer)
    before = bench.see()
    changes = bench.lines(start, "main")
    done = bench.ws.squash("main", since=start)
    assert_same(bench.see(), before)
    bench.ws.umount("main")
    bench.ws.mount("main")
    assert_same(bench.see(), before)
    assert_same(bench.view("main"), before)
    assert bench.lines(start, "main") == changes
    assert bench.ws.status("main").clean
    return done


def test_the_commit(bench):
    root = bench.head()
    bench.commit(e.append("f", b"1"), message="first\n\nbody")
    bench.commit(e.append("g", b"2"), message="second")
    done = bench.ws.squash("main")
    assert bench.ws.log("main")[0] == done.commit
    assert done.commit.parents == (root,)
    assert (done.replaced, done.remounted) == (2, True)
    assert (done.linked, done.copied, done.copied_bytes) == (2, 0, 0)
    assert "first" in done.commit.message
    assert "second" in done.commit.message
    assert len(bench.ws.log("main")) == 2
    assert bench.ws.list()[0].depth == 2
    (operation,) = bench.ws._context.store.operations(1)
    assert operation.verb == "squash"


def test_a_message_of_ones_own(bench):
    bench.commit(e.append("f", b"1"))
    bench.commit(e.append("f", b"2"))
    assert bench.ws.squash("main", message="both").commit.message == "both"


def test_hard_links_and_no_data_read(bench):
    bench.commit(e.add("big", File(b"x" * 3_000_000)), e.append("f", b"1"), e.chmod("g", 0o644))
    bench.commit(e.append("h1", b"2"), e.add("n", Dir({"a": File(b"a" * 5000)})))
    layers = [commit.layer for commit in bench.ws.log("main")[:2]]
    old = {
        path: os.lstat(bench.fs(layer) / path).st_ino
        for layer in layers
        for path in ("big", "f", "h1", "n/a")
        if os.path.lexists(bench.fs(layer) / path)
    }
    for layer in layers:
        for path in bench.fs(layer).rglob("*"):
            if path.is_file():
                os.utime(path, ns=(1, path.stat().st_mtime_ns))
    done = bench.ws.squash("main")
    new = bench.fs(done.commit.layer)
    assert {path: os.lstat(new / path).st_ino for path in old} == old
    assert {path: os.lstat(new / path).st_atime_ns for path in old} == dict.fromkeys(old, 1)
    assert done.copied_bytes == 0
    digests = {entry.path: entry.digest for entry in core.entries(recorded(bench, new.parent.name))}
    assert all(digests[os.fsencode(path)] for path in old)


def test_digests_are_taken_over_not_read_again(bench):
    commit = bench.ws.show(bench.commit(e.write("f", b"true")))[0]
    bench.commit(e.append("g", b"1"))
    expected = {entry.path: entry.digest for entry in core.entries(recorded(bench, commit.layer))}
    # Whoever read the file again would see this.
    (bench.fs(commit.layer) / "f").write_bytes(b"lies")
    layer = bench.ws.squash("main").commit.layer
    found = core.entries(recorded(bench, layer))
    assert {entry.path: entry.digest for entry in found}[b"f"] == expected[b"f"] is not None


def test_its_manifest_is_what_a_fresh_scan_finds(bench):
    done = squashed(
        bench,
        (e.append("f", b"1"), e.rename("d", "moved"), e.link("g", "g2"), e.unlink("dangling")),
        (e.append("moved/x", b"2"), e.rename("moved", "again"), e.chmod("h1", 0o600)),
        (e.recreate("e", Dir({"m": File(b"new")})), e.add("p", Fifo())),
    )
    layer = done.commit.layer
    kept = core.entries(recorded(bench, layer))
    found = core.entries(core.scan(bench.fs(layer)))
    plain = [entry._replace(digest=None, origin=None) for entry in kept]
    assert core.comparable(plain) == core.comparable(
        [entry._replace(origin=None) for entry in found]
    )
    assert not (bench.fs(layer).parent / "work").exists()
    assert bench.ws._context.store.layer(layer).state == "sealed"


CASES = {
    "file on file": [(e.append("f", b"1"),), (e.append("f", b"2"),), (e.write("f", b"3"),)],
    "made and removed": [(e.add("n", Dir({"a": File(b"a")})),), (e.rmtree("n"),)],
    "removed and made": [(e.unlink("f"),), (e.add("f", File(b"new")),)],
    "removed and made equal": [(e.unlink("f"),), (e.add("f", File(b"one\n")),)],
    "tree removed, made with one file": [
        (e.rmtree("d"),),
        (e.add("d", Dir({"new": File(b"n")})),),
        (e.append("d/new", b"1"),),
    ],
    "written below, tree removed, made": [
        (e.append("d/x", b"1"), e.add("d/z", File(b"z"))),
        (e.rmtree("d"), e.add("d", Dir({"sub": Dir({"p": File(b"p2")})}))),
    ],
    "directory to file to directory": [
        (e.recreate("d", File(b"d")),),
        (e.recreate("d", Dir({"x": File(b"x2")})),),
    ],
    "directory to symlink to directory": [
        (e.recreate("d", Symlink("e")),),
        (e.recreate("d", Dir({"new": File(b"n")})),),
    ],
    "file to directory to file": [
        (e.recreate("f", Dir({"a": File(b"a")})),),
        (e.recreate("f", File(b"one\n")),),
    ],
    "renamed, changed inside": [
        (e.rename("d", "m"),),
        (e.append("m/x", b"1"), e.unlink("m/y"), e.add("m/sub/n", File(b"n"))),
    ],
    "changed inside, renamed": [
        (e.append("d/x", b"1"), e.unlink("d/y")),
        (e.rename("d", "m"),),
        (e.rename("m", "e/moved"),),
    ],
    "renamed, another takes the name": [
        (e.rename("d", "m"),),
        (e.add("d", Dir({"x": File(b"other")})),),
        (e.rename("e", "d/e"),),
    ],
    "renamed and back": [(e.rename("d", "m"),), (e.rename("m", "d"),)],
    "swapped": [(e.swap("d", "e"),), (e.append("d/m", b"1"), e.append("e/x", b"1"))],
    "renamed into a new directory, then that": [
        (e.mkdir("n"), e.rename("d", "n/d")),
        (e.rename("n", "nn"), e.append("nn/d/sub/p", b"1")),
    ],
    "metadata, then renamed": [(e.chmod("f", 0o600),), (e.rename("f", "d/f"),)],
    "renamed, then metadata": [(e.rename("f", "ff"),), (e.chmod("ff", 0o600),)],
    # A plan comes by the new directory last.
    "renamed into a new directory, then metadata": [
        (e.mkdir("a"), e.rename("d/x", "a/h")),
        (e.chmod("a/h", 0o600),),
    ],
    "renamed into a directory in place of another, then metadata": [
        (e.rename("e/m", "kept"), e.recreate("d", Dir({})), e.rename("kept", "d/h")),
        (e.chown("d/h", 3, 4),),
    ],
    "linked into a new directory, then metadata": [
        (e.mkdir("a"), e.link("d/x", "a/h")),
        (e.chmod("a/h", 0o600),),
        (e.chmod("d/x", 0o640),),
    ],
    "metadata twice": [(e.chmod("f", 0o600),), (e.chown("f", 3, 4),)],
    "content, then metadata": [(e.append("f", b"1"),), (e.chmod("f", 0o600), e.chmod("g", 0o644))],
    "metadata, then content": [(e.chmod("f", 0o600),), (e.append("f", b"1"),)],
    "hard links made": [
        (e.add("n", File(b"n" * 300)), e.link("n", "n2")),
        (e.link("n", "d/n3"), e.append("f", b"1")),
    ],
    "hard links of the base written to": [
        (e.append("h1", b"1"),),
        (e.append("h2", b"2"),),
    ],
    "directory metadata": [(e.chmod("d", 0o700),), (e.chmod("d/sub", 0o711), e.utime("d", 77))],
    "root metadata": [
        (e.chmod("", 0o711), e.setxattr("", "user.a", b"1")),
        (e.chown("", 5, 5), e.utime("", 99)),
    ],
    "kinds": [
        (e.add("p", Fifo()), e.add("c", Device("char", 1, 3)), e.symlink("x", "s")),
        (e.recreate("p", Symlink("c")), e.rename("c", "c2"), e.recreate("s", Fifo())),
    ],
    "xattrs": [
        (e.setxattr("f", "user.a", b"1"), e.setfacl("g", 7, 6)),
        (e.setxattr("f", "user.b", b"2"), e.removexattr("f", "user.a")),
    ],
    "idle": [(e.append("f", b"1"),), (e.open_and_close("f"), e.append("g", b"1"))],
    "a hole": [(e.add("h", File(b"s", sparse=1 << 24)),), (e.chmod("h", 0o600),)],
}


@pytest.mark.parametrize("name", CASES)
def test_the_view_stays(bench, name):
    done = squashed(bench, *CASES[name])
    assert done.remounted
    assert done.replaced == len(CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_the_view_stays_above_other_commits(bench, name):
    bench.commit(e.append("d/sub/q", b"0"), e.add("e/n", File(b"n")), e.chmod("f", 0o666))
    squashed(bench, *CASES[name])


def test_nothing_of_an_undone_change_remains(bench):
    done = squashed(bench, *CASES["made and removed"])
    assert os.listdir(bench.fs(done.commit.layer)) == []
    assert bench.lines("main") == []


def test_no_whiteout_where_nothing_is_below(bench):
    bench.commit(e.add("n", File(b"n")))
    done = squashed(
        bench, (e.unlink("f"), e.add("k", File())), (e.unlink("k"),), since=bench.head() + "~1"
    )
    assert sorted(os.listdir(bench.fs(done.commit.layer))) == ["f", "n"]


def test_since(bench):
    first = bench.commit(e.append("f", b"1"), message="first")
    for number in "234":
        bench.commit(e.append("f", number.encode()), message=number)
    before = bench.see()
    done = bench.ws.squash("main", since="main~3")
    assert (done.replaced, done.commit.parents) == (3, (first,))
    assert [c.message for c in bench.ws.log("main")][1] == "first"
    assert_same(bench.see(), before)
    again = bench.ws.squash("main", since="main~2")
    assert again.replaced == 2
    assert_same(bench.see(), before)


def test_since_the_fork_by_default(bench):
    bench.commit(e.append("f", b"0"))
    fork = bench.head()
    bench.ws.create("exp1")
    bench.commit(e.append("f", b"1"), branch="exp1")
    bench.commit(e.append("g", b"2"), branch="exp1")
    before = bench.see("exp1")
    done = bench.ws.squash("exp1")
    assert (done.replaced, done.commit.parents) == (2, (fork,))
    assert_same(bench.see("exp1"), before)
    assert bench.lines("exp1") == ["M f", "M g"]


def test_what_it_replaced_is_still_there(bench):
    first = bench.commit(e.append("f", b"1"))
    view = bench.see()
    second = bench.commit(e.append("f", b"2"))
    bench.ws.create("other", start=second)
    bench.ws.squash("main")
    assert bench.ws._context.store.commit(second).parents == (first,)
    assert_same(bench.view(first), view)
    bench.edit(e.append("f", b"3"), branch="other")
    assert bench.lines(branch="other") == ["M f"]
    assert bench.ws.rollback("main", "main@{1}").head == second


def test_unmounted(bench):
    bench.commit(e.append("f", b"1"))
    bench.commit(e.append("g", b"2"), e.rename("d", "moved"))
    bench.edit(e.append("f", b"uncommitted"), e.unlink("moved/x"))
    before = bench.see()
    bench.ws.umount("main")
    done = bench.ws.squash("main")
    assert done.remounted
    assert mounts(bench.root) == []
    bench.ws.mount("main")
    assert_same(bench.see(), before)
    assert bench.lines() == ["M f", "D moved/x"]


def test_a_dirty_mounted_branch_goes_on_with_its_open_layer(bench):
    bench.commit(e.append("f", b"1"), e.rename("d", "moved"))
    bench.commit(e.append("g", b"2"), e.chmod("h1", 0o600))
    bench.edit(
        e.append("f", b"uncommitted"),
        e.unlink("moved/x"),
        e.rename("moved/sub", "sub"),
        e.chmod("g", 0o640),
        e.link("h2", "h3"),
    )
    upper, before, changes = bench.upper(), bench.see(), bench.lines()
    done = bench.ws.squash("main")
    assert (done.remounted, done.replaced) == (False, 2)
    assert bench.upper() == upper
    assert_same(bench.see(), before)
    assert bench.lines() == changes
    # The mount goes on, and what it writes is there on the new stack.
    bench.edit(e.append("moved/y", b"on"), e.rename("sub", "sub2"))
    before, changes = bench.see(), bench.lines()
    bench.ws.umount("main")
    bench.ws.mount("main")
    assert_same(bench.see(), before)
    assert bench.lines() == changes
    bench.ws.commit("main", "on")
    assert_same(bench.see(), before)
    assert len(bench.ws.log("main")) == 3


def test_a_dirty_mounted_branch_committed_without_a_remount(bench):
    bench.commit(e.append("f", b"1"), e.rename("d", "moved"))
    bench.commit(e.append("g", b"2"))
    bench.edit(e.append("f", b"3"), e.append("moved/x", b"3"), e.rename("moved", "moved2"))
    bench.ws.squash("main")
    before = bench.see()
    bench.ws.commit("main", "third")
    assert_same(bench.see(), before)
    bench.edit(e.append("moved2/y", b"4"))
    assert bench.lines() == ["M moved2/y"]


def test_a_writer_is_no_hindrance(bench, hold):
    bench.commit(e.append("f", b"1"))
    bench.commit(e.append("g", b"2"))
    hold("held = open(sys.argv[1], 'a'); held.write('late'); held.flush()", bench.path() / "h1")
    before = bench.see()
    assert not bench.ws.squash("main").remounted
    assert_same(bench.see(), before)
    assert bench.lines() == ["M h1"]


def test_a_reader_is_no_hindrance(bench):
    bench.commit(e.append("f", b"1"))
    bench.commit(e.append("g", b"2"))
    with (bench.path() / "f").open("rb") as file:
        assert bench.ws.squash("main").remounted
        assert file.read() == b"one\n1"


def test_of_layers_that_were_not_hashed(bench):
    for number in b"12":
        bench.edit(e.append("f", bytes([number])), e.add(f"n{number}", File(b"n")))
        bench.ws.commit("main", "x", hash=False)
    before = bench.see()
    done = bench.ws.squash("main")
    assert_same(bench.see(), before)
    assert not bench.ws._context.store.layer(done.commit.layer).hashed
    bench.edit(e.rewrite("f"), e.open_and_close("n49"))
    assert bench.lines() == ["M f"]


def refused(bench, kind, words, **keywords):
    before = bench.traces()
    with pytest.raises(kind, match=words) as caught:
        bench.ws.squash("main", **keywords)
    one_sentence(caught.value)
    assert bench.traces() == before


def test_nothing_to_squash(bench):
    refused(bench, errors.NothingToCommit, "no commits since")
    bench.commit(e.append("f", b"1"))
    refused(bench, errors.NothingToCommit, "1 commit since")
    refused(bench, errors.NothingToCommit, "no commits since", since="main")


def test_since_something_that_is_no_ancestor(bench):
    bench.ws.create("exp1")
    bench.commit(e.append("f", b"1"), branch="exp1")
    bench.commit(e.append("f", b"1"))
    bench.commit(e.append("f", b"2"))
    refused(bench, errors.ConflictError, "not in the history of main", since="exp1")
    refused(bench, errors.UnknownRef, "nope", since="nope")


@pytest.mark.parametrize(
    "step",
    [
        "dsbranch.ops.build.built",
        "dsbranch.ops.layers.sync",
        "dsbranch.overlay.kernel.KernelDriver.prepare",
        "dsbranch.store.writes.log",
    ],
)
def test_a_failing_step_changes_nothing(bench, monkeypatch, step):
    bench.commit(e.append("f", b"1"))
    bench.commit(e.append("f", b"2"))
    before, stored = bench.see(), rows(bench.place)
    directories = sorted(os.listdir(bench.place / ".dsbranch" / "layers"))

    def fail(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(step, fail)
    with pytest.raises(KeyboardInterrupt):
        bench.ws.squash("main")
    monkeypatch.undo()
    assert rows(bench.place) == stored
    assert sorted(os.listdir(bench.place / ".dsbranch" / "layers")) == directories
    assert_same(bench.see(), before)
    bench.edit(e.append("g", b"writable"))
    assert said(bench.ws.diff(branch="main")) == ["M g"]
    assert snapshot(bench.data)[b"f"].content == b"one\n"


def test_default_acls_are_inherited_by_nothing(bench):
    """In the view nothing was made after its directory had got the ACL."""
    default = ("system.posix_acl_default", acl(1000, 7))
    os.setxattr(bench.place / ".dsbranch" / "layers", *default)
    done = squashed(
        bench,
        (
            e.add("d/new", Dir({"in": File(b"in"), "deeper": Dir()})),
            e.add("d/p", Fifo()),
            e.setxattr("d", *default),
        ),
        (e.append("d/x", b"1"), e.chmod("d/y", 0o600), e.append("f", b"2")),
    )
    for path in bench.fs(done.commit.layer).rglob("*"):
        names = os.listxattr(path, follow_symlinks=False)
        assert [name for name in names if "acl" in name] == [default[0]] * (path.name == "d")


@pytest.mark.parametrize("other", ["d/t2", "f"])
def test_names_of_a_metacopy_file_whose_redirect_is_written_anew_stay_one_inode(bench, other):
    squashed(bench, (e.rename("f", "t"),), (e.chmod("t", 0o600), e.link("t", other)))
    assert (bench.path() / other).samefile(bench.path() / "t")


def test_the_times_of_directories_in_the_open_layer_stay(bench):
    bench.commit(e.append("f", b"1"))
    bench.commit(e.append("d/x", b"2"))
    bench.edit(e.utime("", 123_456_789), e.utime("d", 987_654_321))
    bench.ws.squash("main")
    for _ in range(2):
        assert bench.path().stat().st_mtime_ns == 123_456_789
        assert (bench.path() / "d").stat().st_mtime_ns == 987_654_321
        bench.ws.umount("main")
        bench.ws.mount("main")


@pytest.mark.parametrize("message", ["", " \n\t", "\n\n"])
def test_a_message_of_nothing(bench, message):
    bench.commit(e.append("f", b"1"))
    bench.commit(e.append("f", b"2"))
    refused(bench, errors.UsageError, "needs a message", message=message)


def test_a_message_that_begins_with_blank_lines_can_be_squashed_again(bench):
    for number in range(2):
        bench.commit(e.append("f", b"%d" % number))
    assert bench.ws.squash("main", message="\n\nsubject\n\nbody\n").commit.message == (
        "subject\n\nbody"
    )
    bench.commit(e.append("f", b"2"), message="\nlast")
    again = bench.ws.squash("main", since="main~2").commit.message
    assert again == "squash 2 commits\n\n- subject\n- last"


@pytest.mark.parametrize("size", [0, 1 << 16, (1 << 17) + 1])
def test_a_source_of_another_size_is_not_made_up_with_zeros(bench, size):
    sealed = bench.upper()
    bench.commit(e.add("big", File(os.urandom(1 << 17))))
    # The data are below the new metadata, so squashing has to copy them.
    bench.commit(e.chmod("big", 0o600))
    bench.reopen()
    os.truncate(sealed / "big", size)
    before = bench.traces()
    with pytest.raises((errors.StorageError, errors.IntegrityError)) as caught:
        bench.ws.squash("main")
    assert "\n" not in str(caught.value)
    assert bench.traces() == before


def test_dates_beyond_2262_stay_as_late_as_can_be_recorded(bench):
    late = 13_569_465_600 * 10**9  # the year 2400, which ext4 and XFS hold
    bench.commit(e.add("new", Dir({"f": File(b"f", mtime_ns=late)}, mtime_ns=late)))
    bench.commit(e.append("new/f", b"f"), e.utime("new/f", late), e.utime("new", late))
    kept = (bench.path() / "new").stat().st_mtime_ns
    bench.commit(e.chmod("new/f", 0o600))
    bench.ws.squash("main")
    bench.ws.export("main", bench.root / "out")
    for top in (bench.path(), bench.root / "out"):
        for path in ("new", "new/f"):
            assert (top / path).stat().st_mtime_ns >= min(kept, (1 << 63) - 1 - 10**9), path


def test_a_disk_that_cannot_take_the_layer_is_not_said_to_be_unreadable(bench, monkeypatch):
    bench.commit(e.append("f", b"1"))
    bench.commit(e.append("f", b"2"))

    def fail(*arguments, **keywords):
        raise OSError(errno.ENOSPC, "No space left on device", "f")

    monkeypatch.setattr("dsbranch.ops.build.build", fail)
    refused(bench, errors.StorageError, "^cannot (make|write) .*No space left")


def test_what_was_renamed_and_written_by_commits_stays_renamed(bench):
    root = bench.head()
    bench.commit(e.append("f", b"1"), e.chmod("g", 0o644))
    bench.commit(e.rename("f", "t"), e.append("g", b"2"), e.rename("g", "d/g"))
    bench.commit(e.append("t", b"3"), e.rename("t", "u"))
    bench.commit(e.chmod("u", 0o600), e.rename("d/g", "v"))
    expected = ["R u < f", "R v < g"]
    assert bench.lines(root, "main") == expected
    bench.ws.squash("main", since=root)
    assert bench.lines(root, "main") == expected
    bench.reopen()
    assert bench.lines(root, "main") == expected


def test_names_of_an_inode_that_may_not_be_linked_stay_one(bench):
    start = bench.head()
    bench.commit(e.add("n", File(b"n")), e.link("n", "d/n2"))
    stuck = bench.fs(bench.ws._context.store.commit(bench.head()).layer) / "n"
    command(["chattr", "+i", stuck])
    try:
        squashed(bench, (e.append("f", b"1"),), since=start)
    finally:
        command(["chattr", "-i", stuck])
    assert (bench.path() / "n").samefile(bench.path() / "d/n2")

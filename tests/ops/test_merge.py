"""``merge``: another branch's changes as a commit with two parents; nothing unchanged is read."""

from __future__ import annotations

import errno
import os

import pytest

from dsbranch import errors
from dsbranch.model.merges import Preference
from dsbranch.ops.patterns import compiled
from tests import edits as e
from tests.trees import Dir, File, assert_same

from .conftest import layers, one_sentence, rows, said

pytestmark = pytest.mark.root

STORE = "dsbranch.store.database:Store."
POINTS = [
    ("dsbranch.ops.build:build", "before"),
    ("dsbranch.ops.build:build", "after"),
    ("dsbranch.ops.layers:write_manifest", "after"),
    (STORE + "record", "before"),
]


@pytest.fixture
def forked(bench):
    """Commit edits on main and on exp1, which begin at one commit."""

    def fork(ours, theirs):
        bench.ws.create("exp1")
        if ours:
            bench.commit(*ours)
        bench.commit(*theirs, branch="exp1")
        return bench

    return fork


def merge(bench, other="exp1", into="main", **keywords):
    return bench.ws.merge(other, into=into, **keywords)


OURS = (e.append("d/x", b"ours"), e.add("o", File(b"o")), e.unlink("g"))
THEIRS = (e.rename("d", "t"), e.append("t/y", b"theirs"), e.add("n", Dir({"a": File(b"a")})))


def test_the_commit(forked):
    bench = forked(OURS, THEIRS)
    ours, theirs = bench.head(), bench.head("exp1")
    merged = merge(bench)
    assert merged.commit.parents == (ours, theirs)
    assert merged.commit.message == "merge exp1 into main"
    assert bench.head() == merged.commit.id
    assert merged.counts == {"A": 2, "M": 1, "R": 1}
    assert (merged.linked, merged.copied_bytes, merged.conflicts) == (2, 0, ())
    assert merged.mountpoint == bench.path()
    (operation,) = bench.ws._context.store.operations(1)
    assert operation.verb == "merge"
    assert bench.lines(ours, "main") == ["A n", "A n/a", "R t < d", "M t/y < d/y"]
    see = bench.see()
    assert see[b"t/x"].content == b"xours"
    assert see[b"t/y"].content == b"yytheirs"
    assert_same(bench.view("main"), see)
    assert bench.ws.status("main").clean
    assert rows(bench.place)["layers"]
    assert bench.ws._context.store.layer(merged.commit.layer).hashed


def test_unmounted_and_with_a_message(forked):
    bench = forked(OURS, THEIRS)
    bench.ws.umount("main")
    merged = merge(bench, message="both")
    assert merged.commit.message == "both"
    assert merged.mountpoint is None
    assert b"t/y" in bench.view("main")


def test_also_where_a_fast_forward_would_do(forked):
    bench = forked((), THEIRS)
    merged = merge(bench)
    assert len(merged.commit.parents) == 2
    assert_same(bench.see(), bench.see("exp1"))


def test_what_is_contained_already(forked):
    bench = forked(OURS, THEIRS)
    merge(bench)
    before = rows(bench.place)
    again = merge(bench)
    assert again.up_to_date
    assert again.commit is None
    assert merge(bench, other="main~1").up_to_date
    assert merge(bench, other="main").up_to_date
    assert rows(bench.place) == before


def test_equal_changes_make_a_commit_without_changes(forked):
    bench = forked((e.write("f", b"same"),), (e.write("f", b"same"),))
    before = bench.see()
    merged = merge(bench)
    assert merged.counts == {}
    assert len(merged.commit.parents) == 2
    assert_same(bench.see(), before)


MOVES = {
    "renamed": (THEIRS, "t"),
    "swapped": ((e.swap("d", "e"),), "e"),
    "in one of its own name": ((e.rename("d", "t"), e.mkdir("d"), e.rename("t", "d/in")), "d/in"),
    "its name taken": ((e.rename("d", "t"), e.add("d", Dir({"n": File(b"n")}))), "t"),
}


@pytest.mark.parametrize("form", ["changes.tar", "changes"])
@pytest.mark.parametrize("moves", MOVES)
def test_what_was_exported_and_what_was_applied_are_one(forked, form, moves):
    edits, place = MOVES[moves]
    bench = forked((), edits)
    bench.ws.export("main..exp1", bench.root / form)
    bench.ws.apply("main", bench.root / form)
    assert bench.lines("main", "exp1") == bench.lines("exp1", "main") == []
    bench.ws.create("clean", start="main")
    assert merge(bench, into="clean").counts == {}
    assert_same(bench.see("clean"), bench.see("exp1"))
    bench.commit(e.append(f"{place}/x", b"applied"), e.add("n2", File(b"n")))
    bench.commit(e.append(f"{place}/sub/q", b"exported"), branch="exp1")
    wanted = bench.see("exp1") | {
        path.encode(): bench.see()[path.encode()] for path in (f"{place}/x", "n2")
    }
    assert merge(bench).counts == {"M": 1}
    assert merge(bench, "main", "exp1").counts == {"M": 1, "A": 1}
    assert_same(bench.see(), wanted, ignore=("mtime_ns",))
    assert_same(bench.see("exp1"), wanted, ignore=("mtime_ns",))
    assert bench.lines("main", "exp1") == []


def test_again_and_back(forked):
    """What was merged once is the base of the next merge, in either direction."""
    bench = forked(OURS, THEIRS)
    merge(bench)
    bench.commit(e.append("t/y", b"2"), e.rename("n", "n2"), branch="exp1")
    bench.commit(e.append("t/x", b"2"))
    merge(bench)
    see = bench.see()
    assert see[b"t/y"].content == b"yytheirs2"
    assert see[b"t/x"].content == b"xours2"
    assert b"n2/a" in see
    assert b"n" not in see
    merge(bench, "main", "exp1")
    assert_same(bench.see("exp1"), see)
    bench.ws.squash("main", since="main~2")
    assert_same(bench.view("main"), see)


def test_conflicts_leave_everything_as_it_was(forked):
    bench = forked(
        (e.write("f", b"12"), e.unlink("g")), (e.write("f", b"345"), e.append("g", b"!"))
    )
    before = bench.traces()
    with pytest.raises(errors.MergeConflict) as caught:
        merge(bench)
    assert one_sentence(caught.value)
    assert caught.value.exit_code == 3
    found = caught.value.conflicts
    assert [(item.path, item.reason) for item in found] == [
        (b"f", "modified / modified"),
        (b"g", "deleted / modified"),
    ]
    assert [(s.kind, s.size) for s in (found[0].base, found[0].ours, found[0].theirs)] == [
        ("file", 4),
        ("file", 2),
        ("file", 3),
    ]
    assert found[1].ours is None
    assert merge(bench, dry_run=True).conflicts == found
    assert bench.traces() == before


def test_a_dry_run_writes_nothing(forked):
    bench = forked(OURS, THEIRS)
    before = bench.traces()
    tried = merge(bench, dry_run=True)
    assert tried.commit is None
    assert bench.traces() == before
    assert merge(bench).counts == tried.counts


@pytest.mark.parametrize(("strategy", "content"), [("ours", b"12"), ("theirs", b"345")])
def test_a_strategy(forked, strategy, content):
    bench = forked((e.write("f", b"12"),), (e.write("f", b"345"), e.append("g", b"!")))
    merge(bench, strategy=strategy)
    assert bench.see()[b"f"].content == content
    assert bench.see()[b"g"].content == b"two\n!"


def test_preferences_by_path(forked):
    paths = ("f", "d/x", "d/sub/p")
    bench = forked(
        [e.write(path, b"ours") for path in paths], [e.write(path, b"theirs") for path in paths]
    )
    prefer = [Preference(b"d/sub/**", "theirs"), Preference(b"d", "ours")]
    assert [item.path for item in merge(bench, prefer=prefer, dry_run=True).conflicts] == [b"f"]
    merge(bench, prefer=prefer, strategy="theirs")
    see = bench.see()
    assert [see[path.encode()].content for path in paths] == [b"theirs", b"ours", b"theirs"]


@pytest.mark.parametrize(
    ("glob", "yes", "no"),
    [
        (b"labels/**", b"labels/a/b", b"labels"),
        (b"labels", b"x/labels/a", b"x/labelss"),
        (b"/labels", b"labels/a", b"x/labels"),
        (b"*.txt", b"a/b.txt", b"a.txt.b"),
        (b"a/*.txt", b"a/b.txt", b"a/b/c.txt"),
        (b"a/**/b", b"a/b", b"a/xb"),
        (b"a/**/b", b"a/x/y/b", b"c/a/b"),
        (b"**/b", b"x/y/b", b"x/yb"),
        (b"[!a-c]?", b"dx", b"ax"),
        (b"[]^]", b"^", b"a"),
        (b"a[b/c]d", b"abd", b"a/d"),
        (b"a.b", b"a.b", b"axb"),
        (b"\xff*", b"\xff\xfe\n", b"\xfe"),
    ],
)
def test_globs(glob, yes, no):
    assert compiled(glob).fullmatch(yes)
    assert not compiled(glob).fullmatch(no)


def test_a_dirty_target_is_refused(forked):
    bench = forked(OURS, THEIRS)
    bench.edit(e.append("f", b"!"))
    before = bench.traces()
    with pytest.raises(errors.DirtyBranch) as caught:
        merge(bench)
    assert one_sentence(caught.value)
    assert bench.traces() == before


def test_a_directorys_time_alone_is_no_reason_to_refuse(forked):
    bench = forked(OURS, THEIRS)
    bench.edit(e.unlink("h1"))
    bench.ws.restore("main", [b"h1"])
    assert bench.ws.status("main").clean
    assert merge(bench).commit is not None


def test_uncommitted_changes_of_the_other_stay_there(forked):
    bench = forked(OURS, THEIRS)
    bench.edit(e.append("f", b"!"), branch="exp1")
    assert merge(bench).dirty_source == "exp1"
    assert bench.see()[b"f"].content == b"one\n"


def test_no_such_branch(bench):
    with pytest.raises(errors.UnknownRef):
        merge(bench, "nobody")
    with pytest.raises(errors.UnknownRef):
        merge(bench, "main", "nobody")


def test_theirs_are_hard_links_and_nothing_is_read(forked):
    big = File(b"x" * 3_000_000)
    bench = forked(
        (e.append("d/x", b"!"),), (e.add("big", big), e.chmod("f", 0o600), e.link("g", "g2"))
    )
    old = bench.fs(bench.ws.log("exp1")[0].layer)
    os.utime(old / "big", ns=(1, os.lstat(old / "big").st_mtime_ns))
    merged = merge(bench)
    new = bench.fs(merged.commit.layer)
    assert os.lstat(new / "big").st_ino == os.lstat(old / "big").st_ino
    assert os.lstat(old / "big").st_atime_ns == 1
    assert os.lstat(new / "g").st_ino == os.lstat(new / "g2").st_ino
    assert (merged.copied, merged.copied_bytes) == (0, 0)
    assert not os.path.lexists(new / "d")


@pytest.mark.parametrize("point", POINTS, ids=lambda point: "-".join(point).rpartition(":")[2])
def test_killed(forked, point):
    bench = forked(OURS, THEIRS)
    before, see = rows(bench.place, "mounts"), bench.see()
    bench.killed("merge('exp1', into='main')", *point)
    assert rows(bench.place, "mounts") == before
    assert_same(bench.see(), see)
    assert len(merge(bench).commit.parents) == 2


def test_killed_after_the_transaction(forked):
    bench = forked(OURS, THEIRS)
    bench.killed("merge('exp1', into='main')", STORE + "record", "after")
    assert len(bench.ws.log("main")[0].parents) == 2
    bench.ws.status("main")
    assert b"t/y" in bench.see()
    bench.edit(e.append("t/y", b"!"))


@pytest.mark.parametrize("target", ["build", "scan"])
def test_a_full_disk(forked, monkeypatch, target):
    bench = forked(OURS, THEIRS)
    before = {key: value for key, value in bench.traces().items() if key != "layers"}
    kept = layers(bench.place)

    def full(*arguments, **keywords):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "t/y")

    with monkeypatch.context() as patched:
        patched.setattr(f"dsbranch.ops.build.{target}", full)
        with pytest.raises(errors.StorageError) as caught:
            merge(bench)
    assert caught.value.errno == errno.ENOSPC
    assert {key: value for key, value in bench.traces().items() if key != "layers"} == before
    assert layers(bench.place) == kept
    assert merge(bench).commit is not None


def test_show_and_diff_of_a_merge(forked):
    bench = forked(OURS, THEIRS)
    merged = merge(bench)
    commit, diff = bench.ws.show("main")
    assert commit == merged.commit
    assert said(diff) == bench.lines("main~1", "main")
    assert len(bench.ws.log("main")) == 4


def test_an_xattr_that_the_root_lost(bench):
    bench.commit(e.setxattr("", "user.root", b"1"), e.setxattr("", "trusted.overlay.own", b"2"))
    bench.ws.create("exp1")
    bench.commit(
        e.removexattr("", "user.root"), e.removexattr("", "trusted.overlay.own"), branch="exp1"
    )
    bench.commit(e.append("f", b"1"))
    merge(bench)
    assert bench.lines("exp1", "main") == ["M f"]
    assert {*os.listxattr(bench.path())} <= {"security.selinux"}

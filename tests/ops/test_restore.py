"""``restore``: paths as they are in a commit again, held against what both trees showed."""

from __future__ import annotations

import os
import random

import pytest

from dsbranch import errors
from tests import edits as e
from tests.steps import START, perform_all, random_layers
from tests.trees import File, assert_same
from tests.truth import restored

from .conftest import one_sentence
from .test_heal import healthy

pytestmark = pytest.mark.root

HISTORIES = int(os.environ.get("DSBRANCH_TEST_HISTORIES", "12"))
# A name that comes back on its own is no longer one inode with another.
SPLIT = ("links",)


def test_uncommitted_changes_of_a_file_and_a_tree(bench):
    committed = bench.see()
    bench.edit(e.append("f", b"2"), e.rmtree("d"), e.add("d", File(b"now a file")))
    bench.edit(e.append("g", b"kept"), e.add("new", File(b"new")))
    dirty = bench.see()
    done = bench.ws.restore("main", [b"f", b"d", b"new"])
    assert (done.branch, done.commit, done.mountpoint) == ("main", bench.head(), bench.path())
    assert done.counts == {"A": 5, "M": 1, "D": 1, "T": 1}
    assert bench.lines() == ["M g"]
    assert_same(bench.see(), restored(dirty, committed, [b"f", b"d", b"new"]))
    bench.ws.commit("main", "after")
    assert bench.lines("main~1", "main") == ["M g"]
    assert_same(bench.view("main~1"), committed)


def test_what_a_rename_took_away(bench):
    """The base's directory is shown again where it was, and under its new name as well."""
    before = bench.see()
    bench.edit(e.rename("d", "moved"), e.append("moved/x", b"edited"))
    now = bench.see()
    bench.ws.restore("main", [b"d"])
    assert_same(bench.see(), restored(now, before, [b"d"]), ignore=SPLIT)
    bench.ws.restore("main", [b"moved"])
    assert bench.lines() == []


def test_the_restored_and_the_renamed_are_two(bench):
    """Had both shown the same files below, a kernel would take them for one, and what is written
    to one would be read in the other."""
    bench.edit(e.rename("d", "moved"))
    bench.ws.restore("main", [b"d"])
    before = bench.see()
    bench.edit(e.append("moved/x", b"edited"), e.chmod("moved/sub", 0o711))
    after = bench.see()
    changed = [path for path in after if after[path] != before[path]]
    assert sorted(changed) == [b"moved/sub", b"moved/x"]
    bench.ws.umount("main")
    bench.ws.mount("main")
    assert_same(bench.see(), after)


def test_from_an_older_commit(bench):
    first = bench.commit(e.append("f", b"1"), e.add("d/new", File(b"first")))
    old = bench.see()
    bench.commit(e.rmtree("d"), e.append("f", b"2"), e.chmod("g", 0o640))
    now = bench.see()
    done = bench.ws.restore("main", [b"d/sub", b"f"], start=first)
    assert done.commit == first
    assert_same(bench.see(), restored(now, old, [b"d/sub", b"f"]), ignore=SPLIT)
    assert bench.lines(first, "main", paths=[b"d/sub"]) != []
    bench.ws.commit("main", "back")
    assert bench.lines(first, "main", paths=[b"d/sub", b"f"]) == []


def test_undo_brings_back_what_was_there(bench):
    bench.edit(e.append("f", b"precious"), e.unlink("g"))
    before = bench.see()
    bench.ws.restore("main", [b"f", b"g"])
    assert bench.lines() == []
    bench.ws.undo()
    assert_same(bench.see(), before)
    assert bench.lines() == ["M f", "D g"]
    bench.edit(e.append("f", b" and more"))
    bench.ws.undo()
    assert bench.lines() == []


def test_a_commit_after_it_counts_renames_as_diff_does(bench):
    """What the restoring sealed has no digests yet, by which files are known again."""
    bench.commit(e.add("one", File(b"the same content")))
    bench.edit(e.unlink("one"), e.add("two", File(b"the same content")), e.append("f", b"2"))
    bench.ws.restore("main", [b"f"])
    done = bench.ws.commit("main", "renamed")
    assert done.counts == bench.ws.diff("main~1", "main").counts() == {"R": 1}


def test_everything(bench):
    committed = bench.see()
    bench.edit(e.append("f", b"2"), e.chmod("", 0o700), e.rmtree("e"))
    bench.ws.restore("main", [b""])
    assert_same(bench.see(), committed)
    assert bench.lines() == []


@pytest.mark.parametrize("mounted", [True, False])
def test_nothing_to_restore_changes_nothing(bench, mounted):
    bench.edit(e.append("f", b"2"))
    if not mounted:
        bench.ws.umount("main")
    traces = bench.traces()
    done = bench.ws.restore("main", [b"g", b"d"])
    assert done.counts == {}
    assert bench.traces() == traces
    assert bench.lines() == ["M f"]
    if mounted:
        bench.edit(e.append("f", b"3"))


@pytest.mark.parametrize(
    ("paths", "start", "error", "match"),
    [
        ([b"nope"], None, errors.BadPath, "there is no nope"),
        ([b"f/x"], None, errors.BadPath, "there is no f/x"),
        ([b"f"], "nope", errors.UnknownRef, "nope"),
    ],
)
def test_refused(bench, paths, start, error, match):
    bench.edit(e.append("f", b"2"))
    traces = bench.traces()
    with pytest.raises(error, match=match) as caught:
        bench.ws.restore("main", paths, start=start)
    one_sentence(caught.value)
    assert bench.traces() == traces


def test_a_writer_is_named_and_nothing_changes(bench, hold):
    bench.edit(e.append("f", b"2"))
    hold("held = open(sys.argv[1], 'a')", bench.path() / "f")
    traces = bench.traces()
    with pytest.raises(errors.WritersPresent):
        bench.ws.restore("main", [b"f"])
    assert bench.traces() == traces


def test_data_below_a_deletion_are_not_read(bench):
    """A large file of the base is shown again, not copied."""
    big = bench.data / "big"
    bench.ws.umount("main")
    with big.open("wb") as file:
        file.write(os.urandom(1 << 24))
    bench.ws.mount("main")
    bench.edit(e.unlink("big"), e.append("f", b"2"))
    bench.ws.restore("main", [b"big"])
    assert (bench.path() / "big").read_bytes() == big.read_bytes()
    assert sum(p.stat().st_blocks for p in (bench.place / ".dsbranch" / "layers").rglob("*")) < 2048


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_random(adopt, seed):
    bench, rng = adopt(START), random.Random(seed)
    states = {bench.head(): bench.see()}
    for steps in random_layers(seed, 3, 8):
        perform_all(bench.path(), steps)
        states[bench.ws.commit("main", "x", allow_empty=True).commit.id] = bench.see()
    for number, steps in enumerate(random_layers(seed + 500, 4, 5)):
        print("\n".join(perform_all(bench.path(), steps)))
        now = bench.see()
        commit = bench.head() if number % 2 else rng.choice(list(states))
        then = states[commit]
        known = sorted({*now, *then} - {b""})
        paths = sorted(rng.sample(known, min(len(known), rng.randint(1, 2))))
        print(paths, "from", list(states).index(commit))
        done = bench.ws.restore("main", paths, start=commit)
        expected = restored(now, then, paths)
        assert_same(bench.see(), expected, ignore=SPLIT)
        if done.counts:
            bench.ws.undo()
            assert_same(bench.see(), now, ignore=SPLIT)
            bench.ws.undo()
            assert_same(bench.see(), expected, ignore=SPLIT)
        if number == 2:
            states[bench.ws.commit("main", "restored", allow_empty=True).commit.id] = bench.see()
            assert_same(bench.see(), expected, ignore=SPLIT)
    now = bench.see()
    bench.ws.commit("main", "all", allow_empty=True)
    assert_same(bench.see(), now, ignore=SPLIT)
    assert bench.ws.verify(full=True).findings == ()


STORE = "dsbranch.store.database:Store.record"
KERNEL = "dsbranch.overlay.kernel:"
POINTS = [
    ("dsbranch.ops.layers:write_manifest", "after"),
    ("dsbranch.ops.build:build", "after"),
    (STORE, "before"),
    (STORE, "after"),
    ("dsbranch._core.seal:strip", "before"),
    ("dsbranch._core.seal:strip", "after"),
    (KERNEL + "KernelPrepared.attach", "before"),
    (KERNEL + "KernelPrepared.attach", "after"),
    (KERNEL + "KernelDriver.detach", "after"),
]


@pytest.mark.parametrize("point", POINTS, ids=lambda p: f"{p[1]}-{p[0].rpartition(':')[2]}")
def test_killed(bench, point):
    committed = bench.see()
    bench.edit(e.append("f", b"2"), e.append("g", b"2"))
    dirty = bench.see()
    bench.killed("restore('main', [b'f'])", *point)
    bench.ws.mount("main")
    done = POINTS.index(point) >= 3
    healthy(bench, restored(dirty, committed, [b"f"]) if done else dirty)


def test_an_xattr_that_the_root_had_not(bench):
    before = bench.head()
    bench.commit(e.setxattr("", "user.root", b"1"), e.setxattr("d", "user.d", b"1"))
    bench.ws.restore("main", [b""], start=before)
    assert bench.lines(before, branch="main") == []
    assert {*os.listxattr(bench.path())} <= {"security.selinux"}

"""``gc``: what nothing reaches goes, and nothing else, whoever works meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from dsbranch import errors
from dsbranch.model.facts import Checkpoint, Move, Tag
from dsbranch.ops import layers as layer_steps
from dsbranch.ops import stacks
from dsbranch.ops.build import squashed
from dsbranch.ops.lowers import lowers_of, root_of_view
from dsbranch.store import journal
from dsbranch.store.connection import Connection
from dsbranch.store.lock import gc_lock, layer_claim
from tests import children
from tests import edits as e
from tests.trees import Dir, File, assert_same

from .conftest import Bench, command, layers, mount_filesystem, one_sentence, python, rows

pytestmark = pytest.mark.root

BLOCK = 512
BIG = bytes(range(256)) * 1000


def present(bench) -> set[str]:
    return set(os.listdir(bench.place / ".dsbranch" / "layers"))


def known(bench) -> set[str]:
    return {row.split("'")[1] for row in rows(bench.place)["layers"]}


def told(bench) -> set[str]:
    """The layers that a store would know if it were made again."""
    with closing(Connection(None)) as db:
        journal.make_tables(db)
        journal.replay(bench.place / ".dsbranch" / "journal", db)
        return {row[0] for row in db.rows("SELECT id FROM layers")}


def everything_works(bench, *branches):
    """What is left is whole: every commit can be seen, every branch written to."""
    assert present(bench) == known(bench)
    assert bench.ws.verify(full=True).findings == ()
    for branch in branches or ("main",):
        for commit in bench.ws.log(branch):
            bench.view(commit.id)
        bench.commit(e.add("after-gc", File(b"a")), branch=branch)
        bench.commit(e.unlink("after-gc"), branch=branch)


def aged(path: Path) -> Path:
    os.utime(path, (0, 0))
    return path


def tag(bench, name, commit):
    bench.ws._context.store.record(
        "tag", Move(None, Tag(name, commit, 1)), author="ada", detail=name
    )


def test_a_young_log_keeps_all(bench):
    bench.commit(e.append("f", b"1"))
    bench.ws.rollback("main", bench.ws.log("main")[-1].id)
    before = rows(bench.place), layers(bench.place)
    done = bench.ws.gc()
    assert (done.operations, done.commits, done.layers, done.bytes) == (0, (), (), 0)
    assert (rows(bench.place), layers(bench.place)) == before


def test_what_was_rolled_back_goes_with_its_operation(bench):
    root = bench.head()
    one = bench.commit(e.append("f", b"1"))
    two = bench.commit(e.append("g", b"2"))
    bench.edit(e.add("uncommitted", File(b"u")))
    aside = bench.upper().parent.name
    bench.ws.rollback("main", root)
    view = bench.see()
    done = bench.ws.gc(keep=0)
    assert [commit.id for commit in done.commits] == [two, one]
    assert aside in done.layers
    assert len(done.layers) == 3
    assert done.operations == 4
    assert done.problems == ()
    assert rows(bench.place)["operations"] == []
    assert present(bench) == known(bench) == {bench.upper().parent.name}
    with pytest.raises(errors.UnknownRef):
        bench.ws.log(one)
    assert_same(bench.see(), view)
    everything_works(bench)


def test_both_sides_of_a_kept_operation_stay(bench):
    """Old operations go; what the ones of yesterday need to be undone is whole."""
    store = bench.ws._context.store
    root = bench.head()
    one = bench.commit(e.append("f", b"1"))
    two = bench.commit(e.append("g", b"2"))
    bench.ws.rollback("main", one)
    bench.edit(e.add("kept", File(b"k")))
    aside = bench.upper()
    bench.ws.rollback("main", root)
    last = store.operations(1)[0]
    with store.transaction():
        store._db.run("UPDATE operations SET time_ns = 1 WHERE id < ?", last.id)
    done = bench.ws.gc(keep=3600)
    assert [commit.id for commit in done.commits] == [two]
    assert store.operations(9) == [last]
    assert (aside / "kept").read_bytes() == b"k"
    assert [commit.id for commit in bench.ws.log("main@{1}")] == [one, root]
    bench.view(one)
    everything_works(bench)


def test_a_tag_keeps_its_commits(bench):
    root = bench.head()
    one = bench.commit(e.append("f", b"1"))
    view = bench.see()
    two = bench.commit(e.append("f", b"2"))
    tag(bench, "v1", one)
    bench.ws.rollback("main", root)
    done = bench.ws.gc(keep=0)
    assert [commit.id for commit in done.commits] == [two]
    assert_same(bench.view("v1"), view)
    everything_works(bench)


def test_every_parent_of_a_commit_stays(bench):
    """History is all parents, not only those that mounts need."""
    bench.ws.create("exp1")
    theirs = bench.commit(e.append("g", b"theirs"), branch="exp1")
    ours = bench.commit(e.append("f", b"ours"))
    store, context = bench.ws._context.store, bench.ws._context
    branch = store.branch("main")
    with layer_steps.new_layer(context, bench.fs(branch.layer), work=False) as new:
        parts = [stacks.sealed(context, store.commit(theirs).layer)]
        sealed, checksum, _ = squashed(context, parts, lowers_of(context, ours), new)
        made = layer_steps.new_commit(
            sealed, checksum, parents=(ours, theirs), message="merge", author="ada"
        )
        move = Move(branch, branch._replace(head=made.id))
        store.record("merge", move, author="ada", detail="m", layers=[sealed], commit=made)
    bench.ws.delete("exp1", force=True)
    bench.ws.gc(keep=0)
    assert {commit.id for commit in bench.ws.log("main")} >= {made.id, ours, theirs}
    bench.view(theirs)


def test_pending_layers_stay(bench):
    """A commit that was undone is no commit any more, and its changes are uncommitted."""
    root = bench.head()
    bench.commit(e.append("f", b"1"))
    store = bench.ws._context.store
    branch = store.branch("main")
    layer = store.commit(branch.head).layer
    undone = branch._replace(head=root, pending=(layer,))
    store.record("undo", Move(branch, undone), author="ada", detail="d")
    done = bench.ws.gc(keep=0)
    assert len(done.commits) == 1
    assert done.layers == ()
    assert bench.lines() == ["M f"]
    bench.commit(message="again")
    assert (bench.path() / "f").read_bytes() == b"one\n1"
    everything_works(bench)


def test_a_read_only_view_keeps_its_commit(bench):
    root = bench.head()
    one = bench.commit(e.append("f", b"1"))
    view = bench.see()
    bench.ws.rollback("main", root)
    at = bench.root / "view"
    bench.ws.mount(one, at=at, read_only=True)
    assert bench.ws.gc(keep=0).commits == ()
    assert_same(bench.view(one), view)
    bench.ws.umount(str(at))
    assert [commit.id for commit in bench.ws.gc(keep=0).commits] == [one]
    everything_works(bench)


def test_a_mount_of_another_namespace_keeps_its_layers(bench, hold):
    root = bench.head()
    bench.commit(e.append("f", b"1"))
    holder = hold("pass", before=["unshare", "--mount", "--propagation", "private"])
    bench.ws.umount("main")
    aside = bench.upper()
    store = bench.ws._context.store
    branch = store.branch("main")
    with layer_steps.new_layer(bench.ws._context, bench.data) as fresh:
        move = Move(branch, branch._replace(head=root, layer=fresh.id))
        store.record("rollback", move, author="ada", detail="d", layers=[fresh])
    done = bench.ws.gc(keep=0)
    assert aside.is_dir()
    assert done.layers == ()
    holder.end()
    assert len(bench.ws.gc(keep=0).layers) == 2
    assert not aside.exists()


def test_a_squashed_branch_whose_mount_goes_on_with_the_old_layers(bench):
    for number in range(3):
        bench.commit(e.append("f", b"%d" % number), e.add(f"n{number}", File(BIG)))
    with open(bench.path() / "held", "wb") as writer:
        assert not bench.ws.squash("main").remounted
        view = bench.see()
        assert bench.ws.gc(keep=0).layers == ()
        writer.write(b"on it goes")
    subprocess.run(["sysctl", "-q", "vm.drop_caches=2"], check=True)
    assert bench.see().keys() == view.keys()
    bench.ws.umount("main")
    bench.ws.mount("main")
    assert len(bench.ws.gc(keep=0).layers) == 3
    assert bench.see().keys() == view.keys()
    everything_works(bench)


def test_what_a_killed_commit_left_mounted_can_still_be_healed(bench):
    bench.edit(e.append("f", b"1"))
    view = bench.see()
    bench.killed("commit('main', 'x')", "dsbranch.ops.mounting:settle", "before")
    bench.ws.gc(keep=0)
    assert bench.ws.mount("main").already
    assert_same(bench.see(), view)
    everything_works(bench)


def test_a_killed_rollback_can_still_be_healed(bench):
    root = bench.head()
    bench.commit(e.append("f", b"1"))
    bench.killed(f"rollback('main', {root!r})", "dsbranch.ops.mounting:settle", "before")
    assert bench.ws.gc(keep=0).layers == ()
    bench.ws.mount("main")
    assert (bench.path() / "f").read_bytes() == b"one\n"
    assert len(bench.ws.gc(keep=0).layers) == 2
    everything_works(bench)


def test_the_record_of_a_mount_goes_with_its_layer(bench):
    """A kill kept it from being forgotten; its commit is still wanted, its layer is not."""
    bench.killed("rollback('main')", "dsbranch.ops.mounting:forget", "before")
    bench.ws.umount("main", lazy=True)
    store = bench.ws._context.store
    former = store.former_layer(store.branch("main"))
    with store.transaction():
        store._db.run(
            "INSERT INTO mounts (boot_id, namespace, mount_id, path, commit_id, layer, lowers,"
            " created_ns) VALUES ('', 1, 1, x'2f', ?, ?, '[]', 1)",
            bench.head(),
            former,
        )
    assert former in bench.ws.gc(keep=0).layers
    assert rows(bench.place)["mounts"] == []
    bench.ws.mount("main")
    everything_works(bench)


# --- checkpoints ---


def checkpoint(bench, top, bottom, *, sealed_ns=1):
    context = bench.ws._context
    line = context.store.first_parents(top)
    line = line[: line.index(bottom)]
    with layer_steps.new_layer(context, root_of_view(context, top), work=False) as new:
        parts = [stacks.sealed(context, context.store.commit(id).layer) for id in line]
        sealed, _, _ = squashed(context, parts, context.store.stack(bottom), new)
        made = Checkpoint(new.id, top, bottom, len(line))
        context.store.add_checkpoint(made, [sealed._replace(sealed_ns=sealed_ns)])
    return new.id


def test_a_checkpoint_that_no_name_uses_goes(bench, monkeypatch):
    root = bench.head()
    bench.commit(e.append("f", b"1"))
    top = bench.commit(e.append("g", b"2"))
    made = checkpoint(bench, top, root)
    assert bench.ws.gc(keep=0).checkpoints == ()
    tag(bench, "v1", top)
    bench.ws.rollback("main", root)
    assert bench.ws.gc(keep=0).checkpoints == ()
    monkeypatch.setattr("dsbranch.ops.gc.lowers_of", lambda c, of, **_: c.store.stack(of))
    done = bench.ws.gc(keep=0)
    assert (done.checkpoints, done.layers, done.commits) == ((made,), (), ())
    bench.view("v1")
    everything_works(bench)


def test_both_layers_of_a_checkpoint_stay_and_go_together(bench):
    """Metadata of one commit over data of another: the data are in a layer of their own."""
    root = bench.head()
    bench.commit(e.add("n", File(b"data")))
    for number in range(3):
        bench.commit(e.chmod("n", 0o600 + number))
    store = bench.ws._context.store
    (made,) = store.checkpoints(bench.head())
    assert len(made.layers) == 2
    store._db.run("UPDATE layers SET sealed_ns = 1 WHERE state = 'sealed'")
    assert bench.ws.gc(keep=0).layers == ()
    assert bench.ws.verify().findings == ()
    assert (bench.path() / "n").read_bytes() == b"data"
    bench.view("main")
    tag(bench, "v1", bench.ws.show("main~1")[0].id)
    bench.ws.rollback("main", root)
    done = bench.ws.gc(keep=0)
    assert (done.checkpoints, set(done.layers) & set(made.layers)) == ((made.layer,), {made.data})
    everything_works(bench)


def test_a_checkpoint_goes_with_its_commits_and_a_young_one_waits(bench):
    root = bench.head()
    bench.commit(e.append("f", b"1"))
    top = bench.commit(e.append("g", b"2"))
    young = checkpoint(bench, top, root, sealed_ns=time.time_ns())
    assert bench.ws.gc(keep=0).checkpoints == ()
    bench.ws.rollback("main", root)
    done = bench.ws.gc(keep=0)
    assert done.checkpoints == (young,)
    assert len(done.commits) == 2
    everything_works(bench)


# --- what lies on the disk ---


def test_a_dry_run_says_what_goes_and_touches_nothing(bench):
    root = bench.head()
    bench.commit(e.add("big", File(BIG)))
    bench.ws.rollback("main", root)
    aged_garbage(bench)
    before = bench.traces()
    said = bench.ws.gc(keep=0, dry_run=True)
    assert bench.traces() == before
    assert bench.ws.gc(keep=0) == said


def test_bytes_are_those_of_the_last_link(bench):
    """What a squash shares with the layers it replaced is not freed with them."""
    bench.commit(e.add("a", File(BIG)))
    bench.commit(e.add("b", File(BIG)))
    bench.commit(e.write("a", b"small"))
    bench.ws.squash("main")
    before = used(bench.place / ".dsbranch" / "layers")
    done = bench.ws.gc(keep=0)
    assert done.bytes == before - used(bench.place / ".dsbranch" / "layers")
    # The first version of a, and no second copy of b.
    assert len(BIG) <= done.bytes < 2 * len(BIG)
    everything_works(bench)


def used(path: Path) -> int:
    return int(command(["du", "-s", "--block-size=1", path]).split()[0])


def test_a_filesystem_gets_back_exactly_that(tmp_path, swept):
    image = tmp_path / "image"
    image.touch()
    os.truncate(image, 64 << 20)
    command(["mkfs.ext4", "-q", "-I", "256", "-E", "lazy_itable_init=0,lazy_journal_init=0", image])
    disk = tmp_path / "disk"
    disk.mkdir()
    command(["mount", "-o", "loop", image, disk])
    bench = Bench(disk, Dir({"f": File(b"one\n"), "d": Dir({"x": File(b"x")})}))
    try:
        root = bench.head()
        for number in range(4):
            bench.commit(
                *(e.add(f"{number}-{n}", File(BIG[: 7000 * n])) for n in range(20)),
                e.add(f"dir{number}", Dir({f"s{n}": File(b"s") for n in range(300)})),
                e.append("f", b"x"),
            )
        bench.ws.squash("main", since=root)
        bench.edit(e.add("set aside", File(BIG)))
        bench.ws.rollback("main")
        said = bench.ws.gc(keep=0, dry_run=True)
        before = free(disk, bench)
        done = bench.ws.gc(keep=0)
        assert done == said
        assert free(disk, bench) - before == done.bytes
        everything_works(bench)
        bench.ws.rollback("main", root)
        before = free(disk, bench)
        done = bench.ws.gc(keep=0)
        assert free(disk, bench) - before == done.bytes > 4 * 1_000_000
    finally:
        bench.close()


def free(disk: Path, bench) -> int:
    """Free bytes, and what the database with its log and journal occupies: gc writes them, too."""
    os.sync()
    facts = os.statvfs(disk)
    dot = bench.place / ".dsbranch"
    files = [*dot.glob("store.db*"), dot / "journal"]
    return facts.f_bfree * facts.f_frsize + sum(path.stat().st_blocks * BLOCK for path in files)


def aged_garbage(bench, name: str = "0000000000") -> Path:
    place = bench.place / ".dsbranch" / "layers" / name
    (place / "fs" / "d").mkdir(parents=True)
    (place / "fs" / "d" / "file").write_bytes(BIG)
    (place / "fs" / "link").symlink_to(bench.data)
    return aged(place)


def test_leftovers_go_once_they_are_old(bench):
    old = aged_garbage(bench)
    young = aged_garbage(bench, "1111111111")
    os.utime(young)
    claimed = aged_garbage(bench, "2222222222")
    beside = [
        bench.place / name
        for name in (".dsbranch-probe-abc", ".dsbranch-export-x", ".dsbranch.0123456789")
    ]
    for place in beside:
        place.mkdir()
        (place / "file").touch()
        aged(place)
    mine = bench.place / ".dsbranch-other"
    mine.mkdir()
    aged(mine)
    with layer_claim(bench.ws._context.layout, claimed.name):
        done = bench.ws.gc()
    assert set(done.garbage) == {old, *beside}
    assert not any(place.exists() for place in done.garbage)
    assert young.exists()
    assert claimed.exists()
    assert mine.exists()
    assert sorted(os.listdir(bench.data)) == sorted(os.listdir(bench.path()))
    assert bench.ws.gc().garbage == (claimed,)


def test_what_fuse_overlayfs_mounted_on_goes_where_nothing_is_seen_of_it(bench):
    left, seen, mounted = (aged_view(bench, name) for name in ("left", "seen", "mounted"))
    (bench.place / "exp1").symlink_to(seen.name)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", mounted], check=True)
    aged(mounted)
    assert bench.ws.gc().garbage == (left,)
    assert [path.exists() for path in (left, seen, mounted)] == [False, True, True]


def aged_view(bench, name: str) -> Path:
    place = bench.place / f".dsbranch-view-{name}"
    place.mkdir()
    return aged(place)


def test_a_workdir_that_a_commit_could_not_remove_goes(bench):
    bench.edit(e.append("f", b"1"))
    layer = bench.upper().parent
    bench.killed("commit('main', 'x')", "dsbranch.ops.layers:drop_workdir_if_sealed", "before")
    assert (layer / "work").exists()
    assert bench.ws.gc().garbage == (layer / "work",)
    assert not (layer / "work").exists()
    assert (layer / "fs" / "f").exists()
    everything_works(bench)


def test_what_cannot_be_removed_is_named_and_keeps_nothing_else(bench):
    place = aged_garbage(bench) / "fs"
    stuck = place / "immutable"
    stuck.touch()
    command(["chattr", "+i", stuck])
    inner = mount_filesystem("tmpfs", place / "mounted")
    (inner / "not ours").touch()
    other = aged_garbage(bench, "1111111111")
    weight = used(bench.place / ".dsbranch" / "layers")
    aged(place.parent)
    try:
        done = bench.ws.gc()
        place = place.parent.with_name("0000000000.gone") / "fs"
        stuck, inner = place / "immutable", place / "mounted"
        said = sorted(done.problems)
        assert [line.partition(" cannot")[0] for line in said] == [str(stuck), str(inner)]
        assert "lsattr" in said[0]
        assert "mounted there" in said[1]
        assert not other.exists()
        assert (inner / "not ours").exists()
        assert sorted(os.listdir(place)) == ["immutable", "mounted"]
        assert done.bytes == weight - used(bench.place / ".dsbranch" / "layers")
    finally:
        command(["chattr", "-i", stuck])
        command(["umount", inner])
    assert bench.ws.gc().problems == ()
    assert not place.parent.exists()


def test_a_tree_deeper_than_descriptors_and_paths_go(bench):
    place = aged_garbage(bench)
    code = """
import os, sys
os.chdir(sys.argv[1])
for n in range(1500):
    os.mkdir("deep-directory"); os.chdir("deep-directory")
    open("file", "w").close()
"""
    done = python(code, str(place))
    assert done.returncode == 0, done.stderr
    aged(place)
    assert bench.ws.gc().problems == ()
    assert not place.exists()


# --- broken off, and in company ---

POINTS = [
    ("dsbranch.store.sweep:drop", "before"),
    ("dsbranch.store.sweep:drop", "after"),
    ("dsbranch.store.sweep:renew_journal", "before"),
    ("dsbranch.store.sweep:renew_journal", "after"),
    ("dsbranch.ops.gc:_retire", "before"),
    ("dsbranch.ops.gc:_retire", "after"),
    ("dsbranch.ops.gc:remove_tree", "before"),
    ("dsbranch.ops.gc:remove_tree", "after"),
    ("dsbranch.store.removal:_Removal._take", "after"),
]
# Their rows are gone, and they look as others do that are in the making.
NAMED_AS_LAYERS = [
    ("dsbranch.store.sweep:renew_journal", "before"),
    ("dsbranch.store.sweep:renew_journal", "after"),
    ("dsbranch.ops.gc:_retire", "before"),
]


@pytest.mark.parametrize("point", POINTS, ids=lambda point: f"{point[1]}-{point[0]}")
def test_killed_anywhere_the_next_one_goes_on(bench, point):
    root = bench.head()
    bench.commit(e.append("f", b"1"))
    bench.commit(e.add("d/new", Dir({"in": File(BIG)})))
    bench.ws.rollback("main", root)
    view = bench.see()
    doomed = present(bench) - {bench.upper().parent.name}
    bench.killed("gc(keep=0)", *point)
    assert_same(bench.see(), view)
    assert known(bench) <= present(bench)
    assert told(bench) <= present(bench)
    assert bench.ws.verify(full=True).findings == ()
    committed = bench.upper().parent.name
    bench.commit(e.append("f", b"2"))
    assert told(bench) == known(bench)
    if point in NAMED_AS_LAYERS:
        # As an hour later: that long nobody can tell them from layers in the making.
        assert bench.ws.gc(keep=0).garbage == ()
        for id in doomed:
            aged(bench.fs(id).parent)
    bench.ws.gc(keep=0)
    assert present(bench) == {committed, bench.upper().parent.name}
    everything_works(bench)


def test_two_at_a_time_are_one_too_many(bench):
    with (
        gc_lock(bench.ws._context.layout, verb="gc"),
        pytest.raises(errors.Locked, match="garbage") as caught,
    ):
        bench.ws.gc()
    one_sentence(caught.value)


@contextmanager
def stopped_at(monkeypatch, owner, name, act):
    """Run `act` when `owner.name` is called for the first time, before it."""
    real = getattr(owner, name)
    left = [act]

    def interrupted(*arguments, **keywords):
        if left:
            left.pop()()
        return real(*arguments, **keywords)

    monkeypatch.setattr(owner, name, interrupted)
    yield
    assert not left
    monkeypatch.setattr(owner, name, real)


def gc_elsewhere(bench):
    done = python("import dsbranch, sys; dsbranch.open(sys.argv[1]).gc(keep=0)", str(bench.place))
    assert done.returncode == 0, done.stderr


def test_a_rollback_to_a_commit_that_goes_meanwhile_changes_nothing(bench, monkeypatch):
    root = bench.head()
    one = bench.commit(e.append("f", b"1"))
    bench.ws.rollback("main", root)
    bench.edit(e.append("f", b"mine"))
    view = bench.see()
    store = bench.ws._context.store
    with (
        stopped_at(monkeypatch, type(store), "record", lambda: gc_elsewhere(bench)),
        pytest.raises(errors.Locked, match=f"{one} is not there any more") as caught,
    ):
        bench.ws.rollback("main", one)
    one_sentence(caught.value)
    assert_same(bench.see(), view)
    everything_works(bench)


def test_a_layer_in_the_making_is_left_alone_however_old(bench, monkeypatch):
    bench.edit(e.append("f", b"1"))
    view = bench.see()

    def much_later():
        for id in present(bench) - known(bench):
            aged(bench.fs(id).parent)
        gc_elsewhere(bench)

    store = bench.ws._context.store
    with stopped_at(monkeypatch, type(store), "record", much_later):
        bench.ws.commit("main", "slow")
    assert_same(bench.see(), view)
    everything_works(bench)


WORK = """
import random, sys, time
import dsbranch
from dsbranch.errors import BusyError, DsbranchError
place, me = sys.argv[1], sys.argv[2]
ws = dsbranch.open(place)
rng = random.Random(me)
root = ws.log("main")[-1].id
try:
    ws.create(me)
except BusyError as error:
    print("busy", error)
    ws.create(me)
done = 0
until = time.monotonic() + float(sys.argv[3])
while time.monotonic() < until:
    for n in range(3):
        with open(f"{place}/{me}/file{n}", "a") as file:
            file.write(f"{me} {done} {n}\\n")
        ws.commit(me, f"{me} {done} {n}")
    want = {n: open(f"{place}/{me}/file{n}").read() for n in range(3)}
    if rng.random() < 0.5:
        ws.squash(me)
    if rng.random() < 0.3:
        old = ws.branch(me).head
        ws.rollback(me, root)
        try:
            ws.rollback(me, f"{me}@{{1}}") if rng.random() < 0.5 else None
            ws.rollback(me, old)
        except DsbranchError:
            # Only the log reached it: gc came between, wherever, and nothing was changed.
            ws.rollback(me, root)
            want = {}
    if rng.random() < 0.3:
        side = f"{me}-{done}"
        ws.create(side, start=me)
        assert {n: open(f"{place}/{side}/file{n}").read() for n in want} == want
        ws.delete(side, force=True)
    for n, text in want.items():
        assert open(f"{place}/{me}/file{n}").read() == text, (me, done, n)
    done += 1
print("rounds", done)
"""

COLLECT = """
import sys, time
import dsbranch
ws = dsbranch.open(sys.argv[1])
until = time.monotonic() + float(sys.argv[2])
layers = rounds = 0
while time.monotonic() < until:
    done = ws.gc(keep=0)
    assert done.problems == ()
    layers += len(done.layers)
    rounds += 1
print(rounds, layers)
"""


def test_nobody_loses_a_layer_to_a_gc_that_runs_all_the_time(bench):
    environment = children.environment()

    def start(code, *arguments):
        return subprocess.Popen(
            [sys.executable, "-P", "-c", code, str(bench.place), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )

    workers = [start(WORK, name, "4") for name in ("ada", "bob")]
    collector = start(COLLECT, "5")
    try:
        ended = [process.communicate(timeout=120) for process in (*workers, collector)]
    finally:
        for process in (*workers, collector):
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()
    for process, (out, err) in zip((*workers, collector), ended, strict=True):
        assert process.returncode == 0, (out, err)
    rounds, removed = map(int, ended[2][0].split())
    assert rounds > 3
    assert removed > 10
    bench.reopen()
    bench.ws.gc(keep=0)
    everything_works(bench, "main", "ada", "bob")

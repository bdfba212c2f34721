"""``undo``: every verb that moves a name can be reversed, and the reversal too."""

from __future__ import annotations

import os
import random

import pytest

from dsbranch import errors
from dsbranch.model.facts import Move
from dsbranch.ops.context import whoami
from tests import edits as e
from tests.steps import START, perform_all, random_layers
from tests.trees import Dir, File, assert_same, snapshot

from .conftest import command, mounts, one_sentence, rows
from .test_heal import healthy, ids
from .test_random import SPLIT

pytestmark = pytest.mark.root

EDITS = (
    e.append("f", b"1"),
    e.add("new", Dir({"in": File(b"in")})),
    e.unlink("g"),
    e.rename("d", "moved"),
)
LATER = (e.append("f", b"2"), e.add("later", File(b"l")), e.recreate("e", Dir()))


def position(bench, name="main"):
    branch = bench.ws._context.store.branch(name)
    return branch.head, branch.layer, branch.pending


def last(bench):
    return bench.ws._context.store.operations(1)[0].id


def shown(bench):
    """What the branch shows, mounted here or not."""
    if bench.ws.list()[-1].mounted:
        return bench.see()
    bench.ws.mount("main")
    try:
        return bench.see()
    finally:
        bench.ws.umount("main")


VERBS = {
    "commit": lambda ws: ws.commit("main", "x", allow_empty=True),
    "squash": lambda ws: ws.squash("main"),
    "rollback": lambda ws: ws.rollback("main"),
    "rollback to": lambda ws: ws.rollback("main", "main~2"),
}
SAME_VIEW = ("commit", "squash")


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("dirty", [False, True])
@pytest.mark.parametrize("mounted", [False, True])
def test_there_and_back_and_there(bench, verb, dirty, mounted):
    bench.commit(*EDITS)
    bench.commit(e.append("f", b"0"), e.mkdir("second"))
    if dirty:
        bench.edit(*LATER)
    before, changes, old = bench.see(), bench.lines(), position(bench)
    counts = bench.ws.status("main").counts
    if not mounted:
        bench.ws.umount("main")
    VERBS[verb](bench.ws)
    after, done = shown(bench), position(bench)
    uncommitted = bench.lines()

    undone = bench.ws.undo()
    assert_same(shown(bench), before, ignore=SPLIT)
    assert bench.lines() == changes
    assert (undone.name, undone.head, undone.counts) == ("main", old[0], counts)
    assert undone.mountpoint == (bench.path() if mounted else None)
    assert (undone.stale, undone.elsewhere) == ((), ())
    assert position(bench)[0] == old[0]
    if verb not in SAME_VIEW:
        assert position(bench) == old
    assert [point for point, _, _ in mounts(bench.root)] == [str(bench.path())] * mounted

    redone = bench.ws.undo()
    assert (redone.undone.id, redone.head) == (undone.operation, done[0])
    assert position(bench) == done
    assert_same(shown(bench), after, ignore=SPLIT)
    assert bench.lines() == uncommitted
    bench.ws.undo()
    assert bench.lines() == changes
    if not mounted:
        bench.ws.mount("main")
    healthy(bench, before)


@pytest.mark.parametrize("verb", VERBS)
def test_what_came_after_is_not_lost(bench, verb):
    bench.commit(*EDITS)
    bench.commit(e.append("f", b"0"))
    bench.edit(e.append("f", b"before"))
    before = bench.see()
    VERBS[verb](bench.ws)
    bench.edit(e.add("after", File(b"after")))
    after, changes = bench.see(), bench.lines()
    undone = bench.ws.undo()
    if verb in SAME_VIEW:
        assert_same(bench.see(), after)
        assert undone.set_aside == {}
    else:
        assert_same(bench.see(), before)
        assert undone.set_aside == {"A": 1}
    assert undone.counts == bench.ws.status("main").counts
    bench.ws.undo()
    assert_same(bench.see(), after)
    assert bench.lines() == changes


def test_a_commit_under_running_writers(bench, hold, monkeypatch):
    bench.edit(*EDITS)
    bench.ws.commit("main", "x")
    monkeypatch.chdir(bench.path() / "moved")
    holder = hold("held = open(sys.argv[1], 'a')", bench.path() / "f")
    mounted = mounts(bench.root)
    with open("x", "ab", buffering=0) as file:
        file.write(b"1")
        undone = bench.ws.undo()
        file.write(b"2")
    assert mounts(bench.root) == mounted
    assert (undone.stale, undone.mountpoint) == ((), bench.path())
    assert (bench.path() / "moved/x").read_bytes() == b"x12"
    assert "R moved < d" in bench.lines()
    holder.end()
    bench.ws.commit("main", "again")
    assert bench.lines() == []
    assert bench.ws.log("main")[0].message == "again"


def test_the_verb_is_said_once(bench):
    bench.ws.create("exp1")
    bench.commit(e.append("f", b"theirs"), branch="exp1", message="f of exp1")
    bench.ws.merge("exp1", into="main")
    assert bench.ws.undo().undone.said == "merge exp1 into main"
    undone = bench.ws.operations(limit=1)[0].operation
    assert (undone.verb, undone.detail) == ("undo", "merge exp1 into main")
    assert bench.ws.operations()[2].operation.said == "commit f of exp1"


@pytest.mark.parametrize("mounted", [False, True])
@pytest.mark.parametrize("verb", ["merge", "restore"])
def test_a_merge_and_a_restore(bench, verb, mounted):
    bench.ws.create("exp1")
    bench.commit(e.append("f", b"theirs"), e.mkdir("theirs"), branch="exp1")
    bench.ws.umount("exp1")
    bench.commit(e.append("g", b"ours"), e.rename("d", "moved"))
    if verb == "restore":
        bench.edit(*LATER)
    before, changes, head = bench.see(), bench.lines(), bench.head()
    if not mounted:
        bench.ws.umount("main")
    if verb == "merge":
        bench.ws.merge("exp1", into="main")
    else:
        bench.ws.restore("main", [b"f"])
    after, now, done = shown(bench), bench.lines(), position(bench)
    for _ in range(2):
        bench.ws.undo()
        assert bench.head() == head
        assert_same(shown(bench), before)
        assert bench.lines() == changes
        bench.ws.undo()
        assert position(bench) == done
        assert_same(shown(bench), after)
        assert bench.lines() == now
    # A commit on top, undone, does not stand in the way.
    number = last(bench) - 4
    if not mounted:
        bench.ws.mount("main")
    bench.commit(e.append("g", b"more"))
    bench.ws.undo()
    bench.ws.undo(number)
    assert_same(bench.see(), before)
    assert bench.lines() == changes
    healthy(bench, before)


def test_commit_again_after_an_undo_is_one_commit_of_both(bench):
    bench.commit(*EDITS)
    bench.edit(e.append("f", b"2"), e.unlink("new/in"))
    bench.ws.undo()
    expected, changes = bench.see(), bench.lines()
    bench.ws.commit("main", "both")
    assert bench.lines() == []
    assert said_of_head(bench) == changes
    bench.ws.umount("main")
    bench.ws.mount("main")
    assert_same(bench.see(), expected)
    bench.ws.undo()
    assert bench.lines() == changes
    healthy(bench, expected)


def said_of_head(bench):
    from .conftest import said

    return said(bench.ws.show("main")[1])


def test_a_rollback_that_is_undone_while_somebody_reads_the_old_view(bench, hold):
    bench.edit(*EDITS)
    before, set_aside = bench.see(), bench.upper()
    holder = hold("os.chdir(sys.argv[1])", bench.path() / "moved")
    bench.ws.rollback("main")
    state = bench.traces()
    for mounted in (True, False):
        if not mounted:
            bench.ws.umount("main")
            state = bench.traces()
        with pytest.raises(errors.BusyError, match="in use") as caught:
            bench.ws.undo()
        one_sentence(caught.value)
        assert bench.traces() == state
    bench.ws.mount("main")
    bench.edit(e.append("f", b"works"))
    holder.end()
    bench.ws.undo()
    assert bench.upper() == set_aside
    assert_same(bench.see(), before)


def test_a_rollback_whose_old_view_another_namespace_keeps(bench, hold):
    bench.edit(*EDITS)
    holder = hold("", before=["unshare", "-m", "--propagation", "private"])
    assert [p.pid for p in bench.ws.rollback("main").elsewhere] == [holder.pid]
    state = bench.traces()
    with pytest.raises(errors.BusyError, match=f"pid {holder.pid}"):
        bench.ws.undo()
    assert bench.traces() == state


def test_a_writer_stops_what_changes_the_view_only(bench, hold):
    bench.commit(*EDITS)
    bench.ws.rollback("main", "main~1")
    holder = hold("held = open(sys.argv[1], 'a')", bench.path() / "f")
    state = bench.traces()
    with pytest.raises(errors.WritersPresent) as caught:
        bench.ws.undo()
    assert [process.pid for process in caught.value.processes] == [holder.pid]
    assert bench.traces() == state
    bench.edit(e.append("g", b"still writable"))


def test_create(bench):
    created = bench.ws.create("exp1")
    bench.edit(*EDITS, branch="exp1")
    before = bench.see("exp1")
    undone = bench.ws.undo()
    assert (undone.name, undone.head, undone.set_aside) == (
        "exp1",
        None,
        {"A": 2, "M": 1, "D": 1, "R": 1},
    )
    assert [branch.name for branch in bench.ws.list()] == ["main"]
    assert not bench.path("exp1").exists()
    redone = bench.ws.undo()
    assert (redone.head, redone.mountpoint) == (created.branch.head, bench.path("exp1"))
    assert redone.counts == undone.set_aside
    assert bench.ws._context.store.branch("exp1") == created.branch
    assert_same(bench.see("exp1"), before)
    bench.commit(branch="exp1")


def test_create_of_a_branch_in_use(bench, hold):
    bench.ws.create("exp1")
    holder = hold("os.chdir(sys.argv[1])", bench.path("exp1"))
    state = bench.traces()
    with pytest.raises(errors.MountInUse) as caught:
        bench.ws.undo()
    assert [process.pid for process in caught.value.processes] == [holder.pid]
    assert bench.traces() == state


def test_create_of_what_is_the_only_branch_by_now(bench):
    bench.ws.create("exp1")
    made = last(bench)
    bench.ws.delete("main")
    with pytest.raises(errors.ConflictError, match="only branch"):
        bench.ws.undo(made)


@pytest.mark.parametrize("mounted", [False, True])
def test_delete(bench, mounted):
    bench.ws.create("exp1")
    bench.commit(*EDITS, branch="exp1")
    bench.edit(*LATER, branch="exp1")
    before, changes = bench.see("exp1"), bench.lines(branch="exp1")
    branch = bench.ws._context.store.branch("exp1")
    if not mounted:
        bench.ws.umount("exp1")
    bench.ws.delete("exp1", force=True)
    undone = bench.ws.undo()
    assert (undone.name, undone.head, undone.mountpoint) == (
        "exp1",
        branch.head,
        bench.path("exp1"),
    )
    assert bench.ws._context.store.branch("exp1") == branch
    assert_same(bench.see("exp1"), before)
    assert bench.lines(branch="exp1") == changes
    assert bench.ws._context.store.positions(branch) == [branch.fork]
    bench.ws.undo()
    assert [b.name for b in bench.ws.list()] == ["main"]
    bench.ws.undo()
    assert_same(bench.see("exp1"), before)
    bench.commit(branch="exp1")


def test_delete_of_a_branch_with_what_was_pending(bench):
    bench.ws.create("exp1")
    bench.commit(*EDITS, branch="exp1")
    bench.ws.undo()
    bench.edit(e.append("f", b"more"), branch="exp1")
    before, changes = bench.see("exp1"), bench.lines(branch="exp1")
    bench.ws.delete("exp1", force=True)
    bench.ws.undo()
    assert_same(bench.see("exp1"), before)
    assert bench.lines(branch="exp1") == changes


def test_delete_and_something_lies_in_its_place(bench):
    bench.ws.create("exp1")
    bench.ws.delete("exp1")
    bench.path("exp1").mkdir()
    (bench.path("exp1") / "mine").touch()
    refused(bench, errors.AlreadyExists, "not empty")
    (bench.path("exp1") / "mine").unlink()
    bench.ws.undo()
    assert_same(bench.see("exp1"), snapshot(bench.data))


def test_delete_and_the_name_is_taken(bench):
    bench.ws.create("exp1")
    bench.ws.delete("exp1")
    deleted = last(bench)
    bench.ws.create("exp1")
    refused(bench, errors.ConflictError, f"operation {last(bench)} \\(create", deleted)
    bench.ws.undo()
    bench.ws.undo(deleted)
    assert_same(bench.see("exp1"), snapshot(bench.data))


@pytest.mark.parametrize("mounted", [False, True])
def test_rename(bench, mounted):
    bench.edit(*EDITS)
    before = bench.see()
    branch = bench.ws._context.store.branch("main")
    if not mounted:
        bench.ws.umount("main")
    bench.ws.rename("main", "clean")
    for name in ("main", "clean", "main"):
        undone = bench.ws.undo()
        assert (undone.name, undone.head) == (name, branch.head)
        assert [b.name for b in bench.ws.list()] == [name]
        expected = [str(bench.path(name))] if mounted else []
        assert [point for point, _, _ in mounts(bench.root)] == expected
    assert bench.ws._context.store.branch("main") == branch
    assert_same(shown(bench), before)


def test_tags(bench):
    first = bench.ws.tag("v1", "main").tag
    bench.commit(e.append("f", b"1"))
    second = bench.ws.tag("v1", "main", force=True).tag
    assert bench.ws.undo().head == first.commit
    assert bench.ws.tags() == [first]
    bench.ws.undo()
    assert bench.ws.tags() == [second]
    bench.ws.untag("v1")
    bench.ws.undo()
    assert bench.ws.tags() == [second]
    made = [op.id for op in bench.ws._context.store.operations() if op.verb == "tag"]
    refused(bench, errors.ConflictError, f"operation {made[1]} ", made[2])
    bench.ws.undo(made[1])
    undone = bench.ws.undo(made[2])
    assert (undone.name, undone.head, bench.ws.tags()) == ("v1", None, [])


def refused(bench, kind, words, *number):
    before = bench.traces()
    with pytest.raises(kind, match=words) as caught:
        bench.ws.undo(*number)
    one_sentence(caught.value)
    assert bench.traces() == before


def test_back_several_steps(bench):
    """undo; undo OLDER; …: what was undone stands in nobody's way."""
    heads, views, numbers = [bench.head()], [bench.see()], []
    for number in range(4):
        heads.append(bench.commit(e.append("f", b"%d" % number), e.mkdir(f"n{number}")))
        numbers.append(last(bench))
        views.append(bench.see())
    bench.edit(e.append("g", b"uncommitted"))
    view = bench.see()
    refused(bench, errors.ConflictError, f"operation {numbers[3]} ", numbers[2])
    for step in range(3, -1, -1):
        bench.ws.undo(numbers[step])
        assert bench.head() == heads[step]
        assert_same(bench.see(), view)
    assert bench.lines(heads[4], branch="main") == ["M g"]
    assert bench.lines() == ["M f", "M g", "A n0", "A n1", "A n2", "A n3"]
    refused(bench, errors.ConflictError, "undone already, by operation", numbers[2])
    undone = {item.operation.id: item.undone_by for item in bench.ws.operations()}
    assert [undone[number] for number in numbers] == [last(bench) - n for n in range(4)]
    # Forward again, in the other direction, by reversing the reversals.
    for step in range(4):
        undoing = bench.ws._context.store.undoings()[numbers[step]]
        bench.ws.undo(undoing)
        assert bench.head() == heads[step + 1]
        assert_same(bench.see(), view)
    assert bench.lines() == ["M g"]
    # What was undone and redone stands again, and is undone by its own number.
    assert {item.operation.id: item.undone_by for item in bench.ws.operations()}[numbers[3]] is None
    bench.ws.undo(numbers[3])
    assert bench.head() == heads[3]
    healthy(bench, view)


def test_back_over_a_rollback(bench):
    first = bench.commit(*EDITS)
    commit = last(bench)
    bench.edit(e.append("f", b"set aside"))
    view = bench.see()
    bench.ws.rollback("main", "main~1")
    rollback = last(bench)
    bench.commit(e.append("g", b"on the old one"))
    refused(bench, errors.ConflictError, "undo that one first|after", rollback)
    bench.ws.undo()
    bench.edit(e.append("g", b"more"))
    bench.ws.undo(rollback)
    assert bench.head() == first
    assert_same(bench.see(), view)
    bench.ws.undo(commit)
    assert_same(bench.see(), view)
    assert len(bench.ws.log("main")) == 1
    healthy(bench, view)


def test_branches_do_not_stand_in_each_others_way(bench):
    bench.ws.create("exp1")
    bench.commit(e.append("f", b"1"))
    mine = last(bench)
    bench.commit(e.append("g", b"2"), branch="exp1")
    bench.ws.tag("v1", "exp1")
    bench.ws.undo(mine)
    assert bench.lines() == ["M f"]
    assert bench.lines(branch="exp1") == []


def test_what_cannot_be_undone(bench):
    refused(bench, errors.ConflictError, "init cannot be undone")
    refused(bench, errors.UnknownRef, "no operation 99", 99)


def test_what_gc_has_removed(bench):
    bench.edit(*EDITS)
    kept = bench.ws.rollback("main").kept_layer
    command(["rm", "-r", bench.fs(kept).parent])
    db = bench.ws._context.store._db
    with bench.ws._context.store.transaction():
        db.run("DELETE FROM mounts WHERE layer = ?", kept)
        db.run("DELETE FROM layers WHERE id = ?", kept)
    refused(bench, errors.ConflictError, "gc has removed")


@pytest.mark.parametrize("mounted", [False, True])
def test_a_layer_that_was_sealed_since_lies_below_a_fresh_one(bench, mounted):
    """A verb that seals the open layer and shows another view."""
    bench.commit(*EDITS)
    view, before = bench.see(), position(bench)
    store = bench.ws._context.store
    branch = store.branch("main")
    sealed = store.layer(branch.layer)
    bench.ws.commit("main", "seals it", allow_empty=True)
    bench.ws.rollback("main", "main~2")
    now = store.branch("main")
    store.record("apply", Move(now, now), author=whoami(), detail="x")
    with store.transaction():
        id = store.operations(1)[0].id
        from dsbranch.store import rows as row_values

        side, values = row_values.side_sql(branch)
        store._db.run(f"UPDATE moves SET before = {side} WHERE operation = ?", *values, id)
    assert store.layer(sealed.id).state == "sealed"
    if not mounted:
        bench.ws.umount("main")
    bench.ws.undo()
    assert position(bench)[0] == before[0]
    assert position(bench)[2] == (branch.layer,)
    assert_same(shown(bench), view)
    assert bench.lines() == []


@pytest.mark.parametrize("verb", [*VERBS, "create", "delete", "rename", "tag"])
def test_a_dry_run_says_it_and_does_nothing(bench, verb):
    bench.commit(*EDITS)
    bench.commit(e.append("f", b"0"))
    bench.ws.create("exp1")
    bench.edit(*LATER)
    {
        "create": lambda ws: ws.create("exp2"),
        "delete": lambda ws: ws.delete("exp1"),
        "rename": lambda ws: ws.rename("exp1", "exp3"),
        "tag": lambda ws: ws.tag("v1", "main"),
        **VERBS,
    }[verb](bench.ws)
    before = bench.traces()
    told = bench.ws.undo(dry_run=True)
    assert told.operation is None
    assert bench.traces() == before
    done = bench.ws.undo()
    assert done.operation is not None
    assert (told.undone, told.name, told.head, told.counts, told.set_aside) == (
        done.undone,
        done.name,
        done.head,
        done.counts,
        done.set_aside,
    )


STORE = "dsbranch.store.database:Store."
PREPARED = "dsbranch.overlay.kernel:KernelPrepared."
DRIVER = "dsbranch.overlay.kernel:KernelDriver."

STEPS = [
    (DRIVER + "set_read_only", "after", False),
    (DRIVER + "prepare", "after", False),
    ("dsbranch.store.writes:log", "after", False),
    (STORE + "record", "after", True),
    (PREPARED + "attach", "before", True),
    (PREPARED + "attach", "after", True),
    (DRIVER + "detach", "after", True),
]


@pytest.mark.parametrize("point", STEPS, ids=ids)
def test_killed_while_undoing_a_rollback(bench, point):
    *where, done = point
    head = bench.commit(*EDITS)
    bench.edit(*LATER)
    before = bench.see()
    bench.ws.rollback("main", "main~1")
    bench.edit(e.append("g", b"now"))
    after = bench.see()
    bench.killed("undo()", *where)
    assert (bench.head() == head) is done
    assert bench.ws.mount("main").path == bench.path()
    healthy(bench, before if done else after)


@pytest.mark.parametrize("point", [STEPS[2], STEPS[3]], ids=ids)
def test_killed_while_undoing_a_commit(bench, point):
    *where, done = point
    root = bench.head()
    head = bench.commit(*EDITS)
    bench.edit(*LATER)
    view = bench.see()
    bench.killed("undo()", *where)
    assert bench.head() == (root if done else head)
    bench.ws.status("main")
    healthy(bench, view)


@pytest.mark.parametrize("point", [STEPS[i] for i in (1, 2, 3, 5)], ids=ids)
def test_killed_while_undoing_a_delete(bench, point):
    *where, done = point
    bench.ws.create("exp1")
    bench.edit(*EDITS, branch="exp1")
    view = bench.see("exp1")
    bench.ws.delete("exp1", force=True)
    bench.killed("undo()", *where)
    assert ("exp1" in [branch.name for branch in bench.ws.list()]) is done
    if done:
        bench.ws.mount("exp1")
    else:
        bench.ws.undo()
    assert_same(bench.see("exp1"), view)
    bench.commit(branch="exp1")
    assert len(mounts(bench.root)) == 2


def test_a_commit_killed_and_undone(bench):
    """The undo heals first: no mount of the sealed layer is left to be taken for the open one."""
    bench.edit(*EDITS)
    view = bench.see()
    bench.killed("commit('main', 'x')", STORE + "record", "after")
    bench.ws.undo()
    assert len(bench.ws.log("main")) == 1
    bench.ws.status("main")
    healthy(bench, view)


@pytest.mark.parametrize("verb", ["commit", "rollback"])
def test_interrupted_right_after_the_transaction(bench, monkeypatch, verb):
    bench.commit(*EDITS)
    bench.edit(*LATER)
    before = bench.see()
    VERBS[verb](bench.ws)
    real = type(bench.ws._context.store).record

    def interrupted(*arguments, **keywords):
        real(*arguments, **keywords)
        raise KeyboardInterrupt

    monkeypatch.setattr("dsbranch.store.database.Store.record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench.ws.undo()
    monkeypatch.undo()
    bench.reopen()
    bench.ws.mount("main")
    healthy(bench, before)


SEEDS = int(os.environ.get("DSBRANCH_TEST_HISTORIES", "12"))


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_verbs_and_undos(adopt, seed):
    """After each verb, and each undo and redo of it, the view is the one it was."""
    bench = adopt(START)
    rng = random.Random(seed)
    ws = bench.ws
    mounted = True
    for step, edits in enumerate(random_layers(seed, 8, 5)):
        if not mounted:
            ws.mount("main")
            mounted = True
        log = perform_all(bench.path(), edits)
        before, changes = bench.see(), bench.lines()
        state = position(bench)
        if rng.random() < 0.3:
            ws.umount("main")
            mounted = False
        try:
            verb = rng.choice(("commit", "commit", "squash", "rollback", "back", "undo"))
            if verb == "commit":
                ws.commit("main", f"c{step}", allow_empty=True)
            elif verb == "squash":
                ws.squash("main", since=ws.log("main")[-1].id)
            elif verb == "undo":
                ws.undo()
            else:
                line = ws.log("main")
                ws.rollback("main", line[rng.randrange(len(line))].id if verb == "back" else None)
        except errors.NothingToCommit:
            continue
        except errors.ConflictError:
            assert verb == "undo"
            continue
        after, new_changes, done = shown(bench), bench.lines(), position(bench)
        for _ in range(rng.randrange(3)):
            ws.undo()
            assert position(bench)[0] == state[0], log
            assert_same(shown(bench), before, ignore=SPLIT)
            assert bench.lines() == changes
            ws.undo()
            assert position(bench) == done
            assert_same(shown(bench), after, ignore=SPLIT)
            assert bench.lines() == new_changes
        bench.reopen()
        ws = bench.ws
    # All the way back, as far as the names reach.
    for item in ws.operations("main"):
        if item.undone_by is None and item.operation.verb not in ("init", "undo", "redo"):
            ws.undo(item.operation.id)
    assert position(bench)[0] == ws.log("main")[-1].id
    stored = rows(bench.place)
    assert len(stored["branches"]) == 1

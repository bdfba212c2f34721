import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dsbranch.errors import (
    AlreadyExists,
    IntegrityError,
    Locked,
    NewerFormat,
    NotAWorkspace,
    StorageError,
    UnknownRef,
    UsageError,
)
from dsbranch.model.facts import Branch, MountRecord, Move, Tag
from dsbranch.store import sweep
from dsbranch.store.database import Store
from tests.store.facts import advance, commit_of, open_layer, sealed_layer, set_aside

COMMITTER = """
import sys
from pathlib import Path
from dsbranch.store.database import Store
from tests.store.facts import advance
store = Store.open(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for number in range(40):
    advance(store, store.branch(sys.argv[2]), f"{sys.argv[2]} {number}")
store.close()
"""

KILLED_IN_A_TRANSACTION = """
import os, sys
from pathlib import Path
from dsbranch.store import writes
from dsbranch.store.database import Store
from tests.store.facts import advance
def die(*a, **k):
    os.kill(os.getpid(), 9)
writes.log = die
store = Store.open(Path(sys.argv[1]))
advance(store, store.branch("main"))
"""


def everything(store):
    """All rows of all tables."""
    names = [r[0] for r in store._db.rows("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    return {name: store._db.rows(f"SELECT * FROM {name}") for name in names}


def free_bytes(path):
    disk = os.statvfs(path)
    return disk.f_bavail * disk.f_frsize


def fork(store, name, source="main", **rest):
    origin = store.branch(source)
    layer = open_layer()
    branch = Branch(0, name, origin.head, layer.id, origin.head, 7)
    store.record("create", Move(None, branch), author="ada", detail="d", layers=[layer], **rest)
    return store.branch(name)


# --- opening ---


def test_open_again(store, root):
    advance(store, store.branch("main"))
    with_rows = everything(store)
    store.close()
    again = Store.open(root)
    assert everything(again) == with_rows
    again.close()


def test_no_workspace(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(NotAWorkspace):
            Store.open(path)
    assert os.listdir(tmp_path) == []


def test_a_newer_format_is_refused_and_not_touched(store, root):
    store.close()
    raw = sqlite3.connect(store.layout.db)
    raw.execute("PRAGMA user_version = 3")
    raw.close()
    before = store.layout.db.read_bytes()
    with pytest.raises(NewerFormat, match="format 3"):
        Store.open(root)
    assert store.layout.db.read_bytes() == before


def test_another_programs_database_is_refused(store, root):
    store.close()
    raw = sqlite3.connect(store.layout.db)
    raw.execute("PRAGMA application_id = 7")
    raw.close()
    with pytest.raises(IntegrityError, match="not a dsbranch store"):
        Store.open(root)


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000], ids=["empty", "garbage"])
def test_a_file_that_is_no_database_is_refused(store, root, content):
    store.close()
    store.layout.db.write_bytes(content)
    with pytest.raises(IntegrityError) as caught:
        Store.open(root)
    assert "store.db" in str(caught.value)
    assert store.layout.db.read_bytes() == content


def test_a_truncated_database_is_refused(store, root):
    store.close()
    whole = store.layout.db.read_bytes()
    store.layout.db.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(IntegrityError):
        Store.open(root)


# --- names ---


def test_an_unknown_branch_comes_with_suggestions(store):
    for name in ("resnet-lr1", "resnet-lr2", "other"):
        fork(store, name)
    with pytest.raises(UnknownRef) as caught:
        store.branch("resnet-lr")
    assert set(caught.value.suggestions) == {"resnet-lr1", "resnet-lr2"}
    assert caught.value.ref == "resnet-lr"
    assert store.close_names("mian") == ["main"]
    with pytest.raises(UnknownRef) as caught:
        store.branch("\udcff")
    assert caught.value.suggestions == ()


def test_branches_by_id_and_by_name(store):
    branch = fork(store, "exp1")
    assert store.branch_by_id(branch.id) == branch
    assert store.branch_by_id(99) is None
    assert [b.name for b in store.branches()] == ["exp1", "main"]


def test_tags(store):
    head = store.branch("main").head
    assert store.tag("v1") is None
    assert store.tag("\udcff") is None
    store._db.run("INSERT INTO tags VALUES ('v1.0', ?, 3)", head)
    assert store.tag("v1.0") == Tag("v1.0", head, 3)
    assert store.tags() == [Tag("v1.0", head, 3)]
    assert store.close_names("v1.1") == ["v1.0"]


# --- writes ---


def test_commit(store):
    before = store.branch("main")
    created = store.layer(before.layer).created_ns
    sealed, next_layer = sealed_layer(before.layer)._replace(created_ns=created), open_layer()
    commit = commit_of(sealed.id, before.head, message="first")
    after = before._replace(head=commit.id, layer=next_layer.id, pending=(sealed.id,))
    operation = store.record(
        "commit",
        Move(before, after),
        author="ada",
        detail="first",
        layers=[sealed, next_layer],
        commit=commit,
    )
    assert store.branch("main") == after
    assert store.layer(sealed.id) == sealed
    assert store.layer(next_layer.id) == next_layer
    assert store.commit(commit.id) == commit
    assert store.operations(1) == [operation]
    assert store.operation(operation.id) == operation
    assert operation.moves == (Move(before, after),)


def test_a_second_parent_is_kept(store):
    main, side = store.branch("main"), fork(store, "side")
    other = advance(store, side)
    commit = commit_of(main.layer, main.head, other.id)
    sealed, fresh = sealed_layer(main.layer), open_layer()
    moved = Move(main, main._replace(head=commit.id, layer=fresh.id))
    store.record(
        "merge", moved, author="ada", detail="", layers=[sealed, fresh], commit=commit, undoes=1
    )
    assert store.commit(commit.id).parents == (main.head, other.id)
    assert (store.operations(1)[0].verb, store.operations(1)[0].undoes) == ("merge", 1)


def test_rollback_keeps_what_it_sets_aside(store):
    start = store.branch("main")
    advance(store, start)
    before = store.branch("main")
    operation = set_aside(store, before, start.head)
    after = store.branch("main")
    assert (after.head, after.fork) == (start.head, start.fork)
    assert after.layer != before.layer
    assert store.layer(before.layer).state == "open"
    assert operation.moves == (Move(before, after),)


def test_delete_and_come_back(store):
    branch = fork(store, "exp1")
    store.record("delete", Move(branch, None), author="ada", detail="gone")
    with pytest.raises(UnknownRef):
        store.branch("exp1")
    assert store.layer(branch.layer).state == "open"
    other = fork(store, "exp1")
    assert other.id != branch.id
    with pytest.raises(AlreadyExists, match="exp1"):
        store.record("undo", Move(None, branch), author="ada", detail="back")
    store.record("delete", Move(other, None), author="ada", detail="gone")
    store.record("undo", Move(None, branch), author="ada", detail="back")
    assert store.branch("exp1") == branch


def test_rename_is_two_moves(store):
    branch = fork(store, "exp1")
    advance(store, branch)
    branch = store.branch("exp1")
    renamed = branch._replace(name="exp2")
    store.record(
        "rename", Move(branch, None), Move(None, renamed), author="ada", detail="exp1 to exp2"
    )
    assert store.branch("exp2") == renamed
    assert not store.has_branch("exp1")
    assert store.positions(renamed) == [branch.fork]


def test_tags_move(store):
    head = store.branch("main").head
    commit = advance(store, store.branch("main"))
    tag, later = Tag("v1", head, 3), Tag("v1", commit.id, 4)
    store.record("tag", Move(None, tag), author="ada", detail="v1")
    assert store.tag("v1") == tag
    with pytest.raises(AlreadyExists, match="tag v1"):
        store.record("tag", Move(None, later), author="ada", detail="v1")
    store.record("tag", Move(tag, later), author="ada", detail="v1")
    assert store.tags() == [later]
    with pytest.raises(Locked, match="tag v1"):
        store.record("tag", Move(tag, None), author="ada", detail="v1")
    store.record("tag", Move(later, None), author="ada", detail="v1")
    assert store.tag("v1") is None
    assert store.operations(1)[0].moves == (Move(later, None),)


def test_an_unknown_operation(store):
    with pytest.raises(UnknownRef, match="operation 99"):
        store.operation(99)


def test_positions(store):
    assert store.positions(store.branch("main")) == []
    heads = [store.branch("main").head]
    heads += [advance(store, store.branch("main")).id for _ in range(3)]
    assert store.positions(store.branch("main")) == heads[2::-1]
    # Setting changes aside moves no head, so it is no position.
    set_aside(store, store.branch("main"), heads[3])
    assert store.positions(store.branch("main")) == heads[2::-1]
    set_aside(store, store.branch("main"), heads[0])
    assert store.positions(store.branch("main")) == heads[::-1]


def test_operations_are_listed_newest_first(store):
    for number in range(5):
        advance(store, store.branch("main"), f"number {number}")
    assert [o.detail for o in store.operations(3)] == ["number 4", "number 3", "number 2"]
    assert len(store.operations(100)) == 6
    assert all(len(o.moves) == 1 for o in store.operations(100))


def test_operations_of_one_name_follow_the_branch(store):
    main = store.branch("main")
    made = advance(store, main)
    store.record("tag", Move(None, Tag("v1", made.id, 1)), author="a", detail="")
    main = store.branch("main")
    other = main._replace(name="other")
    assert store.former_name(main) is None
    store.record("rename", Move(main, None), Move(None, other), author="a", detail="")
    assert store.former_name(other) == "main"
    assert [o.verb for o in store.operations(name="other")] == ["rename", "commit", "init"]
    assert [o.verb for o in store.operations(name="v1")] == ["tag"]
    assert [o.verb for o in store.operations(1, name="other")] == ["rename"]
    assert [o.id for o in store.operations(since=2)] == [4, 3]
    assert store.operations(name="\udcff") == []
    store.record("undo", Move(other, None), Move(None, main), author="a", detail="", undoes=4)
    assert store.former_name(main) == "other"
    assert store.undoings() == {4: 5}


def stale_writes(store, stale):
    return {
        "commit": lambda: advance(store, stale),
        "rollback": lambda: set_aside(store, stale, stale.head),
        "delete": lambda: store.record("delete", Move(stale, None), author="a", detail=""),
    }


@pytest.mark.parametrize("verb", ["commit", "rollback", "delete"])
@pytest.mark.parametrize("meanwhile", ["moved", "deleted"])
def test_a_branch_that_moved_meanwhile_is_left_alone(store, verb, meanwhile):
    stale = fork(store, "exp1")
    if meanwhile == "moved":
        advance(store, stale, "theirs")
    else:
        store.record("delete", Move(stale, None), author="b", detail="theirs")
    before = everything(store)
    with pytest.raises(Locked, match="exp1"):
        stale_writes(store, stale)[verb]()
    assert everything(store) == before


def test_a_taken_name(store):
    before = everything(store)
    with pytest.raises(AlreadyExists, match="main"):
        fork(store, "main")
    assert everything(store) == before


def test_text_that_is_no_utf8(store):
    before = everything(store)
    with pytest.raises(UsageError, match="message"):
        advance(store, store.branch("main"), "caf\udce9")
    with pytest.raises(UsageError, match="branch name"):
        fork(store, "caf\udce9")
    assert everything(store) == before


def test_an_unknown_head_is_refused_whole(store):
    before = everything(store)
    with pytest.raises(Locked, match="ffff is not there any more"):
        set_aside(store, store.branch("main"), "f" * 40)
    assert everything(store) == before


# --- several processes, and bad ends ---


def test_two_processes_commit_on_two_branches(store, root, program):
    names = ["exp1", "exp2"]
    for name in names:
        fork(store, name)
    processes = [program(COMMITTER, root, name) for name in names]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    for name in names:
        line = [c.message for c in store.ancestors(store.branch(name).head)][:-1]
        assert line == [f"{name} {number}" for number in reversed(range(40))]
    assert len(store.operations(1000)) == 1 + 2 + 80


def test_a_commit_killed_in_the_middle_never_was(store, root, program):
    before = everything(store)
    process = program(KILLED_IN_A_TRANSACTION, root)
    assert process.wait(20) == -signal.SIGKILL
    assert everything(store) == before
    advance(store, store.branch("main"))


@pytest.mark.root
def test_a_full_disk_changes_nothing(small_disk, base):
    root = small_disk / "ws"
    root.mkdir()
    store = Store.create(root, base, "trusted", author="ada")
    before = everything(store)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(free_bytes(small_disk)))
    with pytest.raises(StorageError, match="No space left on device") as caught:
        advance(store, store.branch("main"), "m" * 100_000)
    assert "store.db" in str(caught.value)
    assert everything(store) == before
    filler.unlink()
    advance(store, store.branch("main"), "m" * 100_000)
    assert len(store.operations(10)) == 2
    store.close()


# --- mount records ---


def record(store, **changes):
    branch = store.branch("main")
    plain = MountRecord(
        0, "boot", 4026531840, 77, Path(os.fsdecode(b"/ws/m\xff")), branch.head, branch.layer, ()
    )
    return plain._replace(**changes)


def test_mount_records(store):
    branch = store.branch("main")
    advance(store, branch)
    writable = store.record_mount(record(store, lowers=(branch.layer,)))
    view = store.record_mount(record(store, layer=None, mount_id=78))
    assert writable.id != view.id
    assert store.mount_records() == [writable, view]
    assert store.records_for_layer(writable.layer) == [writable]
    assert store.records_for_layer("other") == []
    store.drop_mount(writable.id)
    store.drop_mount(writable.id)
    assert store.mount_records() == [view]
    assert len(store.operations(10)) == 2  # mounting moves no name


def test_how_moves_are_kept(store):
    """As docs/internals/format.md says."""
    main = store.branch("main")
    store.record(
        "rollback",
        Move(main, main._replace(pending=("a1", "b2"))),
        author="ada",
        detail="d",
        layers=[sealed_layer("a1"), sealed_layer("b2")],
    )
    store.record("tag", Move(None, Tag("v1", main.head, 7)), author="ada", detail="d")
    was = (
        f'{{"id":{main.id},"head":"{main.head}","layer":"{main.layer}","fork":"{main.fork}",'
        f'"created_ns":{main.created_ns},"pending":[]}}'
    )
    assert store._db.rows("SELECT name, branch, before, after FROM moves ORDER BY id")[-2:] == [
        ("main", main.id, was, was.replace("[]", '["a1","b2"]')),
        ("v1", None, None, f'{{"commit":"{main.head}","created_ns":7}}'),
    ]


def test_a_mount_is_remembered_with_the_branch_or_not_at_all(store):
    fork(store, "exp1", mount=record(store))
    assert store.mount_records() == [record(store, id=1)]
    with pytest.raises(AlreadyExists):
        fork(store, "exp1", mount=record(store, mount_id=78))
    assert store.mount_records() == [record(store, id=1)]


def test_a_new_branch_is_claimed_before_anybody_can_see_it(store, root):
    other = Store.open(root)
    seen = []

    def claim(id):
        seen.append((id, [branch.name for branch in other.branches()]))

    fork(store, "exp1", claim=claim)
    assert seen == [(store.branch("exp1").id, ["main"])]
    other.close()


def test_a_claim_that_fails_leaves_no_branch(store):
    def refuse(id):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fork(store, "exp1", claim=refuse)
    assert [branch.name for branch in store.branches()] == ["main"]


class Failing:
    """A SQLite handle whose COMMIT fails before it wrote anything."""

    def __init__(self, real):
        self.real = real

    def __getattr__(self, name):
        return getattr(self.real, name)

    def execute(self, sql, *values):
        if sql != "COMMIT":
            return self.real.execute(sql, *values)
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error


def test_a_commit_that_failed_leaves_a_doubt_until_it_is_settled(store):
    branch, layer = store.branch("main"), open_layer()
    real, store._db._sqlite = store._db._sqlite, Failing(store._db._sqlite)
    with pytest.raises(StorageError):
        store.record("m", Move(branch, None), author="a", detail="d", layers=[layer])
    store._db._sqlite = real
    assert store.may_have_layer(layer.id)
    assert store.may_have_moved(branch)
    store.settle_doubt()
    assert not store.may_have_layer(layer.id)
    assert not store.may_have_moved(branch)


def look_at_all(store):
    store.branches()
    list(store.ancestors(store.branch("main").head))
    store.operations()
    store.mount_records()
    sweep.flaws(store)


DAMAGE = {
    "text": "UPDATE commits SET message = CAST(x'6d80' AS TEXT)",
    "list": "UPDATE branches SET pending = '[5'",
    "list of numbers": "UPDATE branches SET pending = '[5]'",
    "list of what is no id": """UPDATE branches SET pending = '["a\\"b"]'""",
    "no list": """UPDATE branches SET pending = '"abc"'""",
    "side": "UPDATE moves SET after = '{}'",
    "table": "PRAGMA foreign_keys = OFF; DROP TABLE mounts",
    "key": "PRAGMA foreign_keys = OFF; DROP TABLE layers; CREATE TABLE layers (x)",
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damage_that_sqlite_does_not_call_so(store, how):
    """Found by fuzzing: each ended in a traceback."""
    with closing(sqlite3.connect(store.layout.db)) as db:
        db.executescript(DAMAGE[how])
    with pytest.raises(IntegrityError, match=r"is malformed|cannot read"):
        look_at_all(store)


def test_a_format_of_the_file_that_sqlite_does_not_know(store, root):
    store.close()
    with store.layout.db.open("r+b") as file:
        file.seek(44)
        file.write(b"\0\0\0\x09")
    with pytest.raises(IntegrityError, match="unsupported file format"):
        Store.open(root)

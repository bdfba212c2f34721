"""``verify``: silent on what is whole, and every planted damage is found and named."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from contextlib import closing

import pytest

from dsbranch.errors import StorageError
from dsbranch.model.facts import Checkpoint, Move
from dsbranch.ops import layers as layer_steps
from dsbranch.ops import stacks
from dsbranch.ops.build import squashed
from dsbranch.ops.lowers import root_of_view
from tests import edits as e
from tests.cases import CASES, Raw
from tests.trees import Dir, File, Symlink

from .conftest import command, python, with_descriptors

pytestmark = pytest.mark.root


def whole(bench, *, full=True):
    found = bench.ws.verify(full=full)
    assert found.findings == ()
    return found


def said(bench, *, full=False):
    """Path and what is wrong, of each finding."""
    found = bench.ws.verify(full=full).findings
    for one in found:
        assert one.where
        assert one.means
    return [(one.path, one.what) for one in found]


def test_that_descriptors_end_is_no_damage(history, bench):
    bench.ws.seal()
    codes = []
    for most in range(6, 32):
        done = with_descriptors(most, bench.place, "verify", "--full")
        if done.returncode:
            assert "Too many open files\nhint: raise the limit of open files" in done.stderr
            assert done.stdout == ""
        codes.append(done.returncode)
    assert len(set(codes)) == 2


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
@pytest.mark.parametrize(
    "place",
    [
        "dsbranch.ops.verify.lowers_of",
        "dsbranch.ops.verify.scan",
        "dsbranch.ops.verify.stacks.tables",
        "dsbranch.store.index.image.load",
        "dsbranch.store.journal.replay",
        "dsbranch.store.manifest.digest_file",
    ],
)
def test_nor_is_any_other_shortage(history, bench, monkeypatch, place, number):
    if place.endswith("lowers_of"):
        bench.commit(e.chmod("f", 0o600))  # its content is looked for below
    else:
        checkpoint(bench, bench.ws.log("main")[-1].id)

    def short(*_, **__):
        if place.endswith(("scan", "load")):
            raise OSError(number, os.strerror(number))
        raise StorageError(os.strerror(number), errno=number)

    monkeypatch.setattr(place, short)
    with pytest.raises((OSError, StorageError), match=os.strerror(number)):
        bench.ws.verify()


@pytest.fixture
def history(bench):
    """A workspace with something of everything; its newest commit's layer."""
    bench.commit(
        e.append("f", b"1"),
        e.add("n", Dir({"a": File(b"a"), "b": File(b"b", xattrs={"user.x": b"1"})})),
        e.link("n/a", "n/linked"),
        e.add("s", Symlink("target")),
        e.unlink("g"),
        e.recreate("d"),
        e.rename("e", "moved"),
        e.open_and_close("h1"),
    )
    bench.ws.create("exp1")
    bench.commit(e.append("f", b"2"), branch="exp1")
    bench.edit(e.add("uncommitted", File(b"u")), branch="exp1")
    return bench.fs(bench.ws._context.store.commit(bench.head()).layer)


def test_what_is_whole(bench, history):
    found = whole(bench)
    assert found.layers == 2
    assert found.entries > 10
    assert found.digested == 5
    assert (found.undigested, found.garbage) == (0, 0)
    assert whole(bench, full=False).digested == 0


# The others edit the layer itself.
BY_MOUNT = [case for case in CASES if not any(isinstance(layer, Raw) for layer in case.layers)]


@pytest.mark.parametrize("case", BY_MOUNT, ids=lambda case: case.id)
def test_every_case_is_whole_once_committed(adopt, case):
    bench = adopt(case.base)
    for number, layer in enumerate(case.layers):
        bench.edit(*layer)
        bench.ws.commit("main", str(number), allow_empty=True)
    if len(case.layers) > 1:
        bench.ws.squash("main")
    whole(bench)


def test_without_digests(bench):
    bench.edit(e.append("f", b"1"))
    bench.ws.commit("main", "x", hash=False)
    found = whole(bench)
    assert (found.digested, found.undigested) == (0, 1)


def test_nothing_but_directories_without_rows_is_a_note(bench):
    (bench.place / ".dsbranch" / "layers" / "0000000000").mkdir()
    assert whole(bench).garbage == 0
    os.utime(bench.place / ".dsbranch" / "layers" / "0000000000", (0, 0))
    assert whole(bench).garbage == 1


def keep_times(*edits):
    """The edits, with the times of the directories around put back."""

    def edit(root):
        before = [(path, os.lstat(path)) for path, _, _ in os.walk(root)]
        for one in edits:
            one(root)
        for path, status in before:
            if os.path.isdir(path):
                os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    return edit


def mtime(path, at):
    return f"its mtime is {at} ns, and was {os.lstat(path).st_mtime_ns} ns"


DAMAGES = {
    "missing": (e.unlink("n/b"), [(b"n/b", "it is gone")]),
    "missing tree": (e.rmtree("n"), [(b"n", "it is gone, with 3 entries in it")]),
    "missing whiteout": (e.unlink("g"), [(b"g", "it is gone")]),
    "extra": (e.add("more", File(b"")), [(b"more", "the manifest does not have it")]),
    "extra tree": (
        e.add("more", Dir({"in": File(b"")})),
        [(b"more", "the manifest does not have it, with 1 entry in it")],
    ),
    "extra whiteout": (e.whiteout("h2"), [(b"h2", "the manifest does not have it")]),
    "kind": (e.recreate("s", File(b"target")), [(b"s", "it is a file, and was a symlink")]),
    "whiteout to file": (
        e.recreate("g", File(b"")),
        [(b"g", "it is a file, and was a whiteout")],
    ),
    "mode": (e.chmod("n/b", 0o4600), [(b"n/b", "its mode is 4600, and was 0644")]),
    "owner": (e.chown("n", 7, 8), [(b"n", "its owner is 7:8, and was 0:0")]),
    "time": (
        e.utime("n/b", 5),
        [(b"n/b", "its mtime is 5 ns, and was 1600000000000000000 ns")],
    ),
    "xattrs": (
        e.setxattr("n/b", "user.x", b"2"),
        [(b"n/b", "its extended attributes are others")],
    ),
    "xattrs gone": (
        e.removexattr("n/b", "user.x"),
        [(b"n/b", "its extended attributes are others")],
    ),
    "target": (
        e.sequence(e.recreate("s", Symlink("tarGet"))),
        [(b"s", "its target is `tarGet`, and was `target`")],
    ),
    "opaque": (
        e.removexattr("d", "trusted.overlay.opaque"),
        [(b"d", "it is not opaque, and was")],
    ),
    "redirect": (
        e.setxattr("moved", "trusted.overlay.redirect", b"/d"),
        [(b"moved", "its redirect is `/d`, and was `e`")],
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_planted_in_a_layer(bench, history, name):
    damage, expected = DAMAGES[name]
    keep_times(damage)(history)
    assert said(bench) == expected


def test_a_size_is_found_without_reading(bench, history):
    before = os.lstat(history / "n" / "b")
    e.append("n/b", b"!")(history)
    os.utime(history / "n" / "b", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert said(bench) == [(b"n/b", "its size is 2, and was 1")]


def test_content_of_the_same_size_and_time_is_found_by_reading(bench, history):
    e.rewrite("n/b")(history)
    whole(bench, full=False)
    ((path, what),) = said(bench, full=True)
    assert path == b"n/b"
    assert what.startswith("its content is ")


def test_links_that_were_cut_and_made(bench, history):
    def cut(root):
        status = os.lstat(root / "n" / "linked")
        os.unlink(root / "n" / "linked")
        (root / "n" / "linked").write_bytes(b"a")
        os.utime(root / "n" / "linked", ns=(status.st_atime_ns, status.st_mtime_ns))

    keep_times(cut)(history)
    what = "it is linked with other names than it was"
    assert said(bench) == [(b"n/a", what), (b"n/linked", what)]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errno.EIO, "it cannot be read: Input/output error"),
        (errno.EAGAIN, "it changed while it was read"),
    ],
)
def test_an_unreadable_file_is_named_and_the_rest_is_read(
    bench, history, monkeypatch, error, words
):
    from dsbranch.ops import verify

    real = verify.digest_files
    failed = []

    def failing(table, **keywords):
        if not failed:
            failed.append(1)
            raise OSError(error, os.strerror(error), b"n/b")
        real(table, **keywords)

    monkeypatch.setattr(verify, "digest_files", failing)
    e.rewrite("f")(history)
    found = said(bench, full=True)
    assert (b"n/b", words) in found
    assert [path for path, _ in found] == [b"n/b", b"f"]


def test_idle_copies_that_a_killed_commit_left_are_allowed(bench):
    bench.edit(e.append("f", b"1"), e.open_and_close("d/x"), e.open_and_close("g"))
    bench.killed("commit('main', 'x')", "dsbranch.ops.commit:remove", "before")
    layer = bench.fs(bench.ws._context.store.commit(bench.head()).layer)
    assert (layer / "g").exists()
    whole(bench)
    status = os.lstat(layer / "d" / "x")
    os.utime(layer / "d" / "x", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert said(bench) == [(b"d/x", "the manifest does not have it")]


def test_the_layer_of_a_pending_commit(bench):
    bench.commit(e.append("f", b"1"))
    store = bench.ws._context.store
    branch = store.branch("main")
    layer = store.commit(branch.head).layer
    undone = branch._replace(head=bench.ws.log("main")[-1].id, pending=(layer,))
    store.record("undo", Move(branch, undone), author="ada", detail="d")
    bench.commit(e.append("g", b"2"))
    assert whole(bench).layers == 3
    bench.ws.gc(keep=0)
    assert whole(bench).layers == 1


def test_directories_that_are_gone(bench, history):
    layer = history.parent
    os.rename(layer / "fs", layer / "elsewhere")
    assert said(bench) == [(None, "its directory is gone")]
    os.rename(layer / "elsewhere", layer / "fs")
    bench.ws.umount("main")
    command(["rm", "-r", bench.upper().parent / "work"])
    assert said(bench) == [(None, "its workdir is gone")]
    command(["rm", "-r", bench.upper().parent])
    assert said(bench) == [(None, "its directory is gone")]


@pytest.mark.parametrize("damage", ["gone", "empty", "flipped", "another"])
def test_a_damaged_manifest(bench, history, damage):
    path = history.parent / "manifest.parquet"
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "flipped":
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    else:
        path.write_bytes(
            bench.manifest(bench.ws._context.store.commit(bench.head("exp1")).layer).read_bytes()
        )
    found = bench.ws.verify().findings
    assert found
    assert all(history.parent.name in one.where or "commit" in one.where for one in found)
    if damage == "another":
        assert any("its id is not that" in one.what for one in found)


def forge(bench, *statements):
    bench.ws.close()
    with closing(sqlite3.connect(bench.place / ".dsbranch" / "store.db")) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()
    bench.reopen()


ROWS = {
    "message": (
        "UPDATE commits SET message = 'forged' WHERE message = 'changes'",
        "its id is not that of what it says and holds",
    ),
    "root message": (
        "UPDATE commits SET message = 'forged' WHERE layer IS NULL",
        "its id is not that of what it says and holds",
    ),
    "parent": ("DELETE FROM parents", "it has a parent or a layer, but not both"),
    "unknown parent": (
        "UPDATE parents SET parent_id = 'ffff'",
        "commit ffff is not in the store",
    ),
    "layer": ("DELETE FROM layers WHERE state = 'open'", "is not in the store"),
    "state": (
        "UPDATE layers SET state = 'open', sealed_ns = NULL",
        "is open, not sealed",
    ),
    "entries": ("UPDATE layers SET entries = 2", "the store says 2"),
    "pending": ("""UPDATE branches SET pending = '["0000000000"]'""", "0000000000 is not in"),
    "head": ("UPDATE branches SET head = 'ffff'", "row 1 of branches: its head is not in commits"),
    "tag": ("INSERT INTO tags VALUES ('v1', 'ffff', 1)", "commit ffff is not in the store"),
    "malformed": ("UPDATE moves SET after = '{'", "is malformed"),
    "two roots": (
        "INSERT INTO commits (id, message, author, time_ns) VALUES ('ffff', '', '', 1)",
        "it has 2 root commits instead of one",
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_planted_in_the_store(bench, history, name):
    statement, words = ROWS[name]
    forge(bench, statement)
    found = bench.ws.verify().findings
    assert any(words in one.what for one in found), found


def test_a_damaged_database_file(bench, history):
    forge(bench, "PRAGMA wal_checkpoint(TRUNCATE)")
    bench.ws.close()
    path = bench.place / ".dsbranch" / "store.db"
    with closing(sqlite3.connect(path)) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'moves_branch'")
    with open(path, "r+b") as file:
        file.seek((page[0] - 1) * 4096 + 8)
        file.write(b"\xff" * 4088)
    bench.reopen()
    found = bench.ws.verify().findings
    assert found
    assert found[0].where == "the store"


def checkpoint(bench, bottom):
    context = bench.ws._context
    line = context.store.first_parents(bench.head())
    line = line[: line.index(bottom)]
    with layer_steps.new_layer(context, root_of_view(context, line[0]), work=False) as new:
        parts = [stacks.sealed(context, context.store.commit(id).layer) for id in line]
        sealed, _, _ = squashed(context, parts, context.store.stack(bottom), new)
        context.store.add_checkpoint(Checkpoint(new.id, line[0], bottom, len(line)), [sealed])
    return new.id


def test_a_checkpoint_shows_what_its_commits_show(bench):
    root = bench.head()
    bench.commit(e.append("f", b"1"), e.unlink("d/x"), e.rename("e", "moved"))
    bench.commit(e.append("g", b"2"), e.add("d/new", File(b"n")))
    made = checkpoint(bench, root)
    assert whole(bench).layers == 3
    forge(bench, "UPDATE checkpoints SET span = 7")
    (found,) = bench.ws.verify().findings
    assert "7 commits" in found.what
    forge(bench, "UPDATE checkpoints SET span = 2")
    # One that was made wrong: its manifest agrees with it, and not with the commits.
    forge(
        bench,
        "UPDATE checkpoints SET span = 1,"
        f" top = (SELECT parent_id FROM parents WHERE commit_id = '{bench.head()}'),"
        f" bottom = '{root}'",
    )
    found = bench.ws.verify().findings
    assert {one.path for one in found} == {b"d/new", b"g"}
    assert {one.where for one in found} == {f"checkpoint {made}"}


def test_the_program_says_it(bench, history):
    code = "from dsbranch.cli import main; import sys; sys.exit(main())"
    done = python(code, "-C", str(bench.place), "verify", "--full")
    assert done.returncode == 0
    assert done.stderr.startswith("note: the dataset was never sealed")
    assert done.stdout == "2 layers, 13 entries, 5 contents are as recorded\n"
    os.chmod(history / "n" / "b", stat.S_IRUSR)
    done = python(code, "-C", str(bench.place), "verify")
    assert done.returncode == 5
    assert f"layer {history.parent.name} of commit {bench.head()[:10]}: n/b:" in done.stdout
    assert "its mode is 0400, and was 0644; " in done.stdout
    assert "1 thing is not as recorded" in done.stderr
    done = python(code, "-C", str(bench.place), "verify", "--json")
    assert done.returncode == 5
    assert '"ok": false' in done.stdout


def test_directories_get_their_times_back_after_a_kill(bench):
    """The kill comes between an idle copy's end and the time of the directory that held it."""
    bench.edit(e.append("f", b"1"), e.open_and_close("d/x"))
    layer = bench.ws._context.store.branch("main").layer
    before = os.lstat(bench.fs(layer) / "d").st_mtime_ns
    bench.killed("commit('main', 'x')", "dsbranch.ops.commit:remove", "before")
    os.unlink(bench.fs(layer) / "d" / "x")
    assert os.lstat(bench.fs(layer) / "d").st_mtime_ns != before
    bench.ws.status("main")
    assert os.lstat(bench.fs(layer) / "d").st_mtime_ns == before
    assert not bench.fs(layer).with_name("work").exists()
    whole(bench)


def test_metadata_whose_content_is_gone(bench):
    bench.commit(e.chmod("f", 0o600), e.chmod("g", 0o600))
    whole(bench)
    (bench.data / "f").unlink()
    assert said(bench) == [(b"f", "its content is in no layer below")]

"""``verify --repair`` where the database is damaged or gone: it is made again from the journal."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

import dsbranch
from dsbranch.errors import IntegrityError, Locked, NotAWorkspace
from dsbranch.store import recovery
from dsbranch.workspace import recover
from tests import edits as e
from tests.trees import Dir, File

from .conftest import one_sentence, python, rows

pytestmark = pytest.mark.root


@pytest.fixture
def history(bench):
    """Something of everything, and uncommitted changes; the workspace is closed."""
    bench.commit(e.append("f", b"1"), e.unlink("g"))
    bench.ws.create("exp1")
    bench.commit(e.add("n", Dir({"a": File(b"a")})), branch="exp1", message="on exp1")
    bench.commit(e.append("f", b"2"), branch="exp1")
    bench.ws.tag("v1", "exp1~1")
    bench.ws.merge("exp1", into="main")
    bench.ws.squash("exp1")
    bench.ws.undo()
    bench.ws.rename("exp1", "exp2")
    bench.ws.create("gone")
    bench.ws.delete("gone")
    bench.edit(e.add("uncommitted", File(b"u")), branch="exp2")
    bench.ws.close()
    return bench


def database(bench):
    return bench.place / ".dsbranch" / "store.db"


def garble(path):
    """A page of the tree, as a disk might have it."""
    with path.open("r+b") as file:
        for at in range(4096, path.stat().st_size, 4096):
            file.seek(at)
            file.write(b"\xa5" * 512)


def truncate(path):
    os.truncate(path, path.stat().st_size // 3)


def replace(path):
    path.unlink()
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (a)")


DAMAGES = {
    "gone": os.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "nonsense": lambda path: path.write_bytes(b"nonsense" * 1000),
    "cut off": truncate,
    "garbled": garble,
    "another program's": replace,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_it_is_as_before(history, damage):
    bench = history
    before = rows(bench.place, "mounts", "checkpoints")
    shown = {name: bench.see(name) for name in ("main", "exp2")}
    damage(database(bench))
    damaged = database(bench).read_bytes() if database(bench).exists() else None
    done = recover(bench.place)
    assert "was made again from the journal, as it was after operation" in done
    assert "lost" not in done
    assert rows(bench.place, "mounts", "checkpoints") == before
    kept = database(bench).with_name("store.db.damaged-1")
    assert (kept.read_bytes() if kept.exists() else None) == damaged
    bench.ws = dsbranch.open(bench.place)
    assert bench.ws.verify(full=True).findings == ()
    assert {name: bench.see(name) for name in shown} == shown
    assert bench.lines(branch="exp2") == ["A uncommitted"]
    # And on it goes.
    bench.ws.commit("exp2", "after")
    bench.ws.undo()
    bench.ws.gc()
    assert bench.ws.verify().findings == ()
    assert recover(bench.place) is None


def test_a_sound_store_stays(history):
    before = database(history).read_bytes()
    assert recover(history.place) is None
    assert database(history).read_bytes() == before


def test_what_the_journal_was_not_told_is_said(history, monkeypatch):
    bench = history
    with monkeypatch.context() as patch:
        patch.setattr("dsbranch.store.journal.append", lambda *_: None)
        with dsbranch.open(bench.place) as ws:
            ws.tag("v2", "main")
    with closing(sqlite3.connect(database(bench))) as db, db:
        db.execute("DELETE FROM commits WHERE seq = 2")  # SQLite looks after nothing unasked
    assert "; one operation after that is lost; what was there is" in recover(bench.place)
    with dsbranch.open(bench.place) as ws:
        assert [tag.name for tag in ws.tags()] == ["v1"]


def test_without_a_journal(history):
    (history.place / ".dsbranch" / "journal").unlink()
    garble(database(history))
    before = database(history).read_bytes()
    with pytest.raises(IntegrityError) as caught:
        recover(history.place)
    assert "there is no journal" in one_sentence(caught.value)
    assert database(history).read_bytes() == before


def test_a_damaged_journal(history):
    (history.place / ".dsbranch" / "journal").write_bytes(b"{}\n")
    garble(database(history))
    before = database(history).read_bytes()
    with pytest.raises(IntegrityError, match="damaged in its first line"):
        recover(history.place)
    assert database(history).read_bytes() == before


def test_while_others_have_it_open(history):
    garble(database(history))
    before = database(history).read_bytes()
    other = (
        "import fcntl, sys; from dsbranch.store import recovery as r;"
        "file = open(sys.argv[1], 'rb');"
        "fcntl.lockf(file, fcntl.LOCK_SH, r._SHARED_SIZE, r._SHARED_FIRST);"
        "print(flush=True); input()"
    )
    words = [sys.executable, "-c", other, str(database(history))]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        try:
            with pytest.raises(Locked):
                recover(history.place)
        finally:
            holder.communicate(b"\n")
    assert database(history).read_bytes() == before
    assert recover(history.place)


def test_sqlite_holds_the_bytes_that_are_locked(history):
    """A command that only has the store open keeps it from being replaced."""
    with dsbranch.open(history.place):
        code = (
            "import sys; from pathlib import Path; from dsbranch.store import recovery as r\n"
            "with r._nobody_else(Path(sys.argv[1])): pass"
        )
        done = python(code, str(database(history)))
    assert "have" in done.stderr
    assert "Locked" in done.stderr


@pytest.mark.parametrize("number", [1, 2])
def test_broken_off_it_is_done_the_next_time(history, monkeypatch, number):
    bench = history
    before = rows(bench.place, "mounts", "checkpoints")
    garble(database(bench))
    calls = 0
    real = os.rename

    def rename(*words):
        nonlocal calls
        calls += 1
        if calls > number:
            raise KeyboardInterrupt
        real(*words)

    with monkeypatch.context() as patch:
        patch.setattr(recovery.os, "rename", rename)
        with pytest.raises(KeyboardInterrupt):
            recover(bench.place)
    # Whatever is there meanwhile, it is no store of before.
    with pytest.raises((IntegrityError, NotAWorkspace)):
        dsbranch.open(bench.place).close()
    recover(bench.place)
    assert rows(bench.place, "mounts", "checkpoints") == before


PROGRAM = "import sys; from dsbranch.__main__ import main; sys.argv[0] = 'dsbranch'; main()"


def test_the_program(history):
    database(history).unlink()
    on = ("-C", str(history.place))
    done = python(PROGRAM, *on, "status", "main")
    assert done.returncode == 5
    assert "hint: `dsbranch verify --repair` makes it again from its journal" in done.stderr
    done = python(PROGRAM, *on, "verify", "--repair")
    assert done.returncode == 0, done.stderr
    assert "was made again from the journal" in done.stderr
    assert python(PROGRAM, *on, "status", "main").returncode == 0

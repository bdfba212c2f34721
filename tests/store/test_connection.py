import os
import sqlite3
import time

import pytest

from dsbranch.errors import IntegrityError, NoPrivilege, StorageError
from dsbranch.store.connection import Connection


@pytest.fixture
def db(tmp_path):
    db = Connection(tmp_path / "x.db", create=True)
    db.script("PRAGMA journal_mode = WAL; CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT) STRICT;")
    yield db
    db.close()


def test_a_transaction_is_all(db):
    with db.transaction():
        assert db.run("INSERT INTO t (b) VALUES (?)", "x") == 1
        assert db.run("INSERT INTO t (b) VALUES (?)", "y") == 2
    assert db.rows("SELECT a, b FROM t ORDER BY a") == [(1, "x"), (2, "y")]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_or_nothing(db, error):
    def fail():
        with db.transaction():
            db.run("INSERT INTO t (b) VALUES ('x')")
            assert db.rows("SELECT b FROM t") == [("x",)]
            raise error

    with pytest.raises(error):
        fail()
    assert db.rows("SELECT * FROM t") == []
    with db.transaction():
        db.run("INSERT INTO t (b) VALUES ('y')")
    assert db.row("SELECT b FROM t") == ("y",)


def test_a_reader_does_not_wait_for_a_writer_nor_see_it(db):
    reader = Connection(db.path)
    with db.transaction():
        db.run("INSERT INTO t (b) VALUES ('x')")
        start = time.monotonic()
        assert reader.rows("SELECT * FROM t") == []
        assert time.monotonic() - start < 2  # a waiting one would take a minute
    assert reader.row("SELECT b FROM t") == ("x",)
    reader.close()


def test_opening_makes_no_file(tmp_path):
    with pytest.raises((StorageError, NoPrivilege)):
        Connection(tmp_path / "missing.db")
    assert os.listdir(tmp_path) == []


def test_a_contradiction_is_an_integrity_error(db):
    with db.transaction():
        db.run("INSERT INTO t VALUES (1, 'x')")
    with pytest.raises(IntegrityError, match="UNIQUE"), db.transaction():
        db.run("INSERT INTO t VALUES (1, 'y')")


def test_wrong_sql_is_a_bug_and_stays_one(db):
    with pytest.raises(sqlite3.OperationalError):
        db.rows("SELECT nothing FROM nowhere")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_no_permission(db, monkeypatch):
    monkeypatch.chdir(db.path.parent)  # the directories of pytest above it are closed
    relative = db.path.relative_to(db.path.parent)
    db.path.parent.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(NoPrivilege, match="Permission denied") as caught:
            Connection(relative)
    finally:
        os.seteuid(0)
    assert "sudo" in (caught.value.hint or "")

"""A workspace of format 1, as the first dsbranch wrote it (``tests/golden/store-1.sql``)."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dsbranch.errors import IntegrityError
from dsbranch.model.facts import Branch, Move
from dsbranch.store.database import FORMAT, Store
from tests.store.facts import advance

GOLDEN = Path(__file__).parents[1] / "golden" / "store-1.sql"


@pytest.fixture
def old(root):
    dot = root / ".dsbranch"
    dot.mkdir()
    with closing(sqlite3.connect(dot / "store.db")) as db:
        db.executescript(GOLDEN.read_text())
    return root


def schema(root):
    """What the tables can hold, without comments: (table, column, type, null, default, key)."""
    with closing(sqlite3.connect(root / ".dsbranch" / "store.db")) as db:
        names = [r[0] for r in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {
            (name, *column[1:])
            for name in names
            for column in db.execute(f"PRAGMA table_info({name})")
        }


def test_a_store_of_format_1_is_brought_to_this_format(old, tmp_path, base):
    with closing(Store.open(old)) as upgraded:
        main, exp1 = upgraded.branch("main"), upgraded.branch("exp1")
        assert (main.pending, exp1.pending) == ((), ())
        moves = {o.id: o.moves for o in upgraded.operations(100)}
        assert moves[5][0].after == main
        assert moves[4] == (Move(moves[3][0].after, exp1),)
        assert isinstance(moves[7][0].before, Branch)
        assert (moves[7][0].name, moves[7][0].after) == ("gone", None)
        assert upgraded.positions(main) == [exp1.fork, main.fork]
        advance(upgraded, main, "goes on")
    new = tmp_path / "new"
    new.mkdir()
    Store.create(new, base, "trusted", author="ada").close()
    assert schema(old) == schema(new)
    with closing(Store.open(old)) as again:
        assert again.operations(1)[0].detail == "goes on"


def test_an_upgrade_that_fails_half_way_changes_nothing(old, monkeypatch):
    monkeypatch.setattr("dsbranch.store.upgrade._STEPS", {1: "upgrade-1.sql", 2: "no such step"})
    before = schema(old)
    monkeypatch.setattr("dsbranch.store.database.FORMAT", FORMAT + 1)
    with pytest.raises(FileNotFoundError):
        Store.open(old)
    assert schema(old) == before
    monkeypatch.undo()
    Store.open(old).close()


def test_a_format_that_never_was(old):
    with closing(sqlite3.connect(old / ".dsbranch" / "store.db")) as db:
        db.execute("PRAGMA user_version = 0")
    with pytest.raises(IntegrityError, match="never was"):
        Store.open(old)

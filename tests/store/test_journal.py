"""The journal: what it tells makes the same store again, and no trouble with it is anybody's."""

from __future__ import annotations

import errno
import json
import os
import shutil
from contextlib import closing

import pytest

from dsbranch._core.digest import digest_bytes
from dsbranch.errors import IntegrityError, StorageError
from dsbranch.model.facts import Move, Tag
from dsbranch.model.history import Doomed
from dsbranch.store import journal, sweep
from dsbranch.store.connection import Connection
from dsbranch.store.database import Store
from tests.store.facts import advance, open_layer, set_aside


@pytest.fixture
def busy(store):
    """A store with something of everything, also branches and tags that are gone."""
    for number in range(3):
        advance(store, store.branch("main"), f'{number} \u00e4\n"quoted\\" \0\x1b\U0001f600')
    set_aside(store, store.branch("main"), store.branch("main").fork)
    head = store.branch("main").head
    for name in ("one", "two"):
        layer = open_layer()
        main = store.branch("main")
        fresh = main._replace(id=0, name=name, layer=layer.id)
        store.record("create", Move(None, fresh), author="ada", detail=name, layers=[layer])
    two = store.branch("two")
    store.record("rename", Move(two, two._replace(name="three")), author="ada", detail="three")
    store.record("delete", Move(store.branch("one"), None), author="ada", detail="one")
    for name in ("v1", "v2"):
        store.record("tag", Move(None, Tag(name, head, 7)), author="ada", detail=name)
    store.record("tag", Move(store.tag("v2"), None), author="ada", detail="no v2")
    return store


def again(store):
    """Everything that a store made again from the journal has, as the one that is there has it."""
    with closing(Connection(None)) as db:
        journal.make_tables(db)
        journal.replay(store.layout.journal, db)
        with closing(Store(store.layout, db)) as copy:
            return sweep.history(copy)


def tear(store, bytes=1):
    os.truncate(store.layout.journal, store.layout.journal.stat().st_size - bytes)


def flip(store, at):
    data = bytearray(store.layout.journal.read_bytes())
    data[at] ^= 1
    store.layout.journal.write_bytes(data)


def lines(store):
    return store.layout.journal.read_bytes().count(b"\n")


def test_it_begins_with_the_store(store):
    assert lines(store) == 1
    assert again(store) == sweep.history(store)


def test_each_operation_is_a_line(busy):
    assert lines(busy) == 1 + len(busy.operations()) - 1  # the first operation is in the first
    assert again(busy) == sweep.history(busy)
    assert sweep.journal_flaw(busy) is None


def test_all_at_once_is_the_same(busy):
    sweep.renew_journal(busy)
    assert lines(busy) == 1
    assert again(busy) == sweep.history(busy)


def test_no_id_of_a_branch_is_given_twice(busy):
    sweep.renew_journal(busy)
    with closing(Connection(None)) as db:
        journal.make_tables(db)
        journal.replay(busy.layout.journal, db)
        ids = [row[0] for row in db.rows("SELECT seq FROM sqlite_sequence WHERE name = 'branches'")]
    assert ids == [3]  # main, one, two; only two of them are left


@pytest.mark.parametrize("missing", [1, 60, 100_000])
def test_what_is_torn_off_is_told_anew_by_the_next_operation(busy, missing):
    tear(busy, min(missing, busy.layout.journal.stat().st_size))
    if missing < 100_000:
        assert sweep.journal_flaw(busy) is None
        assert again(busy).operations == sweep.history(busy).operations[:-1]
    advance(busy, busy.branch("main"))
    assert lines(busy) == 1
    assert again(busy) == sweep.history(busy)


def test_one_that_escapes_what_is_not_ascii_goes_on(busy):
    """As the first dsbranch wrote it."""
    told = []
    for line in busy.layout.journal.read_bytes().splitlines():
        text = json.dumps(json.loads(line.partition(b" ")[2]), separators=(",", ":")).encode()
        told.append(digest_bytes(text).hex().encode() + b" " + text + b"\n")
    busy.layout.journal.write_bytes(b"".join(told))
    assert sweep.journal_flaw(busy) is None
    advance(busy, busy.branch("main"), "\u00e4")
    assert lines(busy) == len(told) + 1
    assert again(busy) == sweep.history(busy)


def test_it_may_be_removed(busy):
    busy.layout.journal.unlink()
    assert sweep.journal_flaw(busy) is None
    advance(busy, busy.branch("main"))
    assert again(busy) == sweep.history(busy)


def test_nothing_is_read_from_behind_a_damaged_place(busy):
    whole = busy.layout.journal.read_bytes()
    starts = [0, *(at + 1 for at, byte in enumerate(whole) if byte == 10)]
    for line, start in enumerate(starts[:-1]):
        for at in {start, (start + starts[line + 1]) // 2, starts[line + 1] - 1}:
            busy.layout.journal.write_bytes(whole)
            flip(busy, at)
            if line == 0:
                with pytest.raises(IntegrityError, match="damaged in its first line"):
                    again(busy)
                assert "damaged in its first line" in sweep.journal_flaw(busy)
            else:
                assert again(busy).operations == sweep.history(busy).operations[:line]


def test_where_it_cannot_be_written_the_operation_happens(busy):
    busy.layout.journal.unlink()
    busy.layout.journal.mkdir()
    advance(busy, busy.branch("main"))
    assert busy.operations(1)[0].verb == "commit"
    busy.layout.journal.rmdir()


def test_it_is_not_written_through_a_link(busy, tmp_path):
    (tmp_path / "other").write_bytes(b"other")
    busy.layout.journal.unlink()
    busy.layout.journal.symlink_to(tmp_path / "other")
    advance(busy, busy.branch("main"))
    assert (tmp_path / "other").read_bytes() == b"other"
    assert again(busy) == sweep.history(busy)


def test_what_a_killed_process_left_goes(busy):
    left = busy.layout.journal.with_name("journal.new-12345")
    left.write_bytes(b"half")
    sweep.renew_journal(busy)
    assert not left.exists()


def test_another_store_is_seen(busy):
    """As after a hand has been at the database."""
    with busy.transaction():
        busy._db.run("UPDATE commits SET message = 'forged' WHERE message LIKE '1 %'")
    assert sweep.journal_flaw(busy) == "it tells of other commits"


def clear(store, commits):
    """As gc does, which removes so many of the newest commits."""
    newest = store._db.rows(f"SELECT id, layer FROM commits ORDER BY seq DESC LIMIT {commits}")
    ids, layers = zip(*newest, strict=True)
    with sweep.clearing(store):
        sweep.drop(store, Doomed((), ids, layers, (), ()))


def test_no_flaw_is_seen_while_gc_puts_another_in_its_place(busy, monkeypatch):
    write, replay = journal.write, journal.replay
    seen = []

    def late(*arguments):
        seen.append(sweep.journal_flaw(busy))
        write(*arguments)

    def overtaken(path, db):
        last = replay(path, db)
        monkeypatch.undo()
        clear(busy, 1)
        return last

    monkeypatch.setattr(journal, "write", late)
    clear(busy, 2)
    monkeypatch.setattr(journal, "replay", overtaken)
    seen.append(sweep.journal_flaw(busy))
    assert seen == [None, None]
    assert again(busy) == sweep.history(busy)


def test_one_from_before_rows_went_is_not_gone_on_with(busy, monkeypatch):
    """As after a gc that was killed: the numbers of rows that went are given once more."""
    monkeypatch.setattr(sweep, "renew_journal", lambda _: None)
    clear(busy, 2)
    assert sweep.journal_flaw(busy) is None
    advance(busy, busy.branch("main"))
    assert again(busy) == sweep.history(busy)
    assert sweep.journal_flaw(busy) is None


def test_where_no_row_goes_no_number_is_used_up(busy):
    before = busy.operations(1)[0].id
    with sweep.clearing(busy):
        sweep.drop(busy, Doomed((), (), (), (), ()))
    advance(busy, busy.branch("main"))
    assert busy.operations(1)[0].id == before + 1
    assert again(busy) == sweep.history(busy)


def test_one_that_is_removed_meanwhile_is_none(busy, monkeypatch):
    replay = journal.replay

    def overtaken(path, db):
        path.unlink()
        return replay(path, db)

    monkeypatch.setattr(journal, "replay", overtaken)
    assert sweep.journal_flaw(busy) is None


def test_one_that_cannot_be_read_is_said(busy):
    busy.layout.journal.unlink()
    busy.layout.journal.mkdir()
    flaw = sweep.journal_flaw(busy)
    assert flaw is not None
    assert flaw.endswith("Is a directory")
    busy.layout.journal.rmdir()


def test_rows_that_do_not_go_stay_told(busy):
    before = busy.layout.journal.read_bytes()
    with pytest.raises(IntegrityError), sweep.clearing(busy):
        busy._db.run("DELETE FROM commits")
    assert busy.layout.journal.read_bytes() == before
    assert list(busy.layout.dot.glob("journal.new-*")) == []


def test_rows_that_go_are_told_no_more_where_nothing_can_be_told(busy, monkeypatch):
    def failing(*_):
        raise StorageError("the disk is full", errno=errno.ENOSPC)

    monkeypatch.setattr(journal, "write", failing)
    with sweep.clearing(busy):
        busy._db.run("UPDATE commits SET message = 'x'")
    assert not busy.layout.journal.exists()
    monkeypatch.undo()
    advance(busy, busy.branch("main"))
    assert again(busy) == sweep.history(busy)


def test_two_stores_at_once(busy):
    """As two processes have it: who comes after the other tells of all that is not told."""
    line = journal.append
    try:
        journal.append = lambda *_: None  # the first is overtaken before it tells
        advance(busy, busy.branch("main"))
    finally:
        journal.append = line
    with closing(Store.open(busy.layout.root)) as other:
        advance(other, other.branch("main"))
    assert again(busy) == sweep.history(busy)


@pytest.mark.parametrize("told", [b"{}", b'{"put":{"nope":[[1]]},"op":1}', b'{"put":{"tags":[3]}}'])
def test_what_makes_no_sense(busy, told):
    busy.layout.journal.write_bytes(digest_bytes(told).hex().encode() + b" " + told + b"\n")
    with pytest.raises(IntegrityError):
        again(busy)


def test_another_format_is_refused(busy):
    sweep.renew_journal(busy)
    text = busy.layout.journal.read_bytes().partition(b" ")[2].rstrip(b"\n")
    told = text.replace(b'{"format":2', b'{"format":9')
    assert told != text
    busy.layout.journal.write_bytes(digest_bytes(told).hex().encode() + b" " + told + b"\n")
    with pytest.raises(IntegrityError, match="of format 9"):
        again(busy)


def test_a_copy_of_the_workspace_has_its_own(busy, tmp_path):
    shutil.copytree(busy.layout.root, tmp_path / "copy")
    with closing(Store.open(tmp_path / "copy")) as copy:
        advance(copy, copy.branch("main"))
        assert again(copy) == sweep.history(copy)
    assert again(busy) == sweep.history(busy)

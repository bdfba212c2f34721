"""Walks along first parents, with checkpoints to jump by."""

from __future__ import annotations

import pytest

from dsbranch.errors import IntegrityError, UnknownRef
from dsbranch.model.facts import Branch, Checkpoint, Move, Run
from dsbranch.store import writes
from tests.store.facts import commit_of, open_layer, sealed_layer


def grow(store, *parents):
    layer = sealed_layer()
    commit = commit_of(layer.id, *parents)
    writes.insert_layer(store._db, layer)
    writes.insert_commit(store._db, commit)
    return commit.id


def checkpoint(store, line, top, bottom, *, data=False):
    """One that stands for ``line[bottom + 1]`` to ``line[top]``; its layers."""
    made = [sealed_layer() for _ in range(2 if data else 1)]
    ids = [layer.id for layer in made]
    store.add_checkpoint(
        Checkpoint(ids[0], line[top], line[bottom], top - bottom, ids[1] if data else None), made
    )
    return tuple(ids)


@pytest.fixture
def line(store):
    """The root commit and twenty on top of each other."""
    ids = [store.branch("main").head]
    with store.transaction():
        for _ in range(20):
            ids.append(grow(store, ids[-1]))
    return ids


def spans(runs):
    return [run.span for run in runs]


def counted(store, monkeypatch):
    asked = []
    rows = store._db.rows
    monkeypatch.setattr(store._db, "rows", lambda *a: asked.append(a) or rows(*a))
    return asked


def test_without_checkpoints_each_commit_is_a_run(store, line):
    runs = store.runs(line[3])
    assert [run.layers for run in runs] == [(layer,) for layer in store.stack(line[3])]
    assert runs[0] == Run((store.commit(line[3]).layer,), line[3], line[2], 1, 3)
    assert store.runs(line[0]) == []


def test_the_largest_checkpoint_of_each_commit_is_taken(store, line):
    whole = checkpoint(store, line, 8, 0)
    checkpoint(store, line, 8, 4)
    checkpoint(store, line, 7, 0)
    pair = checkpoint(store, line, 10, 8, data=True)
    runs = store.runs(line[11])
    assert spans(runs) == [1, 2, 8]
    assert [run.layers for run in runs[1:]] == [pair, whole]
    assert [run.entries for run in runs] == [3, 6, 3]
    assert (runs[1].top, runs[1].bottom) == (line[10], line[8])
    assert store.checkpoints(line[8])[0].layer == whole[0]
    assert store.checkpoints(line[10]) == [Checkpoint(pair[0], line[10], line[8], 2, pair[1])]


def test_no_run_reaches_across_a_cut(store, line):
    checkpoint(store, line, 16, 0)
    checkpoint(store, line, 16, 8)
    checkpoint(store, line, 8, 0)
    checkpoint(store, line, 5, 0)
    assert spans(store.runs(line[18])) == [1, 1, 16]
    assert spans(store.runs(line[18], [line[8]])) == [1, 1, 8, 8]
    assert spans(store.runs(line[18], [line[5]])) == [1, 1, 8, 1, 1, 1, 5]
    assert spans(store.runs(line[18], [line[8], line[17]])) == [1, 1, 8, 8]
    assert store.runs(line[18], [line[5]])[-1:] == store.runs(line[5])
    # One that is the commit itself, its bottom, or on another line, cuts nothing.
    assert spans(store.runs(line[16], [line[16], line[0], line[19]])) == [16]


def test_the_depths_of_all_heads_in_one_statement(store, line, monkeypatch):
    checkpoint(store, line, 8, 0)
    checkpoint(store, line, 14, 10, data=True)
    heads = [line[0], line[5], line[9], line[9], line[16], grow(store, line[12])]
    for number, head in enumerate(heads):
        fresh = open_layer()
        made = Branch(0, f"b{number}", head, fresh.id, head, 1)
        store.record("create", Move(None, made), author="ada", detail="d", layers=[fresh])
    asked = counted(store, monkeypatch)
    depths = store.head_depths()
    assert len(asked) == 1
    assert {head: depths[head] for head in heads} == {
        head: sum(len(run.layers) for run in store.runs(head)) for head in heads
    }
    assert [depths[head] for head in heads[:5]] == [0, 5, 2, 2, 7]


def test_as_many_statements_whatever_the_length(store, line, monkeypatch):
    checkpoint(store, line, 20, 0)
    asked = counted(store, monkeypatch)
    assert spans(store.runs(line[20])) == [20]
    assert len(asked) == 3
    asked.clear()
    assert store.runs(line[0]) == []
    assert len(asked) == 1


def test_further_parents_are_not_followed(store, line):
    side = grow(store, line[3])
    merged = grow(store, line[20], side)
    assert [run.top for run in store.runs(merged)[:2]] == [merged, line[20]]
    assert store.meetings([merged, side]) == [line[3]]


def test_where_lines_meet(store, line):
    left, right = grow(store, line[7]), grow(store, line[7])
    low = grow(store, line[2])
    assert store.meetings([left, right]) == [line[7]]
    assert store.meetings([left, line[7]]) == [line[7]]
    assert store.meetings([line[20], line[4]]) == [line[4]]
    assert store.meetings([left, left]) == []
    assert store.meetings([left, right, low]) == [line[7], line[2]]
    assert store.meetings([low, line[0], right]) == [line[2], line[0]]
    assert store.meetings([left, right, line[7]]) == [line[7]]
    for a, b in ((left, right), (line[20], line[4]), (line[4], line[20]), (left, left)):
        expected = store.meetings([a, b]) or [a]
        assert [store.merge_base(a, b)] == expected


def test_meeting_jumps_by_checkpoints_but_never_past_the_place(store, monkeypatch):
    ids = [store.branch("main").head]
    with store.transaction():
        for _ in range(2000):
            ids.append(grow(store, ids[-1]))
    for top in range(8, 2001, 8):
        checkpoint(store, ids, top, top - (top & -top))
    fork = grow(store, ids[1003])
    asked = counted(store, monkeypatch)
    assert store.meetings([ids[2000], fork]) == [ids[1003]]
    assert store.meetings([ids[2000], ids[777]]) == [ids[777]]
    assert len(asked) < 150
    del asked[:]
    assert store.merge_base(ids[777], ids[2000]) == ids[777]
    assert store.is_ancestor(ids[1], ids[2000])
    assert len(asked) < 150


def test_a_common_ancestor_by_another_parent_is_found_all_the_same(store, line):
    side = grow(store, line[5])
    merged = grow(store, line[9], side)
    assert store.merge_base(merged, side) == side
    assert store.is_ancestor(side, merged)
    assert not store.is_ancestor(merged, side)
    assert store.merge_base(merged, grow(store, side)) == side


def test_an_ancestor_so_many_steps_before(store, line):
    assert store.ancestor(line[20], 0) == (0, line[20])
    assert store.ancestor(line[20], 13) == (13, line[7])
    assert store.ancestor(line[20], 21) == (20, line[0])


def test_first_parents_until_one_of_them(store, line):
    assert store.first_parents(line[9], until=line[6]) == [line[9], line[8], line[7], line[6]]
    assert store.first_parents(line[9], until=line[9]) == [line[9]]
    assert store.first_parents(line[2], until=line[6]) == [line[2], line[1], line[0]]


def test_no_such_commit(store, line):
    for ask in (store.runs, lambda commit: store.meetings([line[2], commit])):
        for id in ("0" * 40, "\udcff"):
            with pytest.raises(UnknownRef, match="there is no commit"):
                ask(id)


def test_a_history_that_was_cut_short(store, line):
    store._db.run("DELETE FROM parents WHERE commit_id = ?", line[4])
    with pytest.raises(IntegrityError, match="does not end at the root commit"):
        store.runs(line[9])
    with pytest.raises(IntegrityError, match="does not end at the root commit"):
        store.meetings([line[9], line[2]])

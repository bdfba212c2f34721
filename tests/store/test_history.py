import random
from itertools import islice

import pytest

from dsbranch.errors import IntegrityError, UnknownRef
from dsbranch.store import writes
from tests.store.facts import advance, commit_of, sealed_layer


def grow(store, *parents, time_ns=5):
    """A commit of its own new layer."""
    layer = sealed_layer()
    commit = commit_of(layer.id, *parents, time_ns=time_ns)
    writes.insert_layer(store._db, layer)
    writes.insert_commit(store._db, commit)
    return commit


@pytest.fixture
def origin(store):
    return store.branch("main").head


@pytest.fixture
def line(store, origin):
    """origin, a, b, c; each on the one before."""
    ids = [origin]
    for _ in range(3):
        ids.append(grow(store, ids[-1]).id)
    return ids


def test_commits_round_trip(store, line):
    layer = sealed_layer()
    made = commit_of(layer.id, line[3], line[1], message="zwei\n\nEltern ü")
    writes.insert_layer(store._db, layer)
    writes.insert_commit(store._db, made)
    assert store.commit(made.id) == made
    assert store.parents(made.id) == (line[3], line[1])


def test_a_stack_is_the_layers_of_the_first_parents(store, line):
    side = grow(store, line[1])
    merged = grow(store, line[3], side.id)
    layers = [store.commit(id).layer for id in (merged.id, *reversed(line[1:]))]
    assert store.stack(merged.id) == layers
    assert store.first_parents(merged.id) == [merged.id, *reversed(line)]
    assert store.stack(line[0]) == []
    assert store.first_parents(line[0]) == [line[0]]


def test_ancestors_are_all_of_them_once(store, line):
    side = grow(store, line[1])
    merged = grow(store, line[3], side.id)
    found = [c.id for c in store.ancestors(merged.id)]
    assert found == [merged.id, side.id, *reversed(line)]


def test_a_clock_that_went_back_does_not_turn_history_around(store, origin):
    late = grow(store, origin, time_ns=4_000_000_000 * 10**9)
    early = grow(store, late.id, time_ns=1)
    assert [c.id for c in store.ancestors(early.id)] == [early.id, late.id, origin]


def test_the_first_of_ten_thousand_cost_only_themselves(store, origin, monkeypatch):
    with store.transaction():
        head = origin
        for _ in range(10_000):
            head = grow(store, head).id
    asked = []
    rows = store._db.rows
    monkeypatch.setattr(store._db, "rows", lambda *a: asked.append(a) or rows(*a))
    assert len(list(islice(store.ancestors(head), 5))) == 5
    assert len(asked) < 15
    assert len(store.stack(head)) == 10_000


def test_merge_base_of_a_fork(store, line):
    left, right = grow(store, line[2]), grow(store, line[2])
    assert store.merge_base(left.id, right.id) == line[2]
    assert store.merge_base(left.id, line[0]) == line[0]
    assert store.merge_base(left.id, left.id) == left.id
    assert store.is_ancestor(line[2], left.id)
    assert store.is_ancestor(left.id, left.id)
    assert not store.is_ancestor(left.id, right.id)
    assert not store.is_ancestor(left.id, line[2])


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs_against_the_obvious_way(store, origin, seed):
    dice = random.Random(seed)
    parents = {origin: ()}
    with store.transaction():
        for _ in range(30):
            some = dice.sample(list(parents), min(len(parents), dice.choice([1, 1, 1, 2, 3])))
            made = grow(store, *some, time_ns=dice.randrange(100))
            parents[made.id] = tuple(some)
    above = {}
    for id, those in parents.items():  # inserted parents first
        above[id] = {id}.union(*(above[p] for p in those))
    for _ in range(40):
        a, b = dice.choices(list(parents), k=2)
        order = [c.id for c in store.ancestors(a)]
        assert sorted(order) == sorted(above[a])
        assert all(order.index(id) < order.index(p) for id in order for p in parents[id])
        common = above[a] & above[b]
        base = store.merge_base(a, b)
        assert base in common
        assert not any(base in above[c] for c in common - {base})
        assert store.is_ancestor(a, b) == (a in above[b])


def test_prefixes(store, line):
    for id in line:
        assert [c.id for c in store.commits_with_prefix(id[:12], 2)] == [id]
        assert [c.id for c in store.commits_with_prefix(id, 2)] == [id]
    everything = [c.id for d in "0123456789abcdef" for c in store.commits_with_prefix(d, 99)]
    assert everything == sorted(line)
    with store.transaction():
        for _ in range(40):
            grow(store, line[0])
    busiest = max("0123456789abcdef", key=lambda d: len(store.commits_with_prefix(d, 99)))
    assert len(store.commits_with_prefix(busiest, 2)) == 2


@pytest.mark.parametrize("prefix", ["", "g", "main", "0 OR 1", "%", "\udcff", "A" * 8])
def test_what_is_no_prefix_finds_nothing(store, line, prefix):
    assert store.commits_with_prefix(prefix, 5) == []


@pytest.mark.parametrize("id", ["f" * 40, "", "\udcff"])
def test_unknown_commits(store, origin, id):
    for ask in (store.commit, store.stack, store.first_parents, store.parents):
        with pytest.raises(UnknownRef):
            ask(id)
    with pytest.raises(UnknownRef):
        next(store.ancestors(id))
    with pytest.raises(UnknownRef):
        store.merge_base(origin, id)


def test_a_history_cut_short_is_not_taken_for_whole(store, line):
    store._db.run("DELETE FROM parents WHERE commit_id = ?", line[2])
    with pytest.raises(IntegrityError, match="root commit"):
        store.stack(line[3])


def test_a_commit_joins_the_history_of_its_branch(store):
    before = store.branch("main")
    commit = advance(store, before)
    assert store.first_parents(commit.id) == [commit.id, before.head]
    assert store.stack(commit.id) == [before.layer]

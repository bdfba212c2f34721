"""``tag``: names for commits."""

from __future__ import annotations

import pytest

from dsbranch import errors
from tests import edits as e
from tests.trees import assert_same

from .conftest import one_sentence

pytestmark = pytest.mark.root


def test_a_tag_stays_where_it_is(bench):
    first = bench.commit(e.append("f", b"1"))
    view = bench.see()
    done = bench.ws.tag("v1", "main")
    assert (done.tag.name, done.tag.commit, done.replaced, done.dirty_source) == (
        "v1",
        first,
        None,
        None,
    )
    bench.commit(e.append("f", b"2"))
    assert bench.ws.tags() == [done.tag]
    assert_same(bench.view("v1"), view)
    assert bench.lines("v1", "main") == ["M f"]
    assert [c.id for c in bench.ws.log("v1~1")] == [bench.ws.log("main")[-1].id]
    bench.ws.create("exp1", start="v1")
    assert bench.head("exp1") == first


def test_it_is_an_operation(bench):
    bench.ws.tag("v1", "main")
    bench.commit(e.append("f", b"1"))
    bench.ws.tag("v1", "main", force=True)
    bench.ws.untag("v1")
    gone, moved, _, made = bench.ws._context.store.operations(4)
    assert [op.verb for op in (made, moved, gone)] == ["tag", "tag", "tag"]
    assert (made.moves[0].before, gone.moves[0].after) == (None, None)
    assert made.moves[0].after == moved.moves[0].before
    assert moved.moves[0].after == gone.moves[0].before
    assert bench.ws.tags() == []


def test_a_tag_is_moved_only_when_asked(bench):
    before = bench.ws.tag("v1", "main").tag
    bench.commit(e.append("f", b"1"))
    refused(bench, errors.AlreadyExists, "a tag v1 exists", lambda ws: ws.tag("v1", "main"))
    done = bench.ws.tag("v1", "main", force=True)
    assert (done.replaced, done.tag.commit) == (before.commit, bench.head())


def test_uncommitted_changes_are_not_in_it(bench):
    bench.edit(e.append("f", b"1"))
    assert bench.ws.tag("v1", "main").dirty_source == "main"
    assert bench.ws.tag("v2", "main~0").dirty_source is None


@pytest.mark.parametrize("force", [False, True])
def test_a_branch_and_a_tag_of_one_name(bench, force):
    bench.ws.tag("v1", "main")
    refused(
        bench,
        errors.AlreadyExists,
        "a branch main exists",
        lambda ws: ws.tag("main", "v1", force=force),
    )
    refused(bench, errors.AlreadyExists, "a tag v1 exists", lambda ws: ws.create("v1"))
    refused(bench, errors.AlreadyExists, "a tag v1 exists", lambda ws: ws.rename("main", "v1"))


@pytest.mark.parametrize("name", ["", "a/b", "-x", "main~1", "a b"])
def test_a_name_that_cannot_be(bench, name):
    refused(bench, errors.BadName, "tag name", lambda ws: ws.tag(name, "main"))


def test_what_is_not_there(bench):
    refused(bench, errors.UnknownRef, "nope", lambda ws: ws.tag("v1", "nope"))
    refused(bench, errors.UnknownRef, "no tag v1", lambda ws: ws.untag("v1"))
    refused(bench, errors.UnknownRef, "no tag main", lambda ws: ws.untag("main"))


def test_a_tag_keeps_a_deleted_branch_reachable(bench):
    bench.ws.create("exp1")
    head = bench.commit(e.append("f", b"1"), branch="exp1")
    bench.ws.tag("v1", "exp1")
    bench.ws.delete("exp1")
    bench.ws.rollback("main", "v1")
    assert bench.head() == head


def refused(bench, kind, words, action):
    before = bench.traces()
    with pytest.raises(kind, match=words) as caught:
        action(bench.ws)
    one_sentence(caught.value)
    assert bench.traces() == before

"""``log`` and ``show``: commits, and what each changed."""

from __future__ import annotations

import time

import pytest

from dsbranch import errors
from tests import edits as e
from tests.trees import File

from .conftest import one_sentence, said

pytestmark = pytest.mark.root


def test_newest_first_with_all_that_is_known(bench):
    root = bench.head()
    begin = time.time_ns()
    bench.edit(e.append("f", b"1"))
    bench.ws.commit("main", "first\n\nwith a body", author="Ada <ada@example.org>")
    bench.edit(e.append("f", b"2"))
    second = bench.ws.commit("main", "second").commit
    top, first, last = bench.ws.log("main")
    assert top == second
    assert (first.message, first.author) == ("first\n\nwith a body", "Ada <ada@example.org>")
    assert begin <= first.time_ns <= second.time_ns <= time.time_ns()
    assert (top.parents, first.parents, last.parents) == ((first.id,), (root,), ())
    assert "@" in top.author
    assert last.id == root


def test_limit_and_start(bench):
    for number in range(4):
        bench.commit(e.append("f", b"%d" % number), message=f"n{number}")
    assert [c.message for c in bench.ws.log("main", limit=2)] == ["n3", "n2"]
    assert [c.message for c in bench.ws.log("main~2", limit=1)] == ["n1"]
    assert bench.ws.log("main", limit=0) == []


def test_a_fork_has_the_history_of_both(bench):
    bench.commit(e.append("f", b"1"), message="shared")
    bench.ws.create("exp1")
    bench.commit(e.append("f", b"2"), message="main only")
    bench.commit(e.append("f", b"3"), branch="exp1", message="exp1 only")
    assert [c.message for c in bench.ws.log("exp1")][:2] == ["exp1 only", "shared"]
    assert [c.message for c in bench.ws.log("main")][:2] == ["main only", "shared"]


def test_unknown(bench):
    with pytest.raises(errors.UnknownRef) as caught:
        bench.ws.log("mian")
    one_sentence(caught.value)


def test_show(bench):
    first = bench.commit(e.append("f", b"1"), e.add("new", File()), message="first")
    bench.commit(e.unlink("new"))
    commit, diff = bench.ws.show(first[:9])
    assert (commit.id, commit.message) == (first, "first")
    assert said(diff) == ["M f", "A new"]
    assert (diff.from_, diff.to) == (commit.parents[0], first)


def test_show_of_the_root(bench):
    commit, diff = bench.ws.show("main")
    assert commit.parents == ()
    assert list(diff) == []


def test_show_says_nothing_of_what_is_uncommitted(bench):
    bench.commit(e.append("f", b"1"))
    bench.edit(e.append("g", b"2"))
    assert said(bench.ws.show("main")[1]) == ["M f"]

"""From what a user writes to a commit."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

import pytest

from dsbranch import errors
from dsbranch.ops.refs import resolve, split_range
from tests import edits as e

from .conftest import one_sentence

pytestmark = pytest.mark.root


@pytest.fixture
def history(bench):
    """main has two commits on the root, exp1 one on the first; ids oldest first."""
    root = bench.head()
    first = bench.commit(e.append("f", b"1"))
    second = bench.commit(e.append("f", b"2"))
    bench.ws.create("exp1", start=first, mount=False)
    bench.ids = (root, first, second)
    return bench


def test_what_names_a_commit(history):
    root, first, second = history.ids
    for ref, expected in {
        "main": second,
        "exp1": first,
        "main~": first,
        "main~0": second,
        "main~1": first,
        "main~2": root,
        "main~1~1": root,
        "main~~": root,
        "exp1~1": root,
        "main@{0}": second,
        "main@{1}": first,
        "main@{2}": root,
        "main@{1}~1": root,
        first: first,
        first[:12]: first,
        first[:12].upper(): first,
        f"{second[:10]}~2": root,
    }.items():
        assert resolve(history.ws._context, ref) == expected, ref


def test_former_positions_follow_every_move(history):
    root, first, second = history.ids
    history.ws.rollback("main", root)
    context = history.ws._context
    assert [resolve(context, f"main@{{{n}}}") for n in range(4)] == [root, second, first, root]
    # One that moves no head is no position.
    history.edit(e.append("g", b"lost"))
    history.ws.rollback("main")
    assert resolve(context, "main@{1}") == second


@pytest.mark.parametrize(
    "ref",
    [
        "main~3",
        "main@{3}",
        "none@{0}",
        "none~1",
        "",
        "~",
        "~1",
        "@{1}",
        "0000",
        "zzzz",
        "ma",
        "main~x",
        "main@{x}",
        "main~99999999999999999999",
        "main@{99999999999999999999}",
        "new\nline",
        "%",
        "main ",
        "\udcff",
        "nul\0",
    ],
)
def test_unknown(history, ref):
    with pytest.raises(errors.UnknownRef) as caught:
        resolve(history.ws._context, ref)
    one_sentence(caught.value)
    assert caught.value.exit_code == 2


def test_suggestions(history):
    with pytest.raises(errors.UnknownRef) as caught:
        resolve(history.ws._context, "exp2")
    assert "exp1" in caught.value.suggestions
    assert "exp1" in caught.value.hint


def test_a_digit_too_few_is_no_prefix(history):
    with pytest.raises(errors.UnknownRef):
        resolve(history.ws._context, history.ids[1][:3])


def test_ambiguous(history):
    with closing(sqlite3.connect(history.place / ".dsbranch" / "store.db")) as db, db:
        for last in "01":
            db.execute(
                "INSERT INTO commits (id, layer, message, author, time_ns)"
                " VALUES (?, NULL, 'x', 'x', ?)",
                ("beefbeef" + "0" * 31 + last, time.time_ns()),
            )
    with pytest.raises(errors.AmbiguousRef) as caught:
        resolve(history.ws._context, "beef")
    assert "2 commits" in one_sentence(caught.value)
    assert len(caught.value.candidates) == 2
    assert caught.value.exit_code == 2
    assert resolve(history.ws._context, "beefbeef" + "0" * 32)


def test_a_name_outranks_a_prefix(history):
    name = history.ids[1][:6]
    history.ws.create(name, start="main", mount=False)
    assert resolve(history.ws._context, name) == history.ids[2]


def test_ranges():
    assert split_range("a..b") == ("a", "b", False)
    assert split_range("a...b") == ("a", "b", True)
    assert split_range("main~1..main@{2}") == ("main~1", "main@{2}", False)
    assert split_range("main") is None
    for half in ("a..", "..b", "..", "...", "a...", "...b"):
        with pytest.raises(errors.UsageError, match="half a range") as caught:
            split_range(half)
        one_sentence(caught.value)


@pytest.mark.parametrize(
    "ref",
    [
        "main" + "~" * 3000,
        "main" + "~1" * 3000,
        "main~" + "9" * 5000,
        "main@{" + "9" * 5000 + "}",
        "main~\u0661",  # a digit of another script
        "main@{\uff11}",
    ],
    ids=["tildes", "steps", "ancestor", "position", "arabic", "fullwidth"],
)
def test_absurd_ones_are_unknown_too(history, ref):
    with pytest.raises(errors.UnknownRef) as caught:
        resolve(history.ws._context, ref)
    one_sentence(caught.value)

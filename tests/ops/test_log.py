"""``log`` and ``show``: commits, and what each changed."""

from __future__ import annotations

import time

import pytest

import dsbranch
from dsbranch import errors
from dsbranch.ops import stacks
from dsbranch.store.database import Store
from tests import edits as e
from tests.steps import START, perform_all, random_layers
from tests.trees import Dir, File

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


def touched(bench, *paths, ref="main"):
    return [c.message for c in bench.ws.log(ref, paths=[path.encode() for path in paths])][::-1]


def test_paths(bench):
    bench.commit(e.append("f", b"1"), message="f")
    bench.commit(e.append("d/x", b"1"), e.open_and_close("g"), message="d/x")
    bench.commit(e.chmod("d", 0o700), message="chmod d")
    bench.commit(e.unlink("g"), e.open_and_close("d/x"), message="no g")
    bench.commit(e.add("g", Dir({"x": File()})), message="g again")
    assert touched(bench, "f") == ["f"]
    assert touched(bench, "g") == ["no g", "g again"]
    assert touched(bench, "g/x") == ["g again"]
    assert touched(bench, "d/x") == ["d/x"]
    assert touched(bench, "d") == ["d/x", "chmod d"]
    assert touched(bench, "d/") == ["d/x", "chmod d"]
    assert touched(bench, "f", "g/x") == ["f", "g again"]
    assert touched(bench, "nothing", "d-") == []
    assert len(touched(bench, "")) == 6
    assert [c.message for c in bench.ws.log("main", limit=1, paths=[b"d"])] == ["chmod d"]
    assert touched(bench, "d", ref="main~3") == ["d/x"]


def test_paths_below_what_was_renamed_deleted_or_replaced(bench):
    bench.commit(e.add("t", Dir({"s": Dir({"a": File(b"a")})})), message="t")
    bench.commit(e.rename("t", "u"), message="t to u")
    bench.commit(e.rename("u/s/a", "u/s/b"), message="a to b")
    bench.commit(e.rmtree("u"), message="no u")
    bench.commit(e.add("u", File()), message="u a file")
    bench.commit(e.recreate("u", Dir({"s": Dir()})), message="u a directory")
    assert touched(bench, "t/s/a") == ["t", "t to u"]
    assert touched(bench, "t/s/b") == []
    assert touched(bench, "u/s/a") == ["t to u", "a to b"]
    assert touched(bench, "u/s/b") == ["a to b", "no u"]
    assert touched(bench, "u/s") == ["t to u", "a to b", "no u", "u a directory"]
    assert touched(bench, "u") == [
        "t to u",
        "a to b",
        "no u",
        "u a file",
        "u a directory",
    ]


def test_paths_of_a_squashed_history(bench):
    bench.commit(e.append("f", b"1"), message="one")
    bench.commit(e.append("d/x", b"1"), message="two")
    bench.ws.squash("main", message="both")
    assert touched(bench, "f") == ["both"]
    assert touched(bench, "e") == []


def written(bench, commit, path):
    """Whether a commit's layer holds a file there or below, perhaps one that is as it was."""
    table = stacks.sealed(bench.ws._context, commit.layer)
    rows = [table.entry(row) for row in range(len(table))]
    files = [e.path for e in rows if e.kind not in ("directory", "whiteout")]
    return any((file + b"/").startswith(path + b"/") for file in files)


@pytest.mark.parametrize("seed", range(4))
def test_what_paths_touched_is_what_diff_says(adopt, seed):
    bench = adopt(START)
    for number, steps in enumerate(random_layers(seed, 5, 5)):
        perform_all(bench.path(), steps)
        bench.ws.commit("main", str(number), allow_empty=True)
    commits = bench.ws.log("main")[:-1]
    changed = {
        commit.id: {c.path for c in bench.ws.diff(commit.parents[0], commit.id, renames=False)}
        for commit in commits
    }
    for path in sorted(set().union(*changed.values()) - {b""}):
        found = {commit.id for commit in bench.ws.log("main", paths=[path])}
        for commit in commits:
            below = {p for p in changed[commit.id] if (p + b"/").startswith(path + b"/")}
            if bool(below) != (commit.id in found):
                assert not below, path
                assert written(bench, commit, path), path


def test_no_file_is_read(bench, monkeypatch):
    bench.edit(e.append("f", b"1"), e.chmod("d", 0o700))
    bench.ws.commit("main", "x", hash=False)

    def fail(*arguments, **keywords):
        raise AssertionError("read")

    monkeypatch.setattr("dsbranch._core.content.digest_files", fail)
    bench.reopen()
    (bench.upper().parent.parent / bench.ws.log("main")[0].layer / "fs" / "f").unlink()
    assert touched(bench, "f") == ["x"]
    assert touched(bench, "d") == ["x"]
    assert touched(bench, "d/x") == []


def merge(bench, other, message):
    """A merge commit that takes nothing over, as long as it is only its parents that count."""
    store = bench.ws._context.store
    bench.commit(e.append("merged", message.encode()), message=message)
    with store.transaction():
        store._db.run("INSERT INTO parents VALUES (?, 1, ?)", bench.head(), bench.head(other))
    return bench.head()


def test_simplified_parents(bench):
    root = bench.head()
    bench.ws.create("exp1")
    first = bench.commit(e.append("f", b"1"), message="f")
    bench.commit(e.append("g", b"1"), message="g")
    theirs = bench.commit(e.append("f", b"2"), branch="exp1", message="theirs")
    bench.commit(e.append("g", b"2"), branch="exp1")
    merged = merge(bench, "exp1", "merge")
    top = bench.commit(e.append("f", b"3"), message="top")
    assert bench.ws.log("main")[1].parents == (bench.ws.log("main~2")[0].id, bench.head("exp1"))
    plain = bench.ws.log("main", paths=[b"f"])
    assert [c.id for c in plain] == [top, theirs, first]
    assert plain[0].parents == (merged,)
    shown = bench.ws.log("main", paths=[b"f"], simplify=True)
    assert [(c.id, c.parents) for c in shown] == [
        (top, (first, theirs)),
        (theirs, (root,) if root in {c.id for c in shown} else ()),
        (first, ()),
    ]
    assert [c.message for c in bench.ws.log("main", paths=[b"merged"])] == ["merge"]
    assert said(bench.ws.show("main~1", paths=[b"f"])[1]) == []
    assert said(bench.ws.show("main", paths=[b"f"])[1]) == ["M f"]


def test_commits_that_gc_removes_meanwhile(bench, monkeypatch):
    root = bench.head()
    bench.commit(e.append("f", b"1"), message="first")
    bench.commit(e.append("f", b"2"), message="second")
    real = Store.ancestors

    def slow(self, id):
        for number, commit in enumerate(real(self, id)):
            yield commit
            if not number:
                with dsbranch.open(bench.place) as other:
                    other.rollback("main", root)
                    other.gc(keep=0.0)

    monkeypatch.setattr(Store, "ancestors", slow)
    assert [commit.message for commit in bench.ws.log("main")][:2] == ["second", "first"]
    monkeypatch.undo()
    assert len(bench.ws.log("main")) == 1

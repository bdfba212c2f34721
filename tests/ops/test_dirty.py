"""Whether there is anything uncommitted: a branch that nobody wrote to is not compared."""

from __future__ import annotations

import os

import pytest

from dsbranch import errors
from dsbranch.ops import diff, dirty
from tests import edits as e
from tests.trees import File

pytestmark = pytest.mark.root


@pytest.fixture
def compared(monkeypatch):
    """The branches that were compared with their commits."""
    found = []
    real = diff.uncommitted

    def noted(context, branch, *rest, **named):
        found.append(branch.name)
        return real(context, branch, *rest, **named)

    monkeypatch.setattr(diff, "uncommitted", noted)
    return found


def counts(bench, name="main", **named):
    context = bench.ws._context
    return dirty.uncommitted_counts(context, context.store.branch(name), **named)


@pytest.mark.parametrize("directory_times", [False, True])
def test_a_branch_as_it_was_made_is_not_compared(bench, compared, directory_times):
    assert counts(bench, directory_times=directory_times) == {}
    assert compared == []
    bench.commit(e.rename("d", "moved"), e.chmod(".", 0o711), e.setxattr(".", "user.note", b"n"))
    del compared[:]
    bench.ws.create("exp1", start="main")
    bench.ws.create("exp2", start="main~1")
    for name in ("main", "exp1", "exp2"):
        assert counts(bench, name, directory_times=directory_times) == {}
        # Looking at it changes nothing.
        bench.see(name)
        assert counts(bench, name, directory_times=directory_times) == {}
    assert compared == []


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (e.append("f", b"more"), {"M": 1}),
        (e.chmod(".", 0o711), {"m": 1}),
        (e.chown(".", 12, 34), {"m": 1}),
        (e.setxattr(".", "user.note", b"n"), {"m": 1}),
        (e.setfacl(".", 42, 5), {"m": 1}),
    ],
)
def test_whatever_changed_is_counted(bench, compared, edit, expected):
    bench.edit(edit)
    assert counts(bench) == bench.ws.diff(branch="main").counts() == expected
    bench.ws.umount("main")
    assert counts(bench) == expected
    assert compared == ["main"] * 3


@pytest.mark.parametrize(
    ("edit", "times"),
    [
        (e.open_and_close("f"), 1),
        (e.sequence(e.mkdir("t"), e.rename("t", "u"), e.remove("u")), 0),
        (e.sequence(e.chmod(".", 0o711), e.chmod(".", 0o755)), 0),
        (e.utime(".", 12), 0),
    ],
)
def test_what_is_as_it_was_is_none(bench, compared, edit, times):
    os.chmod(bench.data, 0o755)
    bench.ws.rollback("main")
    del compared[:]
    bench.edit(edit)
    assert counts(bench) == bench.ws.diff(branch="main").counts() == {}
    assert len(compared) == times + 1


@pytest.mark.parametrize("directory_times", [False, True])
def test_a_branch_that_moved_is_not_compared(bench, compared, directory_times):
    first = bench.commit(e.append("f", b"1"), e.chmod(".", 0o711))
    for number in range(4):
        bench.commit(e.add(f"n{number}", File()))
    bench.ws.squash("main", since=first)
    bench.ws.create("exp1")
    bench.ws.rollback("exp1", first)
    del compared[:]
    assert counts(bench, directory_times=directory_times) == {}
    assert counts(bench, "exp1", directory_times=directory_times) == {}
    bench.ws.delete("exp1", force=False)
    assert compared == []


@pytest.mark.parametrize("name", ["user.overlay.impure", "user.fuseoverlayfs.origin"])
def test_an_xattr_of_the_other_dialect_is_the_users(bench, name):
    bench.edit(e.setxattr(".", name, b"y"))
    assert counts(bench) == {"m": 1}
    bench.ws.commit("main", "marked")
    assert counts(bench) == bench.ws.diff(branch="main").counts() == {}
    assert os.getxattr(bench.path(), name) == b"y"


def test_what_is_gone_below_is_told_by_the_comparison(bench):
    first = bench.commit(e.append("f", b"1"))
    bench.commit(e.append("f", b"2"))
    bench.ws.umount("main")
    assert counts(bench) == {}
    bench.reopen()
    layer = bench.ws._context.store.commit(first).layer
    for path in (bench.fs(layer), bench.manifest(layer)):
        path.rename(bench.root / "away")
        with pytest.raises(errors.DsbranchError):
            bench.ws.status("main")
        with pytest.raises(errors.DsbranchError):
            bench.ws.create("exp1")
        (bench.root / "away").rename(path)
        assert counts(bench) == {}


def test_a_layer_that_cannot_be_read_is_told_by_the_comparison(bench):
    bench.ws.umount("main")
    upper = bench.upper()
    upper.rename(upper.with_name("away"))
    with pytest.raises(errors.StorageError, match="cannot read"):
        bench.ws.status("main")
    upper.with_name("away").rename(upper)
    assert counts(bench) == {}


def test_number_in_words():
    assert dirty.changes_in_words({"M": 1}) == "one uncommitted change"
    assert dirty.changes_in_words({"M": 1, "D": 2}) == "3 uncommitted changes"


def test_a_time_alone_counts_where_times_do(bench):
    bench.edit(e.utime(".", 12))
    assert counts(bench) == {}
    assert counts(bench, directory_times=True) == {"m": 1}


def test_below_a_fresh_layer_there_may_be_changes_of_an_undone_commit(bench):
    bench.commit(e.append("f", b"more"))
    bench.ws.undo()
    assert os.listdir(bench.upper()) == []
    assert counts(bench) == {"M": 1}
    assert dirty.is_dirty(bench.ws._context, "main")


def test_a_dataset_whose_root_changed_is_compared(bench, compared):
    bench.data.chmod(0o700)
    assert counts(bench) == {"m": 1}
    assert compared == ["main"]

"""``status``: where a branch stands, and its uncommitted changes by letter."""

from __future__ import annotations

import pytest

from dsbranch import errors
from tests import edits as e
from tests.trees import File, Symlink

from .conftest import one_sentence

pytestmark = pytest.mark.root


def test_clean(bench):
    status = bench.ws.status("main")
    assert (status.branch, status.head) == ("main", bench.head())
    assert (status.mounted, status.mountpoint) == (True, bench.path())
    assert (status.clean, status.counts) == (True, {})


def test_every_letter(bench):
    bench.edit(
        e.add("new", File(b"n")),
        e.append("f", b"more"),
        e.chmod("g", 0o640),
        e.unlink("dangling"),
        e.rename("d", "moved"),
        e.recreate("empty", Symlink("f")),
    )
    status = bench.ws.status("main")
    assert not status.clean
    assert status.counts == {"A": 1, "M": 1, "m": 1, "D": 1, "R": 1, "T": 1}


def test_touched_but_equal_is_clean(bench):
    bench.edit(
        e.open_and_close("f"),
        e.sequence(e.chmod("g", 0o777), e.chmod("g", 0o600)),
        e.sequence(e.rename("d/x", "d/t"), e.rename("d/t", "d/x")),
        e.sequence(e.add("t", File()), e.unlink("t")),
    )
    assert bench.ws.status("main").clean


def test_unmounted_and_elsewhere(bench):
    bench.edit(e.append("f", b"more"))
    bench.ws.umount("main")
    status = bench.ws.status("main")
    assert (status.mounted, status.mountpoint, status.counts) == (False, None, {"M": 1})
    bench.ws.mount("main", at=bench.root / "other")
    assert bench.ws.status("main").mountpoint == bench.root / "other"


def test_while_a_writer_writes(bench):
    with (bench.path() / "f").open("ab") as file:
        file.write(b"more")
        file.flush()
        assert bench.ws.status("main").counts == {"M": 1}


def test_no_such_branch(bench):
    with pytest.raises(errors.UnknownRef) as caught:
        bench.ws.status("mein")
    one_sentence(caught.value)
    assert caught.value.suggestions == ("main",)


def test_through_a_handle(bench):
    branch = bench.ws.branch("main")
    bench.edit(e.append("f", b"more"))
    assert branch.status() == bench.ws.status("main")
    assert [change.path for change in branch.diff()] == [b"f"]
    assert branch.commit("done").counts == {"M": 1}
    bench.edit(e.append("f", b"lost"))
    assert branch.rollback().counts == {"M": 1}
    assert branch.head == bench.head()
    with pytest.raises(errors.UnknownRef):
        bench.ws.branch("none")

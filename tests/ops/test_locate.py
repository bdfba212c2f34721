"""Which branch a directory belongs to."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests import edits as e

pytestmark = pytest.mark.root


def test_inside_a_mount(bench, monkeypatch):
    bench.ws.create("exp1")
    assert bench.ws.current_branch(bench.path("exp1")) == "exp1"
    assert bench.ws.current_branch(bench.path("exp1") / "d" / "sub") == "exp1"
    assert bench.ws.current_branch(bench.place) is None
    assert bench.ws.current_branch(bench.place / ".dsbranch") is None
    assert bench.ws.current_branch(bench.data) is None
    assert bench.ws.current_branch("/") is None
    monkeypatch.chdir(bench.path() / "d")
    assert bench.ws.current_branch() == "main"


def test_elsewhere_and_through_bind_mounts(bench):
    bench.ws.umount("main")
    bench.ws.mount("main", at=bench.root / "other")
    assert bench.ws.current_branch(bench.root / "other" / "d") == "main"
    part = bench.root / "part"
    part.mkdir()
    subprocess.run(["mount", "--bind", bench.root / "other" / "d", part], check=True)
    assert bench.ws.current_branch(part / "sub") == "main"
    assert bench.ws.current_branch(bench.path()) == "main"  # its directory, though empty


def test_a_read_only_view_is_no_branch(bench):
    bench.ws.mount("main", at=bench.root / "view", read_only=True)
    assert bench.ws.current_branch(bench.root / "view" / "d") is None


def test_standing_in_what_a_commit_replaced(bench, monkeypatch):
    monkeypatch.chdir(bench.path() / "d")
    bench.commit(e.append("f", b"more"))
    # The kernel has no path for it any more; the name that led there still does.
    assert bench.ws.current_branch(bench.path() / "d") == "main"


def test_another_workspace(adopt):
    one, two = adopt(), adopt()
    assert one.ws.current_branch(two.path()) is None


def test_behind_a_symlink(bench):
    os.symlink(bench.path() / "d", bench.root / "link")
    assert bench.ws.current_branch(bench.root / "link" / "sub") == "main"

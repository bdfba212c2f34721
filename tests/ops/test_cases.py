"""Every case that breaks tools, through the verbs: diff, commit, squash, rollback, export."""

from __future__ import annotations

import pytest

from dsbranch import errors
from tests import leaks
from tests.cases import CASES, Case, Raw
from tests.trees import assert_same, snapshot

from .conftest import Bench, command, said

pytestmark = pytest.mark.root


def built(bench: Bench, case: Case) -> None:
    """The case's layers as commits, the last one uncommitted."""
    for number, layer in enumerate(case.layers):
        if isinstance(layer, Raw):
            bench.ws.umount("main")
            for edit in layer.edits("trusted"):
                edit(bench.upper())
            bench.ws.mount("main")
            continue
        if number:
            bench.ws.commit("main", f"layer {number}", allow_empty=True)
        bench.edit(*layer)


def fresh(bench: Bench) -> dict:
    """What a process sees that comes to the mount fresh."""
    bench.ws.umount("main")
    bench.ws.mount("main")
    return bench.see()


# Layers that the kernel itself cannot read (ESTALE) are no branch's, and a tar of GNU's makes no
# path longer than PATH_MAX.
UNREADABLE = "18-"
NO_TAR = ("16-rename-too-long", "22-path-longer")

WORKABLE = [case for case in CASES if not case.id.startswith(UNREADABLE)]


@pytest.mark.parametrize("case", WORKABLE, ids=lambda case: case.id)
def test_a_case(case, adopt):
    bench = adopt(case.base)
    ws = bench.ws
    root = bench.head()
    built(bench, case)
    view = fresh(bench)
    assert said(ws.diff("main")) == list(case.expected)

    ws.commit("main", "last", allow_empty=True)
    assert_same(bench.see(), view)
    assert said(ws.diff(root, "main")) == list(case.expected)
    assert said(ws.diff("main")) == list(case.expected)
    assert ws.status("main").clean

    try:
        ws.squash("main", since=root)
    except errors.NothingToCommit:
        ws.commit("main", "empty", allow_empty=True)
        ws.squash("main", since=root)
    assert_same(bench.see(), view)
    assert_same(fresh(bench), view)
    assert said(ws.diff(root, "main")) == list(case.expected)
    assert len(ws.log("main")) == 2

    if not case.id.startswith(NO_TAR):
        exported(bench, view)

    ws.rollback("main", root)
    assert_same(bench.see(), snapshot(bench.data))
    assert leaks.mounts(bench.root) == [str(bench.path())]


def exported(bench: Bench, view: dict) -> None:
    tar, out = bench.root / "all.tar", bench.root / "unpacked"
    try:
        bench.ws.export("main", tar)
    except errors.UnsupportedError:
        odd = any(part.startswith(b".wh.") for path in view for part in path.split(b"/"))
        assert odd or any(node.kind == "socket" for node in view.values())
        return
    out.mkdir()
    command(["tar", "--xattrs", "--xattrs-include=*", "-C", out, "-xpf", tar])
    assert_same(snapshot(out), view)

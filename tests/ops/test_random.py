"""Random histories through the verbs, the kernel's own view as the judge."""

from __future__ import annotations

import os
import random

import pytest

from dsbranch import errors
from tests.archives import unsayable
from tests.steps import START, perform_all, random_layers
from tests.trees import Snapshot, assert_same, snapshot

from .conftest import command

pytestmark = pytest.mark.root

HISTORIES = int(os.environ.get("DSBRANCH_TEST_HISTORIES", "12"))


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_a_history(adopt, seed):
    bench = adopt(START)
    ws = bench.ws
    states = {ws.branch("main").head: snapshot(bench.data)}
    log = []
    for steps in random_layers(seed, 5, 8):
        log += perform_all(bench.path(), steps)
        if seed % 2:
            ws.umount("main")
            ws.mount("main")
        before = bench.see()
        commit = ws.commit("main", "x", allow_empty=True).commit
        assert_same(bench.see(), before, ignore=SPLIT)
        states[commit.id] = bench.see()
    print("\n".join(log))
    perform_all(bench.path(), random_layers(seed + 1000, 1, 6)[0])
    dirty, changes = bench.see(), bench.lines()

    start = list(states)[random.Random(seed).randrange(4)]
    before = bench.lines(start, "main")
    ws.squash("main", since=start)
    assert bench.lines(start, "main") == before
    assert_same(bench.view("main"), list(states.values())[-1])
    assert bench.lines() == changes
    ws.umount("main")
    ws.mount("main")
    assert_same(bench.see(), dirty, ignore=SPLIT)
    assert bench.lines() == changes

    for commit, state in states.items():
        assert_same(bench.view(commit), state)
        exported(bench, commit, state)
    ws.rollback("main", start)
    assert_same(bench.see(), states[start])


# A hard link of the base that was copied up for nothing is whole again once that is dropped.
SPLIT = ("links",)


def exported(bench, commit: str, state: Snapshot) -> None:
    tar, out = bench.root / "all.tar", bench.root / commit
    try:
        bench.ws.export(commit, tar)
    except errors.UnsupportedError:
        assert unsayable(state, as_tar=True)
        return
    out.mkdir()
    command(["tar", "--xattrs", "--xattrs-include=*", "-C", out, "-xpf", tar])
    assert_same(snapshot(out), state)

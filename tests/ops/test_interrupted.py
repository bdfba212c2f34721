"""Ctrl-C in the middle of what makes many files: nobody waits until they are gone again."""

from __future__ import annotations

import os

import pytest

from dsbranch.ops import build, export
from dsbranch.store import removal
from tests import edits as e
from tests.trees import Dir, File

pytestmark = pytest.mark.root

MANY = Dir({f"f{number}": File(b"") for number in range(3000)})


def interrupted(*arguments, **keywords):
    raise KeyboardInterrupt


@pytest.mark.parametrize("seconds", [-1.0, 60.0])
def test_a_squash(bench, monkeypatch, seconds):
    bench.commit(e.add("many", MANY))
    bench.commit(e.append("f", b"1"))
    view, head = bench.see(), bench.head()
    monkeypatch.setattr(removal, "MOMENT_SECONDS", seconds)
    monkeypatch.setattr(build, "scan", interrupted)
    layers = bench.place / ".dsbranch" / "layers"
    before = set(os.listdir(layers))
    with pytest.raises(KeyboardInterrupt):
        bench.ws.squash("main")
    monkeypatch.undo()
    left = set(os.listdir(layers)) - before
    assert [name.endswith(".gone") for name in left] == ([True] if seconds < 0 else [])
    assert (bench.head(), bench.see()) == (head, view)
    assert not bench.ws.verify().findings
    # It needs no age to be garbage.
    bench.ws.gc(keep=86400.0)
    assert set(os.listdir(layers)) == before
    bench.ws.squash("main")
    assert bench.see() == view


def test_an_export(bench, monkeypatch):
    bench.commit(e.add("many", MANY))
    real = export.write_tree

    def write(*arguments, **keywords):
        real(*arguments, **keywords)
        raise KeyboardInterrupt

    monkeypatch.setattr(removal, "MOMENT_SECONDS", 60.0)
    monkeypatch.setattr(export, "write_tree", write)
    before = os.listdir(bench.root)
    with pytest.raises(KeyboardInterrupt):
        bench.ws.export("main", bench.root / "out")
    assert os.listdir(bench.root) == before

"""Looking up in stacks of any depth."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from dsbranch._core.base import Base
from dsbranch._core.view import View
from tests import core, trees
from tests import edits as e
from tests.core import changes
from tests.trees import Dir, File


def test_there_may_be_more_layers_than_a_mount_takes(tmp_path: Path) -> None:
    trees.make(Dir({"f": File(b"base")}), tmp_path / "base")
    trees.make(Dir({"d": Dir({"x": File(b"x")})}), tmp_path / "layer")
    base = Base(os.fsencode(tmp_path / "base"))
    layer = core.scan(tmp_path / "layer")
    old, new = View([], base), View([layer] * 1000, base)
    assert [(c.status, c.path) for c in changes(old, new)] == [("A", b"d"), ("A", b"d/x")]
    assert new.find(b"f") is not None


@pytest.mark.root
def test_a_redirect_in_every_layer_fits_a_small_stack(tmp_path: Path) -> None:
    """musl gives a thread 128 KiB, many embedders 1 MiB."""
    trees.make(Dir({"d": Dir({"x": File(b"x")})}), tmp_path / "base")
    trees.make(Dir({"d": Dir()}), tmp_path / "layer")
    e.marker("d", "redirect", b"/d")(tmp_path / "layer")
    view = View([core.scan(tmp_path / "layer")] * 200, Base(os.fsencode(tmp_path / "base")))
    found: list[object] = []
    before = threading.stack_size(1 << 20)
    try:
        thread = threading.Thread(target=lambda: found.append(view.find(b"d/x")))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert found
    assert found != [None]

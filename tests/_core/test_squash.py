"""What a plan of one layer in place of several asks for; what it makes is tested with the verbs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dsbranch._core.base import Base
from dsbranch._core.squash import plan
from tests import core, trees
from tests.trees import Dir, File, Symlink


@pytest.mark.root
def test_the_dataset_is_not_asked_for_what_a_file_hides(tmp_path: Path) -> None:
    old = {"file": File(), "link": Symlink("x"), "gone": File(), "inner": Dir({"file": File()})}
    trees.make(Dir({"d": Dir(old), "whole": Dir({"file": File()})}), tmp_path / "base")
    new = {"file": File(b"new"), "link": Symlink("y"), "inner": Dir({"file": File(b"new")})}
    trees.make(Dir({"d": Dir(new), "whole": File(), "made": Dir()}), tmp_path / "layer")
    os.mknod(tmp_path / "layer/d/gone", 0o20000, 0)
    base = Base(os.fsencode(tmp_path / "base"))
    steps = {step.path for step in plan([core.scan(tmp_path / "layer")], [], base)}
    assert {path.decode() for path in steps} == {
        *("", "d", "d/file", "d/link", "d/gone", "d/inner", "d/inner/file", "whole", "made"),
    }
    asked = {entry.path.decode() for entry in core.entries(base)}
    assert asked == {"", "d", "d/gone", "d/inner"}

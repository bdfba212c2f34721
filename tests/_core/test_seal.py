"""What an open layer loses before it is sealed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dsbranch._core.base import Base
from dsbranch._core.seal import idle_copies
from dsbranch._core.view import View
from tests import core, trees
from tests import edits as e
from tests.trees import Dir, File


@pytest.mark.root
def test_a_metadata_only_copy_without_data_is_no_idle_copy(tmp_path: Path) -> None:
    trees.make(Dir(), tmp_path / "base")
    for name in ("lower", "upper"):
        trees.make(Dir({"f": File(sparse=5)}), tmp_path / name)
        e.marker("f", "metacopy", b"")(tmp_path / name)
    view = View(
        [core.scan(tmp_path / "upper"), core.scan(tmp_path / "lower")],
        Base(os.fsencode(tmp_path / "base")),
    )
    assert idle_copies(view) == []

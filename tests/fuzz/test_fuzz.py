"""Readers of what others wrote, fed with what nobody would write: no crash, no hang, no surprise.

By default some inputs for each, always the same. DSBRANCH_TEST_FUZZ=100000 tries so many,
DSBRANCH_TEST_SEED others.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import children

from .targets import TARGETS

COUNT = os.environ.get("DSBRANCH_TEST_FUZZ", "300")
SEED = os.environ.get("DSBRANCH_TEST_SEED", "0")
MAIN = "import sys; from tests.fuzz.targets import main; main(*sys.argv[1:])"


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_surprises(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", MAIN, name, SEED, COUNT, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env=children.environment(),
    )
    assert done.returncode == 0, (done.returncode, done.stderr, tmp_path / "input")
    print(f"\n{done.stdout}", end="")

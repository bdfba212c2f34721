"""Test foundation: a program with a few functions of libc replaced, for faults no kernel gives.

What is replaced is given as C and put before libc with LD_PRELOAD. Sanitizers bring a malloc of
their own, so one that replaces it cannot run under them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import children


def python(shim: str, place: Path, code: str, *arguments: object) -> str:
    """What a few lines of Python print, run in `place` with the functions of `shim` replaced."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs gcc")
    preloaded = os.environ.get("LD_PRELOAD", "")
    if preloaded and "malloc" in shim:
        pytest.skip("a sanitizer has replaced malloc already")
    library = place / "interposed.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", library, "-x", "c", "-"],
        input=shim,
        text=True,
        check=True,
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=children.environment() | {"LD_PRELOAD": f"{preloaded} {library}".strip()},
    )
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    return done.stdout

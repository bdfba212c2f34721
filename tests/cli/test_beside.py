"""The command finds modules of its own by itself, and what it finds is what Python would."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests import children

EACH = """
import pkgutil
from importlib.machinery import PathFinder, SourceFileLoader
import dsbranch
from dsbranch.__main__ import _Beside

found, wrong = 0, []
for module in pkgutil.walk_packages(dsbranch.__path__, "dsbranch."):
    path = [module.module_finder.path]
    pythons = PathFinder.find_spec(module.name, path)
    simple = type(pythons.loader) is SourceFileLoader and not module.ispkg
    if _Beside.find_spec(module.name, path) != (pythons if simple else None):
        wrong.append(module.name)
    found += simple
print(wrong, found > 100)
"""
OTHERS = """
import json, sys
before = list(sys.meta_path)
import dsbranch
from dsbranch.__main__ import _Beside

at = sys.meta_path.index(_Beside)
print(sys.meta_path[at + 1].__name__, sys.meta_path[:at] + sys.meta_path[at + 1 :] == before)
print(
    _Beside.find_spec("json.decoder", json.__path__),
    _Beside.find_spec("dsbranch", None),
    _Beside.find_spec("dsbranch.errors", []),
    _Beside.find_spec("dsbranch.nothing", dsbranch.__path__),
)
"""


def said_by(code: str, *options: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, *options, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=children.environment(),
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("options", [(), ("-B", "-O"), ("-B", "-X", "pycache_prefix=/elsewhere")])
def test_each_module_is_found_as_python_finds_it(options: tuple[str, ...]) -> None:
    assert said_by(EACH, *options) == ["[] True"]


def test_it_is_asked_before_pythons_own_and_leaves_the_rest_to_them() -> None:
    assert said_by(OTHERS) == ["BuiltinImporter True", "None None None None"]

"""docs/cli.md says what the program says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_cli", DOCS / "generate_cli.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_cli_page_is_the_generated_one(generator: ModuleType) -> None:
    assert (DOCS / "cli.md").read_text(encoding="utf-8") == generator.page(), (
        "run `python docs/generate_cli.py`"
    )


def test_the_table_of_exit_codes_holds_every_exceptions_code(generator: ModuleType) -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", generator.EXIT_CODES, re.MULTILINE)}
    assert generator.exit_codes() | {0, 141} == listed


def test_every_example_names_its_own_verb(generator: ModuleType) -> None:
    for verb in generator.VERBS:
        assert f"dsbranch {verb}" in generator.module(verb).EXAMPLE


def test_every_parameter_is_explained(generator: ModuleType) -> None:
    for row in re.findall(r"^\| `.*$", generator.page(), re.MULTILINE):
        assert re.fullmatch(r"\| .+ \| \S.* \|", row), row

"""What README.md and docs/tutorial.md show is what happens."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "docs/tutorial.md")

LINK = re.compile(r"\]\((?!https?:)([^)#]+)\)")


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_tutorial", ROOT / "docs/run_tutorial.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.root
@pytest.mark.parametrize("name", PAGES)
def test_the_output_shown_is_real(runner: ModuleType, tmp_path: Path, name: str) -> None:
    page = (ROOT / name).read_text(encoding="utf-8")
    assert runner.run_page(page, tmp_path) == page, "run `sudo python docs/run_tutorial.py`"


@pytest.mark.root
def test_the_python_example_prints_what_is_shown(tmp_path: Path) -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    example = re.search(
        r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", page, re.DOTALL | re.MULTILINE
    )
    assert example is not None
    code, shown = example.groups()
    (tmp_path / "images").mkdir()
    (tmp_path / "images/labels.csv").write_text("0001.jpg,cat\n")
    done = subprocess.run(
        [sys.executable, "-P", "-c", code.replace("/data/", f"{tmp_path}/")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (shown, "")


def test_a_command_that_fails_stops_the_page(runner: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="`ls nothing` failed with exit code 2"):
        runner.run_page("```console\n$ ls nothing\n```\n", tmp_path)


def test_output_that_drifted_is_seen(runner: ModuleType, tmp_path: Path) -> None:
    page = "```console\n$ echo one\n> echo two\nthree\n```\n"
    assert runner.run_page(page, tmp_path) == page.replace("three", "one\ntwo")


def test_links_between_the_documents_lead_somewhere() -> None:
    pages = [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in LINK.findall(page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_every_document_is_in_the_index() -> None:
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    linked = set(LINK.findall(index))
    pages = {str(page.relative_to(ROOT / "docs")) for page in ROOT.glob("docs/**/*.md")}
    assert pages - {"index.md"} <= linked

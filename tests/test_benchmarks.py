"""docs/benchmarks.md says what the runs beside it found."""

from __future__ import annotations

import importlib

import pytest

from benchmarks import page
from benchmarks.__main__ import NAMES
from benchmarks.peer_tools import PEERS
from benchmarks.peers import VERBS


@pytest.mark.parametrize("name", NAMES)
def test_every_table_is_drawn_from_the_results_that_lie_there(name: str) -> None:
    shown = page.PAGE.read_text(encoding="utf-8")
    for section, text in (
        importlib.import_module(f"benchmarks.{name}").sections(page.load(name)).items()
    ):
        assert f"<!-- {section} -->\n\n{text.strip()}\n\n<!-- end -->" in shown, (
            f"run `python -m benchmarks {name} --again`"
        )


def test_a_section_is_replaced_and_nothing_else(tmp_path, monkeypatch) -> None:
    file = tmp_path / "page.md"
    file.write_text("a\n<!-- one -->\n<!-- end -->\nb\n<!-- two -->\nold\n<!-- end -->\nc\n")
    monkeypatch.setattr(page, "PAGE", file)
    page.write("one", "new")
    page.write("two", "newer\n")
    page.write("one", r"newest \1")
    assert file.read_text() == (
        "a\n<!-- one -->\n\nnewest \\1\n\n<!-- end -->\nb\n"
        "<!-- two -->\n\nnewer\n\n<!-- end -->\nc\n"
    )
    with pytest.raises(ValueError, match="three"):
        page.write("three", "")


def test_every_verb_of_a_tool_is_one_that_is_run() -> None:
    for peer in PEERS:
        assert {verb.partition(":")[0] for verb in peer.verbs} <= set(VERBS)
        assert set(peer.before) <= set(peer.verbs)

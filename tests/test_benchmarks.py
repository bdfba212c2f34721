"""docs/benchmarks.md says what the runs beside it found."""

from __future__ import annotations

import importlib

import pytest

from benchmarks import client, page
from benchmarks.__main__ import NAMES
from benchmarks.clients import beyond
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


def test_each_client_changes_its_own_part(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(40):
        file = tmp_path / f"{number // 20}" / f"{number:02}"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"x")

    def look() -> dict[str, int]:
        return {str(path): path.stat().st_size for path in tmp_path.glob("*/*")}

    parts = []
    for number in range(3):
        before = look()
        client.change(number)
        parts.append(set(look().items() - before.items()))
        assert len(parts[-1]) == 2 * client.FILES
    assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]
    assert client.read() == sum(look().values()) == 40 + 3 * client.ADDED


def test_clients_stop_where_they_would_need_too_much() -> None:
    run = {"clients": 10, "created_mb": 900, "changed_mb": 100}
    run |= {"create_seconds": 2, "read_seconds": 4}
    assert not beyond(run, 100, gigabytes=10, seconds=40)
    assert beyond(run, 101, gigabytes=10, seconds=60) == "> 10 GB"
    assert beyond(run, 101, gigabytes=20, seconds=40) == "> 40 s"

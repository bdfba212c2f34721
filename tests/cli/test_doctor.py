"""How a checkup is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dsbranch.model.health import Check, Checkup
from tests.cli.conftest import Program

GOOD = Check("kernel", "ok", "Linux 6.18")
SO_SO = Check("space", "warn", "0.10 GB free", "make room")
BAD = Check("store", "fail", "it lies on an overlay", "put it elsewhere")


def answer(monkeypatch: pytest.MonkeyPatch, *checks: Check) -> list[object]:
    asked: list[object] = []

    def doctor(path: Path, *, dataset: Path | None) -> Checkup:
        asked.append((path, dataset))
        return Checkup("6.18", path, dataset, checks)

    monkeypatch.setattr("dsbranch.cli.doctor.doctor", doctor)
    return asked


def test_a_page(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer(monkeypatch, GOOD, SO_SO)
    ran = program("doctor", "/ws", "--base", "/data")
    assert asked == [(Path("/ws"), Path("/data"))]
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "workspace  /ws",
        "dataset    /data",
        "",
        "ok    kernel            Linux 6.18",
        "warn  space             0.10 GB free",
        "                        make room",
    ]


def test_what_cannot_be_ends_with_6(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, GOOD, BAD)
    ran = program("doctor", "/ws")
    assert ran.code == 6
    assert "dataset    none named" in ran.out
    assert ran.err.splitlines() == [
        "error: branches cannot work here: it lies on an overlay",
        "hint: put it elsewhere",
    ]


def test_what_cannot_be_is_told_though_nobody_reads_the_page(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever read it may have left between two lines."""

    flushed: list[bool] = []

    def gone() -> None:
        flushed.append(True)
        if len(flushed) == 1:
            raise BrokenPipeError(32, "Broken pipe", "standard output")

    answer(monkeypatch, BAD)
    monkeypatch.setattr("dsbranch.cli.render.flush", gone)
    ran = program("doctor", "/ws")
    assert ran.code == 6
    assert ran.err.startswith("error: branches cannot work here")


@pytest.mark.parametrize("checks", [(GOOD, SO_SO), (BAD,)])
def test_json(program: Program, monkeypatch: pytest.MonkeyPatch, checks: tuple[Check, ...]) -> None:
    answer(monkeypatch, *checks)
    ran = program("doctor", "/ws", "--json")
    assert json.loads(ran.out) == {
        "schema": 1,
        "ok": BAD not in checks,
        "kernel": "6.18",
        "place": "/ws",
        "dataset": None,
        "checks": [
            {"name": name, "state": state, "found": found, "advice": advice}
            for name, state, found, advice in checks
        ],
    }
    assert ran.code == (6 if BAD in checks else 0)


def test_where_it_looks(program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = answer(monkeypatch, GOOD)
    monkeypatch.chdir(tmp_path)
    assert program("doctor").code == 0
    assert program("doctor", "there", "--base", "data").code == 0
    assert program("-C", "/ws", "doctor").code == 0
    assert asked == [
        (tmp_path, None),
        (tmp_path / "there", tmp_path / "data"),
        (Path("/ws"), None),
    ]
    assert program("-C", "/ws", "doctor", "there").code == 2
    assert len(asked) == 3


def test_the_real_one_answers_anybody(program: Program, tmp_path: Path) -> None:
    ran = program("doctor", str(tmp_path), "--json")
    found = json.loads(ran.out)
    assert ran.code == (0 if found["ok"] else 6)
    assert found["place"] == str(tmp_path)
    assert list(tmp_path.iterdir()) == []

"""Values taken directly are those that Typer would have made, and so are refusals."""

from __future__ import annotations

import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
import typer.main
from typer.core import TyperCommand

from dsbranch.cli.direct import DirectCommand


class Side(StrEnum):
    ours = "ours"
    theirs = "theirs"


def shouted(value: str | None) -> str | None:
    return None if value is None else value.upper()


def outcome(kind: type[TyperCommand], arguments: list[str]) -> object:
    """What a command is called with, or the message of its refusal."""
    called: dict[str, Any] = {}

    def run(
        name: Annotated[str, typer.Argument(callback=shouted)],
        rest: Annotated[list[str] | None, typer.Argument()] = None,
        place: Annotated[Path | None, typer.Option()] = None,
        note: Annotated[str | None, typer.Option(callback=shouted)] = None,
        many: Annotated[list[str] | None, typer.Option()] = None,
        twice: Annotated[list[int] | None, typer.Option(parser=lambda text: int(text) * 2)] = None,
        wait: Annotated[float, typer.Option(min=0, max=9)] = 0.5,
        count: Annotated[int | None, typer.Option(min=1)] = None,
        side: Annotated[Side, typer.Option()] = Side.ours,
        force: Annotated[bool, typer.Option("--force")] = False,
    ) -> None:
        called.update(locals())
        del called["called"]

    app = typer.Typer(add_completion=False)
    app.command(cls=kind)(run)
    try:
        typer.main.get_command(app)(arguments, standalone_mode=False)
    except typer.TyperException as error:
        return error.format_message()
    return [(name, value, type(value)) for name, value in sorted(called.items())]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a"],
        ["a", "b", "c"],
        ["\udcff", "--note", "", "--place", ""],
        ["a", "--place", "/x/../y", "--note", "n", "--many", "1", "--many", "2"],
        ["a", "--twice", "2", "--twice", "3"],
        ["a", "--twice", "x"],
        *(["a", "--wait", number] for number in ("3", "2.5", "1e0", "-1", "10", "nan", "x", "٣")),
        *(["a", "--count", number] for number in ("3", "03", "0", "-1", "2.0", "1_0", "", "٣")),
        ["a", "--side", "theirs"],
        ["a", "--side", "neither"],
        ["a", "--force"],
        ["a", "--nope"],
    ],
    ids=" ".join,
)
def test_it_is_what_typer_makes_of_it(arguments: list[str]) -> None:
    assert outcome(DirectCommand, arguments) == outcome(TyperCommand, arguments)


def test_plain_values_do_without_pydantic() -> None:
    code = """
import sys, typer, typer.main
from pathlib import Path
from dsbranch.cli.direct import DirectCommand
def run(name: str, at: Path, more: list[str] = [], n: int = 0, w: float = 0, note: str = ""):
    pass
app = typer.Typer(add_completion=False)
app.command(cls=DirectCommand)(run)
command = typer.main.get_command(app)
command("a /b --more c --n 3 --w 2 --note d".split(), standalone_mode=False)
print("pydantic" in sys.modules)
command("a /b --n -3".split(), standalone_mode=False)
print("pydantic" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]

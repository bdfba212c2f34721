"""Room ``cli``: the only module that writes to the terminal.

stdout carries the answer, stderr the rest, both UTF-8. Colour only on a terminal, and not
with ``NO_COLOR`` or a dumb one.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import typer

from dsbranch.cli.faults import Fault
from dsbranch.cli.quote import one_line

if TYPE_CHECKING:
    from dsbranch.model import Process

_COLOURS = {
    "A": typer.colors.GREEN,
    "M": typer.colors.YELLOW,
    "m": typer.colors.CYAN,
    "D": typer.colors.RED,
    "R": typer.colors.BLUE,
    "T": typer.colors.MAGENTA,
}


def _write(data: bytes) -> None:
    try:
        sys.stdout.buffer.write(data)
    except OSError as error:
        raise _cannot_answer(error) from None


def flush() -> None:
    try:
        sys.stdout.flush()
    except OSError as error:
        raise _cannot_answer(error) from None


def _cannot_answer(error: OSError) -> OSError:
    # What is still buffered cannot be written either: let the interpreter's own last flush
    # go nowhere instead of failing again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return type(error)(error.errno, error.strerror, "standard output")


def _tell(text: str) -> None:
    flush()
    sys.stderr.buffer.write(_encoded(text))
    sys.stderr.flush()


def _encoded(line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace") + b"\n"


def coloured(stream: TextIO) -> bool:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return not plain and stream.isatty()


def paint_letter(letter: str) -> str:
    return typer.style(letter, fg=_COLOURS[letter]) if coloured(sys.stdout) else letter


def paint_commit(text: str) -> str:
    return typer.style(text, fg=typer.colors.YELLOW) if coloured(sys.stdout) else text


def lines(items: Iterable[str]) -> None:
    for item in items:
        _write(_encoded(item))


def line(item: str) -> None:
    _write(_encoded(item))


def chunks(items: Iterable[bytes]) -> None:
    for item in items:
        _write(item)


def as_json(value: Any) -> None:
    line(json.dumps(value, ensure_ascii=False))


def as_json_list(head: dict[str, Any], key: str, items: Iterable[Any]) -> None:
    """One object: `head`, and under `key` the items, one a line as they come."""
    _write((json.dumps(head, ensure_ascii=False)[:-1] + f', "{key}": [').encode())
    separator = b"\n"
    for item in items:
        _write(separator + json.dumps(item, ensure_ascii=False).encode())
        separator = b",\n"
    _write(b"]}\n" if separator == b"\n" else b"\n]}\n")


def note(text: str) -> None:
    _tell(f"note: {one_line(text)}")


def processes(items: Sequence[Process]) -> None:
    for item in items:
        command, path = one_line(item.command), one_line(item.path)
        _tell(f"  {item.pid}  {command}  {path} ({item.what})")


def fault(item: Fault) -> None:
    """``error:``, the processes in the way, ``hint:``."""
    paint = coloured(sys.stderr)
    label = typer.style("error:", fg=typer.colors.RED, bold=True) if paint else "error:"
    _tell(f"{label} {one_line(item.sentence)}")
    processes(item.processes)
    if item.hint:
        label = typer.style("hint:", fg=typer.colors.CYAN) if paint else "hint:"
        _tell(f"{label} {one_line(item.hint)}")

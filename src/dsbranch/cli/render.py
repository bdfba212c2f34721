"""Room ``cli``: the only module that writes to the terminal.

stdout carries the answer, stderr the rest, both UTF-8. Colour only on a terminal, and not
with ``NO_COLOR`` or a dumb one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

from dsbranch.cli.faults import STANDARD_OUTPUT, Fault
from dsbranch.cli.quote import one_line

if TYPE_CHECKING:
    from dsbranch.model.views import Process

# As terminals number them: 30 and so on is the text's colour, 1 is bold.
_RED, _GREEN, _YELLOW, _BLUE, _MAGENTA, _CYAN = range(31, 37)
_BOLD = 1

_STATES = {"ok": _GREEN, "warn": _YELLOW, "fail": _RED}
_COLOURS = {"A": _GREEN, "M": _YELLOW, "m": _CYAN, "D": _RED, "R": _BLUE, "T": _MAGENTA}


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
    _give_up(sys.stdout)
    return type(error)(error.errno, error.strerror, STANDARD_OUTPUT)


def _give_up(stream: TextIO) -> None:
    # What is still buffered cannot be written either: let the interpreter's own last flush
    # go nowhere instead of failing again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def give_up() -> None:
    """End the answer here: who interrupts does not wait for a reader who does not read."""
    _give_up(sys.stdout)
    from select import select

    with suppress(OSError, ValueError):
        if not select((), (sys.stderr,), (), 0)[1]:
            _give_up(sys.stderr)


def _tell(text: str) -> None:
    """The exit code says what was done, also where nobody can be told."""
    flush()
    try:
        sys.stderr.buffer.write(_encoded(text))
        sys.stderr.flush()
    except OSError:
        _give_up(sys.stderr)


def _encoded(line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace") + b"\n"


def coloured(stream: TextIO) -> bool:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return not plain and stream.isatty()


def _paint(text: str, stream: TextIO, *codes: int) -> str:
    if not coloured(stream):
        return text
    return "".join(f"\x1b[{code}m" for code in codes) + text + "\x1b[0m"


def paint_letter(letter: str) -> str:
    return _paint(letter, sys.stdout, _COLOURS[letter])


def paint_state(text: str, state: str) -> str:
    return _paint(text, sys.stdout, _STATES[state])


def paint_commit(text: str) -> str:
    return _paint(text, sys.stdout, _YELLOW)


def lines(items: Iterable[str]) -> None:
    for item in items:
        _write(_encoded(item))


def line(item: str) -> None:
    _write(_encoded(item))


def chunks(items: Iterable[bytes]) -> None:
    for item in items:
        _write(item)


def as_json(value: Any) -> None:
    import json

    line(json.dumps(value, ensure_ascii=False))


def as_json_list(head: dict[str, Any], key: str, items: Iterable[Any]) -> None:
    """One object: `head`, and under `key` the items, one a line as they come."""
    import json

    _write((json.dumps(head, ensure_ascii=False)[:-1] + f', "{key}": [').encode())
    separator = b"\n"
    for item in items:
        _write(separator + json.dumps(item, ensure_ascii=False).encode())
        separator = b",\n"
    _write(b"]}\n" if separator == b"\n" else b"\n]}\n")


def usage(text: str) -> None:
    _tell(text)


def note(text: str) -> None:
    _tell(f"note: {one_line(text)}")


def processes(items: Sequence[Process]) -> None:
    for item in items:
        command, path = one_line(item.command), one_line(item.path)
        _tell(f"  {item.pid}  {command}  {path} ({item.what})")


def fault(item: Fault) -> None:
    """``error:``, the processes in the way, ``hint:``; also where nobody reads the answer."""
    with suppress(OSError):
        flush()
    _tell(f"{_paint('error:', sys.stderr, _RED, _BOLD)} {one_line(item.sentence)}")
    processes(item.processes)
    if item.hint:
        _tell(f"{_paint('hint:', sys.stderr, _CYAN)} {one_line(item.hint)}")

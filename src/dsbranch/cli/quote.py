"""Room ``cli``: how a path or a text of unknown origin is shown. Pure; prints nothing.

Promises that what it returns holds no control character and can be encoded as UTF-8, so
that a file's name can neither break a line nor speak to the terminal.
"""

from __future__ import annotations

_ESCAPES = {
    "\a": r"\a",
    "\b": r"\b",
    "\t": r"\t",
    "\n": r"\n",
    "\v": r"\v",
    "\f": r"\f",
    "\r": r"\r",
}


def _octal(character: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", "surrogateescape"))


def _escaped(text: str) -> str:
    return "".join(
        character if character.isprintable() else _ESCAPES.get(character) or _octal(character)
        for character in text
    )


def quote_path(path: bytes, *, directory: bool = False) -> str:
    """As git shows a path with ``core.quotePath=false``: plain where it can be, else in double
    quotes with C escapes. The root is ``.``; a directory ends in ``/``."""
    text = (path or b".").decode("utf-8", "surrogateescape") + ("/" if directory else "")
    if text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return '"' + _escaped(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def one_line(text: str) -> str:
    """A text in one line, with everything that does not print escaped."""
    return text if text.isprintable() else _escaped(text)

"""Which names a branch or a tag may have. Pure."""

from __future__ import annotations

from dsbranch.errors import BadName

_LONGEST = 200
# What refs give a meaning to, what a shell or a path would trip over.
_FORBIDDEN = " /~^:?*[]\\{}@'\"`$&;|<>()!#"


def check_name(name: str, kind: str = "branch") -> str:
    """`name`, if a branch, or whatever `kind` says, may be called so.

    :raises BadName: with what is wrong about it
    """
    if not name:
        raise BadName(f"a {kind} name cannot be empty", hint="letters, digits, `-`, `_` and `.`")
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        raise BadName(
            f"`{escaped(name)}` cannot be a {kind} name: it is no valid UTF-8",
            hint="use letters, digits, `-`, `_` and `.`",
        ) from None
    odd = (char for char in name if char in _FORBIDDEN or not char.isprintable())
    found = next(odd, ".." if ".." in name else None)
    if found:
        what = {"/": "a slash", " ": "a space", "\n": "a newline", "..": "two dots in a row"}
        part = what.get(found) or f"`{escaped(found)}`"
        raise BadName(
            f"`{escaped(name)}` cannot be a {kind} name: it holds {part}",
            hint="use letters, digits, `-`, `_` and `.`",
        )
    if name[0] in "-.":
        raise BadName(
            f"`{escaped(name)}` cannot be a {kind} name: it begins with `{name[0]}`",
            hint="begin with a letter or a digit",
        )
    if size > _LONGEST:
        raise BadName(
            f"`{escaped(name)[:40]}…` cannot be a {kind} name: it is too long",
            hint=f"use up to {_LONGEST} bytes",
        )
    return name


def escaped(text: str) -> str:
    """A name as a message shows it."""
    # The codec is a module of its own, so a good name does without.
    return text.encode("unicode_escape").decode("ascii")

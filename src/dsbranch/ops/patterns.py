"""Globs over the paths of a view, as in .gitignore. Pure.

``*`` and ``?`` stop at a slash, ``**`` does not; a pattern without a slash is a name at any
depth. What matches a directory covers all that lies in it.
"""

from __future__ import annotations

import re

from dsbranch.errors import UsageError

_PART = re.compile(
    rb"(?P<any>\*\*/)|(?P<rest>/\*\*$)|(?P<stars>\*+)|(?P<one>\?)|(?P<set>\[[!^]?\]?[^\]]*\])"
)


def compiled(glob: bytes) -> re.Pattern[bytes]:
    """What `fullmatch` tells of a path, without a leading slash.

    :raises UsageError: there is nothing in it
    """
    pattern = glob.strip(b"/")
    if not pattern:
        raise UsageError("a pattern is empty", hint="`**` matches every path")
    anchored = b"/" in glob.rstrip(b"/")
    found, at = b"" if anchored else b"(?:.*/)?", 0
    for part in _PART.finditer(pattern):
        found += re.escape(pattern[at : part.start()]) + _translated(part, pattern)
        at = part.end()
    return re.compile(found + re.escape(pattern[at:]) + b"(?:/.*)?", re.DOTALL)


def _translated(part: re.Match[bytes], pattern: bytes) -> bytes:
    text = part.group()
    if part["any"]:
        # Only a whole component of two stars goes across directories.
        whole = part.start() == 0 or pattern[part.start() - 1 : part.start()] == b"/"
        return b"(?:.*/)?" if whole else b"[^/]*/"
    if part["rest"]:
        return b"/.*"
    if part["stars"]:
        return b".*" if text == pattern == b"**" else b"[^/]*"
    if part["one"]:
        return b"[^/]"
    inner = text[1:-1].replace(b"\\", b"\\\\").replace(b"[", b"\\[")
    negated, inner = inner[:1] in (b"!", b"^"), inner.lstrip(b"!^") if inner[:1] in b"!^" else inner
    inner = inner.replace(b"^", b"\\^").replace(b"]", b"\\]")
    return b"(?!/)[" + (b"^" if negated else b"") + inner + b"]"

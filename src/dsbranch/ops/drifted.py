"""A difference between a layer and its manifest, in words. Pure."""

from __future__ import annotations

from typing import Any

from dsbranch.model.health import Finding

_CONTENT = (
    "commits show this instead of what was committed;"
    " a backup, an export or another layer may still have that"
)
_LOST = "no commit on this layer shows it any more; a backup or an export may still have it"
_MORE = "every commit on this layer shows it; remove it from there by hand"
_ABOUT = "the content is not concerned; what was recorded can be set again by hand"
_MARKER = "what lies below shows, or hides, otherwise than committed; it can be set again by hand"

_MEANS = {
    "missing": _LOST,
    "extra": _MORE,
    "kind": _CONTENT,
    "size": _CONTENT,
    "digest": _CONTENT,
    "target": _CONTENT,
    "rdev": _CONTENT,
    "redirect": _MARKER,
    "opaque": _MARKER,
    "metacopy": _MARKER,
}


_BASE = (
    "every branch shows that, where no commit covers it; put it back,"
    " or accept it with `dsbranch seal`"
)
_TOUCHED = (
    "it may hold something else: `verify --full` tells where `seal --hash` recorded a digest,"
    " and where it did not nobody can"
)


def finding(where: str, path: bytes, aspect: str, recorded: Any, found: Any) -> Finding:
    """What `dsbranch._core.drift.drift` says of one entry of a layer."""
    return Finding(where, path, _what(aspect, recorded, found), _MEANS.get(aspect, _ABOUT))


def of_dataset(where: str, path: bytes, aspect: str, recorded: Any, found: Any) -> Finding:
    """What `dsbranch._core.drift.drift` says of one entry of the dataset."""
    if aspect == "touched":
        what = "it was written, replaced or linked since, with size and mtime as they were"
        return Finding(where, path, what, _TOUCHED)
    what = _what(aspect, recorded, found)
    if aspect == "extra":
        what = "it was not there" + _with(found)
    return Finding(where, path, what, _BASE)


def _what(aspect: str, recorded: Any, found: Any) -> str:
    match aspect:
        case "missing":
            return "it is gone" + _with(recorded)
        case "extra":
            return "the manifest does not have it" + _with(found)
        case "kind":
            return f"it is a {found}, and was a {recorded}"
        case "mode":
            return f"its mode is {found:04o}, and was {recorded:04o}"
        case "owner":
            return f"its owner is {_pair(found)}, and was {_pair(recorded)}"
        case "size" | "rdev":
            return f"its {aspect} is {found}, and was {recorded}"
        case "mtime":
            return f"its mtime is {found} ns, and was {recorded} ns"
        case "digest":
            return f"its content is {found.hex()}, and was {recorded.hex()} (XXH3-128)"
        case "xattrs":
            return "its extended attributes are others"
        case "links":
            return "it is linked with other names than it was"
        case "target" | "redirect":
            return f"its {aspect} is {_text(found)}, and was {_text(recorded)}"
        case _:
            return f"it is {'' if found else 'not '}{aspect}, and was{' not' if found else ''}"


def _with(count: int) -> str:
    entries = "1 entry" if count == 2 else f"{count - 1:,} entries"
    return f", with {entries} in it" if count > 1 else ""


def _pair(owner: tuple[int, int]) -> str:
    return f"{owner[0]}:{owner[1]}"


def _text(value: bytes | None) -> str:
    return "absent" if value is None else f"`{value.decode('utf-8', 'backslashreplace')}`"

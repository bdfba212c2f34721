"""One entry as an archive tells of it, whatever kind of archive that is, and which may be taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from dsbranch.errors import BadArchive
from dsbranch.ops.archive.mark import OPAQUE, WHITEOUT_PREFIX, Mark

DISTRUST = "do not trust whoever made this archive"

LONGEST_NAME = 255
LONGEST_PATH = 65_535
DEEPEST = 500
"""Of directories below each other. What walks trees by recursion must still come through."""


@dataclass(slots=True)
class Member:
    """`path` is clean: relative, without empty parts, ``b""`` for the root; whiteouts still have
    their prefix. `kind` is one of a manifest, or ``link``: one more name of the entry at `target`.

    `fill` writes a file's data, `occupied` bytes of them and a hole elsewhere, to a descriptor.
    """

    path: bytes
    kind: str
    mode: int = 0
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    size: int = 0
    occupied: int = 0
    target: bytes = b""
    rdev: tuple[int, int] = (0, 0)
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    fill: Callable[[int], None] | None = None
    mark: Mark | None = None


class Archive(Protocol):
    """An open archive. `full` is None where nothing says whether it is a whole tree; `own`:
    dsbranch wrote it, so what is called like overlay's is the user's."""

    full: bool | None
    own: bool

    def __iter__(self) -> Iterator[Member]: ...

    def position(self) -> int:
        """How many bytes of the file have been read; 0 where nobody counts."""
        ...


def shown(path: bytes) -> str:
    """A path for a message: one line of printable characters."""
    text = path.decode("utf-8", "backslashreplace") or "."
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def cleaned(name: bytes, what: str = "the archive holds") -> bytes:
    """The path that `name` means.

    :raises BadArchive: none that could be written
    """
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    wrong = None
    if not name:
        wrong = "an empty name"
    elif b"\0" in name:
        wrong = "a name with a NUL byte"
    elif name.startswith(b"/"):
        wrong = "an absolute path"
    elif b".." in parts:
        wrong = "a path with `..`"
    elif len(parts) > DEEPEST or len(name) > LONGEST_PATH:
        wrong = f"a path of more than {DEEPEST} directories or {LONGEST_PATH:,} bytes"
    elif len(name) > LONGEST_NAME and any(
        len(part.removeprefix(WHITEOUT_PREFIX)) > LONGEST_NAME for part in parts
    ):
        wrong = f"a name of more than {LONGEST_NAME} bytes"
    if wrong is not None:
        more = "…" if len(name) > 300 else ""
        raise BadArchive(
            f"{what} {wrong}: {shown(name[:300])}{more}",
            hint=DISTRUST,
        )
    return b"/".join(parts)


@dataclass(frozen=True, slots=True)
class Deletion:
    """What a whiteout says: `path` is gone, or all that is `inside` of it."""

    path: bytes
    inside: bool


def has_whiteout_name(path: bytes) -> bool:
    """Whether it, or a directory above it, is called as nothing may be but a whiteout."""
    return WHITEOUT_PREFIX in path and any(
        part.startswith(WHITEOUT_PREFIX) for part in path.split(b"/")
    )


def deleted_by(member: Member, *, full: bool) -> Deletion | None:
    """What an OCI whiteout deletes; None if the member is none.

    :raises BadArchive: its name begins like one and it cannot be one
    """
    if not has_whiteout_name(member.path):
        return None
    parts = member.path.split(b"/")
    directory, name = b"/".join(parts[:-1]), parts[-1]
    gone = name.removeprefix(WHITEOUT_PREFIX)
    if not full and member.kind == "file" and not has_whiteout_name(directory):
        if name == OPAQUE:
            return Deletion(directory, inside=True)
        if gone not in (b"", b".", b"..") and not gone.startswith(WHITEOUT_PREFIX):
            return Deletion(b"/".join([*parts[:-1], gone]), inside=False)
    raise BadArchive(
        f"{shown(member.path)} cannot be: a name that begins with `.wh.` means a deletion"
        + (", and a whole tree says so by lacking it" if full else ""),
        hint="rename it where the archive is made",
    )

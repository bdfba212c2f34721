"""What differs between two views, and how far the search has come."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol

from dsbranch.model.views import Process

Letter = Literal["A", "M", "m", "D", "R", "T"]
"""A added, M content, m metadata only, D deleted, R renamed, T type changed."""

NONE: Mapping[str, int] = MappingProxyType({})
"""Counts of no letter."""

LETTERS: tuple[Letter, ...] = ("A", "M", "m", "D", "R", "T")


class Change(NamedTuple):
    """One line of a diff.

    `path` is where the entry is in the new view (in the old one for D); `old_path` is set
    for R, and for entries inside a renamed directory. `kind` is that of the new entry (the
    old one for D): file, directory, symlink, fifo, socket, char or block. Sizes are None
    where the side does not exist or is no regular file.
    """

    status: Letter
    path: bytes
    kind: str
    old_path: bytes | None = None
    size: int | None = None
    old_size: int | None = None


class Status(NamedTuple):
    """The answer of status. `running` has, for each private view that shows the branch, a process
    in it and where it sees the branch; looked for only where it is not mounted."""

    branch: str
    head: str
    mounted: bool
    mountpoint: Path | None
    clean: bool
    counts: Mapping[str, int] = NONE
    running: tuple[Process, ...] = ()


class Progress(Protocol):
    """Who wants to know how far a long phase has come. Called about ten times a second."""

    def __call__(self, phase: str, done: int, total: int | None, bytes: int) -> None:
        """`done` entries or files of `total` (None: nobody knows), and `bytes` read so far.

        The phase is over when `done` equals `total`.
        """
        ...

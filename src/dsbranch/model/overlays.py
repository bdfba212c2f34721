"""Any overlay of the machine explained: the answer of ``inspect``."""

from pathlib import Path
from typing import Literal, NamedTuple

from dsbranch.model.facts import Dialect
from dsbranch.model.views import Process


class MountPlace(NamedTuple):
    """Where an overlay is mounted: in this mount namespace, or in that of `process`. `root` is
    which directory of it is, ``/`` unless it is a bind mount of another."""

    path: Path
    read_only: bool
    process: Process | None = None
    root: Path = Path("/")


class Belonging(NamedTuple):
    """What a directory is to a workspace of dsbranch's.

    `what` is the dataset, or the layer of a branch's uncommitted changes (open), of a commit, of
    a checkpoint down from `commit`, of changes whose commit was undone (pending); kept: of none,
    or of what could not be read; view: it lies in a mount of dsbranch's.
    """

    workspace: Path
    what: Literal["dataset", "open", "commit", "checkpoint", "pending", "kept", "empty", "view"]
    layer: str | None = None
    branch: str | None = None
    commit: str | None = None
    message: str | None = None


class OverlayPart(NamedTuple):
    """One of the directories of an overlay. `data` lowers give contents only.

    `bytes` is what it occupies on the disk, in `inodes`; None: not counted. `found` is False where
    nothing is at `path`, or nothing that can be seen from here.
    """

    role: Literal["upper", "work", "lower", "data"]
    path: Path
    found: bool
    belongs: Belonging | None = None
    bytes: int | None = None
    inodes: int | None = None


class Overlay(NamedTuple):
    """An overlay explained: one superblock of the kernel's, or a container that is not mounted.

    `parts` are from the top down, as the kernel looks names up, the workdir after the upper.
    `name` is what mount tables show in the first column, or the container's. `notes` say, a
    sentence each, what somebody who looks into it should know.
    """

    name: str
    mounted: tuple[MountPlace, ...]
    parts: tuple[OverlayPart, ...]
    dialect: Dialect
    options: tuple[tuple[str, str], ...] = ()
    read_only: bool = False
    notes: tuple[str, ...] = ()

    @property
    def upper(self) -> OverlayPart | None:
        return next((part for part in self.parts if part.role == "upper"), None)

    @property
    def lowers(self) -> tuple[OverlayPart, ...]:
        """From the top down, without those that hold data only."""
        return tuple(part for part in self.parts if part.role == "lower")

"""Branches as they are made, listed and mounted."""

from pathlib import Path
from typing import NamedTuple

from dsbranch.model.facts import Branch


class Created(NamedTuple):
    """The answer of create. `dirty_source` names the branch whose uncommitted changes stayed
    behind, if `--from` named a branch that has some."""

    branch: Branch
    mountpoint: Path | None
    dirty_source: str | None = None


class BranchInfo(NamedTuple):
    """A row of `list`. `depth` counts the lower layers a mount needs, the base included."""

    name: str
    head: str
    mounted: bool
    mountpoint: Path | None
    depth: int


class Mounted(NamedTuple):
    """The answer of mount. `already` means that it had been mounted there before the call."""

    path: Path
    ref: str
    already: bool = False
    read_only: bool = False

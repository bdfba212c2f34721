"""The answers of ``create``, ``rename`` and ``delete``."""

from pathlib import Path
from typing import NamedTuple

from dsbranch.model.facts import Branch
from dsbranch.model.views import Process


class Created(NamedTuple):
    """The answer of create. `dirty_source` names the branch whose uncommitted changes stayed
    behind, if `--from` named a branch that has some."""

    branch: Branch
    mountpoint: Path | None
    dirty_source: str | None = None


class Renamed(NamedTuple):
    """The answer of rename. `stale` are processes in the branch whose current directory has no
    path any more, where the kernel could not move the mount."""

    old: str
    new: str
    operation: int
    mountpoint: Path | None = None
    stale: tuple[Process, ...] = ()


class Deleted(NamedTuple):
    """The answer of delete. `operation` keeps what was deleted, the open layer `kept_layer`
    included."""

    branch: str
    head: str
    operation: int
    kept_layer: str

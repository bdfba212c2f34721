"""The answers of ``commit``, ``rollback``, ``restore`` and ``squash``."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from dsbranch.model.facts import Commit
from dsbranch.model.views import Process


class Committed(NamedTuple):
    """The answer of commit. `mountpoint` is where the new open layer is mounted, if it is;
    `stale` are processes that stand in the old, now read-only view and need a `cd .`;
    `elsewhere` are those of other mount namespaces that keep it."""

    commit: Commit
    counts: Mapping[str, int]
    mountpoint: Path | None = None
    stale: tuple[Process, ...] = ()
    elsewhere: tuple[Process, ...] = ()


class RolledBack(NamedTuple):
    """The answer of rollback. `operation` is the log row that keeps what was replaced,
    `kept_layer` the open layer that was set aside. Where a damaged layer hides what was
    uncommitted, `counts` is None, and `damage` says what is wrong."""

    branch: str
    head: str
    operation: int
    kept_layer: str
    counts: Mapping[str, int] | None
    mountpoint: Path | None = None
    stale: tuple[Process, ...] = ()
    elsewhere: tuple[Process, ...] = ()
    damage: str | None = None


class Restored(NamedTuple):
    """The answer of restore. `counts` says, by letter, what it changed in the branch: nothing,
    where all was as in `commit` already."""

    branch: str
    commit: str
    counts: Mapping[str, int]
    mountpoint: Path | None = None
    stale: tuple[Process, ...] = ()
    elsewhere: tuple[Process, ...] = ()


class Squashed(NamedTuple):
    """The answer of squash. `replaced` commits became one; `remounted` is False where a
    mounted view goes on with the old layers until it is next mounted."""

    commit: Commit
    replaced: int
    linked: int
    copied: int
    copied_bytes: int
    remounted: bool = True

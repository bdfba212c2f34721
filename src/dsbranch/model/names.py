"""What became of branches' and tags' names."""

from pathlib import Path
from typing import NamedTuple

from dsbranch.model.facts import Tag
from dsbranch.model.views import Process


class Deleted(NamedTuple):
    branch: str
    head: str
    operation: int
    kept_layer: str


class Renamed(NamedTuple):
    """The answer of rename. `stale` are processes in the branch whose current directory has no
    path any more, where the kernel could not move the mount."""

    old: str
    new: str
    operation: int
    mountpoint: Path | None = None
    stale: tuple[Process, ...] = ()


class Tagged(NamedTuple):
    """The answer of tag. `replaced` is the commit the tag was moved from; `dirty_source` names
    the branch whose uncommitted changes are not in the tag."""

    tag: Tag
    operation: int
    replaced: str | None = None
    dirty_source: str | None = None


class Untagged(NamedTuple):
    tag: Tag
    operation: int

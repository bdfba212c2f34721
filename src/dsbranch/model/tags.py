"""The answers of ``tag``."""

from typing import NamedTuple

from dsbranch.model.facts import Tag


class Tagged(NamedTuple):
    """The answer of tag. `replaced` is the commit the tag was moved from; `dirty_source` names
    the branch whose uncommitted changes are not in the tag."""

    tag: Tag
    operation: int
    replaced: str | None = None
    dirty_source: str | None = None


class Untagged(NamedTuple):
    """The answer of tag --delete. `tag` is what there was."""

    tag: Tag
    operation: int

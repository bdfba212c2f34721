"""The answer of ``merge``, and what is asked of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from dsbranch.model.changes import NONE
from dsbranch.model.facts import Commit
from dsbranch.model.views import Process


class Seen(NamedTuple):
    """An entry as one side of a merge has it. `size` is None but for regular files."""

    path: bytes
    kind: str
    size: int | None


class Conflict(NamedTuple):
    """What a merge cannot decide. `reason` says what ours and theirs did, ours first.

    `path` is where ours has the entry, else where theirs, else where the base has it. The three
    sides are None where they have none.
    """

    path: bytes
    reason: str
    base: Seen | None
    ours: Seen | None
    theirs: Seen | None


class Preference(NamedTuple):
    """Which side wins a conflict at a path that `glob` matches."""

    glob: bytes
    side: Literal["ours", "theirs"]


class Merged(NamedTuple):
    """The answer of merge. `commit` is None after a dry run, which alone may have `conflicts`,
    and where the branch had all of the other already (`up_to_date`). `counts` are the changes
    to the branch by letter; `dirty_source` is the other branch, if it has uncommitted changes,
    which are not part of it."""

    branch: str
    commit: Commit | None
    counts: Mapping[str, int] = NONE
    conflicts: tuple[Conflict, ...] = ()
    up_to_date: bool = False
    linked: int = 0
    copied: int = 0
    copied_bytes: int = 0
    dirty_source: str | None = None
    mountpoint: Path | None = None
    stale: tuple[Process, ...] = ()
    elsewhere: tuple[Process, ...] = ()

"""What the verbs answer that change branches, move names or write archives."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from dsbranch.model.changes import NONE
from dsbranch.model.facts import Branch, Commit, Operation, Tag
from dsbranch.model.views import Process


class Created(NamedTuple):
    """The answer of create. `dirty_source` names the branch whose uncommitted changes stayed
    behind, if `--from` named a branch that has some."""

    branch: Branch
    mountpoint: Path | None
    dirty_source: str | None = None


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
    `kept_layer` the open layer that was set aside."""

    branch: str
    head: str
    operation: int
    kept_layer: str
    counts: Mapping[str, int]
    mountpoint: Path | None = None
    stale: tuple[Process, ...] = ()
    elsewhere: tuple[Process, ...] = ()


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


class Deleted(NamedTuple):
    branch: str
    head: str
    operation: int
    kept_layer: str


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


class Renamed(NamedTuple):
    """The answer of rename. `stale` are processes in the branch whose current directory has no
    path any more, where the kernel could not move the mount."""

    old: str
    new: str
    operation: int
    mountpoint: Path | None = None
    stale: tuple[Process, ...] = ()


class Logged(NamedTuple):
    """A row of the operation log, and the operation by which it is undone, if it is."""

    operation: Operation
    undone_by: int | None = None


class Undone(NamedTuple):
    """The answer of undo. `undone` is what was reversed, by `operation` (None: a dry run).

    `head` is the commit that `name`, a branch or tag, stands at now; None: it is gone. `counts`
    are the uncommitted changes the branch has now, `set_aside` those it had that are kept only
    by the operation.
    """

    operation: int | None
    undone: Operation
    name: str
    head: str | None
    counts: Mapping[str, int] = NONE
    set_aside: Mapping[str, int] = NONE
    mountpoint: Path | None = None
    stale: tuple[Process, ...] = ()
    elsewhere: tuple[Process, ...] = ()


class Exported(NamedTuple):
    path: Path
    entries: int
    bytes: int
    notes: tuple[str, ...] = ()


class Applied(NamedTuple):
    """The answer of apply. `commit` is None after a dry run; the rest is as in `Committed`."""

    commit: Commit | None
    counts: Mapping[str, int]
    mountpoint: Path | None = None
    stale: tuple[Process, ...] = ()
    elsewhere: tuple[Process, ...] = ()

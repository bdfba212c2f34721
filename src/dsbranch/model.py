"""Frozen values that every room may hold. A leaf room: no I/O, no imports from the project.

Paths inside a view are ``bytes`` relative to its root, without a leading slash; the root
itself is ``b""``. Paths of the machine are ``pathlib.Path``. Times are integer nanoseconds
since the epoch (UTC), sizes are bytes. They are named tuples, since every command makes these
classes: as dataclasses that took 17 ms, as tuples 2 (docs/decisions/0020).
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol

Dialect = Literal["trusted", "user"]
"""Which xattr namespace a layer's overlay markers live in (``user`` means ``userxattr``)."""

LayerState = Literal["open", "sealed"]

Letter = Literal["A", "M", "m", "D", "R", "T"]
"""A added, M content, m metadata only, D deleted, R renamed, T type changed."""

NONE: Mapping[str, int] = MappingProxyType({})
"""Counts of no letter."""

LETTERS: tuple[Letter, ...] = ("A", "M", "m", "D", "R", "T")


class Layer(NamedTuple):
    """One overlay directory tree. `entries`, `bytes` and `hashed` are known once sealed."""

    id: str
    state: LayerState
    dialect: Dialect
    created_ns: int
    sealed_ns: int | None = None
    entries: int | None = None
    bytes: int | None = None
    hashed: bool = False
    redirects: bool = False
    metacopy: bool = False


class Commit(NamedTuple):
    """A named point in history. `layer` is None for the root commit, which is the base alone."""

    id: str
    parents: tuple[str, ...]
    layer: str | None
    message: str
    author: str
    time_ns: int


class Branch(NamedTuple):
    """A name for a commit plus one open layer. `fork` is the commit it was created from.

    `pending` are sealed layers between the commit and the open layer, newest first: they hold
    uncommitted changes whose commit was undone.
    """

    id: int
    name: str
    head: str
    layer: str
    fork: str
    created_ns: int
    pending: tuple[str, ...] = ()


class Tag(NamedTuple):
    name: str
    commit: str
    created_ns: int


class Move(NamedTuple):
    """One branch or tag moved by one operation; None on a side: it did not exist there.

    A rename is two moves: the old name ends, and the new one begins with the same id.
    """

    before: Branch | Tag | None
    after: Branch | Tag | None

    @property
    def name(self) -> str:
        side = self.before or self.after
        assert side is not None
        return side.name


class Checkpoint(NamedTuple):
    """A sealed layer that shows what the `span` commits from `top` down to, but without,
    `bottom` show together.

    `data` is a second one, to lie right below it: it holds the contents of those files that
    `layer` has only the metadata of, where these do not lie below `bottom`.
    """

    layer: str
    top: str
    bottom: str
    span: int
    data: str | None = None

    @property
    def layers(self) -> tuple[str, ...]:
        """What it consists of, newest first."""
        return (self.layer,) if self.data is None else (self.layer, self.data)


class Run(NamedTuple):
    """Sealed layers, newest first, that show what the `span` commits from `top` down to, but
    without, `bottom` show: a commit's own layer, or a checkpoint. `entries` are theirs."""

    layers: tuple[str, ...]
    top: str
    bottom: str
    span: int
    entries: int


class Operation(NamedTuple):
    id: int
    verb: str
    time_ns: int
    author: str
    detail: str
    moves: tuple[Move, ...] = ()
    undoes: int | None = None

    @property
    def said(self) -> str:
        """What was done; the verb once, though a message may begin with it (``merge x``)."""
        return (
            self.detail if self.detail.startswith(f"{self.verb} ") else f"{self.verb} {self.detail}"
        )

    @property
    def deed(self) -> str:
        """What it did or, of an undo, what was done that it reversed."""
        return self.said if self.undoes is None else self.detail


class Doomed(NamedTuple):
    """Ids of rows that nothing reaches. A checkpoint is among `layers`, too, unless mounted."""

    operations: tuple[int, ...]
    commits: tuple[str, ...]
    layers: tuple[str, ...]
    checkpoints: tuple[str, ...]
    mounts: tuple[int, ...]


class MountRecord(NamedTuple):
    """A mount dsbranch made, as the store remembers it. The kernel may know better.

    `layer` is the open layer of a writable mount, None for a read-only one. `lowers` are
    the ids of the sealed layers below, newest first. `namespace` is the inode of the mount
    namespace it was made in; `mount_id` is the kernel's number for it there.
    """

    id: int
    boot_id: str
    namespace: int
    mount_id: int
    path: Path
    commit: str
    layer: str | None
    lowers: tuple[str, ...]


class History(NamedTuple):
    """All that the store knows; commits newest first, no parent before a child."""

    commits: dict[str, Commit]
    branches: tuple[Branch, ...]
    tags: tuple[Tag, ...]
    operations: tuple[Operation, ...]
    layers: dict[str, Layer]
    checkpoints: tuple[Checkpoint, ...]
    mounts: tuple[MountRecord, ...]


class MountPlan(NamedTuple):
    """All that is needed to make one overlay superblock and attach it; data only.

    `lowers` are ordered newest first, the base last. `upper` and `work` are None together,
    for a read-only view. `source` is what /proc/mounts shows in the first column.
    """

    lowers: tuple[Path, ...]
    upper: Path | None
    work: Path | None
    source: str
    options: tuple[tuple[str, str], ...]

    @property
    def read_only(self) -> bool:
        return self.upper is None


class Process(NamedTuple):
    """A process in the way of an operation, and the first path it holds."""

    pid: int
    command: str
    path: str
    what: str = "open for writing"


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


class BranchInfo(NamedTuple):
    """A row of `list`. `depth` counts the lower layers a mount needs, the base included."""

    name: str
    head: str
    mounted: bool
    mountpoint: Path | None
    depth: int


class Progress(Protocol):
    """Who wants to know how far a long phase has come. Called about ten times a second."""

    def __call__(self, phase: str, done: int, total: int | None, bytes: int) -> None:
        """`done` entries or files of `total` (None: nobody knows), and `bytes` read so far.

        The phase is over when `done` equals `total`.
        """
        ...


class Mounted(NamedTuple):
    """The answer of mount. `already` means that it had been mounted there before the call."""

    path: Path
    ref: str
    already: bool = False
    read_only: bool = False


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


class Collected(NamedTuple):
    """The answer of gc: what went, or in a dry run would go.

    `operations` counts rows of the log; `checkpoints` are not among `layers`; `garbage` are
    directories that the store does not know. `bytes` is what the filesystem gets back, in
    `inodes`. `problems` says what could not be removed, a sentence each.
    """

    operations: int
    commits: tuple[Commit, ...]
    layers: tuple[str, ...]
    checkpoints: tuple[str, ...]
    garbage: tuple[Path, ...]
    bytes: int
    inodes: int
    problems: tuple[str, ...] = ()


class Finding(NamedTuple):
    """Something that is not as it was recorded.

    `where` names the layer, commit, branch or file of the store, `path` what lies in that layer.
    `what` is wrong, and `means` says what follows from it and what can be saved.
    """

    where: str
    path: bytes | None
    what: str
    means: str


class Seal(NamedTuple):
    """What was recorded of the dataset, as it was when the walk began.

    `files` of its `entries` are regular ones, `digested` of these have a digest. `root_ino` and
    `root_mtime_ns` are of its root. `sha256` is that of its manifest.
    """

    id: str
    sha256: str
    walked_ns: int
    entries: int
    files: int
    digested: int
    root_ino: int
    root_mtime_ns: int


class Problem(NamedTuple):
    """A path of the dataset that could not be read, and why."""

    path: bytes
    what: str


class Sealed(NamedTuple):
    """The answer of seal. `hashed` files were read now; `seal.digested` counts those before, too.
    `problems` are not in the seal, or only by name."""

    seal: Seal
    hashed: int
    problems: tuple[Problem, ...] = ()


class Dataset(NamedTuple):
    """What verify looked at in the dataset: all that `seal` has; `digested` of its files were read
    and compared, `undigested` ones have no recorded digest."""

    seal: Seal
    digested: int
    undigested: int


class Verified(NamedTuple):
    """The answer of verify. `digested` files of layers were read and compared, `undigested` ones
    have no recorded digest; `garbage` directories belong to no layer, which is no finding.
    `dataset` is None where it was never sealed, or could not be compared. `repaired` says what was
    repaired before, a sentence each."""

    layers: int
    entries: int
    digested: int
    undigested: int
    garbage: int
    findings: tuple[Finding, ...]
    dataset: Dataset | None = None
    repaired: tuple[str, ...] = ()


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


class BranchSpace(NamedTuple):
    """`alone` is freed if the branch goes, `shared` is not, as others hold it, too;
    `uncommitted` is the part of both that its open and pending layers hold."""

    name: str
    alone: int
    shared: int
    uncommitted: int


class CommitSpace(NamedTuple):
    """What a commit's own layer holds that no other layer does, and what others do, too."""

    commit: Commit
    alone: int
    shared: int


class Space(NamedTuple):
    """The answer of du, in bytes on the disk. The parts of `total` are the fields after it.

    `history` is what commits hold, `uncommitted` what open and pending layers hold besides,
    `log` what only the operation log keeps, and `garbage` what belongs to nobody.
    """

    branches: tuple[BranchSpace, ...]
    commits: tuple[CommitSpace, ...]
    total: int
    history: int
    uncommitted: int
    log: int
    checkpoints: int
    manifests: int
    database: int
    garbage: int
    checkpoint_inodes: int = 0


class Applied(NamedTuple):
    """The answer of apply. `commit` is None after a dry run; the rest is as in `Committed`."""

    commit: Commit | None
    counts: Mapping[str, int]
    mountpoint: Path | None = None
    stale: tuple[Process, ...] = ()
    elsewhere: tuple[Process, ...] = ()


State = Literal["ok", "warn", "fail"]
"""Of a `Check`: nothing in the way, something that will bite, branches cannot work."""


class Check(NamedTuple):
    """One thing that doctor looked at, what was found, and what to do about it."""

    name: str
    state: State
    found: str
    advice: str | None = None


class Checkup(NamedTuple):
    """The answer of doctor. `place` is the workspace, or where one could be put; `dataset` is None
    where none is known."""

    kernel: str
    place: Path
    dataset: Path | None
    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """Why branches cannot work; empty where they do."""
        return tuple(check for check in self.checks if check.state == "fail")

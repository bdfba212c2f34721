"""What the store knows: layers, commits, branches and tags, mounts, and what was done to them."""

from pathlib import Path
from typing import Literal, NamedTuple

Dialect = Literal["trusted", "user"]
"""Which xattr namespace a layer's overlay markers live in (``user`` means ``userxattr``)."""

LayerState = Literal["open", "sealed"]


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


class MountRecord(NamedTuple):
    """A mount dsbranch made, or was about to, as the store remembers it. The kernel knows better.

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

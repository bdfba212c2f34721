"""What every operation needs: the store, the mount driver and where things lie."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from dsbranch._core import syscalls
from dsbranch.errors import NoPrivilege, NotAWorkspace
from dsbranch.ops.ladder import Ladder
from dsbranch.overlay.locate import workspace_of_mount
from dsbranch.overlay.mountinfo import SERVED, MountEntry
from dsbranch.overlay.privilege import sees_trusted
from dsbranch.store.database import Store
from dsbranch.store.faults import storage
from dsbranch.store.layout import Layout, find_workspace

if TYPE_CHECKING:
    from dsbranch._core.jobs import Report
    from dsbranch._core.table import Table
    from dsbranch.model.changes import Progress
    from dsbranch.overlay.driver import Driver
    from dsbranch.overlay.fuse import FuseDriver
    from dsbranch.store.digests import Digests


class Context:
    """`tables` caches what was read of sealed layers, which never change.

    `notes` are sentences on what is no error. `listeners` holds who wants to know of long phases:
    nobody, or one. `ladder` says when checkpoints are made.
    """

    def __init__(self, store: Store, ladder: Ladder | None = None) -> None:
        self.store = store
        self.ladder = ladder or Ladder()
        self.tables: dict[str, Table] = {}
        self.listeners: list[Progress] = []
        self.notes: list[str] = []
        self._disk: int | None = None

    def report(self, phase: str) -> Report | None:
        """What to tell of a phase to; `phase` is a present participle, as in "hashing"."""
        return partial(self.listeners[-1], phase) if self.listeners else None

    @property
    def layout(self) -> Layout:
        return self.store.layout

    @property
    def root(self) -> Path:
        return self.store.layout.root

    @cached_property
    def sees_markers(self) -> bool:
        """Whether what the layers' markers say is shown to this process."""
        return self.store.dialect != "trusted" or sees_trusted()

    @cached_property
    def by_fuse(self) -> bool:
        """Whether new mounts are made by fuse-overlayfs, and not by the kernel."""
        return os.geteuid() != 0 and not self.private and fuse_is_chosen()

    @cached_property
    def kernel(self) -> Driver:
        """What makes mounts in a namespace of one's own, and for root."""
        from dsbranch.overlay.kernel import KernelDriver

        return KernelDriver()

    @cached_property
    def fuse(self) -> FuseDriver:
        from dsbranch.overlay.fuse import FuseDriver

        return FuseDriver()

    @property
    def driver(self) -> Driver:
        """What makes new mounts."""
        return self.fuse if self.by_fuse else self.kernel

    def driver_of(self, entry: MountEntry) -> Driver:
        """What a mount is of, and can be changed by."""
        return self.fuse if entry.fstype == SERVED else self.kernel

    @cached_property
    def private(self) -> bool:
        """Whether this process is in a private view, as `run` makes them, of this workspace."""
        try:
            kept = syscalls.mount_id(os.fsencode(self.layout.dataset))
        except OSError:
            # Nobody has made one yet.
            return False
        return kept != syscalls.mount_id(os.fsencode(self.layout.dot))

    @property
    def base(self) -> Path:
        """Where the dataset can be looked into: in a private view a branch may lie over it."""
        return self.layout.dataset if self.private else self.store.base

    @cached_property
    def digests(self) -> Digests:
        """What is known of files that were read before."""
        from dsbranch.store.digests import Digests

        return Digests(self.layout.digests)

    @contextmanager
    def watched(self) -> Iterator[int]:
        """Be told, at the next sync, of every write to the store's filesystem that fails meanwhile.

        Gives the descriptor to sync by, that of the outermost body: the kernel tells each that is
        open, and later ones only what nobody was told.
        """
        if self._disk is not None:
            yield self._disk
            return
        with storage(f"open {self.layout.layers}"):
            disk = os.open(self.layout.layers, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._disk = disk
        try:
            yield disk
        finally:
            self._disk = None
            os.close(disk)

    def close(self) -> None:
        self.tables.clear()
        if "digests" in vars(self):  # or it would be made to be closed
            self.digests.close()
        self.store.close()


def open_context(start: Path) -> Context:
    """Open the workspace at or above `start`, or behind the mount `start` lies in."""
    store = Store.open(workspace_root(start))
    try:
        _require_own(store)
    except BaseException:
        store.close()
        raise
    return Context(store)


def fuse_is_chosen() -> bool:
    """As `overlay.served.chosen`, which is imported when it is asked."""
    from dsbranch.overlay.served import chosen

    return chosen()


def workspace_root(start: Path) -> Path:
    """:raises NotAWorkspace: there is none at `start`, above it, or behind the mount it lies in"""
    root = workspace_of_mount(start) or find_workspace(start)
    if root is None:
        raise NotAWorkspace(
            f"there is no dsbranch workspace at {start} or above it",
            hint="`dsbranch init DATASET` makes one; `-C DIR` names one elsewhere",
        )
    return root


def _require_own(store: Store) -> None:
    """Of root in a user's workspace: the user could not go on with what root makes there.

    :raises NoPrivilege: this is root, and the workspace is of an ordinary user's making
    """
    owner = os.stat(store.layout.layers).st_uid
    if store.dialect == "user" and os.geteuid() == 0 and owner != 0:
        name = name_of(owner)
        raise NoPrivilege(
            f"the workspace {store.layout.root} is {name}'s, made without root",
            hint=f"run the command as {name}, for example with `sudo -u`",
        )


def require_sight(context: Context) -> None:
    """:raises NoPrivilege: layers hold markers that this process cannot see, so that a deletion or
    a renamed directory would look like none
    """
    if not context.sees_markers:
        raise NoPrivilege(
            f"the workspace {context.root} was made by root: what its layers say of deleted and"
            " renamed directories is for root's eyes only",
            hint="run the command as root, for example with sudo,"
            " or make a workspace of your own: `dsbranch init`",
        )


def last_words(text: str, exit_code: int) -> None:
    """What the process says and exits with when a page of a mapped file cannot be had."""
    syscalls.last_words(text.encode(), exit_code)


def whoami() -> str:
    """``user@host``, for the author of commits and operations."""
    return f"{name_of(os.geteuid())}@{os.uname().nodename}"


def name_of(user: int) -> str:
    """The name of a user, or the number of one without."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)

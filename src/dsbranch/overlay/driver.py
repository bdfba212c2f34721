"""Room overlay: what a mount driver is. Every driver passes the same contract tests."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from dsbranch.model.views import MountPlan


class Prepared(Protocol):
    """A superblock that is mounted nowhere yet. Leaving the context before `attach` undoes it."""

    @property
    def plan(self) -> MountPlan:
        """What it is made of."""
        ...

    @property
    def mount_id(self) -> int | None:
        """The mount's id in mountinfo; None: it gets one when it is attached."""
        ...

    def attach(self, target: Path, *, beneath: bool = False, pid: int = 0) -> None:
        """Mount it on `target`, or under what is mounted there.

        `pid` is a process in whose mount namespace that is; 0: ours.

        :raises UnsupportedError: `beneath`, and the driver cannot
        :raises MountRefused: the kernel would not
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Driver(Protocol):
    @property
    def can_mount_beneath(self) -> bool:
        """Whether `Prepared.attach` knows `beneath`, so that a path never disappears."""
        ...

    def prepare(self, plan: MountPlan, *, pid: int = 0) -> Prepared:
        """Make the superblock of `plan`, in the namespaces of process `pid` unless that is 0.

        The caller holds the lock that keeps `plan.upper` from being mounted twice.

        :raises NoPrivilege: mounting is not allowed
        :raises MountRefused: the kernel would not; carries its words
        """
        ...

    def bind(
        self,
        source: Path,
        target: Path,
        *,
        beneath: bool = False,
        options: bytes = b"",
        whole: bool = False,
        source_pid: int = 0,
        pid: int = 0,
    ) -> None:
        """Show the directory `source` at `target` as well, or under what is there; `whole`: with
        what is mounted inside it.

        `options` are those of a mount in mountinfo; ro, nosuid, nodev and noexec are kept. Each
        path is one in the mount namespace of its process; 0: ours.

        :raises MountRefused: the kernel would not
        """
        ...

    def move(self, source: Path, target: Path) -> bool:
        """Move the topmost mount at `source` to the directory `target`.

        False: the kernel moves none there, so `target` shows the same superblock by a mount of
        its own. Then who stands in the old one goes on, but has no path any more.

        :raises MountRefused: the kernel would not
        """
        ...

    def set_read_only(self, path: Path) -> bool:
        """Make the superblock mounted at `path` read-only. False: something writes there.

        Everything written reaches the disk first.
        """
        ...

    def set_writable(self, path: Path) -> None:
        """Undo `set_read_only`."""
        ...

    def detach(self, path: Path, *, lazy: bool) -> None:
        """Take off the topmost mount at `path`; if `lazy`, its users keep what they hold.

        :raises MountInUse: it is in use, and not `lazy`
        :raises MountRefused: nothing is mounted there
        """
        ...

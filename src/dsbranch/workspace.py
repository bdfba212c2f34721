"""What a library user holds: each method is a line or three into ``ops``."""

from __future__ import annotations

import builtins
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from dsbranch.ops.context import Context, last_words, open_context

if TYPE_CHECKING:
    from types import TracebackType

    from dsbranch.model.archives import Applied, Exported
    from dsbranch.model.branches import Created, Deleted, Renamed
    from dsbranch.model.changes import Progress, Status
    from dsbranch.model.commits import Committed, Restored, RolledBack, Squashed
    from dsbranch.model.facts import Commit, Tag
    from dsbranch.model.health import Checkup, Sealed, Verified
    from dsbranch.model.merges import Merged, Preference
    from dsbranch.model.mounts import BranchInfo, Mounted
    from dsbranch.model.operations import Logged, Undone
    from dsbranch.model.overlays import Overlay
    from dsbranch.model.space import Collected, Space
    from dsbranch.model.tags import Tagged, Untagged
    from dsbranch.ops.diff import Diff

StrPath = str | os.PathLike[str]


def init(dataset: StrPath, workspace: StrPath | None = None, *, mount: bool = True) -> Workspace:
    """Adopt `dataset` where it lies and make a workspace with the branch ``main``.

    `workspace` defaults to ``<dataset>.ws`` beside the dataset. It is created if it does not
    exist and must be empty if it does. Nothing in the dataset is read but its root.

    :raises BadPath: the dataset or workspace cannot serve
    :raises UnsupportedError: this kernel, filesystem or privilege cannot hold branches
    """
    from dsbranch.ops.init import init as run

    return Workspace(
        run(Path(dataset), None if workspace is None else Path(workspace), mount=mount)
    )


def open(path: StrPath | None = None) -> Workspace:
    """Open the workspace at or above `path` (default: the current directory).

    :raises NotAWorkspace: there is none
    :raises NewerFormat: it was written by a newer dsbranch
    """
    return Workspace(open_context(Path.cwd() if path is None else Path(path)))


def recover(path: StrPath | None = None) -> str | None:
    """Make the database of the workspace at or above `path` again from its journal, where it is
    damaged or gone; what was done, None where it is sound. What was there is kept beside it.

    :raises IntegrityError: the journal is damaged, too, or there is none
    :raises Locked: other commands have the workspace open
    """
    from dsbranch.ops.repair import recover as run

    return run(Path.cwd() if path is None else Path(path))


def doctor(path: StrPath | None = None, *, dataset: StrPath | None = None) -> Checkup:
    """What this machine allows, in the workspace at or above `path`, or for one to be put there.

    `path` defaults to the current directory and need not exist. `dataset` defaults to that of the
    workspace. What does not work is in the answer, and is no exception.

    :raises BadPath: `dataset` is no directory, or `path` lies in no directory
    """
    from dsbranch.ops.doctor import doctor as run

    return run(
        Path.cwd() if path is None else Path(path), None if dataset is None else Path(dataset)
    )


def inspect(
    mountpoint: StrPath, *, sizes: bool = True, progress: Progress | None = None
) -> Overlay:
    """Explain the overlay that `mountpoint` lies in, dsbranch's or not. Needs no workspace.

    `sizes` walks its directories, but for a dataset.

    :raises BadPath: it lies in none
    """
    from dsbranch.ops.inspect import inspect as run

    return run(Path(mountpoint), sizes=sizes, progress=progress)


def inspect_all(*, sizes: bool = True, progress: Progress | None = None) -> list[Overlay]:
    """Explain each overlay that is mounted in any mount namespace the caller can see."""
    from dsbranch.ops.inspect import inspect_all as run

    return run(sizes=sizes, progress=progress)


def inspect_containers(
    document: bytes, *, sizes: bool = True, progress: Progress | None = None
) -> list[Overlay]:
    """Explain what ``docker inspect`` or ``podman inspect`` wrote of containers, running or not.

    :raises BadPath: it is no such document, or of another machine
    :raises UsageError: a container's storage is no overlay that its engine names
    """
    from dsbranch.ops.inspect import inspect_containers as run

    return run(document, sizes=sizes, progress=progress)


def overlay_changes(
    overlay: Overlay,
    *,
    paths: Sequence[bytes] = (),
    renames: bool = True,
    progress: Progress | None = None,
) -> Diff:
    """What the upper directory of an overlay changed, as `Workspace.diff` tells it. Read only.

    All of its directories but the last lower are walked.

    :raises UnsupportedError: it has no upper, or lowers that hold data only
    :raises NoPrivilege: the marks in its layers are out of the caller's sight
    """
    from dsbranch.ops.inspect import overlay_changes as run

    return run(overlay, paths=paths, renames=renames, progress=progress)


class Workspace:
    """An open workspace. Close it, or use it as a context manager; it holds one SQLite handle.

    One instance belongs to one thread. Methods raise the exceptions of `dsbranch.errors`.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def on_progress(self, listener: Progress | None) -> None:
        """Have `listener` told of long phases (scanning, hashing, comparing, writing)."""
        self._context.listeners[:] = [] if listener is None else [listener]

    def last_words(self, text: str, exit_code: int) -> None:
        """Have the whole process write `text` to standard error and exit, should the disk fail
        under a file that is mapped into memory: nothing can be raised there. For programs; nobody
        calls this for a library's user."""
        last_words(text, exit_code)

    def close(self) -> None:
        self._context.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def root(self) -> Path:
        """The workspace directory."""
        return self._context.root

    @property
    def notes(self) -> tuple[str, ...]:
        """What was noticed on the way so far and is no error: a sentence each."""
        return tuple(self._context.notes)

    @property
    def base(self) -> Path:
        """The dataset as it was adopted."""
        return self._context.store.base

    def current_branch(self, cwd: StrPath | None = None) -> str | None:
        """The branch in whose mount `cwd` (default: the current directory) lies, or None."""
        from dsbranch.ops.locate import current_branch as run

        return run(self._context, Path.cwd() if cwd is None else Path(cwd))

    def branch(self, name: str) -> Branch:
        """A handle on an existing branch.

        :raises UnknownRef: there is none of that name
        """
        self._context.store.branch(name)
        return Branch(self, name)

    def list(self) -> list[BranchInfo]:
        """All branches, by name."""
        from dsbranch.ops.list import list_branches as run

        return run(self._context)

    def status(self, branch: str) -> Status:
        """Where a branch stands and how many uncommitted changes it has, by letter."""
        from dsbranch.ops.status import status as run

        return run(self._context, branch)

    def create(self, name: str, *, start: str | None = None, mount: bool = True) -> Created:
        """A new branch at `start` (any ref; default: ``main``), mounted at ``root/name``."""
        from dsbranch.ops.create import create as run

        return run(self._context, name, start=start, mount=mount)

    def mount(self, ref: str, *, at: StrPath | None = None, read_only: bool = False) -> Mounted:
        """Mount a branch (writable unless `read_only`) or any commit (always read-only).

        `at` defaults to ``root/<branch>``; a read-only view needs it.
        """
        from dsbranch.ops.mount import mount as run

        return run(self._context, ref, at=None if at is None else Path(at), read_only=read_only)

    def mount_all(self) -> builtins.list[Mounted]:
        """Mount every branch that is not mounted, as after a reboot."""
        from dsbranch.ops.mount import mount_all as run

        return run(self._context)

    def enter(self, branch: str, *, at: StrPath | None = None) -> Path:
        """Move this process into a mount namespace in which `branch` lies at `at` (default: where
        the dataset lies), to call a program there; gives that place. Without root there is a user
        namespace around it. The process must have no other thread, and there is no way back.

        Who enters where the branch is shown by another process joins that one. The current
        directory is to be entered anew by its name: what it was may lie below the branch now.

        :raises NoPrivilege: this system allows ordinary users no namespaces
        :raises BusyError: another private view shows the branch elsewhere
        :raises BadPath: there is no directory at `at`
        """
        from dsbranch.ops.run import enter as run

        return run(self._context, branch, at=None if at is None else Path(at))

    def umount(self, ref: str, *, lazy: bool = False) -> builtins.list[Path]:
        """Unmount a branch, or the read-only view at a path. Returns where it was mounted."""
        from dsbranch.ops.umount import umount as run

        return run(self._context, ref, lazy=lazy)

    def commit(
        self,
        branch: str,
        message: str,
        *,
        wait: float = 0.0,
        allow_empty: bool = False,
        hash: bool = True,
        author: str | None = None,
    ) -> Committed:
        """Freeze the open layer of `branch` as a commit. `wait` is in seconds.

        :raises NothingToCommit: no change, and not `allow_empty`
        :raises WritersPresent: a process still writes; nothing changed
        """
        from dsbranch.ops.commit import commit as run

        return run(
            self._context,
            branch,
            message,
            wait=wait,
            allow_empty=allow_empty,
            hash=hash,
            author=author,
        )

    def log(
        self,
        ref: str,
        *,
        limit: int | None = None,
        paths: Sequence[bytes] = (),
        simplify: bool = False,
    ) -> builtins.list[Commit]:
        """The commits reachable from `ref`, newest first.

        `paths` picks those that changed something there or below against their first parent;
        with `simplify` their parents are the nearest ancestors that are in the answer, too.
        """
        from dsbranch.ops.log import log as run

        return run(self._context, ref, limit=limit, paths=paths, simplify=simplify)

    def show(self, ref: str, *, paths: Sequence[bytes] = ()) -> tuple[Commit, Diff]:
        """A commit and what it changed, at `paths` or anywhere, against its first parent."""
        from dsbranch.ops.show import show as run

        return run(self._context, ref, paths=paths)

    def diff(
        self,
        a: str | None = None,
        b: str | None = None,
        *,
        branch: str | None = None,
        paths: Sequence[bytes] = (),
        renames: bool = True,
    ) -> Diff:
        """What changed, true to content.

        With neither `a` nor `b`: the uncommitted changes of `branch`. With `a` alone, a
        branch: everything since it forked, uncommitted included; any other ref, or ``A..B``
        and ``A...B``, as in git. With both: from `a` to `b`. `paths` limits the answer to
        these paths and what lies below them.
        """
        from dsbranch.ops.diff import diff as run

        return run(self._context, a, b, branch=branch, paths=paths, renames=renames)

    def rollback(self, branch: str, to: str | None = None, *, wait: float = 0.0) -> RolledBack:
        """Give `branch` a fresh open layer on `to` (default: its head).

        What it replaces is kept.
        """
        from dsbranch.ops.rollback import rollback as run

        return run(self._context, branch, to, wait=wait)

    def restore(
        self,
        branch: str,
        paths: Sequence[bytes],
        *,
        start: str | None = None,
        wait: float = 0.0,
    ) -> Restored:
        """Have `paths` of a branch be as they are in `start` (any ref; default: its head) again.

        The result is uncommitted; `undo` brings back what was there.

        :raises BadPath: neither the branch nor the commit has a path
        :raises WritersPresent: a process still writes; nothing changed
        """
        from dsbranch.ops.restore import restore as run

        return run(self._context, branch, paths, start=start, wait=wait)

    def squash(
        self, branch: str, *, since: str | None = None, message: str | None = None
    ) -> Squashed:
        """Make one commit of those since `since` (default: the fork), without reading data."""
        from dsbranch.ops.squash import squash as run

        return run(self._context, branch, since=since, message=message)

    def merge(
        self,
        other: str,
        *,
        into: str,
        message: str | None = None,
        strategy: Literal["fail", "ours", "theirs"] = "fail",
        prefer: Sequence[Preference] = (),
        dry_run: bool = False,
        wait: float = 0.0,
        author: str | None = None,
    ) -> Merged:
        """Merge what `other` (any ref) changed since the nearest common ancestor into a branch.

        A conflict is decided by the first of `prefer` that matches its path, else by
        `strategy`. The new commit has two parents; no data are read or copied that neither
        side changed. `wait` is in seconds.

        :raises MergeConflict: conflicts are left, and not `dry_run`; nothing changed
        :raises DirtyBranch: the branch has uncommitted changes
        """
        from dsbranch.ops.merge import merge as run

        return run(
            self._context,
            other,
            into,
            message=message,
            strategy=strategy,
            prefer=prefer,
            dry_run=dry_run,
            wait=wait,
            author=author,
        )

    def tags(self) -> builtins.list[Tag]:
        """All tags, by name."""
        from dsbranch.ops.tag import list_tags as run

        return run(self._context)

    def tag(self, name: str, ref: str, *, force: bool = False) -> Tagged:
        """Name the commit `ref` means.

        :raises AlreadyExists: a tag has that name, and not `force`; or a branch has it
        """
        from dsbranch.ops.tag import tag as run

        return run(self._context, name, ref, force=force)

    def untag(self, name: str) -> Untagged:
        """Remove a tag; the commit stays as reachable as it is without it."""
        from dsbranch.ops.tag import untag as run

        return run(self._context, name)

    def rename(self, old: str, new: str) -> Renamed:
        """Rename a branch. Mounted at ``root/old`` it moves to ``root/new``, in use or not.

        :raises AlreadyExists: a branch or tag has that name, or something lies at ``root/new``
        """
        from dsbranch.ops.rename import rename as run

        return run(self._context, old, new)

    def operations(
        self, name: str | None = None, *, limit: int | None = None
    ) -> builtins.list[Logged]:
        """What was done, newest first; `name` picks what moved that branch or tag."""
        from dsbranch.ops.oplog import op_log as run

        return run(self._context, limit=limit, name=name)

    def undo(
        self, operation: int | None = None, *, wait: float = 0.0, dry_run: bool = False
    ) -> Undone:
        """Reverse an operation (default: the newest), uncommitted files included.

        Undoing is an operation itself, so undoing it again is a redo. `wait` is in seconds.

        :raises ConflictError: a later operation moved the same branch or tag, or gc has removed
            what was before
        :raises WritersPresent: a process writes, and the view would change; nothing changed
        """
        from dsbranch.ops.undo import undo as run

        return run(self._context, operation, wait=wait, dry_run=dry_run)

    def export(self, spec: str, output: StrPath) -> Exported:
        """Write a view (``REF``) or what changed (``A..B``) as a tar, or into a new directory.

        `output` ending in ``.tar`` or ``.tar.zst`` is a tar; any other name a directory.
        """
        from dsbranch.ops.export import export as run

        return run(self._context, spec, Path(output))

    def apply(
        self,
        branch: str,
        archive: StrPath,
        message: str | None = None,
        *,
        full: bool = False,
        dry_run: bool = False,
        force: bool = False,
        allow_devices: bool = False,
        wait: float = 0.0,
        author: str | None = None,
    ) -> Applied:
        """Make a commit on `branch` out of a tar (zstd around it or not) or a directory.

        What `export` made of a whole view, and any other directory, is the new view; a range,
        and any other tar, is changes to the present one, unless `full`. `force` applies a range
        to what it was not made from. `wait` is in seconds.

        :raises DirtyBranch: `branch` has uncommitted changes
        :raises ConflictError: `branch` is not what a range was made from, and not `force`
        :raises BadArchive: the archive is damaged, or asks for what no commit may hold
        :raises NothingToCommit: it changes nothing
        """
        from dsbranch.ops.apply import Wish
        from dsbranch.ops.apply import apply as run

        return run(
            self._context,
            Path(archive),
            branch,
            message,
            Wish(full=full, force=force, devices=allow_devices),
            dry_run=dry_run,
            wait=wait,
            author=author,
        )

    def adopt(
        self, name: str, overlay: Overlay, message: str | None = None, *, mount: bool = True
    ) -> Applied:
        """Make what a stopped container changed a commit on the new branch `name`.

        The container keeps its own: files are copied, by reflink where the filesystem can.

        :raises BusyError: the container is mounted
        :raises ConflictError: the dataset is not what the container lies on
        :raises NothingToCommit: the container changed nothing
        """
        from dsbranch.ops.adopt import adopt as run

        return run(self._context, name, overlay, message, mount=mount)

    def delete(self, branch: str, *, force: bool = False) -> Deleted:
        """Remove a branch. What it held is kept until gc.

        :raises DirtyBranch: it has uncommitted changes, and not `force`
        :raises ConflictError: no other branch reaches its commits, and not `force`
        """
        from dsbranch.ops.delete import delete as run

        return run(self._context, branch, force=force)

    def gc(self, *, keep: float | None = None, dry_run: bool = False) -> Collected:
        """Remove what no branch, tag, mount or operation of the last `keep` seconds reaches.

        The default is 30 days. A dry run says what would go, and how many bytes come back.

        :raises Locked: another gc runs
        """
        from dsbranch.ops.gc import KEEP_SECONDS
        from dsbranch.ops.gc import gc as run

        return run(self._context, keep=KEEP_SECONDS if keep is None else keep, dry_run=dry_run)

    def du(self, *branches: str) -> Space:
        """How much of the store each branch holds alone and with others, and what the whole is.

        With `branches` only of these, and of each commit that their mounts show.
        """
        from dsbranch.ops.du import du as run

        return run(self._context, branches)

    def seal(self, *, hash: bool = False) -> Sealed:
        """Record what the dataset is, for `verify` to compare with; `hash` reads its files, too.

        Digests that an earlier seal has of files that stat shows unchanged are taken over. What
        cannot be read is in the answer, and is no exception.

        :raises Interrupted: Ctrl-C; the message says what was kept
        :raises Locked: another process seals it
        :raises IntegrityError: the dataset is gone
        """
        from dsbranch.ops.seal import seal as run

        return run(self._context, hash=hash)

    def verify(self, *, full: bool = False, repair: bool = False) -> Verified:
        """Whether the store, every sealed layer and the dataset are as they were recorded; `full`
        reads and digests every file, too. What is found is in the answer, and is no exception.

        `repair` first makes again what can be made again: manifests out of their layers, indexes,
        workdirs, the journal. It deletes nothing. A workspace whose database is damaged cannot be
        opened: `recover` comes before.

        :raises Locked: gc runs, and `repair`
        """
        from dsbranch.ops.verify import verify as run

        return run(self._context, full=full, mend=repair)


class Branch:
    """A handle on one branch; it stores the name and looks the rest up."""

    def __init__(self, workspace: Workspace, name: str) -> None:
        self._workspace = workspace
        self.name = name

    @property
    def head(self) -> str:
        """The id of the commit the branch stands on."""
        return self._workspace._context.store.branch(self.name).head

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        """Mount the branch if need be, give its path, and unmount only what was mounted here."""
        mounted = self._workspace.mount(self.name)
        try:
            yield mounted.path
        finally:
            if not mounted.already:
                self._workspace.umount(self.name)

    def status(self) -> Status:
        return self._workspace.status(self.name)

    def commit(self, message: str, *, wait: float = 0.0, allow_empty: bool = False) -> Committed:
        return self._workspace.commit(self.name, message, wait=wait, allow_empty=allow_empty)

    def diff(self) -> Diff:
        """The uncommitted changes."""
        return self._workspace.diff(branch=self.name)

    def rollback(self, to: str | None = None) -> RolledBack:
        return self._workspace.rollback(self.name, to)

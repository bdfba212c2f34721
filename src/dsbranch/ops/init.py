"""``init``: adopt a dataset where it lies. Nothing of it is read but its root."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

from dsbranch.errors import AlreadyExists, BadPath, UnsupportedError
from dsbranch.ops import mounting
from dsbranch.ops.context import Context, fuse_is_chosen, whoami
from dsbranch.ops.mountpoints import make_mountpoint
from dsbranch.ops.unprivileged import note_foreign, note_not_mounted
from dsbranch.overlay.markers import copy_root
from dsbranch.overlay.privilege import may_mount
from dsbranch.overlay.probe import PROBE_PREFIX, probe_store
from dsbranch.store.creation import is_leftover
from dsbranch.store.database import Store
from dsbranch.store.faults import storage
from dsbranch.store.layout import DOT, FIRST_BRANCH


def init(dataset: Path, workspace: Path | None, *, mount: bool) -> Context:
    base = _check_dataset(dataset)
    root = _absolute(base.with_name(base.name + ".ws") if workspace is None else workspace)
    _check_apart(base, root)
    with ExitStack() as undo:
        with storage(f"make the workspace {root}"):
            _make_root(root, undo)
        dialect = probe_store(root, base)
        here = mount and (may_mount(f"mount {root / FIRST_BRANCH}") or fuse_is_chosen())
        if here and make_mountpoint(root / FIRST_BRANCH):
            undo.callback(_remove_empty, root / FIRST_BRANCH)
        prepare = partial(copy_root, base, dialect=dialect)
        store = Store.create(root, base, dialect, author=whoami(), prepare=prepare)
        undo.callback(shutil.rmtree, root / DOT, ignore_errors=True)
        undo.callback(store.close)
        context = Context(store)
        if here:
            with mounting.locked(context, FIRST_BRANCH, "init") as branch:
                mounting.mount_branch(context, branch, root / FIRST_BRANCH)
        elif mount:
            note_not_mounted(context, FIRST_BRANCH)
        if dialect == "user":
            note_foreign(context)
        undo.pop_all()
    return context


def _check_dataset(dataset: Path) -> Path:
    try:
        base = dataset.resolve(strict=True)
    except FileNotFoundError:
        raise BadPath(
            f"the dataset {dataset} does not exist", hint="give the path of an existing directory"
        ) from None
    except (OSError, RuntimeError) as error:
        # RuntimeError: how Python 3.11 and 3.12 report a loop of symlinks.
        reason = os.strerror(getattr(error, "errno", None) or errno.ELOOP)
        raise BadPath(
            f"the dataset {dataset} cannot be reached: {reason}",
            hint="give the path of an existing directory",
        ) from error
    if not base.is_dir():
        raise BadPath(
            f"the dataset {dataset} is no directory", hint="give the directory that holds it"
        )
    with storage(f"look into the dataset {base}"):
        os.close(os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    if base == base.parent:
        raise BadPath(
            "the root directory cannot be a dataset: every workspace would lie inside it",
            hint="name the directory that holds the data",
        )
    return base


def _absolute(workspace: Path) -> Path:
    """The physical place of a directory that need not exist yet."""
    return Path(os.path.realpath(workspace))


def _check_apart(base: Path, root: Path) -> None:
    if root == base:
        raise BadPath(
            f"the workspace cannot be the dataset itself, {base}",
            hint="name another directory for it",
        )
    if base in root.parents:
        raise BadPath(
            f"the workspace {root} lies inside the dataset {base}",
            hint=f"put it beside it: `dsbranch init {base} {base}.ws`",
        )
    if root in base.parents:
        raise BadPath(
            f"the dataset {base} lies inside the workspace {root}",
            hint=f"put the workspace beside it: `dsbranch init {base} {base}.ws`",
        )


def _make_root(root: Path, undo: ExitStack) -> None:
    if (root / ".dsbranch").exists():
        raise AlreadyExists(
            f"{root} is a workspace already", hint=f"`dsbranch -C {root} list` shows its branches"
        )
    if root.is_dir():
        if any(not _is_of_a_killed_init(entry) for entry in root.iterdir()):
            raise AlreadyExists(
                f"the workspace directory {root} is not empty",
                hint="name a new or an empty directory",
            )
        return
    if root.exists():
        raise BadPath(f"{root} is no directory", hint="name a new or an empty directory")
    missing = [root, *(parent for parent in root.parents if not parent.exists())]
    if not missing[-1].parent.is_dir():
        raise BadPath(
            f"{missing[-1].parent} is no directory", hint="name a place in a directory for it"
        )
    for directory in reversed(missing):
        with storage(f"make the directory {directory}"):
            try:
                directory.mkdir()
            except OSError as error:
                if error.errno == errno.EROFS:
                    raise UnsupportedError(
                        f"{directory.parent} is on a read-only filesystem",
                        hint="put the workspace elsewhere: `dsbranch init DATASET /other/disk/ws`",
                    ) from error
                raise
        undo.callback(_remove_empty, directory)


def _is_of_a_killed_init(entry: Path) -> bool:
    if entry.name == FIRST_BRANCH and entry.is_dir() and not entry.is_symlink():
        return not any(entry.iterdir())
    return is_leftover(entry.name) or entry.name.startswith(PROBE_PREFIX)


def _remove_empty(directory: Path) -> None:
    """Take back a directory made here; one that somebody has put something into stays."""
    with suppress(OSError):
        directory.rmdir()

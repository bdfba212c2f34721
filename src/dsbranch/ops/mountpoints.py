"""The directories that views are mounted on."""

from __future__ import annotations

import os
from contextlib import suppress
from errno import ENOENT, ENOTCONN
from pathlib import Path

from dsbranch.errors import AlreadyExists, BadPath
from dsbranch.overlay.locate import mount_at
from dsbranch.overlay.mountinfo import SERVED
from dsbranch.overlay.plan import parse_source
from dsbranch.store.faults import storage


def remove_mountpoint(path: Path) -> None:
    """Remove an empty directory that was mounted on; one that is in use stays."""
    with suppress(OSError):
        path.rmdir()


def make_mountpoint(path: Path) -> bool:
    """Make the directory `path` to mount on, or find it empty. True: it was made here.

    :raises AlreadyExists: something lies there
    :raises BadPath: it cannot be made there
    """
    with storage(f"make the mount point {path}"):
        try:
            path.mkdir()
            return True
        except FileExistsError:
            if is_left(path):
                clear(path)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise BadPath(f"{path.parent} is no directory", hint="make it first") from error
    if not path.is_dir() or (path.is_symlink() and not _leads_to_a_view(path)):
        raise AlreadyExists(f"{path} exists and is no directory", hint="choose another name")
    entry = mount_at(path)
    if entry is not None and entry.path == os.fsencode(path):
        shown = parse_source(entry.source)
        what = "another view" if shown else f"a {entry.fstype} filesystem"
        raise AlreadyExists(f"{what} is mounted at {path}", hint=f"`dsbranch umount {path}`")
    if any(path.iterdir()):
        raise AlreadyExists(
            f"{path} exists and is not empty", hint="choose another name, or move it away"
        )
    return False


def is_left(path: Path) -> bool:
    """Whether a symlink to a view is at `path` whose server has ended."""
    if not path.is_symlink() or not _leads_to_a_view(path):
        return False
    try:
        # What stat says is remembered from before.
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno in (ENOTCONN, ENOENT)
    entry = mount_at(path)
    return entry is None or entry.fstype != SERVED


def clear(path: Path) -> None:
    """Put an empty directory there."""
    from dsbranch.overlay import fuse

    fuse.clear(path)


def _leads_to_a_view(path: Path) -> bool:
    from dsbranch.overlay.served import view_at

    return view_at(path) is not None

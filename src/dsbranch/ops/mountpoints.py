"""The directories that views are mounted on."""

from __future__ import annotations

import os
from contextlib import suppress
from errno import ENOTCONN
from pathlib import Path

from dsbranch.errors import AlreadyExists, BadPath
from dsbranch.overlay import mountinfo
from dsbranch.overlay.locate import mount_at
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
            if is_dead(path):
                clear(path)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise BadPath(f"{path.parent} is no directory", hint="make it first") from error
    if path.is_symlink() or not path.is_dir():
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


def is_dead(path: Path) -> bool:
    """Whether a mount of fuse-overlayfs is at `path` whose server has ended."""
    try:
        # What stat says is remembered from before.
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError as error:
        name = os.fsencode(path)
        return error.errno == ENOTCONN and any(
            entry.path == name and entry.fstype == mountinfo.SERVED for entry in mountinfo.current()
        )
    return False


def clear(path: Path) -> None:
    """Take such a mount off."""
    from dsbranch.overlay import fuse

    fuse.clear(path)

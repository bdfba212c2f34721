"""Room overlay: from a path to the mount it lies in, and to the workspace behind it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from dsbranch._core import syscalls
from dsbranch.overlay.mountinfo import MountEntry, by_id
from dsbranch.overlay.plan import parse_source

_STORE = b"/.dsbranch/"
_UNREACHABLE = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG)


def mount_at(path: Path) -> MountEntry | None:
    """The topmost mount that `path` lies in.

    None if there is nothing at `path` that the caller can reach, or if its mount has been
    detached and only a working directory or descriptor keeps it.
    """
    try:
        mount_id = syscalls.mount_id(os.fsencode(path))
    except OSError as error:
        if error.errno in _UNREACHABLE:
            return None
        raise
    return by_id(mount_id)


def workspace_of_mount(path: Path) -> Path | None:
    """The workspace whose branch or read-only view `path` lies in, or None.

    Told by the directories that the mount consists of, so it needs no store.
    """
    entry = mount_at(path)
    if entry is None or parse_source(entry.source) is None:
        return None
    for directory in entry.super_option(b"upperdir") + entry.super_option(b"lowerdir+"):
        root, store, _ = directory.rpartition(_STORE)
        if store and os.path.isdir(root + _STORE):
            return Path(os.fsdecode(root))
    return None

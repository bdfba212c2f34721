"""Removing directory trees that nobody wants any more. Room ``store``.

It promises never to leave the tree, neither through a symlink nor into what is mounted in it;
that what cannot be removed keeps nothing else from going; and that it can be broken off at
any moment. One thread does it: it waits for the journal of the filesystem, not for Python.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from errno import EACCES, EBUSY, ENOENT, ENOTEMPTY, EPERM, EXDEV
from itertools import islice
from pathlib import Path

from dsbranch._core import syscalls

MOMENT_SECONDS = 0.3

_DEEPEST = 64
_STEP = 1024

Tell = Callable[[int], None]
"""Called now and then with how many entries went since."""

_WHY = {
    EBUSY: "something is mounted there",
    EXDEV: "something is mounted there",
    EPERM: "it is immutable or another user's (see `lsattr`)",
    EACCES: "its directory belongs to another user",
}


def remove_tree(path: Path, tell: Tell) -> list[str]:
    """Remove a directory with all in it; a sentence for each entry that had to stay.

    A tree that is gone already is none of them.
    """
    removal = _Removal(path, tell)
    removal.run()
    return list(removal.problems)


class _Late(Exception):
    """Its time is up."""


def remove_soon(path: Path) -> None:
    """Remove as much of a tree as goes in a moment, and say nothing of the rest."""
    end = time.monotonic() + MOMENT_SECONDS

    def tell(_more: int) -> None:
        if time.monotonic() > end:
            raise _Late

    with suppress(_Late):
        remove_tree(path, tell)


class _Removal:
    def __init__(self, top: Path, tell: Tell) -> None:
        self.top = top
        self.tell = tell
        self.problems: dict[str, None] = {}  # in order, each once
        self.gone = 0
        self.moved = 0

    def run(self) -> None:
        name = os.fsencode(self.top.name)
        try:
            above = os.open(self.top.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            self._blame(b"", error)
            return
        try:
            self.mount = syscalls.mount_id_of(above)
            self._directory(above, name, b"", 0)
        finally:
            os.close(above)
        self.tell(self.gone % _STEP)

    def _directory(self, above: int, name: bytes, path: bytes, depth: int) -> None:
        """Empty and remove the directory `name` of `above`; `path` is relative to the top."""
        try:
            fd = _open(above, name)
        except OSError as error:
            self._blame(path, error)
            return
        try:
            if syscalls.mount_id_of(fd) != self.mount:
                self._blame(path, OSError(EXDEV, os.strerror(EXDEV)))
                return
            complete = self._empty(fd, path, depth)
        finally:
            os.close(fd)
        if complete:
            self._take(os.rmdir, above, name, path)

    def _empty(self, fd: int, path: bytes, depth: int) -> bool:
        """Remove all that is in a directory; False: something had to stay."""
        if depth == 0:
            self.top_fd = fd
        # Again until nothing is found, as names move while a directory is read, and what lay too
        # deep is lifted up here; or until only what has to stay is found.
        while True:
            before, found = self.gone, 0
            try:
                with os.scandir(fd) as entries:
                    while batch := list(islice(entries, _STEP)):
                        found += len(batch)
                        for entry in batch:
                            self._entry(fd, entry, path, depth)
            except OSError as error:
                self._blame(path, error)
                return False
            if not found or self.gone == before:
                return not found

    def _entry(self, fd: int, entry: os.DirEntry[str], path: bytes, depth: int) -> None:
        name = os.fsencode(entry.name)
        inner = path + b"/" + name if path else name
        if not entry.is_dir(follow_symlinks=False):
            self._take(os.unlink, fd, name, inner)
        elif depth < _DEEPEST or not self._lift(fd, name):
            self._directory(fd, name, inner, depth + 1)

    def _lift(self, fd: int, name: bytes) -> bool:
        """Move a deep directory up to the top, so that neither descriptors nor stack run out."""
        self.moved += 1
        with suppress(OSError):
            name_there = b".deep-%d-%d" % (os.getpid(), self.moved)
            os.rename(name, name_there, src_dir_fd=fd, dst_dir_fd=self.top_fd)
            self.gone += 1
            return True
        return False

    def _take(self, remove: Callable[..., None], fd: int, name: bytes, path: bytes) -> None:
        try:
            try:
                remove(name, dir_fd=fd)
            except PermissionError as error:
                if error.errno != EACCES:
                    raise
                os.fchmod(fd, 0o700)
                remove(name, dir_fd=fd)
        except OSError as error:
            if error.errno != ENOENT:
                self._blame(path, error)
            return
        self.gone += 1
        if self.gone % _STEP == 0:
            self.tell(_STEP)

    def _blame(self, path: bytes, error: OSError) -> None:
        if error.errno == ENOENT:
            return
        where = self.top / os.fsdecode(path)
        code = error.errno or 0
        why = "something was put into it meanwhile" if code == ENOTEMPTY else _WHY.get(code)
        self.problems[f"{where} cannot be removed: {why or os.strerror(code)}"] = None


def _open(above: int, name: bytes) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags, dir_fd=above)
    except PermissionError:
        # The kernel's own, in a workdir, has no permissions; whoever owns it may still give them.
        place = os.open(name, flags | os.O_PATH, dir_fd=above)
        try:
            os.chmod(f"/proc/self/fd/{place}", 0o700)
        finally:
            os.close(place)
        return os.open(name, flags, dir_fd=above)

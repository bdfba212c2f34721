"""Names below a directory: reached by descriptors, so of any length and never by a symlink."""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from dsbranch._core.entries import open_beneath

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY


def split(path: bytes) -> tuple[bytes, bytes]:
    """The directory of a path, and its last name; ``.`` for the root."""
    directory, _, name = path.rpartition(b"/")
    return directory, name or b"."


class Below:
    """The directory at `root`. Gives parents as descriptors, the last one of which it keeps."""

    def __init__(self, root: Path) -> None:
        self._root = os.open(root, _DIRECTORY | os.O_CLOEXEC)
        self._last: tuple[bytes, int] | None = None

    def close(self) -> None:
        self.forget()
        os.close(self._root)

    def forget(self) -> None:
        """Look the next directory up anew: one was removed."""
        if self._last is not None:
            os.close(self._last[1])
            self._last = None

    def directory(self, path: bytes) -> int:
        """A descriptor of a directory, good until the next call.

        :raises OSError: ENOENT; ENOTDIR or ELOOP: something else is there or on the way
        """
        if self._last is None or self._last[0] != path:
            fd = open_beneath(self._root, path, _DIRECTORY)
            self.forget()
            self._last = (path, fd)
        return self._last[1]

    def find(self, path: bytes) -> os.stat_result | None:
        """What is there, or None."""
        directory, name = split(path)
        with suppress(FileNotFoundError):
            return os.stat(name, dir_fd=self.directory(directory), follow_symlinks=False)
        return None

    def remove(self, path: bytes) -> None:
        """Remove what is there, a directory with all in it."""
        directory, name = split(path)
        fd = self.directory(directory)
        if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
            shutil.rmtree(name, dir_fd=fd)
            self.forget()
        else:
            os.unlink(name, dir_fd=fd)

"""Test foundation: names for entries whose path no system call would take in one piece.

Promises that any path below a root can be named, however long. Knows nothing of overlays.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

Root = str | bytes | os.PathLike[str]


@contextmanager
def beneath(root: Root, path: bytes) -> Iterator[bytes]:
    """A short name for ``root/path`` that is valid inside the block.

    The parents are entered one by one without following symlinks; the last component is left
    to the caller's system call.
    """
    if not path:
        yield os.fsencode(root)
        return
    *parents, name = path.split(b"/")
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        for parent in parents:
            inner = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            os.close(fd)
            fd = inner
        yield b"/proc/self/fd/%d/%s" % (fd, name)
    finally:
        os.close(fd)


def join(directory: bytes, name: bytes) -> bytes:
    """`directory` and `name` as one relative path; the root is ``b""``."""
    return directory + b"/" + name if directory else name

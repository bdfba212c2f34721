"""Where a sparse file has data."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator


def data_of(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """``(start, end)`` of each part of an open file that is no hole, in order."""
    at = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        at = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        if start < at:
            yield start, at

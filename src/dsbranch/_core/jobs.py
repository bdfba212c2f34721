"""What long jobs of the core ask and tell: types alone. Room ``_core``, pure Python."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

Report: TypeAlias = Callable[[int, int | None, int], None]
"""What a long job tells: how many entries or files are done, of how many, and how many bytes."""

FileKey: TypeAlias = tuple[int, int, int, int, int]
"""What stat says of a file's content: device (major << 32 | minor), inode, size, mtime, ctime.

Times are in nanoseconds since the epoch."""


class Known(Protocol):
    """Digests that were computed before, by whoever remembers them."""

    def find(self, keys: list[FileKey]) -> list[bytes | None]:
        """The digest of each file, None where it is not known."""
        ...

    def learn(self, facts: list[tuple[FileKey, bytes, int]]) -> None:
        """Remember files with their digests, and when reading each began (ns since the epoch).

        The key was the same before and after the reading.
        """
        ...

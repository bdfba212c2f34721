"""How a view is mounted, and who holds it."""

from pathlib import Path
from typing import NamedTuple


class MountPlan(NamedTuple):
    """All that is needed to make one overlay superblock and attach it; data only.

    `lowers` are ordered newest first, the base last. `upper` and `work` are None together,
    for a read-only view. `source` is what /proc/mounts shows in the first column.
    """

    lowers: tuple[Path, ...]
    upper: Path | None
    work: Path | None
    source: str
    options: tuple[tuple[str, str], ...]

    @property
    def read_only(self) -> bool:
        return self.upper is None


class Process(NamedTuple):
    """A process in the way of an operation, and the first path it holds."""

    pid: int
    command: str
    path: str
    what: str = "open for writing"


LOST = "lost its directory"
"""`Process.what` of one that stood in a view that ended."""

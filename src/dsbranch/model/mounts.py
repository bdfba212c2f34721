"""The answers of ``list`` and ``mount``."""

from pathlib import Path
from typing import NamedTuple


class BranchInfo(NamedTuple):
    """A row of `list`. `depth` counts the lower layers a mount needs, the base included."""

    name: str
    head: str
    mounted: bool
    mountpoint: Path | None
    depth: int


class Mounted(NamedTuple):
    """The answer of mount. `already` means that it had been mounted there before the call."""

    path: Path
    ref: str
    already: bool = False
    read_only: bool = False

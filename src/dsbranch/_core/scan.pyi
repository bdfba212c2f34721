from collections.abc import Callable

from dsbranch._core.jobs import Report
from dsbranch._core.table import Table

def scan(
    root: bytes,
    *,
    dialect: str = "trusted",
    served: bool = False,
    threads: int | None = None,
    live: bool = False,
    xattrs: bool = True,
    spill: bytes | None = None,
    problems: list[tuple[bytes, int]] | None = None,
    progress: Report | None = None,
) -> Table: ...
def scan_in_parts(
    root: bytes,
    take: Callable[[Table], None],
    *,
    threads: int | None = None,
    live: bool = False,
) -> None: ...

from dsbranch._core.columns import Report
from dsbranch._core.table import Table

def scan(
    root: bytes,
    *,
    dialect: str = "trusted",
    threads: int | None = None,
    live: bool = False,
    xattrs: bool = True,
    progress: Report | None = None,
) -> Table: ...

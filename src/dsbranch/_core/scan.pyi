from dsbranch._core.table import Table

def scan(
    root: bytes,
    *,
    dialect: str = "trusted",
    threads: int = 2,
    live: bool = False,
    xattrs: bool = True,
) -> Table: ...

from dsbranch._core.table import Table

def gather(
    places: list[tuple[Table, int]], *, threads: int | None = None
) -> list[tuple[bytes, bool] | None]: ...

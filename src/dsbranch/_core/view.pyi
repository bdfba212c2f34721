from collections.abc import Sequence

from dsbranch._core.table import Table

class View:
    def __init__(self, tables: Sequence[Table], base: Table | None = None) -> None: ...
    def find(self, path: bytes) -> tuple[Table, int] | None: ...

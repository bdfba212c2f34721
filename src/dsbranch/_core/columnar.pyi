from collections.abc import Iterable, Iterator

from dsbranch._core.columns import Columns
from dsbranch._core.table import Table

def to_columns(
    table: Table, start: int = 0, stop: int | None = None, *, ctime: bool = False
) -> Columns: ...
def to_batches(table: Table, *, ctime: bool = False) -> Iterator[Columns]: ...
def from_batches(batches: Iterable[Columns], *, spill: bytes | None = None) -> Table: ...

from collections.abc import Iterator
from typing import Any

from dsbranch._core.table import Table

def drift(
    expected: Table, found: Table, *, base: bool = False
) -> Iterator[tuple[bytes, str, Any, Any]]: ...
def digests(table: Table) -> tuple[int, int]: ...

from collections.abc import Iterable
from typing import TypeAlias

from dsbranch._core.columns import Known, Report
from dsbranch._core.table import Table

Question: TypeAlias = tuple[Table, int, Table, int]

def digest_files(
    table: Table,
    *,
    known: Known | None = None,
    threads: int | None = None,
    progress: Report | None = None,
) -> None: ...
def compare_files(
    questions: Iterable[Question],
    *,
    total: int | None = None,
    known: Known | None = None,
    threads: int | None = None,
    progress: Report | None = None,
) -> list[bool]: ...

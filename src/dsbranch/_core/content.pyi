from array import array
from collections.abc import Iterable
from typing import TypeAlias

from dsbranch._core.jobs import Known, Report
from dsbranch._core.table import Table

Question: TypeAlias = tuple[Table, int, Table, int]

def digest_files(
    table: Table,
    *,
    rows: array[int] | None = None,
    problems: list[tuple[bytes, int]] | None = None,
    known: Known | None = None,
    threads: int | None = None,
    progress: Report | None = None,
) -> None: ...
def share_digests(table: Table) -> None: ...
def compare_files(
    questions: Iterable[Question],
    *,
    total: int | None = None,
    known: Known | None = None,
    threads: int | None = None,
    progress: Report | None = None,
) -> list[bool]: ...

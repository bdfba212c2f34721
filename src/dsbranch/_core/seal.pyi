from dsbranch._core.columns import Known, Report
from dsbranch._core.table import Table
from dsbranch._core.view import View

def idle_copies(
    view: View,
    *,
    known: Known | None = None,
    threads: int | None = None,
    progress: Report | None = None,
) -> list[bytes]: ...
def remove(table: Table, paths: list[bytes]) -> None: ...
def restore_times(table: Table) -> None: ...
def strip(table: Table, *, dialect: str = "trusted") -> None: ...

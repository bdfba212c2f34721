from collections.abc import Callable

from dsbranch._core.columns import Known, Report
from dsbranch._core.table import Table
from dsbranch._core.view import View

def idle_copies(
    view: View,
    *,
    known: Known | None = None,
    linked: list[bytes] | None = None,
    threads: int | None = None,
    progress: Report | None = None,
) -> list[bytes]: ...
def remove(table: Table, paths: list[bytes]) -> None: ...
def restore_times(table: Table) -> None: ...
def strip(
    table: Table, *, dialect: str = "trusted", given_up: Callable[[], bool] | None = None
) -> None: ...
def to_kernel(table: Table) -> None: ...

from typing import Literal, TypeAlias

from dsbranch._core.columns import Report
from dsbranch._core.table import Table
from dsbranch._core.view import View

Place: TypeAlias = tuple[Table, int]
Letter: TypeAlias = Literal["A", "M", "m", "D", "R", "T"]

class Delta:
    status: Letter
    path: bytes
    old_path: bytes | None
    kind: str
    size: int | None
    old_size: int | None
    old: Place | None
    new: Place | None
    content: Place | None
    def astuple(self) -> tuple[Letter, bytes, bytes | None, str, int | None, int | None]: ...

def changes(
    old: View | None,
    new: View,
    *,
    renames: bool = True,
    directory_times: bool = False,
    threads: int | None = None,
    progress: Report | None = None,
) -> list[Delta]: ...

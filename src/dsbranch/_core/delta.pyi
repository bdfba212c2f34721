from typing import Literal, TypeAlias

from dsbranch._core.table import Table

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

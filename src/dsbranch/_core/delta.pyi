from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeAlias, overload

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

class Deltas(Sequence[Delta]):
    def __init__(self) -> None: ...
    def __len__(self) -> int: ...
    @overload
    def __getitem__(self, at: int) -> Delta: ...
    @overload
    def __getitem__(self, at: slice) -> Deltas: ...
    def __iter__(self) -> Iterator[Delta]: ...
    def tuples(
        self,
    ) -> Iterator[tuple[Letter, bytes, str, bytes | None, int | None, int | None]]: ...
    def counts(self) -> dict[Letter, int]: ...
    def only(self, keep: Callable[[Delta], bool]) -> Deltas: ...

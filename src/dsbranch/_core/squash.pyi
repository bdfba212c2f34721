from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

from dsbranch._core.base import Base
from dsbranch._core.table import Table

Place: TypeAlias = tuple[Table, int]

class Step:
    action: int
    path: bytes
    source: Place | None
    data: Place | None
    marker: bytes | None
    first: bytes | None

class Plan:
    data_steps: list[Step]
    def __iter__(self) -> Iterator[Step]: ...

def plan(layers: Sequence[Table], below: Sequence[Table], base: Base) -> Plan: ...
def plan_apart(
    layers: Sequence[Table], below: Sequence[Table], base: Base, aside: bytes
) -> Plan: ...
def export_step(
    action: Literal["directory", "copy", "again", "node", "tomb"],
    path: bytes,
    source: Place | None = None,
    data: Place | None = None,
    first: bytes | None = None,
) -> Step: ...

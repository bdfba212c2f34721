from collections.abc import Sequence

from dsbranch._core.squash import Step
from dsbranch._core.table import Table

def build(
    steps: list[Step], target: bytes, *, dialect: str = "trusted", layer: bool = True
) -> tuple[int, int, int]: ...
def inherit(table: Table, steps: list[Step], parts: Sequence[Table] = ()) -> None: ...

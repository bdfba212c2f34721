from collections.abc import Iterable, Sequence

from dsbranch._core.squash import Step
from dsbranch._core.table import Table

def build(
    steps: Iterable[Step],
    target: bytes,
    *,
    dialect: str = "trusted",
    layer: bool = True,
    share: bool = True,
) -> tuple[int, int, int]: ...
def inherit(table: Table, steps: Iterable[Step], parts: Sequence[Table] = ()) -> None: ...

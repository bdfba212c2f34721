from dsbranch._core.delta import Deltas
from dsbranch._core.jobs import Known, Report
from dsbranch._core.view import View

def same(
    one: View, other: View, *, threads: int | None = None, progress: Report | None = None
) -> bool: ...
def changes(
    old: View | None,
    new: View,
    *,
    renames: bool = True,
    moved: dict[bytes, bytes] | None = None,
    directory_times: bool = False,
    known: Known | None = None,
    threads: int | None = None,
    spill: bytes | None = None,
    progress: Report | None = None,
) -> Deltas: ...

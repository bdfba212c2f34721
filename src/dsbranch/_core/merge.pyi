from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from dsbranch._core.jobs import Report
from dsbranch._core.view import View

Face: TypeAlias = tuple[bytes, str, int | None]

class Clash:
    path: bytes
    reason: str
    base: Face | None
    ours: Face | None
    theirs: Face | None
    def astuple(self) -> tuple[bytes, str, Face | None, Face | None, Face | None]: ...

class Merge:
    conflicts: list[Clash]

def decide(
    base: View,
    ours: View,
    theirs: View,
    *,
    choose: Callable[[bytes], Literal["ours", "theirs"] | None] | None = None,
    paths: Sequence[bytes] | None = None,
    threads: int | None = None,
    progress: Report | None = None,
) -> Merge: ...

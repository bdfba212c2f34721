from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypedDict

from dsbranch._core.columns import Columns

class Entry(NamedTuple):
    path: bytes
    kind: str
    flags: int
    mode: int
    uid: int
    gid: int
    rdev: int
    size: int
    mtime_ns: int
    nlink_group: int
    target: bytes | None
    redirect: bytes | None
    origin: bytes | None
    xattrs: bytes | None
    digest: bytes | None

class Summary(TypedDict):
    entries: int
    bytes: int
    hashed: bool
    redirects: bool
    metacopy: bool

class Table:
    root_fd: int
    def __len__(self) -> int: ...
    def open(self, path: bytes) -> None: ...
    def path(self, i: int) -> bytes: ...
    def entry(self, i: int) -> Entry: ...
    def summary(self) -> Summary: ...
    def without(self, paths: Iterable[bytes]) -> Table: ...
    def columns(
        self, start: int = 0, stop: int | None = None, *, ctime: bool = False
    ) -> Columns: ...
    def batches(self, *, ctime: bool = False) -> Iterator[Columns]: ...
    def spill_into(self, directory: bytes) -> None: ...
    @staticmethod
    def from_columns(columns: Columns) -> Table: ...
    @staticmethod
    def from_batches(batches: Iterable[Columns], *, spill: bytes | None = None) -> Table: ...

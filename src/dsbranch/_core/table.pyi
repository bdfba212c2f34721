from collections.abc import Iterable
from typing import NamedTuple, TypedDict

KINDS: tuple[str, ...]

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
    def spill_into(self, directory: bytes) -> None: ...

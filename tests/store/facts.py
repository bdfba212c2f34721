"""Literals for the store's tests: layers, commits, and the rows of a manifest."""

import struct
from typing import NamedTuple

from dsbranch._core.columns import Columns
from dsbranch._core.table import KINDS, Table
from dsbranch.model.facts import Branch, Commit, Layer, Move, Operation
from dsbranch.store.database import Store
from dsbranch.store.identity import commit_id, new_id
from tests.tables import from_columns


def open_layer() -> Layer:
    return Layer(new_id(), "open", "trusted", 1)


def sealed_layer(id: str | None = None) -> Layer:
    return Layer(
        id or new_id(), "sealed", "trusted", 1, sealed_ns=2, entries=3, bytes=4096, hashed=True
    )


def commit_of(layer: str, *parents: str, message: str = "m", time_ns: int = 5) -> Commit:
    id = commit_id(
        author="ada",
        layer=layer,
        manifest_sha256="0" * 64,
        message=message,
        parents=parents,
        time_ns=time_ns,
    )
    return Commit(id, parents, layer, message, "ada", time_ns)


def advance(store: Store, branch: Branch, message: str = "m") -> Commit:
    """Commit the open layer of `branch`, as `ops` would."""
    commit = commit_of(branch.layer, branch.head, message=message)
    fresh = open_layer()
    store.record(
        "commit",
        Move(branch, branch._replace(head=commit.id, layer=fresh.id)),
        author="ada",
        detail=message,
        layers=[sealed_layer(branch.layer), fresh],
        commit=commit,
    )
    return commit


def set_aside(store: Store, branch: Branch, head: str) -> Operation:
    """Give `branch` a fresh open layer on `head`, as a rollback would."""
    fresh = open_layer()
    return store.record(
        "rollback",
        Move(branch, branch._replace(head=head, layer=fresh.id)),
        author="ada",
        detail="d",
        layers=[fresh],
    )


class Row(NamedTuple):
    path: bytes
    kind: str = "file"
    flags: int = 0
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    rdev: int = 0
    size: int = 0
    mtime_ns: int = 0
    nlink_group: int = 0
    target: bytes | None = None
    redirect: bytes | None = None
    origin: bytes | None = None
    xattrs: bytes | None = None
    digest: bytes | None = None


def columns_of(rows: list[Row]) -> Columns:
    def numbers(code: str, name: str) -> bytes:
        return struct.pack(f"<{len(rows)}{code}", *(getattr(row, name) for row in rows))

    def valid(name: str) -> bytes:
        return bytes(getattr(row, name) is not None for row in rows)

    def text(name: str) -> dict[str, bytes]:
        values = [getattr(row, name) or b"" for row in rows]
        offsets = [0]
        for value in values:
            offsets.append(offsets[-1] + len(value))
        packed = struct.pack(f"<{len(offsets)}q", *offsets)
        return {f"{name}_offsets": packed, f"{name}_data": b"".join(values)}

    def digests(name: str) -> bytes:
        return b"".join(getattr(row, name) or bytes(16) for row in rows)

    return Columns(
        length=len(rows),
        **text("path"),
        kind=bytes(KINDS.index(row.kind) for row in rows),
        flags=numbers("B", "flags"),
        mode=numbers("H", "mode"),
        uid=numbers("I", "uid"),
        gid=numbers("I", "gid"),
        rdev=numbers("Q", "rdev"),
        size=numbers("q", "size"),
        mtime_ns=numbers("q", "mtime_ns"),
        nlink_group=numbers("I", "nlink_group"),
        **text("target"),
        target_valid=valid("target"),
        **text("redirect"),
        redirect_valid=valid("redirect"),
        **text("origin"),
        origin_valid=valid("origin"),
        xattrs=digests("xattrs"),
        xattrs_valid=valid("xattrs"),
        digest=digests("digest"),
        digest_valid=valid("digest"),
    )


def table_of(rows: list[Row]) -> Table:
    """`rows` have to be sorted, with the root and all directories."""
    return from_columns(columns_of(rows))


def rows_of(columns: Columns) -> list[Row]:
    n = columns.length

    def numbers(code: str, name: str) -> list[int]:
        return list(struct.unpack(f"<{n}{code}", bytes(getattr(columns, name))))

    def valid(name: str) -> bytes:
        return bytes(getattr(columns, f"{name}_valid"))

    def text(name: str) -> list[bytes]:
        offsets = struct.unpack(f"<{n + 1}q", bytes(getattr(columns, f"{name}_offsets")))
        data = bytes(getattr(columns, f"{name}_data"))
        return [data[offsets[i] : offsets[i + 1]] for i in range(n)]

    def optional(name: str) -> list[bytes | None]:
        if name in ("xattrs", "digest"):
            data = bytes(getattr(columns, name))
            values = [data[16 * i : 16 * i + 16] for i in range(n)]
        else:
            values = text(name)
        return [value if ok else None for value, ok in zip(values, valid(name), strict=True)]

    fields = [
        text("path"),
        [KINDS[code] for code in bytes(columns.kind)],
        numbers("B", "flags"),
        numbers("H", "mode"),
        numbers("I", "uid"),
        numbers("I", "gid"),
        numbers("Q", "rdev"),
        numbers("q", "size"),
        numbers("q", "mtime_ns"),
        numbers("I", "nlink_group"),
        *(optional(name) for name in ("target", "redirect", "origin", "xattrs", "digest")),
    ]
    return [Row(*values) for values in zip(*fields, strict=True)]


GOLDEN = [
    Row(b"", "directory", mode=0o755, mtime_ns=-1),
    Row(b"a", "directory", flags=2, mode=0o1777, uid=1000, gid=1000),
    Row(b"a/b", size=1 << 40, mtime_ns=1_700_000_000_123_456_789, digest=bytes(range(16))),
    Row(b"a/big", flags=12, size=5, redirect=b"/old/big", xattrs=b"\xff" * 16),
    Row(b"a-b", "whiteout", flags=1, mode=0),
    Row(b"dir", "directory", flags=4, redirect=b"before", origin=b"\x00\xfb\x1d\x00"),
    Row(b"hard1", mode=0o4755, nlink_group=1, digest=b"\x01" * 16),
    Row(b"hard2", mode=0o4755, nlink_group=1, digest=b"\x01" * 16),
    Row(b"link", "symlink", mode=0o777, size=9, target=b"../\xff\n out"),
    Row(b"pipe", "fifo", uid=4294967294, gid=4294967295),
    Row(b"sda", "block", rdev=(8 << 32) | 1),
    Row(b"sock", "socket"),
    Row(b"tty", "char", rdev=(0xFFF << 32) | 0xFFFFF),
    Row(b"\xff\xfe odd\n", target=None, origin=b""),
]
"""What ``tests/golden/manifest-1.parquet`` holds: every kind, flag, and an odd value of each."""

"""Writing a tar: PAX headers for nanoseconds and xattrs, OCI whiteouts, zstd if asked for.

The same items give the same bytes: names of users are left out and nothing depends on the
time of writing. The tar itself is the standard library's.
"""

from __future__ import annotations

import io
import os
import struct
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from dsbranch._core.columns import Report
from dsbranch._core.entries import open_entry, own_xattrs
from dsbranch._core.table import Table
from dsbranch.errors import IntegrityError
from dsbranch.store.faults import from_errno

if TYPE_CHECKING:
    from dsbranch.ops.export import Item

TAR_SUFFIXES = (".tar", ".tar.zst")

_TYPES = {
    "file": tarfile.REGTYPE,
    "directory": tarfile.DIRTYPE,
    "symlink": tarfile.SYMTYPE,
    "fifo": tarfile.FIFOTYPE,
    "char": tarfile.CHRTYPE,
    "block": tarfile.BLKTYPE,
}
_SECOND = 1_000_000_000
_ACLS = {
    b"system.posix_acl_access": "SCHILY.acl.access",
    b"system.posix_acl_default": "SCHILY.acl.default",
}
_ACL_TAGS = {
    0x01: ("user", False),
    0x02: ("user", True),
    0x04: ("group", False),
    0x08: ("group", True),
    0x10: ("mask", False),
    0x20: ("other", False),
}


def write_tar(
    path: Path,
    items: Sequence[Item],
    *,
    dialect: str,
    zst: bool,
    progress: Report | None = None,
) -> None:
    """Write `items` to the new file `path`, and to the disk.

    :raises OSError: a source cannot be read or the disk is full
    """
    with open(path, "xb") as file:
        with (
            _compressed(file, zst=zst) as stream,
            tarfile.open(
                fileobj=stream,
                mode="w|",
                format=tarfile.PAX_FORMAT,
                encoding="utf-8",
                errors="surrogateescape",
            ) as tar,
        ):
            for number, item in enumerate(items):
                if progress is not None:
                    progress(number, len(items), tar.offset)
                _add(tar, item, dialect)
            if progress is not None:
                progress(len(items), len(items), tar.offset)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _compressed(file: IO[bytes], *, zst: bool) -> Iterator[IO[bytes]]:
    if not zst:
        yield file
        return
    import zstandard

    with zstandard.ZstdCompressor(level=3, write_checksum=True).stream_writer(
        file, closefd=False
    ) as stream:
        yield cast(IO[bytes], stream)


def _add(tar: tarfile.TarFile, item: Item, dialect: str) -> None:
    info = tarfile.TarInfo(os.fsdecode(item.path) or ".")
    if item.delta is None:
        info.mode = 0
        tar.addfile(info, io.BytesIO())
        return
    assert item.delta.new is not None
    table, row = item.delta.new
    entry = table.entry(row)
    info.type = _TYPES[entry.kind]
    info.mode, info.uid, info.gid = entry.mode, entry.uid, entry.gid
    info.mtime = entry.mtime_ns // _SECOND
    with _reading(entry.path):
        xattrs = own_xattrs(table, row, dialect=dialect)
    info.pax_headers = _pax_headers(entry.mtime_ns, xattrs)
    if entry.kind == "symlink":
        info.linkname = os.fsdecode(entry.target or b"")
    elif entry.kind in ("char", "block"):
        info.devmajor, info.devminor = entry.rdev >> 32, entry.rdev & 0xFFFFFFFF
    if item.first is not None:
        info.type = tarfile.LNKTYPE
        info.linkname = os.fsdecode(item.first)
        tar.addfile(info)
    elif entry.kind == "file":
        assert item.delta.content is not None
        info.size = entry.size
        with _Content(*item.delta.content) as content:
            tar.addfile(info, content)
    else:
        tar.addfile(info)


@contextmanager
def _reading(path: bytes) -> Iterator[None]:
    """Tell what fails on the side that is read from the tar's own failures."""
    try:
        yield
    except OSError as error:
        raise from_errno(error.errno or 0, f"read {os.fsdecode(path)}") from error


class _Content(io.RawIOBase):
    """A file of a layer or the base. Its failures are told from those of the tar's own file."""

    def __init__(self, table: Table, row: int) -> None:
        self._path = table.path(row)
        with _reading(self._path):
            self._fd = open_entry(table, row)

    def read(self, size: int = -1) -> bytes:
        with _reading(self._path):
            found = os.read(self._fd, size)
        if not found and size:
            # tarfile asks for no more than there should be.
            raise IntegrityError(
                f"{os.fsdecode(self._path)} ended before its time",
                hint="has something written into `.dsbranch/layers` or the dataset?",
            )
        return found

    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
        super().close()


def _pax_headers(mtime_ns: int, xattrs: dict[bytes, bytes]) -> dict[str, str]:
    """Values that are no text go through as they are: tarfile marks such a header BINARY."""
    headers = {}
    seconds, fraction = divmod(mtime_ns, _SECOND)
    if fraction or seconds < 0:
        headers["mtime"] = _decimal(mtime_ns)
    for name, value in xattrs.items():
        # Escaped as GNU tar and star do: the first `=` ends a keyword.
        escaped = name.replace(b"%", b"%25").replace(b"=", b"%3D")
        key = "SCHILY.xattr." + os.fsdecode(escaped)
        headers[key] = value.decode("utf-8", "surrogateescape")
        if name in _ACLS:
            # GNU tar and bsdtar restore ACLs from the text only, others from the xattr only.
            headers[_ACLS[name]] = acl_text(value)
    return headers


def acl_text(value: bytes) -> str:
    """The short text form of a POSIX ACL xattr (linux/posix_acl_xattr.h), ids as numbers.

    :raises ValueError: it is none
    """
    (version,) = struct.unpack_from("<I", value)
    if version != 2:
        raise ValueError(f"an ACL of version {version}")
    entries = []
    for tag, permissions, id in struct.iter_unpack("<HHI", value[4:]):
        word, named = _ACL_TAGS[tag]
        bits = "".join(
            letter if permissions & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1))
        )
        entries.append(f"{word}:{id if named else ''}:{bits}")
    return ",".join(entries)


def _decimal(time_ns: int) -> str:
    sign = "-" if time_ns < 0 else ""
    seconds, fraction = divmod(abs(time_ns), _SECOND)
    return f"{sign}{seconds}.{fraction:09}".rstrip("0").rstrip(".")

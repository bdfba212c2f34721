"""Writing a tar: PAX headers for nanoseconds and xattrs, OCI whiteouts, zstd if asked for.

The same items give the same bytes: names of users are left out and nothing depends on the
time of writing. The standard library's `TarFile` would copy each header, and all content twice.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING

from dsbranch._core.entries import open_entry, own_xattrs
from dsbranch._core.gather import gather
from dsbranch.errors import IntegrityError, UnsupportedError
from dsbranch.ops.archive.acl import XATTRS as ACLS
from dsbranch.ops.archive.acl import acl_text
from dsbranch.ops.archive.holes import data_of
from dsbranch.ops.archive.items import Item
from dsbranch.ops.archive.mark import FULL, changes_mark
from dsbranch.ops.archive.member import shown
from dsbranch.ops.archive.tar_head import head_of
from dsbranch.store.faults import from_errno

if TYPE_CHECKING:
    from dsbranch._core.delta import Place
    from dsbranch._core.jobs import Report

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
_PIECE = 1 << 18
_SIZE_TOGETHER = 1 << 25
_MOST_TOGETHER = 1 << 14
_FEWEST_SPARSE = 1 << 16  # below, holes save less than they cost
_MOST_SPARSE = 8 << 30  # above, the size takes a pax record that readers take for the file's own

_Held = tuple[bytes, bool]
"""What a file holds that has no holes, and whether it has no xattrs."""


def write_tar(
    path: Path,
    items: Iterable[Item],
    total: int,
    *,
    dialect: str,
    zst: bool,
    progress: Report | None = None,
) -> None:
    """Write the items, `total` of them, to the new file `path`, and to the disk.

    :raises OSError: a source cannot be read or the disk is full
    """
    with open(path, "xb", buffering=_PIECE) as file:
        with _packed(file) if zst else nullcontext(file) as stream:
            tar = _Tar(stream)
            for number, (item, held) in enumerate(_held(items)):
                if progress is not None:
                    progress(number, total, tar.size)
                _add(tar, item, held, number, dialect)
            tar.end()
            if progress is not None:
                progress(total, total, tar.size)
        file.flush()
        os.fsync(file.fileno())


def _packed(file: IO[bytes]) -> AbstractContextManager[IO[bytes]]:
    # It loads zstd, which a plain tar does without.
    from dsbranch.ops.archive.packed import packed

    return packed(file)


class _Tar:
    """A tar that is written from its beginning to its end. `size` counts its bytes so far."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.size = 0

    def add(self, info: tarfile.TarInfo, pieces: Iterable[bytes] = ()) -> None:
        self._write(head_of(info))
        for piece in pieces:
            self._write(piece)
        self._fill(tarfile.BLOCKSIZE)

    def end(self) -> None:
        self._write(bytes(2 * tarfile.BLOCKSIZE))
        self._fill(tarfile.RECORDSIZE)

    def _write(self, data: bytes) -> None:
        self._stream.write(data)
        self.size += len(data)

    def _fill(self, unit: int) -> None:
        if more := -self.size % unit:
            self._write(bytes(more))


def _held(items: Iterable[Item]) -> Iterator[tuple[Item, _Held | None]]:
    """The items; with each small file what it holds, read together with that of others."""
    rest = iter(items)
    while together := list(_together(rest)):
        found = iter(gather([place for _, place in together if place is not None]))
        for item, place in together:
            yield item, None if place is None else next(found)


def _together(rest: Iterator[Item]) -> Iterator[tuple[Item, Place | None]]:
    """As many as are read together, each with where its data are if it is a small file."""
    size = 0
    for item in islice(rest, _MOST_TOGETHER):
        place = _small(item)
        yield item, place
        size += 0 if place is None else item.size
        if size >= _SIZE_TOGETHER:
            return


def _small(item: Item) -> Place | None:
    """Where the data of a small file lie; None of one whose data are not of its size: the dataset
    has changed, which is said where they are read alone."""
    if item.content is None or item.first is not None or item.size > _PIECE:
        return None
    table, row = item.content
    if item.content != item.place and table.entry(row).size != item.size:
        return None
    return item.content


def _add(tar: _Tar, item: Item, held: _Held | None, number: int, dialect: str) -> None:
    info = tarfile.TarInfo(os.fsdecode(item.name) or ".")
    info.pax_headers = _mark(item, number)
    if item.place is None:
        info.mode = 0
        tar.add(info)
        return
    table, row = item.place
    entry = table.entry(row)
    info.type = _TYPES[entry.kind]
    info.mode, info.uid, info.gid = entry.mode, entry.uid, entry.gid
    info.mtime = entry.mtime_ns // _SECOND
    xattrs = {}
    if held is None or not held[1] or item.place != item.content:
        with _reading(entry.path):
            xattrs = own_xattrs(table, row, dialect=dialect)
        _require_text(entry.path, xattrs)
    info.pax_headers |= _pax_headers(entry.mtime_ns, xattrs)
    if entry.kind == "symlink":
        info.linkname = os.fsdecode(entry.target or b"")
    elif entry.kind in ("char", "block"):
        info.devmajor, info.devminor = entry.rdev >> 32, entry.rdev & 0xFFFFFFFF
    if item.first is not None:
        info.type = tarfile.LNKTYPE
        info.linkname = os.fsdecode(item.first)
        tar.add(info)
    elif held is not None:
        info.size = entry.size
        tar.add(info, held[:1])
    elif entry.kind == "file":
        assert item.content is not None
        table, row = item.content
        path = table.path(row)
        with _reading(path):
            fd = open_entry(table, row)
        try:
            with _reading(path):
                content = _Content(fd, path, entry.size)
            if content.is_sparse:
                # The name by which a reader that knows nothing of holes keeps the map and the data.
                info.pax_headers |= _sparse_headers(info.name, entry.size)
                info.name = f"GNUSparseFile.0/{number}"
            info.size = content.length
            tar.add(info, content.pieces())
        finally:
            os.close(fd)
    else:
        tar.add(info)


def _require_text(path: bytes, names: Iterable[bytes]) -> None:
    """tarfile writes a keyword as UTF-8 or not at all, and so does the standard."""
    for name in names:
        try:
            name.decode()
        except UnicodeDecodeError as error:
            raise UnsupportedError(
                f"{shown(path)} cannot be exported: "
                f"a tar cannot hold its attribute {shown(name)}, whose name is no UTF-8",
                hint="remove the attribute and commit, or export into a directory",
            ) from error


def _mark(item: Item, number: int) -> dict[str, str]:
    if item.before is not None:
        return {"comment": changes_mark(item.before)}
    return {} if number else {"comment": FULL}


@contextmanager
def _reading(path: bytes) -> Iterator[None]:
    """Tell what fails on the side that is read from the tar's own failures."""
    try:
        yield
    except OSError as error:
        raise from_errno(error.errno or 0, f"read {os.fsdecode(path)}") from error


class _Content:
    """What a tar holds of a file of a layer or the base: its data, and a map of them if there are
    holes."""

    def __init__(self, fd: int, path: bytes, size: int) -> None:
        self._fd, self._path = fd, path
        self._map = b""
        self._spans = [(0, size)]
        self._look_for_holes(size)
        self.length = len(self._map) + sum(end - start for start, end in self._spans)

    @property
    def is_sparse(self) -> bool:
        return bool(self._map)

    def _look_for_holes(self, size: int) -> None:
        status = os.fstat(self._fd)
        if status.st_size < size:
            raise self._short()
        if size < _FEWEST_SPARSE or status.st_blocks * 512 >= size:
            return
        spans = list(data_of(self._fd, size))
        layout = _sparse_map(spans, size)
        length = len(layout) + sum(end - start for start, end in spans)
        if spans != self._spans and length < _MOST_SPARSE:
            self._spans, self._map = spans, layout

    def _short(self) -> IntegrityError:
        return IntegrityError(
            f"{os.fsdecode(self._path)} ended before its time",
            hint="has something written into `.dsbranch/layers` or the dataset?",
        )

    def pieces(self) -> Iterator[bytes]:
        """`length` bytes in all."""
        yield self._map
        for start, end in self._spans:
            at = start
            while at < end:
                with _reading(self._path):
                    found = os.pread(self._fd, min(_PIECE, end - at), at)
                if not found:
                    raise self._short()
                yield found
                at += len(found)


def _sparse_map(spans: Sequence[tuple[int, int]], size: int) -> bytes:
    """As GNU tar writes it: numbers in lines, filled up to a block; an empty part at the end stands
    for the hole there."""
    parts = [(start, end - start) for start, end in spans]
    if not spans or spans[-1][1] < size:
        parts.append((size, 0))
    text = "".join(f"{number}\n" for number in (len(parts), *(n for part in parts for n in part)))
    return text.encode().ljust(-(-len(text) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE, b"\0")


def _sparse_headers(name: str, size: int) -> dict[str, str]:
    return {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": name,
        "GNU.sparse.realsize": str(size),
    }


def _pax_headers(mtime_ns: int, xattrs: dict[bytes, bytes]) -> dict[str, str]:
    """Values that are no text go through as they are: tarfile marks such a header BINARY."""
    headers = {}
    if mtime_ns % _SECOND:
        headers["mtime"] = _decimal(mtime_ns)
    for name, value in xattrs.items():
        # Escaped as GNU tar and star do: the first `=` ends a keyword.
        escaped = name.replace(b"%", b"%25").replace(b"=", b"%3D")
        key = "SCHILY.xattr." + os.fsdecode(escaped)
        headers[key] = value.decode("utf-8", "surrogateescape")
        if name in ACLS:
            # GNU tar and bsdtar restore ACLs from the text only, others from the xattr only.
            headers[ACLS[name]] = acl_text(value)
    return headers


def _decimal(time_ns: int) -> str:
    sign = "-" if time_ns < 0 else ""
    seconds, fraction = divmod(abs(time_ns), _SECOND)
    return f"{sign}{seconds}.{fraction:09}".rstrip("0")

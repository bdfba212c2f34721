"""Reading a tar from its start to its end, trusting nothing in it.

The standard library parses it; what that lets pass is caught here: an archive that ends early,
headers of any size, numbers that make no sense.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import IO, Self, cast

from dsbranch._core.ustar import read_plain
from dsbranch.errors import BadArchive, UnsupportedError
from dsbranch.ops.archive.acl import XATTRS as ACLS
from dsbranch.ops.archive.acl import acl_value
from dsbranch.ops.archive.mark import read_mark
from dsbranch.ops.archive.member import DISTRUST, Member, cleaned, shown
from dsbranch.ops.archive.packed import DAMAGED, unpacked, wants_memory
from dsbranch.overlay.markers import is_kept

_HEADERS = 16 << 20
"""How many bytes the headers of one member may have; xattrs take up to 64 KiB each."""

_PIECE = 1 << 18
_ORDINARY = 1 << 14
"""As many bytes as the headers of most members have, by far."""

_BLOCK = tarfile.BLOCKSIZE
_XATTR = "SCHILY.xattr."
_EARLIEST, _LATEST = Decimal(-(1 << 63)), Decimal((1 << 63) - 1)
_MOST_ID = (1 << 32) - 2
_KINDS = {
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "link",
    tarfile.FIFOTYPE: "fifo",
    tarfile.CHRTYPE: "char",
    tarfile.BLKTYPE: "block",
}


class _Broken(Exception):
    """Not a tarfile.TarError, so that tarfile passes it on."""


class _Source:
    """The bytes of the tar, read ahead and never back, of which headers may not take more than is
    allowed."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._buffer = b""
        self._at = 0
        self._read = 0
        self.left = _HEADERS
        self.block = b""
        """What was last read as a header."""

    def tell(self) -> int:
        return self._read - len(self._buffer) + self._at

    def seek(self, position: int) -> None:
        """:raises _Broken: there is less, or it is further back"""
        ahead = position - self.tell()
        if ahead < 0:
            raise _Broken("a header inside of another")
        while ahead:
            passed = len(self.piece(ahead))
            if not passed:
                raise _Broken("unexpected end of data")
            ahead -= passed

    def read(self, size: int) -> bytes:
        """What tarfile takes for a header, whole unless the end comes before."""
        self.left -= size
        if self.left < 0:
            raise _Broken(f"a header of more than {_HEADERS >> 20} MiB")
        parts = []
        while size and (part := self.piece(size)):
            parts.append(part)
            size -= len(part)
        self.block = b"".join(parts)
        return self.block

    def piece(self, most: int) -> memoryview:
        """Up to `most` bytes; none at the end."""
        buffer, at = self.ahead(1)
        found = memoryview(buffer)[at : at + most]
        self._at += len(found)
        return found

    def ahead(self, size: int) -> tuple[bytes, int]:
        """The next `size` bytes, or more, or all there are: in which buffer, and where."""
        while len(self._buffer) - self._at < size and (more := self._file.read(_PIECE)):
            self._buffer = self._buffer[self._at :] + more
            self._at = 0
            self._read += len(more)
        return self._buffer, self._at


class _Header(tarfile.TarInfo):
    """tarfile takes a damaged header, or none, for the archive's end; only an empty block is.

    Which of its functions call which differs between versions of Python, but for these two.
    """

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # typeshed lacks it
            raise
        except tarfile.HeaderError as error:
            raise _Broken(str(error)) from error

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        """What tarfile calls for each header, those of long names included, once it is read."""
        if self.size < 0:
            raise _Broken("a negative size")
        header = cast(_Source, tar.fileobj).block
        if header[257:265] == tarfile.GNU_MAGIC and self.type not in tarfile.GNU_TYPES:
            # Behind it GNU tar has no further part of the name, but times.
            encoding, errors = tar.encoding, tar.errors
            self.name = tarfile.nts(header[:100], encoding, errors)  # type: ignore[attr-defined]
        return super()._proc_member(tar)  # type: ignore[misc,no-any-return]


class TarArchive:
    """A tar, zstd around it or not, read once from its start to its end."""

    def __init__(self, path: Path, file: BufferedReader) -> None:
        self._path = path
        self._file = file
        self.full: bool | None = None
        stream, self._packed = unpacked(path, file)
        self._source = _Source(stream)
        self._where = "", ""
        with self._sound():
            # It holds nothing but what the caller closes, and reads the first member.
            self._tar = tarfile.TarFile(
                fileobj=self._source,  # type: ignore[arg-type]  # it needs no more than these
                tarinfo=_Header,
                encoding="utf-8",
                errors="surrogateescape",
            )
        self._first = self._tar.next()
        if self._first is not None:
            mark = read_mark(self._first.pax_headers.get("comment", ""))
            self.full = None if mark is None else mark.full
        self.own = self.full is not None

    def position(self) -> int:
        return self._file.tell() if self._file.seekable() else 0

    def __iter__(self) -> Iterator[Member]:
        with self._sound():
            info = self._first
            while info is not None:
                self._where = "after", info.name
                yield self._member(info)
                info = self._next()
            # The checksum of what is compressed comes behind the end of the tar.
            while self._packed and self._source.piece(_PIECE):
                pass

    def _next(self) -> tarfile.TarInfo | None:
        """Most headers are ordinary ones, for which the library is ten times as slow."""
        start = self._tar.offset
        self._source.seek(start)
        if not self._tar.pax_headers:
            info = tarfile.TarInfo()
            size = read_plain(*self._source.ahead(_ORDINARY), info)
            if size:
                self._source.seek(start + size)
                self._tar.offset = start + size + (-(-info.size // _BLOCK) * _BLOCK)
                return info
        self._source.left = _HEADERS
        found = self._tar.next()
        self._tar.members.clear()  # type: ignore[attr-defined]  # unknown to typeshed
        return found

    @contextmanager
    def _sound(self) -> Iterator[None]:
        """Give all that a damaged archive makes of tarfile and zstd one name."""
        try:
            yield
        except (
            _Broken,
            tarfile.TarError,
            *DAMAGED,
            ValueError,
            IndexError,
            OverflowError,
            RecursionError,
            InvalidOperation,
        ) as error:
            if wants_memory(error):
                raise UnsupportedError(
                    f"{self._path} is compressed with a window of more than 128 MiB",
                    hint="`zstd -dc --long=31 FILE | dsbranch apply /dev/stdin …` takes the memory",
                ) from error
            word, name = self._where
            where = f"{word} {shown(os.fsencode(name))[:300]}" if word else "at its beginning"
            reason = " ".join(str(error).split()) or type(error).__name__
            raise BadArchive(
                f"{self._path} is damaged, or no tar, {where}: {reason}",
                hint="copy or make it anew",
            ) from error

    def _member(self, info: tarfile.TarInfo) -> Member:
        name = os.fsencode(info.name)
        path = cleaned(name)
        kind = "file" if info.isreg() else _KINDS.get(info.type)
        if kind is None:
            raise BadArchive(
                f"{shown(path)} is of a type that no file has here: {info.type!r}",
                hint="make the archive without it",
            )
        member = Member(path, kind, info.mode & 0o7777, info.uid, info.gid)
        if info.size < 0:
            raise _Broken("a negative size")
        if not (0 <= info.uid <= _MOST_ID and 0 <= info.gid <= _MOST_ID):
            raise BadArchive(
                f"{shown(path)} has an owner that no file has here: {info.uid}:{info.gid}",
                hint="make the archive with other owners",
            )
        member.mtime_ns = _nanoseconds(info)
        member.xattrs = _xattrs(info, path)
        member.mark = read_mark(info.pax_headers.get("comment", ""))
        if kind == "link":
            member.target = cleaned(os.fsencode(info.linkname), f"{shown(path)} is a hard link to")
        elif kind == "symlink":
            member.target = os.fsencode(info.linkname)
        elif kind in ("char", "block"):
            member.rdev = (info.devmajor, info.devminor)
        elif kind == "file":
            parts = _parts(info, path)
            member.size = info.size
            member.occupied = sum(size for _, size in parts)
            member.fill = partial(self._fill, info, parts)
        return member

    def _fill(self, info: tarfile.TarInfo, parts: list[tuple[int, int]], fd: int) -> None:
        """Read on from the header: the parts of a file with holes lie one behind the other."""
        self._where = "in", info.name
        if info.sparse is not None:
            os.ftruncate(fd, info.size)
        for start, size in parts:
            os.lseek(fd, start, os.SEEK_SET)
            left = size
            while left:
                with self._sound():
                    piece = self._source.piece(left)
                    if not piece:
                        raise _Broken("unexpected end of data")
                left -= len(piece)
                while piece:
                    piece = piece[os.write(fd, piece) :]


def _parts(info: tarfile.TarInfo, path: bytes) -> list[tuple[int, int]]:
    """Where a file has data: ``(start, size)``, in order.

    :raises BadArchive: its map of holes makes no sense
    """
    if info.sparse is None:
        return [(0, info.size)]
    # typeshed takes it for a number. Empty parts fill up the map, or stand for a hole at the end.
    parts = [part for part in cast(list[tuple[int, int]], info.sparse) if part[1]]
    at = 0
    for start, size in parts:
        if start < at or size < 0 or start + size > info.size:
            raise BadArchive(f"{shown(path)} has a malformed map of its holes", hint=DISTRUST)
        at = start + size
    if "size" in info.pax_headers:
        # tarfile takes it for the size with the holes.
        raise UnsupportedError(
            f"{shown(path)} has holes, and more data than a tar's header can tell",
            hint="make the archive without `--sparse`",
        )
    return parts


def _nanoseconds(info: tarfile.TarInfo) -> int:
    """tarfile gives a float, which has too few digits."""
    exact = Decimal(info.pax_headers.get("mtime") or info.mtime)
    if not exact.is_finite():
        raise _Broken("a time that is none")
    # Before they are multiplied: a number of a few bytes can have as many digits as it says.
    bounded = max(min(exact, _LATEST), _EARLIEST) * 1_000_000_000
    return int(max(min(bounded.to_integral_value(), _LATEST), _EARLIEST))


def _xattrs(info: tarfile.TarInfo, path: bytes) -> dict[bytes, bytes]:
    found = {}
    for keyword, value in info.pax_headers.items():
        if keyword.startswith(_XATTR):
            name = os.fsencode(keyword[len(_XATTR) :]).replace(b"%3D", b"=").replace(b"%25", b"%")
            if not name or b"\0" in name:
                raise BadArchive(
                    f"{shown(path)} has an attribute with no name that could be: "
                    f"{shown(name) if name else 'an empty one'}",
                    hint=DISTRUST,
                )
            # Of what is about where a file lay nothing is kept anywhere.
            if is_kept(name) or b"." not in name:
                found[name] = os.fsencode(value)
    for name, keyword in ACLS.items():
        text = info.pax_headers.get(keyword, "")
        if text and name not in found:
            try:
                found[name] = acl_value(text)
            except ValueError as error:
                raise BadArchive(
                    f"the ACL of {shown(path)} cannot be kept: {error}",
                    hint="make the archive with numbers in place of names, or without ACLs",
                ) from error
    return found

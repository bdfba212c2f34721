"""Reading a tar from its start to its end, trusting nothing in it.

The standard library parses it; what that lets pass is caught here: an archive that ends early,
headers of any size, numbers that make no sense.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from functools import partial
from pathlib import Path
from typing import IO, Self, cast

from dsbranch.errors import BadArchive, UnsupportedError
from dsbranch.ops.archive.acl import XATTRS as ACLS
from dsbranch.ops.archive.acl import acl_value
from dsbranch.ops.archive.mark import read_mark
from dsbranch.ops.archive.member import DISTRUST, Member, cleaned, shown

_ZSTD = b"\x28\xb5\x2f\xfd"
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x04\x22\x4d\x18": "lz4"}
_HEADERS = 16 << 20
"""How many bytes the headers of one member may have; xattrs take up to 64 KiB each."""

_PIECE = 1 << 18
_XATTR = "SCHILY.xattr."
_EARLIEST, _LATEST = -(1 << 63), (1 << 63) - 1
_MOST_ID = (1 << 32) - 2
_KINDS = {
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "link",
    tarfile.FIFOTYPE: "fifo",
    tarfile.CHRTYPE: "char",
    tarfile.BLKTYPE: "block",
}


class _Header(tarfile.TarInfo):
    """tarfile takes a damaged header, or none, for the archive's end; only an empty block is."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            info = super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # typeshed lacks it
            raise
        except tarfile.HeaderError as error:
            raise _Broken(str(error)) from error
        if info.size < 0:
            raise _Broken("a negative size")
        return info


class _Broken(Exception):
    """Not a tarfile.TarError, so that tarfile passes it on."""


class _Source(io.RawIOBase):
    """The bytes of the tar, of which headers may not take more than is allowed."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.left: int | None = None

    def read(self, size: int = -1) -> bytes:
        found = self._file.read(size)
        if self.left is not None:
            self.left -= len(found)
            if self.left < 0:
                raise _Broken(f"a header of more than {_HEADERS >> 20} MiB")
        return found


class TarArchive:
    """A tar, zstd around it or not, read once from its start to its end."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path = path
        self._file = file
        self.full: bool | None = None
        stream = _unpacked(path, file)
        self._packed = stream is not file
        self._source = _Source(stream)
        self._where = "at its beginning"
        with self._sound():
            self._allow_headers()
            self._tar = tarfile.open(  # noqa: SIM115 - it holds nothing but what the caller closes
                fileobj=self._source,
                mode="r|",
                bufsize=_PIECE,
                tarinfo=_Header,
                encoding="utf-8",
                errors="surrogateescape",
            )
            self._source.left = None
        first = self._tar.firstmember  # type: ignore[attr-defined]  # unknown to typeshed
        if first is not None:
            mark = read_mark(first.pax_headers.get("comment", ""))
            self.full = None if mark is None else mark.full
        self.own = self.full is not None

    def position(self) -> int:
        return self._file.tell()

    def __iter__(self) -> Iterator[Member]:
        # tarfile has read the first one when it opened the archive, and gives it again.
        while True:
            with self._sound():
                self._allow_headers()
                info = self._tar.next()
                self._source.left = None
            if info is None:
                self._read_to_the_end()
                return
            self._tar.members.clear()  # type: ignore[attr-defined]  # unknown to typeshed
            self._where = f"after {shown(os.fsencode(info.name))[:300]}"
            with self._sound():
                member = self._member(info)
            yield member

    def _read_to_the_end(self) -> None:
        """The checksum of what is compressed comes behind the end of the tar."""
        with self._sound():
            while self._packed and self._source.read(_PIECE):
                pass

    def _allow_headers(self) -> None:
        # Beside them it reads ahead by a piece.
        self._source.left = _HEADERS + _PIECE

    @contextmanager
    def _sound(self) -> Iterator[None]:
        """Give all that a damaged archive makes of tarfile and zstandard one name."""
        from zstandard import ZstdError

        try:
            yield
        except (
            _Broken,
            tarfile.TarError,
            ZstdError,
            ValueError,
            IndexError,
            OverflowError,
            RecursionError,
            InvalidOperation,
        ) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise BadArchive(
                f"{self._path} is damaged, or no tar, {self._where}: {reason}",
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
        stream = self._tar.fileobj
        assert stream is not None
        self._where = f"in {shown(os.fsencode(info.name))[:300]}"
        os.ftruncate(fd, info.size)
        for start, size in parts:
            os.lseek(fd, start, os.SEEK_SET)
            done = 0
            while done < size:
                with self._sound():
                    piece = stream.read(min(_PIECE, size - done))
                    if not piece:
                        raise _Broken("unexpected end of data")
                done += len(piece)
                view = memoryview(piece)
                while view:
                    view = view[os.write(fd, view) :]


def _unpacked(path: Path, file: IO[bytes]) -> IO[bytes]:
    start = file.read(8)
    file.seek(0)
    if start.startswith(_ZSTD):
        import zstandard

        reader = zstandard.ZstdDecompressor().stream_reader(
            file, read_size=_PIECE, read_across_frames=True, closefd=False
        )
        return cast(IO[bytes], reader)
    for magic, program in _PACKED.items():
        if start.startswith(magic):
            raise UnsupportedError(
                f"{path} is compressed with {program}",
                hint=f"unpack it first: `{program} -d`; .tar and .tar.zst can be applied",
            )
    return file


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
    bounded = max(min(exact, Decimal(_LATEST)), Decimal(_EARLIEST))
    return max(min(int((bounded * 1_000_000_000).to_integral_value()), _LATEST), _EARLIEST)


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

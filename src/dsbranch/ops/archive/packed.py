"""Zstandard around a tar. Python has it since 3.14, and before by the backport of that."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from io import BufferedReader
from pathlib import Path
from typing import IO, cast

from dsbranch.errors import UnsupportedError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# Of a frame, and of one to be skipped, whose number ends with any digit; pzstd begins with such.
_MAGIC = tuple(
    number.to_bytes(4, "little") for number in (0xFD2FB528, *range(0x184D2A50, 0x184D2A60))
)
_OTHERS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x04\x22\x4d\x18": "lz4"}

DAMAGED = (zstd.ZstdError, EOFError)
"""What reading raises that is damaged, or ends too early."""


def packed(file: IO[bytes]) -> AbstractContextManager[IO[bytes]]:
    """To be written to in place of `file`, which stays open."""
    parameter = zstd.CompressionParameter
    options: dict[int, int] = {parameter.compression_level: 3, parameter.checksum_flag: 1}
    return cast(AbstractContextManager[IO[bytes]], zstd.ZstdFile(file, "w", options=options))


class _Begun:
    """A file whose beginning has been read. A pipe cannot go back, and shows ahead what came first,
    of which there may be a byte."""

    def __init__(self, start: bytes, file: BufferedReader) -> None:
        self._start = start
        self._file = file

    def read(self, size: int = -1) -> bytes:
        start, self._start = self._start, b""
        return start or self._file.read(size)


def unpacked(path: Path, file: BufferedReader) -> tuple[IO[bytes], bool]:
    """To be read in place of `file`, which is not closed, and whether zstandard was around it.

    :raises UnsupportedError: it is compressed by something else
    """
    start = file.read(8)
    begun = cast(IO[bytes], _Begun(start, file))
    if start.startswith(_MAGIC):
        return cast(IO[bytes], zstd.ZstdFile(begun)), True
    for magic, program in _OTHERS.items():
        if start.startswith(magic):
            raise UnsupportedError(
                f"{path} is compressed with {program}",
                hint=f"unpack it first: `{program} -d`; .tar and .tar.zst can be applied",
            )
    return begun, False


def wants_memory(error: Exception) -> bool:
    """Whether it was packed so that unpacking takes more memory than zstd itself allows unasked."""
    return isinstance(error, zstd.ZstdError) and "too much memory" in str(error)

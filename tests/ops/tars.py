"""Tars made by hand, as nobody well-meaning would make them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class M(NamedTuple):
    """A member: its name, its content, and whatever a TarInfo can hold."""

    name: str
    content: bytes = b""
    facts: dict[str, object] = {}  # noqa: RUF012 - read only

    def write(self, tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(self.name)
        info.size = len(self.content)
        info.mtime = 1_600_000_000
        for name, value in self.facts.items():
            setattr(info, name, value)
        tar.addfile(info, io.BytesIO(self.content))


def directory(name: str, mode: int = 0o755) -> M:
    return M(name, b"", {"type": tarfile.DIRTYPE, "mode": mode})


def symlink(name: str, target: str) -> M:
    return M(name, b"", {"type": tarfile.SYMTYPE, "linkname": target})


def link(name: str, target: str) -> M:
    return M(name, b"", {"type": tarfile.LNKTYPE, "linkname": target})


def device(name: str, major: int, minor: int, type: bytes = tarfile.CHRTYPE) -> M:
    return M(name, b"", {"type": type, "devmajor": major, "devminor": minor})


def pax(name: str, content: bytes = b"", **headers: str) -> M:
    return M(name, content, {"pax_headers": headers})


def make(path: Path, members: Sequence[M], format: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=format, errors="surrogateescape") as tar:
        for member in members:
            member.write(tar)
    return path

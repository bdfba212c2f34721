"""Reading a directory: one that export wrote, or any other one, which is a whole tree."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from dsbranch._core.entries import value_of
from dsbranch.ops.archive.holes import data_of
from dsbranch.ops.archive.mark import SIDECAR, WHITEOUT_PREFIX, Mark, read_sidecar
from dsbranch.ops.archive.member import Member, cleaned, shown
from dsbranch.overlay.markers import is_kept
from dsbranch.store.faults import storage

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
}
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class TreeArchive:
    """A directory, which nobody is to write to meanwhile."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._first: dict[tuple[int, int], bytes] = {}
        self._before: dict[bytes, bytes] = {}
        with storage(f"read {path}"):
            try:
                content = (path / os.fsdecode(SIDECAR)).read_bytes()
            except FileNotFoundError:
                self.full: bool | None = True
                self.own = False
                return
        self.full, self.own = False, True
        self._before = read_sidecar(content)

    def position(self) -> int:
        return 0

    def __iter__(self) -> Iterator[Member]:
        with storage(f"read {self._path}"):
            top = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # Descriptors of the directories above, so that no path is too long.
        above: list[tuple[int, bytes, list[bytes]]] = [(top, b"", [])]
        try:
            above[0][2].extend(self._names(top, b""))
            yield from self._wanted(self._member(top, b".", b""))
            while above:
                fd, directory, names = above[-1]
                if not names:
                    os.close(above.pop()[0])
                    continue
                name = names.pop()
                path = directory + b"/" + name if directory else name
                if path == SIDECAR and not self.full:
                    continue
                member = self._member(fd, name, cleaned(path))
                yield from self._wanted(member)
                if member.kind == "directory":
                    with storage(f"read {self._path}/{shown(path)}"):
                        inner = os.open(name, _DIRECTORY, dir_fd=fd)
                    above.append((inner, path, []))
                    above[-1][2].extend(self._names(inner, path))
        finally:
            for fd, *_ in above:
                os.close(fd)

    def _wanted(self, member: Member) -> Iterator[Member]:
        """Directories of changes that did not change themselves are only there to hold others."""
        if self.full or member.mark is not None or member.kind != "directory":
            yield member

    def _names(self, fd: int, path: bytes) -> list[bytes]:
        """The names of a directory, the last one first."""
        with storage(f"read {self._path}/{shown(path)}"):
            return sorted(map(os.fsencode, os.listdir(fd)), reverse=True)

    def _member(self, fd: int, name: bytes, path: bytes) -> Member:
        with storage(f"read {self._path}/{shown(path)}"):
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            kind = _KINDS[stat.S_IFMT(status.st_mode)]
            member = Member(
                path,
                kind,
                stat.S_IMODE(status.st_mode),
                status.st_uid,
                status.st_gid,
                status.st_mtime_ns,
                mark=self._mark(path),
            )
            inode = (status.st_dev, status.st_ino)
            if kind != "directory" and status.st_nlink > 1:
                first = self._first.setdefault(inode, path)
                if first != path:
                    member.kind, member.target = "link", first
                    return member
            if kind == "symlink":
                member.target = os.readlink(name, dir_fd=fd)
            elif kind in ("char", "block"):
                member.rdev = (os.major(status.st_rdev), os.minor(status.st_rdev))
            elif kind == "file":
                member.size = status.st_size
                member.occupied = min(status.st_blocks * 512, status.st_size)
                member.fill = partial(self._fill, fd, name, status.st_size)
            place = b"/proc/self/fd/%d/%s" % (fd, name)
            for key in map(os.fsencode, os.listxattr(place, follow_symlinks=False)):
                value = value_of(place, key) if is_kept(key) else None
                if value is not None:
                    member.xattrs[key] = value
        return member

    def _mark(self, path: bytes) -> Mark | None:
        """Of whiteouts it is kept by the name that is gone."""
        if self.full:
            return Mark(True, None)
        directory, slash, name = path.rpartition(b"/")
        found = self._before.get(directory + slash + name.removeprefix(WHITEOUT_PREFIX))
        return None if found is None else Mark(False, found)

    def _fill(self, fd: int, name: bytes, size: int, out: int) -> None:
        """Copy the data between the holes."""
        os.ftruncate(out, size)
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        try:
            for start, end in data_of(source, size):
                at = start
                os.lseek(out, start, os.SEEK_SET)
                while at < end:
                    sent = os.sendfile(out, source, at, min(end - at, 1 << 24))
                    if not sent:
                        raise OSError(errno.EIO, "the file became shorter")
                    at += sent
        finally:
            os.close(source)

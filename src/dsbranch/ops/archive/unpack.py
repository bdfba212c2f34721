"""Unpacking members below a directory, as an overlay's upper would hold them.

Nothing is ever written outside of it: each name is made in a directory that was opened without
following a symlink.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass, replace
from errno import EDQUOT, ELOOP, ENOSPC, ENOTDIR
from pathlib import Path

from dsbranch._core import syscalls
from dsbranch._core.entries import own_xattrs
from dsbranch._core.view import View
from dsbranch.errors import BadArchive, ConflictError, StorageError
from dsbranch.model.facts import Dialect
from dsbranch.ops.archive.below import Below, split
from dsbranch.ops.archive.mark import before
from dsbranch.ops.archive.member import DISTRUST, Member, deleted_by, shown
from dsbranch.overlay.markers import is_kept, is_marker, prefix
from dsbranch.store.faults import storage

_MODES = {
    "fifo": stat.S_IFIFO,
    "socket": stat.S_IFSOCK,
    "char": stat.S_IFCHR,
    "block": stat.S_IFBLK,
}
_ACL = b"system.posix_acl_"
_WORTH_ASKING = 1 << 20
"""A larger file should not be begun where there is no room for it."""

_RAW = "if this is the upper directory of an overlay, archive what its mount shows instead"


@dataclass(frozen=True, slots=True)
class Terms:
    """How an archive is taken: as a `full` tree; `checked` against what it was made for; as of
    dsbranch's `own` making; with `devices`."""

    full: bool
    checked: bool
    own: bool
    devices: bool


class Unpacker:
    """Makes members below `root`, a new layer on top of the view `old`."""

    def __init__(self, root: Path, old: View, dialect: Dialect, terms: Terms) -> None:
        self._root = root
        self._old = old
        self._dialect = dialect
        self._terms = terms
        self._below = Below(root)
        # Whatever is made in the root, its times are the branch's.
        self._directories = {b"": self._like_the_branch(b"", b"")}
        self._gone: set[bytes] = set()
        self._opaque: set[bytes] = set()

    def close(self) -> None:
        self._below.close()

    def put(self, member: Member) -> None:
        """Make one entry, or note a deletion.

        :raises BadArchive: it is none that may be made
        :raises ConflictError: the branch has something else where it belongs
        """
        deleted = deleted_by(member, full=self._terms.full)
        self._check(member, member.path if deleted is None else deleted.path)
        if deleted is not None:
            (self._opaque if deleted.inside else self._gone).add(deleted.path)
            return
        with storage(f"write {shown(member.path)} of the archive"):
            self._enter(split(member.path)[0], member.path)
            try:
                self._put(member)
            except FileExistsError:
                self._make_room(member)
                self._put(member)

    def finish(self) -> None:
        """Say what is deleted, and describe the directories: nothing more is made in them."""
        if b"" in self._opaque:
            # The mark means nothing on the root of a layer.
            self._opaque.remove(b"")
            self._gone.update(self._old.names(b""))
        for path in sorted(self._gone):
            with storage(f"delete {shown(path)}"):
                self._delete(path)
        for path in sorted(self._opaque):
            if self._old.find(path) is not None:
                with storage(f"empty {shown(path)}"):
                    fd = self._enter(path, path)
                    os.setxattr(fd, prefix(self._dialect) + b"opaque", b"y")
        for path in sorted(self._directories, reverse=True):
            with storage(f"write {shown(path)} of the archive"):
                self._describe(self._directories[path])

    def _delete(self, path: bytes) -> None:
        """Hide what the view below has at `path`. An opaque directory hides it already."""
        above = path
        while above:
            above = split(above)[0]
            if above in self._opaque:
                return
        if self._old.find(path) is None:
            return
        there = None
        with suppress(FileNotFoundError):
            there = self._below.find(path)
        if there is None:
            directory, name = split(path)
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=self._enter(directory, path))
        elif stat.S_ISDIR(there.st_mode):
            self._opaque.add(path)

    def _check(self, member: Member, path: bytes) -> None:
        if not self._terms.checked or member.mark is None or member.mark.before is None:
            return
        if before(self._old, path, whole=member.kind != "directory") != member.mark.before:
            raise ConflictError(
                f"{shown(path)} is not what these changes were made against",
                hint="apply them where the branch stands as it did there; "
                "`--force` applies them all the same",
            )

    def _enter(self, directory: bytes, path: bytes) -> int:
        """The directory in which `path` belongs; made like the branch's where it is not named."""
        try:
            return self._below.directory(directory)
        except FileNotFoundError:
            parent, name = split(directory)
        except OSError as error:
            if error.errno not in (ELOOP, ENOTDIR):
                raise
            raise BadArchive(
                f"{shown(path)} lies below something that is no directory in the archive",
                hint=DISTRUST,
            ) from error
        fd = self._enter(parent, path)
        self._directories[directory] = self._like_the_branch(directory, path)
        os.mkdir(name, 0o700, dir_fd=fd)
        return self._below.directory(directory)

    def _like_the_branch(self, directory: bytes, path: bytes) -> Member:
        found = self._old.find(directory)
        if found is None and not self._terms.checked:
            return Member(directory, "directory", 0o755)
        kind = None if found is None else found[0].entry(found[1]).kind
        if found is None or kind != "directory":
            raise ConflictError(
                f"{shown(path)} belongs in the directory {shown(directory)}, which "
                + ("is not there" if kind is None else f"the branch has as a {kind}"),
                hint="apply the archive to a branch that has it",
            )
        table, row = found
        entry = table.entry(row)
        return Member(
            directory,
            "directory",
            entry.mode,
            entry.uid,
            entry.gid,
            entry.mtime_ns,
            xattrs=self._escaped(own_xattrs(table, row, dialect=self._dialect)),
        )

    def _put(self, member: Member) -> None:
        """:raises FileExistsError: there is something already; nothing of the member was read"""
        if member.kind == "link":
            self._link(member)
        elif member.kind != "directory":
            self._make(self._stored(member))
        else:
            if member.path not in self._directories:
                directory, name = split(member.path)
                os.mkdir(name, 0o700, dir_fd=self._below.directory(directory))
            self._directories[member.path] = self._stored(member)

    def _make_room(self, member: Member) -> None:
        """Remove what is at the place of a member."""
        if not member.path:
            raise BadArchive(
                "the archive has its root as something else than a directory", hint=DISTRUST
            )
        if member.kind == "link" and member.target == member.path:
            raise BadArchive(f"{shown(member.path)} is a hard link to itself", hint=DISTRUST)
        if member.path in self._directories:
            self._forget_directories(member.path)
        self._below.remove(member.path)

    def _forget_directories(self, top: bytes) -> None:
        for path in list(self._directories):
            if path == top or path.startswith(top + b"/"):
                del self._directories[path]

    def _link(self, member: Member) -> None:
        there = None
        with suppress(OSError):
            there = self._below.find(member.target)
        if there is None or stat.S_ISDIR(there.st_mode):
            raise BadArchive(
                f"{shown(member.path)} is a hard link to {shown(member.target)}, "
                "which is no file that came before it",
                hint="make the archive with both, or do not trust whoever made it",
            )
        directory, name = split(member.target)
        source = os.dup(self._below.directory(directory))
        try:
            directory, new = split(member.path)
            here = self._below.directory(directory)
            os.link(name, new, src_dir_fd=source, dst_dir_fd=here, follow_symlinks=False)
        finally:
            os.close(source)

    def _make(self, member: Member) -> None:
        directory, name = split(member.path)
        fd = self._below.directory(directory)
        if member.kind == "file":
            self._require_room(member)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            out = os.open(name, flags, 0o600, dir_fd=fd)
            try:
                assert member.fill is not None
                member.fill(out)
                self._describe(member, out)
            finally:
                os.close(out)
            return
        if member.kind == "symlink":
            if not member.target or b"\0" in member.target:
                raise BadArchive(f"the symlink {shown(member.path)} leads nowhere", hint=DISTRUST)
            os.symlink(member.target, name, dir_fd=fd)
        else:
            self._require_consent(member)
            os.mknod(name, _MODES[member.kind] | 0o600, os.makedev(*member.rdev), dir_fd=fd)
        self._describe(member)

    def _require_room(self, member: Member) -> None:
        if member.occupied < _WORTH_ASKING:
            return
        disk = os.statvfs(self._root)
        if member.occupied > disk.f_bavail * disk.f_frsize:
            raise StorageError(
                f"{shown(member.path)} has {member.occupied:,} bytes, which is more than is free",
                errno=ENOSPC,
                hint="free some space on that filesystem, then run the command again",
            )

    def _require_consent(self, member: Member) -> None:
        if member.kind == "char" and member.rdev == (0, 0):
            raise BadArchive(
                f"{shown(member.path)} is the device 0/0, which means a deletion in a layer",
                hint=_RAW,
            )
        if member.kind in ("char", "block") and not self._terms.devices:
            raise BadArchive(
                f"{shown(member.path)} is a device", hint="`--allow-devices` accepts devices"
            )

    def _describe(self, member: Member, opened: int | None = None) -> None:
        """Owner first, which clears what chmod and xattrs set; times last. By its descriptor where
        it is `opened`, since that takes half as long."""
        directory, name = split(member.path)
        fd = self._below.directory(directory)
        place: int | bytes = b"/proc/self/fd/%d/%s" % (fd, name) if opened is None else opened
        follow = opened is not None
        mode = member.mode
        try:
            if opened is None:
                os.chown(name, member.uid, member.gid, dir_fd=fd, follow_symlinks=False)
            else:
                os.fchown(opened, member.uid, member.gid)
        except PermissionError:
            if os.geteuid() == 0:
                raise
            # As tar does it: it becomes the caller's, and nobody runs it as somebody else.
            mode &= ~(stat.S_ISUID | stat.S_ISGID)
        for key in map(os.fsencode, os.listxattr(place, follow_symlinks=follow)):
            if key not in member.xattrs and self._is_inherited(key, member):
                os.removexattr(place, key, follow_symlinks=follow)
        # An ACL last: it may take the right to set the others.
        for key, value in sorted(member.xattrs.items(), key=lambda item: item[0].startswith(_ACL)):
            try:
                os.setxattr(place, key, value, follow_symlinks=follow)
            except OSError as error:
                if error.errno in (ENOSPC, EDQUOT):
                    raise
                raise BadArchive(
                    f"the attribute {shown(key)} of {shown(member.path)} cannot be kept here: "
                    f"{os.strerror(error.errno or 0)}",
                    hint="archive it without, or have the workspace on another filesystem",
                ) from error
        if opened is not None:
            os.fchmod(opened, mode)
        elif member.kind != "symlink":
            syscalls.chmod_at(fd, name, mode)
        os.utime(place, ns=(member.mtime_ns, member.mtime_ns), follow_symlinks=follow)

    def _is_inherited(self, key: bytes, member: Member) -> bool:
        """Whether it is an ACL of the directory it was made in, or for the root the branch's. What
        the system's security gives a new directory is its own affair."""
        return key.startswith(_ACL) or (
            not member.path
            and is_kept(key)
            and not key.startswith(b"security.")
            and not is_marker(key, self._dialect)
        )

    def _stored(self, member: Member) -> Member:
        """The member with the names of its xattrs as they are in a layer."""
        if not member.xattrs:
            return member
        if self._terms.own:
            return replace(member, xattrs=self._escaped(member.xattrs))
        for key in member.xattrs:
            if is_marker(key, "trusted") or is_marker(key, "user"):
                raise BadArchive(
                    f"{shown(member.path)} has overlay's own attribute {shown(key)}", hint=_RAW
                )
        return member

    def _escaped(self, xattrs: dict[bytes, bytes]) -> dict[bytes, bytes]:
        """As the kernel does: the user's own, called like overlay's, go one level deeper."""
        mine = prefix(self._dialect)
        return {
            mine + b"overlay." + key[len(mine) :] if key.startswith(mine) else key: value
            for key, value in xattrs.items()
        }

"""Test foundation: edits of a tree, as values.

An `Edit` is called with a directory, a mount or a plain one, and changes something below it.
Paths are relative to that directory. The second part makes markers by hand, for layers that
no mount would write.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat
import subprocess
from collections.abc import Callable

from tests.beneath import Root, beneath
from tests.trees import Dir, File, Tree, put
from tests.trees import acl as acl_value

Edit = Callable[[Root], None]
Name = str | bytes

_LIBC = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


def _on(path: Name, action: Callable[[bytes], object]) -> Edit:
    def edit(root: Root) -> None:
        with beneath(root, os.fsencode(path)) as at:
            action(at)

    return edit


def _on_both(old: Name, new: Name, action: Callable[[bytes, bytes], object]) -> Edit:
    def edit(root: Root) -> None:
        with beneath(root, os.fsencode(old)) as one, beneath(root, os.fsencode(new)) as other:
            action(one, other)

    return edit


def sequence(*edits: Edit) -> Edit:
    """Several edits as one."""

    def edit(root: Root) -> None:
        for one in edits:
            one(root)

    return edit


def add(path: Name, tree: Tree) -> Edit:
    """Write a literal where nothing is."""
    return lambda root: put(tree, root, os.fsencode(path))


def write(path: Name, content: bytes) -> Edit:
    """Give a file new content in place; make it if it is not there."""

    def action(at: bytes) -> None:
        with open(at, "wb") as file:
            file.write(content)

    return _on(path, action)


def rewrite(path: Name, content: bytes | None = None) -> Edit:
    """Other bytes, same size, mtime restored: what a size-and-time comparison cannot see."""

    def action(at: bytes) -> None:
        before = os.lstat(at)
        with open(at, "r+b") as file:
            old = file.read()
            new = bytes(byte ^ 1 for byte in old) if content is None else content
            if len(new) != len(old):
                raise ValueError(f"rewrite keeps the size: {len(old)} bytes, not {len(new)}")
            file.seek(0)
            file.write(new)
        os.utime(at, ns=(before.st_atime_ns, before.st_mtime_ns))

    return _on(path, action)


def append(path: Name, data: bytes) -> Edit:
    def action(at: bytes) -> None:
        with open(at, "ab") as file:
            file.write(data)

    return _on(path, action)


def write_at(path: Name, offset: int, data: bytes) -> Edit:
    """Write in the middle, or past the end and leave a hole."""

    def action(at: bytes) -> None:
        with open(at, "r+b") as file:
            file.seek(offset)
            file.write(data)

    return _on(path, action)


def truncate(path: Name, size: int) -> Edit:
    return _on(path, lambda at: os.truncate(at, size))


def open_and_close(path: Name) -> Edit:
    """Open for writing and write nothing: the file is copied up all the same."""
    return _on(path, lambda at: os.close(os.open(at, os.O_RDWR)))


def unlink(path: Name) -> Edit:
    return _on(path, os.unlink)


def rmtree(path: Name) -> Edit:
    return _on(path, shutil.rmtree)


def remove(path: Name) -> Edit:
    """Whatever it is."""

    def action(at: bytes) -> None:
        if stat.S_ISDIR(os.lstat(at).st_mode):
            shutil.rmtree(at)
        else:
            os.unlink(at)

    return _on(path, action)


def mkdir(path: Name) -> Edit:
    return add(path, Dir())


def recreate(path: Name, tree: Tree | None = None) -> Edit:
    """``rm -r d; mkdir d``, or the same with another literal: a type change."""
    return sequence(remove(path), add(path, Dir() if tree is None else tree))


def rename(old: Name, new: Name) -> Edit:
    return _on_both(old, new, os.rename)


def rename_by_copy(old: Name, new: Name) -> Edit:
    """As between filesystems, or where an archive of the outcome is unpacked."""
    return sequence(copy(old, new), remove(old))


def copy(old: Name, new: Name) -> Edit:
    def action(one: bytes, other: bytes) -> None:
        # The paths begin with descriptors of this process.
        ours = b"/proc/%d/" % os.getpid()
        places = [at.replace(b"/proc/self/", ours) for at in (one, other)]
        subprocess.run(["cp", "-a", *places], check=True)

    return _on_both(old, new, action)


def swap(one: Name, other: Name) -> Edit:
    """Exchange two entries of one name each, by way of a third name."""
    aside = os.fsencode(one) + b".aside"
    return sequence(rename(one, aside), rename(other, one), rename(aside, other))


def exchange(one: Name, other: Name) -> Edit:
    """RENAME_EXCHANGE: both at once, of whatever kinds."""

    def action(a: bytes, b: bytes) -> None:
        if _LIBC.renameat2(_AT_FDCWD, a, _AT_FDCWD, b, _RENAME_EXCHANGE) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), a, None, b)

    return _on_both(one, other, action)


def link(existing: Name, new: Name) -> Edit:
    return _on_both(existing, new, lambda a, b: os.link(a, b, follow_symlinks=False))


def symlink(target: Name, path: Name) -> Edit:
    return _on(path, lambda at: os.symlink(os.fsencode(target), at))


def chmod(path: Name, mode: int) -> Edit:
    return _on(path, lambda at: os.chmod(at, mode))


def chown(path: Name, uid: int, gid: int) -> Edit:
    return _on(path, lambda at: os.chown(at, uid, gid, follow_symlinks=False))


def utime(path: Name, mtime_ns: int) -> Edit:
    return _on(path, lambda at: os.utime(at, ns=(mtime_ns, mtime_ns), follow_symlinks=False))


def setxattr(path: Name, name: str, value: bytes) -> Edit:
    return _on(path, lambda at: os.setxattr(at, name, value, follow_symlinks=False))


def removexattr(path: Name, name: str) -> Edit:
    return _on(path, lambda at: os.removexattr(at, name, follow_symlinks=False))


def setfacl(path: Name, uid: int, permissions: int) -> Edit:
    return setxattr(path, "system.posix_acl_access", acl_value(uid, permissions))


def setdefaultacl(path: Name, uid: int, permissions: int) -> Edit:
    """What new entries of a directory inherit."""
    return setxattr(path, "system.posix_acl_default", acl_value(uid, permissions))


def refused(edit: Edit, *errors: int) -> Edit:
    """The edit, which the kernel must refuse with one of these errnos."""

    def attempt(root: Root) -> None:
        try:
            edit(root)
        except OSError as error:
            if error.errno in errors:
                return
            raise
        names = "/".join(errno.errorcode[e] for e in errors)
        raise AssertionError(f"the edit went through; {names} was expected")

    return attempt


def whiteout(path: Name) -> Edit:
    return _on(path, lambda at: os.mknod(at, stat.S_IFCHR, 0))


def marker(path: Name, name: str, value: bytes, *, dialect: str = "trusted") -> Edit:
    """Set ``<dialect>.overlay.<name>``."""
    return setxattr(path, f"{dialect}.overlay.{name}", value)


def copy_marker(source: Name, path: Name, name: str, *, dialect: str = "trusted") -> Edit:
    """What ``cp -a`` of a layer's file does to the overlay's xattrs."""
    full = f"{dialect}.overlay.{name}"
    return _on_both(source, path, lambda a, b: os.setxattr(b, full, os.getxattr(a, full)))


def rename_marker(path: Name, name: str, old: str, new: str) -> Edit:
    """Make a marker of one dialect one of another."""

    def action(at: bytes) -> None:
        value = os.getxattr(at, f"{old}.overlay.{name}")
        os.removexattr(at, f"{old}.overlay.{name}")
        os.setxattr(at, f"{new}.overlay.{name}", value)

    return _on(path, action)


def opaque(path: Name, value: bytes = b"y", *, dialect: str = "trusted") -> Edit:
    return marker(path, "opaque", value, dialect=dialect)


def xattr_whiteout(path: Name, *, dialect: str = "trusted") -> Edit:
    return sequence(add(path, File()), marker(path, "whiteout", b"", dialect=dialect))

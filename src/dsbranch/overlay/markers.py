"""Room overlay: the names of overlay's own xattrs, and what a fresh upper root must look like."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dsbranch.model.facts import Dialect

_PREFIXES: dict[Dialect, bytes] = {"trusted": b"trusted.overlay.", "user": b"user.overlay."}

FUSE_PREFIX = b"user.fuseoverlayfs."

_ACL = "system.posix_acl_"
_KEPT = (b"user.", b"trusted.", b"security.", _ACL.encode())
# A keyed hash over the inode itself, which the kernel computes and nobody can set.
_OF_THE_INODE = b"security.evm"
# How XFS tells root of ACLs, beside the usual way.
_ACL_AGAIN = b"trusted.SGI_ACL_"


def prefix(dialect: Dialect) -> bytes:
    """What the names of overlay's xattrs begin with, the dot included."""
    return _PREFIXES[dialect]


def is_marker(name: bytes, dialect: Dialect) -> bool:
    """Whether an xattr of this name belongs to overlay in a layer of the dialect.

    What fuse-overlayfs says to itself, in ``user`` ones, counts, too. A user's own xattr of
    overlay's names is stored with ``overlay.`` twice and belongs to the user.
    """
    if dialect == "user" and name.startswith(FUSE_PREFIX):
        return True
    mine = prefix(dialect)
    return name.startswith(mine) and not name.startswith(mine + b"overlay.")


def is_kept(name: bytes) -> bool:
    """Whether an xattr is of a kind that any filesystem can hold for its user; the core's
    `is_kept` says the same."""
    return name.startswith(_KEPT) and name != _OF_THE_INODE and not name.startswith(_ACL_AGAIN)


def copy_root(view_root: Path, upper: Path, *, dialect: Dialect) -> None:
    """Give the directory `upper` owner, xattrs, ACLs, mode and times of `view_root`.

    In an overlay the topmost root's metadata win, so a bare new upper would change them.
    Overlay's own xattrs are left out; ACLs that `upper` inherited where it lies are removed.
    Where the caller is not root, so is what only root may give: it then belongs to the caller.

    :raises OSError: with the path; ENOTSUP: the filesystem of `upper` cannot hold an xattr
    """
    status = os.stat(view_root)
    if not stat.S_ISDIR(status.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(view_root))
    for owner in ((-1, status.st_gid), (status.st_uid, -1)):
        with _as_far_as_allowed():
            os.chown(upper, *owner)
    wanted = _copied(view_root, dialect)
    for name in os.listxattr(upper):
        if name.startswith(_ACL) and name not in wanted:
            os.removexattr(upper, name)
    for name, value in wanted.items():
        with _as_far_as_allowed():
            os.setxattr(upper, name, value)
    # After the ACL and the owner, both of which change mode bits.
    os.chmod(upper, stat.S_IMODE(status.st_mode))
    os.utime(upper, ns=(status.st_atime_ns, status.st_mtime_ns))


def has_root_of(view_root: Path, upper: Path, *, dialect: Dialect, time: bool) -> bool:
    """Whether `upper` as the topmost layer shows the root that `view_root` shows: it has what
    `copy_root` gives it, and no marker. `time` tells whether the times are to be the same.

    :raises OSError: one of them cannot be read
    """
    one, other = os.stat(view_root), os.stat(upper)
    if one.st_mode != other.st_mode or (time and one.st_mtime_ns != other.st_mtime_ns):
        return False
    # An ordinary user's layers have the user's root, whoever owns the dataset's.
    if dialect != "user" and (one.st_uid, one.st_gid) != (other.st_uid, other.st_gid):
        return False
    if any(is_marker(os.fsencode(name), dialect) for name in os.listxattr(upper)):
        return False
    return _copied(upper, dialect) == _copied(view_root, dialect)


@contextmanager
def _as_far_as_allowed() -> Iterator[None]:
    try:
        yield
    except PermissionError:
        if os.geteuid() == 0:
            raise


def _copied(root: Path, dialect: Dialect) -> dict[str, bytes]:
    """The xattrs that a new root gets from this one."""
    found = {}
    for name in os.listxattr(root):
        raw = os.fsencode(name)
        if is_kept(raw) and not is_marker(raw, dialect):
            try:
                with _as_far_as_allowed():
                    found[name] = os.getxattr(root, name)
            except OSError as error:
                # btrfs lists to everybody what only root may read.
                if error.errno != errno.ENODATA:
                    raise
    return found

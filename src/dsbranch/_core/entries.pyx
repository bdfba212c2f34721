"""One entry at a time: its bytes, its xattrs, its inode. For archives, written and read."""

import errno
import os

from libc.stdint cimport int64_t

from dsbranch._core.base cimport Base
from dsbranch._core.files cimport FUSE_PREFIX, is_kept, open_below, open_to_read
from dsbranch._core.linux cimport O_DIRECTORY, close
from dsbranch._core.table cimport *


def open_beneath(int root, path: bytes, int flags) -> int:
    """A descriptor of a relative path of any length, reached by way of no symlink.

    :raises OSError: ELOOP: a symlink is on the way; EXDEV: it leads out of `root`
    """
    cdef int fd
    if b"\0" in path:
        raise ValueError(f"embedded NUL byte in {path!r}")
    fd = open_below(root, path, len(path), flags)
    if fd < 0:
        raise OSError(-fd, os.strerror(-fd), os.fsdecode(path))
    return fd


def open_entry(Table table, int64_t row) -> int:
    """A descriptor to read a regular file or directory by; the caller closes it.

    :raises OSError: with the path
    """
    cdef Row *entry = table.rows + row
    cdef int fd = open_to_read(table.root_fd, table.path_at(row), entry.path.size, 0)
    if fd < 0:
        raise OSError(-fd, os.strerror(-fd), os.fsdecode(table.text(entry.path)))
    return fd


def value_of(place, name: bytes):
    """The value of an xattr of a descriptor, or a path that is not followed; None: it is gone, or
    btrfs has listed what only root may read."""
    try:
        return os.getxattr(place, name, follow_symlinks=isinstance(place, int))
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
        return None


def is_own(name: bytes, dialect: str) -> bool:
    """Whether an xattr is the user's; those called like overlay's are stored escaped, one level
    deeper."""
    cdef bytes prefix = b"user.overlay." if dialect == "user" else b"trusted.overlay."
    if not is_kept(name) or (dialect == "user" and name.startswith(<bytes>FUSE_PREFIX)):
        return False
    return not name.startswith(prefix) or name.startswith(prefix + b"overlay.")


def own_xattrs(Table table, int64_t row, *, dialect: str = "trusted") -> dict:
    """The xattrs of an entry, bytes to bytes, under the names a mount shows.

    A layer's own table tells whether there are any; only the base has to be asked.

    :raises OSError: with the path
    """
    if not isinstance(table, Base) and not table.rows[row].flags & F_XATTRS:
        return {}
    cdef bytes path = table.text(table.rows[row].path)
    cdef bytes prefix = b"user.overlay." if dialect == "user" else b"trusted.overlay."
    cdef bytes directory, name
    cdef int fd
    directory, _, name = path.rpartition(b"/")
    fd = open_to_read(table.root_fd, directory, len(directory), O_DIRECTORY)
    if fd < 0:
        raise OSError(-fd, os.strerror(-fd), os.fsdecode(path))
    # The only way to the xattrs of a symlink or device that knows no race and no long path.
    place = b"/proc/self/fd/%d/%s" % (fd, name or b".")
    try:
        try:
            names = [os.fsencode(found) for found in os.listxattr(place, follow_symlinks=False)]
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise
            names = []
        shown = {}
        for found in sorted(names):
            value = value_of(place, found) if is_own(found, dialect) else None
            if value is not None:
                if found.startswith(prefix):
                    found = prefix + found[len(prefix) + len(b"overlay."):]
                shown[found] = value
        return shown
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fsdecode(path)) from error
    finally:
        close(fd)


def glance(Table table, bytes path) -> tuple:
    """What a layer says of a path, as far as kinds and flags tell: ``(changed, unclear, above)``.

    `changed`: at or below it is something that is neither directory nor whiteout. `unclear`: there
    is anything at all, perhaps only directories on the way to others. `above`: an entry on the way
    to it is no plain directory, so that the path may be gone or have come along.
    """
    cdef int64_t row = 0, i
    cdef bytes name
    cdef list names = path.split(b"/")
    cdef bint above = False
    for name in names:
        # The root of a layer is always there, and always plain.
        if row:
            above |= table.rows[row].kind != DIRECTORY or (table.rows[row].flags & F_ON_DISK) != 0
        row = table.child(row, name, len(name))
        if row < 0:
            return False, False, above
    for i in range(row, table.rows[row].end):
        if table.rows[i].kind != DIRECTORY and table.rows[i].kind != WHITEOUT:
            return True, True, above
    return False, True, above


def inode(Table table, int64_t row):
    """What is equal for the names of one inode, or None if the entry has but one name."""
    cdef Row *entry = table.rows + row
    if entry.kind == DIRECTORY:
        return None
    if isinstance(table, Base):
        return (entry.dev, entry.ino) if entry.nlink > 1 else None
    return (id(table), entry.group) if entry.group else None


def link_count(Table table, int64_t row) -> int:
    """How many names an inode of the base has, in the view or not; 0 for a layer's."""
    return table.rows[row].nlink if isinstance(table, Base) else 0

"""Making an open layer ready to be sealed: what copied up for nothing, what the kernel left."""

import os
from array import array

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EACCES, EPERM, errno
from libc.stdint cimport int64_t
from libc.stdio cimport snprintf
from libc.string cimport memcmp

from dsbranch._core.content import compare_files

from dsbranch._core.sides cimport Pair, meta_differs, same_spot, same_target
from dsbranch._core.files cimport (
    FUSE_OPAQUE,
    FUSE_OPAQUE_FILE,
    FUSE_OPAQUE_WHITEOUT,
    FUSE_ORIGIN,
    open_below,
)
from dsbranch._core.linux cimport *
from dsbranch._core.table cimport *
from dsbranch._core.view cimport Node, Spot, View, joined, lower_part

# What overlay leaves on which entries: to ask for what cannot be there costs as much as to remove it.
STALE_ON_ALL = (b"origin",)
STALE_ON_DIRECTORIES = (b"origin", b"impure")
STALE_ON_ROOT = (b"origin", b"impure", b"uuid")
STALE_ON_LINKED = (b"origin", b"nlink")


cdef enum:
    DIFFERENT
    SAME
    UNKNOWN


cdef int is_idle(Pair pair) except -1:
    """Whether the topmost layer's entry, no directory, equals what it covers."""
    cdef View above = pair.new, below = pair.old
    cdef Spot entry = pair.after.entry, under = pair.before.entry
    cdef Spot data = pair.after.data, under_data = pair.before.data
    cdef Row *row = above.row(entry)
    cdef Row *other
    if row.nlink > 1 or (row.kind != FILE and row.kind != SYMLINK):
        return DIFFERENT
    other = below.row(under)
    if row.kind != other.kind or row.size != other.size:
        return DIFFERENT
    if meta_differs(above, entry, below, under, False):
        return DIFFERENT
    row = above.row(entry)
    other = below.row(under)
    if row.kind == SYMLINK:
        return same_target(above, entry, below, under)
    if row.size == 0:
        return SAME
    if data.layer < 0 or under_data.layer < 0:
        return DIFFERENT
    if not row.flags & F_METACOPY:
        return UNKNOWN
    if same_spot(above, data, below, under_data):
        return SAME
    # Two names of one inode hold the same, too.
    row = above.row(data)
    other = below.row(under_data)
    return row.ino != 0 and row.ino == other.ino and data.layer == under_data.layer + 1


def idle_copies(View view, *, known=None, linked=None, threads=None, progress=None) -> list:
    """Paths of the topmost layer's files and symlinks that equal what they cover.

    They were copied up and not changed, or changed back. Without them the view shows the same.
    They must not go while the layer may be written to: a file that somebody holds open would be
    written to where nobody finds it. Entries with several names are left alone.
    `known` (see `jobs.Known`) has digests of files that were read before. `linked`, a list, gets
    the paths of those that cover a file with other names, idle or not.

    :raises OSError: a file could not be read
    """
    cdef list rest = [view.root]
    cdef list found = []
    cdef Node node, inner
    cdef Table top = view.tables[0]
    cdef Pair pair
    cdef Row *covered
    # Row, layer and row of what it covers: of those that only reading settles.
    questions = array("q")
    cdef int idle
    cdef int64_t steps = 0
    if view.depth == 1:
        return found
    pair = Pair(View(view.tables[1:]), view)
    while rest:
        node = rest.pop()
        pair.open(lower_part(node, 1), node, 0, 1)
        while pair.step():
            steps += 1
            if steps & 1023 == 0:
                PyErr_CheckSignals()
            inner = pair.inner()
            if inner is not None:
                if inner.spots[0].layer == 0:
                    rest.append(inner)
                continue
            if pair.after.entry.layer != 0 or pair.before.entry.layer < 0:
                continue
            if linked is not None:
                covered = pair.old.row(pair.before.entry)
                if covered.kind == FILE and (covered.nlink > 1 or covered.group):
                    linked.append(joined(node.path, pair.name()))
            idle = is_idle(pair)
            if idle == DIFFERENT:
                continue
            if idle == SAME:
                found.append(joined(node.path, pair.name()))
            else:
                questions.append(pair.after.data.row)
                questions.append(pair.before.data.layer)
                questions.append(pair.before.data.row)
    if questions:
        answers = compare_files(
            (
                (top, row, pair.old.tables[layer], under)
                for row, layer, under in zip(questions[::3], questions[1::3], questions[2::3])
            ),
            total=len(questions) // 3,
            known=known,
            threads=threads,
            progress=progress,
        )
        found.extend(top.path(row) for row, same in zip(questions[::3], answers) if same)
    return found


def remove(Table table, paths: list) -> None:
    """Unlink `paths` of the layer that `table` was read from; directories keep their times.

    In a directory that its owner, who is not root, may not write to they stay: nobody sees a
    difference, and a kill would leave it with another mode.

    :raises OSError: with the path
    """
    cdef bytes path, directory, name
    cdef int fd
    for path in paths:
        directory, _, name = path.rpartition(b"/")
        fd = open_below(table.root_fd, directory, len(directory), O_RDONLY | O_DIRECTORY)
        if fd < 0:
            raise OSError(-fd, os.strerror(-fd), os.fsdecode(path))
        try:
            # The view shows the directory's times, and they are not to tell of this.
            status = os.fstat(fd)
            try:
                os.unlink(name, dir_fd=fd)
            except PermissionError as error:
                if error.errno != EACCES:
                    raise
                continue
            os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(fd)


def restore_times(Table table) -> None:
    """Give the directories of the layer that `table` was opened on the times that it says.

    :raises OSError: with the path
    """
    cdef int64_t i
    cdef int fd
    cdef Row *row
    for i in range(table.count):
        if i & 1023 == 0:
            PyErr_CheckSignals()
        row = table.rows + i
        if row.kind != DIRECTORY:
            continue
        fd = open_below(table.root_fd, table.path_at(i), row.path.size, O_RDONLY | O_DIRECTORY)
        if fd < 0:
            raise OSError(-fd, os.strerror(-fd), os.fsdecode(table.text(row.path)))
        try:
            status = os.fstat(fd)
            if status.st_mtime_ns != row.mtime_ns:
                os.utime(fd, ns=(status.st_atime_ns, row.mtime_ns))
        finally:
            os.close(fd)


def strip(Table table, *, dialect: str = "trusted") -> None:
    """Remove the xattrs that mean something in an open layer only.

    An immutable file keeps them, and so does one that its owner, who is not root, may not write
    to; they do no harm, they are only of no use.

    :raises OSError: with the path
    """
    cdef bytes prefix = b"user.overlay." if dialect == "user" else b"trusted.overlay."
    cdef list on_all = [prefix + name for name in STALE_ON_ALL]
    cdef list on_directories = [prefix + name for name in STALE_ON_DIRECTORIES]
    cdef list on_root = [prefix + name for name in STALE_ON_ROOT]
    cdef list on_linked = [prefix + name for name in STALE_ON_LINKED]
    cdef list names
    cdef bytes name, above = b""
    cdef char link[300]
    cdef int64_t i
    cdef Row *row
    cdef int directory = -1
    cdef size_t start, size
    cdef const char *path
    try:
        for i in range(table.count):
            if i & 1023 == 0:
                PyErr_CheckSignals()
            row = table.rows + i
            if row.kind == WHITEOUT or (row.kind != DIRECTORY and not row.flags & F_ORIGIN):
                continue
            path = table.path_at(i)
            if row.kind == DIRECTORY:
                names = on_directories if row.path.size else on_root
            else:
                names = on_all if row.nlink == 1 else on_linked
            # By its directory, as whoever owns that may put a symlink in its place meanwhile.
            start = name_start(path, row.path.size)
            size = start - 1 if start else 0
            if directory < 0 or size != <size_t>len(above) or memcmp(<char *>above, path, size):
                if directory >= 0:
                    close(directory)
                above = table.text(row.path)[:size]
                directory = open_below(table.root_fd, above, size, O_RDONLY | O_DIRECTORY)
                if directory < 0:
                    raise OSError(-directory, os.strerror(-directory), os.fsdecode(above))
            snprintf(link, sizeof(link), b"/proc/self/fd/%d/%s", directory, path + start)
            for name in names:
                if lremovexattr(link, name) < 0 and errno not in (ENODATA, EPERM, EACCES):
                    raise OSError(errno, os.strerror(errno), os.fsdecode(table.text(row.path)))
    finally:
        if directory >= 0:
            close(directory)


def to_kernel(Table table) -> None:
    """Say to the kernel, in the dialect ``user``, what fuse-overlayfs said to itself in a layer.

    Broken off, it can be done again. What lies in a file that its owner may not write to stays: it
    tells of an inode's number only.

    :raises OSError: with the path
    """
    cdef int64_t i
    cdef int fd
    cdef Row *row
    cdef bytes path, link
    for i in range(table.count):
        if i & 1023 == 0:
            PyErr_CheckSignals()
        row = table.rows + i
        if row.kind != FILE and (row.kind != DIRECTORY or not row.flags & F_OPAQUE):
            continue
        path = table.text(row.path)
        if row.kind == DIRECTORY:
            fd = open_below(table.root_fd, path, len(path), O_RDONLY | O_DIRECTORY)
        else:
            fd = open_below(table.root_fd, path, len(path), O_PATH)
        if fd < 0:
            raise OSError(-fd, os.strerror(-fd), os.fsdecode(path))
        try:
            if row.kind == DIRECTORY:
                say_opaque(fd)
                continue
            link = b"/proc/self/fd/%d" % fd
            if removexattr(link, FUSE_ORIGIN) < 0 and errno not in (ENODATA, EPERM, EACCES):
                raise OSError(errno, os.strerror(errno))
        except OSError as error:
            raise OSError(error.errno, error.strerror, os.fsdecode(path)) from error
        finally:
            os.close(fd)


cdef int say_opaque(int fd) except -1:
    """The xattr goes last, as by it what is half done is known."""
    if fgetxattr(fd, FUSE_OPAQUE, NULL, 0) < 0:
        return 0
    status = os.fstat(fd)
    if not status.st_mode & 0o200:
        os.fchmod(fd, status.st_mode | 0o200)
    try:
        os.setxattr(fd, b"user.overlay.opaque", b"y")
        for name in (<bytes>FUSE_OPAQUE_FILE, <bytes>FUSE_OPAQUE_WHITEOUT):
            try:
                os.unlink(name, dir_fd=fd)
            except FileNotFoundError:
                pass  # done by who was broken off
        os.removexattr(fd, <bytes>FUSE_OPAQUE)
    finally:
        os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
        if not status.st_mode & 0o200:
            os.fchmod(fd, status.st_mode)

"""Making an open layer ready to be sealed: what copied up for nothing, what the kernel left."""

import os

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EPERM, errno
from libc.stdint cimport int64_t
from libc.stdio cimport snprintf
from libc.string cimport memcmp

from dsbranch._core.content import compare_files

from dsbranch._core.sides cimport meta_differs
from dsbranch._core.files cimport open_below
from dsbranch._core.linux cimport *
from dsbranch._core.table cimport *
from dsbranch._core.view cimport Node, Spot, View, joined, new_node

STALE = (b"origin", b"impure", b"nlink", b"uuid")


cdef Node without_top(Node node):
    """What a directory shows without the topmost layer of the view; None: nothing."""
    cdef int skip = 1 if node.count and node.spots[0].layer == 0 else 0
    if node.count == skip:
        return None
    return new_node(node.path, node.spots + skip, node.count - skip, 0)


def idle_copies(View view, *, known=None, threads=None, progress=None) -> list:
    """Paths of the topmost layer's files and symlinks that equal what they cover.

    They were copied up and not changed, or changed back. Without them the view shows the same.
    They must not go while the layer may be written to: a file that somebody holds open would be
    written to where nobody finds it. Entries with several names are left alone.
    `known` (see `columns.Known`) has digests of files that were read before.

    :raises OSError: a file could not be read
    """
    cdef list rest = [view.root]
    cdef list found = [], open_paths = [], questions = []
    cdef Node node, below, inner
    cdef set names
    cdef bytes name, path
    cdef Spot entry, data, under, under_data
    cdef Row *row
    cdef Row *other
    cdef Table top = view.tables[0]
    cdef int64_t steps = 0
    while rest:
        node = rest.pop()
        if not node.count or node.spots[0].layer != 0:
            continue
        below = without_top(node)
        names = set()
        view.gather(node, 0, 1, names)
        for name in names:
            steps += 1
            if steps & 1023 == 0:
                PyErr_CheckSignals()
            inner = view.lookup(node, name, &entry, &data)
            if inner is not None:
                rest.append(inner)
                continue
            if entry.layer != 0 or below is None:
                continue
            row = top.rows + entry.row
            if row.nlink > 1 or (row.kind != FILE and row.kind != SYMLINK):
                continue
            view.lookup(below, name, &under, &under_data)
            if under.layer < 0:
                continue
            row = top.rows + entry.row
            other = view.row(under)
            if row.kind != other.kind or row.size != other.size:
                continue
            if meta_differs(view, entry, view, under, False):
                continue
            row = top.rows + entry.row
            other = view.row(under)
            path = joined(node.path, name)
            if row.kind == SYMLINK:
                if row.target.size == other.target.size and memcmp(
                    top.heap + row.target.at,
                    view.table(under).heap + other.target.at,
                    row.target.size,
                ) == 0:
                    found.append(path)
            elif row.size == 0 or (
                data.layer == under_data.layer and data.row == under_data.row and data.layer >= 0
            ):
                found.append(path)
            elif row.flags & F_METACOPY:
                # Its data were found just now, under whatever row the base gave them this time.
                if data.layer < 0 or data.layer != under_data.layer:
                    continue
                other = view.row(under_data)
                row = view.row(data)
                if row.ino == other.ino and row.ino:
                    found.append(path)
            elif data.layer >= 0 and under_data.layer >= 0:
                open_paths.append(path)
                questions.append((top, data.row, view.table(under_data), under_data.row))
    if questions:
        answers = compare_files(questions, known=known, threads=threads, progress=progress)
        found.extend(path for path, same in zip(open_paths, answers) if same)
    return found


def remove(Table table, paths: list) -> None:
    """Unlink `paths` of the layer that `table` was read from; directories keep their times.

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
            os.unlink(name, dir_fd=fd)
            os.utime(fd, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(fd)


def strip(Table table, *, dialect: str = "trusted") -> None:
    """Remove the xattrs that mean something in an open layer only.

    An immutable file keeps them; they do no harm, they are only of no use.

    :raises OSError: with the path
    """
    cdef bytes prefix = b"user.overlay." if dialect == "user" else b"trusted.overlay."
    cdef list names = [prefix + name for name in STALE]
    cdef bytes name
    cdef char link[4200]
    cdef int64_t i
    cdef Row *row
    cdef int directory
    cdef size_t start
    cdef const char *path
    for i in range(table.count):
        if i & 1023 == 0:
            PyErr_CheckSignals()
        row = table.rows + i
        if row.kind == WHITEOUT or (row.kind != DIRECTORY and not row.flags & F_ORIGIN):
            continue
        path = table.path_at(i)
        directory = -1
        if row.path.size < 4000:
            snprintf(link, sizeof(link), b"/proc/self/fd/%d/%s", table.root_fd, path)
        else:
            start = name_start(path, row.path.size)
            above = table.text(row.path)[: start - 1]
            directory = open_below(table.root_fd, above, len(above), O_RDONLY | O_DIRECTORY)
            if directory < 0:
                raise OSError(-directory, os.strerror(-directory), os.fsdecode(above))
            snprintf(link, sizeof(link), b"/proc/self/fd/%d/%s", directory, path + start)
        try:
            for name in names:
                if lremovexattr(link, name) < 0 and errno != ENODATA and errno != EPERM:
                    raise OSError(errno, os.strerror(errno), os.fsdecode(table.text(row.path)))
        finally:
            if directory >= 0:
                close(directory)

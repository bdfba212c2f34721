"""File handles: what the kernel calls an inode whatever its names, and what `overlay.origin` holds.

The origin of a file is the handle of the inode it was copied up from (`struct ovl_fb` of
fs/overlayfs/overlayfs.h). Handles are asked for in place: no file is opened. That a filesystem
has none is no error; nothing can have been copied up with an origin there.
"""

import os

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport ENOSYS, EOPNOTSUPP, EOVERFLOW, EPERM
from libc.stdint cimport int64_t

from dsbranch._core.files cimport open_below, open_to_read
from dsbranch._core.linux cimport *
from dsbranch._core.table cimport *

cdef enum:
    # struct ovl_fb: version, magic, length, flags, type, 16 bytes of uuid, the handle's own bytes.
    MAGIC = 0xFB
    HEAD = 4
    FIXED = 21
    BIG_ENDIAN = 1
    ANY_ENDIAN = 2

cdef int HERE = 0 if int.from_bytes(b"\1\0", "little") == memoryview(b"\1\0").cast("H")[0] else BIG_ENDIAN


cdef class Handles:
    """Handles of what lies in `tables`, as bytes that are equal only for one inode."""

    def __cinit__(self, *args):
        self.dir_fd = -1

    def __init__(self, tables):
        cdef Table table
        cdef unsigned char found[16]
        cdef int fd
        self.uuids = {}
        self.older = {}
        for table in tables:
            if table.root_fd < 0:
                continue
            device = os.fstat(table.root_fd).st_dev
            if device in self.uuids:
                continue
            fd = open_to_read(table.root_fd, b"", 0, O_DIRECTORY)
            if fd < 0:
                raise OSError(-fd, f"cannot open directory: {os.strerror(-fd)}", ".")
            # Before Linux 6.9 nobody says; and some filesystems have none.
            self.uuids[device] = None if uuid_of_fs(fd, found) < 0 else (<char *>found)[:16]
            close(fd)
        self.bare = list(self.uuids.values()) == [None]

    def __dealloc__(self):
        if self.dir_fd >= 0:
            close(self.dir_fd)

    cdef bytes uuid(self, Table table):
        if self.bare:
            return b""
        return self.uuids[os.fstat(table.root_fd).st_dev]

    cdef int enter(self, Table table, bytes path) except -1:
        """Have `dir_fd` be a directory of the table; questions come grouped by directory."""
        if self.dir_table is table and self.dir_path == path:
            return 0
        if self.dir_fd >= 0:
            close(self.dir_fd)
        self.dir_table = None
        self.dir_fd = open_below(table.root_fd, path, len(path), O_PATH | O_DIRECTORY)
        if self.dir_fd < 0:
            raise OSError(
                -self.dir_fd, f"cannot open directory: {os.strerror(-self.dir_fd)}", os.fsdecode(path) or "."
            )
        self.dir_table = table
        self.dir_path = path
        return 0

    cdef bytes of(self, Table table, int64_t row):
        """The handle of an entry, None where there is none to be had.

        :raises OSError: the entry is not there, with its path
        """
        cdef bytes path, directory, name, uuid
        cdef unsigned char found[MAX_HANDLE_SZ]
        cdef int size, type = 0
        if table.root_fd < 0:
            return None
        uuid = self.uuid(table)
        if uuid is None:
            return None
        path = table.text(table.rows[row].path)
        directory, _, name = path.rpartition(b"/")
        self.enter(table, directory)
        size = handle_of(self.dir_fd, name, &type, found)
        if size in (-EOPNOTSUPP, -EOVERFLOW, -ENOSYS, -EPERM):
            # The last two are how a container's seccomp filter says that it is not to be asked.
            return None
        if size < 0:
            raise OSError(-size, f"cannot ask for the handle: {os.strerror(-size)}", os.fsdecode(path))
        if not 0 <= type <= 255:
            return None
        return bytes((type,)) + uuid + (<char *>found)[:size]

    cdef bytes origin(self, Table table, int64_t row):
        """The handle of what an entry was copied up from; None: not known."""
        cdef Row *entry = table.rows + row
        cdef const unsigned char *raw
        cdef int size
        if not entry.flags & F_ORIGIN or entry.origin.size < FIXED:
            return None
        raw = <const unsigned char *>table.heap + entry.origin.at
        size = raw[2]
        if raw[0] != 0 or raw[1] != MAGIC or size < FIXED or <unsigned int>size > entry.origin.size:
            return None
        if not raw[3] & ANY_ENDIAN and raw[3] & BIG_ENDIAN != HERE:
            return None
        if self.bare:
            return raw[HEAD:HEAD + 1] + raw[FIXED:size]
        return raw[HEAD:size]

    cdef int learn(self, Table table, set wanted) except -1:
        """Look in a layer for files with an origin that are `wanted` as origins themselves.

        Layers are to come newest first: what a file was copied up from lies further down.
        """
        cdef int64_t i
        cdef Row *row
        cdef bytes handle
        if not wanted:
            return 0
        for i in range(table.count):
            if i & 1023 == 0:
                PyErr_CheckSignals()
            row = table.rows + i
            if not row.flags & F_ORIGIN or row.kind == DIRECTORY:
                continue
            handle = self.of(table, i)
            if handle is not None and handle in wanted:
                self.older[handle] = (table, i)
                wanted.add(self.origin(table, i))
        return 0

    cdef tuple first(self, Table table, int64_t row):
        """The oldest of an entry's ancestors that `learn` found to have an origin: ``(table, row)``."""
        cdef tuple place = (table, row)
        cdef set seen = set()
        while True:
            handle = self.origin(table, row)
            if handle in seen or handle not in self.older:
                return place
            seen.add(handle)
            place = self.older[handle]
            table, row = place


cdef Handles ancestors(parts):
    """Where the origins of a run of layers, newest first, lead to within it."""
    cdef Handles handles = Handles(parts)
    cdef Table table
    cdef int64_t i
    cdef set wanted = set()
    for table in parts:
        handles.learn(table, wanted)
        if table is parts[-1]:
            break  # nobody looks for what its files were copied up from
        for i in range(table.count):
            if table.rows[i].flags & F_ORIGIN and table.rows[i].kind != DIRECTORY:
                wanted.add(handles.origin(table, i))
    return handles

"""The sorted table of one layer's entries.

A row's subtree is one contiguous run of rows, so a directory's children are found by
skipping from sibling to sibling and a child by binary search. Offsets, not pointers: a
table may grow while it is used.
"""

import os
from collections import namedtuple

from cpython.exc cimport PyErr_CheckSignals
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport EINTR, ENAMETOOLONG, ENOMEM, EOVERFLOW
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcmp, memcpy, memset

from dsbranch._core.linux cimport close
from dsbranch._core.memory cimport munmap, region_free, region_grow, region_init

# Row numbers are 32 bits wide.
cdef int64_t MOST_ROWS = 0xFFFFFFF0
MOST_HEAP = <int64_t>1 << 40

# By which flag a row has its path, target, redirect and origin.
cdef uint8_t[TEXTS] TEXT_FLAG = [0, F_TARGET, F_REDIRECT, F_ORIGIN]

# The index of a name is its code in `Columns.kind`, in an index, and in the sum of a manifest's rows.
KINDS = ("file", "directory", "symlink", "fifo", "socket", "char", "block", "whiteout")

Entry = namedtuple(
    "Entry",
    "path kind flags mode uid gid rdev size mtime_ns nlink_group target redirect origin xattrs digest",
)


cdef int order(const char *a, size_t na, const char *b, size_t nb) noexcept nogil:
    """Compare two paths with '/' lower than every other byte."""
    cdef size_t i, n = na if na < nb else nb
    for i in range(n):
        if a[i] != b[i]:
            if a[i] == c'/':
                return -1
            if b[i] == c'/':
                return 1
            return -1 if <uint8_t>a[i] < <uint8_t>b[i] else 1
    return 0 if na == nb else (-1 if na < nb else 1)


cdef size_t name_start(const char *path, size_t size) noexcept nogil:
    """Where the last component begins."""
    cdef size_t i = size
    while i > 0 and path[i - 1] != c'/':
        i -= 1
    return i


cdef size_t name_end(const char *path, size_t size, size_t at) noexcept nogil:
    """Where the component ends that begins at `at`."""
    while at < size and path[at] != c'/':
        at += 1
    return at


cdef int blame(Fault *fault, int error, const char *action, const char *path, size_t size) noexcept nogil:
    """Note the first failure; later ones are consequences. Returns -1 for the caller to return."""
    if fault.error == 0:
        fault.error = error
        fault.action = action
        fault.path = <char *>malloc(size + 1)
        fault.size = 0
        if fault.path != NULL and size:
            memcpy(fault.path, path, size)
            fault.size = size
    return -1


cdef void raise_fault(Fault *fault) except *:
    """Raise the noted failure as OSError (MemoryError for ENOMEM of our own) and clear it."""
    cdef int error = fault.error
    if error == 0:
        return
    if error == EINTR:
        PyErr_CheckSignals()
    action = (<bytes>fault.action).decode()
    path = PyBytes_FromStringAndSize(fault.path, fault.size) if fault.path != NULL else b""
    free(fault.path)
    fault.path = NULL
    fault.error = 0
    if error == ENOMEM:
        raise MemoryError(f"not enough memory to {action} {os.fsdecode(path)}".rstrip())
    raise OSError(error, f"cannot {action}: {os.strerror(error)}", os.fsdecode(path) or ".")


cdef class Table:
    """Entries of one layer, sorted by raw path bytes with '/' lowest; row 0 is the root.

    `root_fd` is a descriptor of the directory the rows were read from, owned by the table,
    or -1; whoever needs the content of a row opens it relative to this.
    """

    def __cinit__(self, *args, **kwargs):
        self.root_fd = -1
        self.spill_fd = -1
        region_init(&self.row_memory)
        region_init(&self.heap_memory)
        memset(&self.fault, 0, sizeof(Fault))

    def __dealloc__(self):
        region_free(&self.row_memory)
        region_free(&self.heap_memory)
        if self.image != NULL:
            munmap(self.image, self.image_size)
        free(self.fault.path)
        if self.root_fd >= 0:
            close(self.root_fd)
        if self.spill_fd >= 0:
            close(self.spill_fd)

    def __len__(self):
        return self.count

    def open(self, path: bytes) -> None:
        """Remember `path` as the directory in which the rows' content lies."""
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if self.root_fd >= 0:
            close(self.root_fd)
        self.root_fd = fd

    def spill_into(self, directory: bytes) -> None:
        """Let what is large go into unlinked files of the filesystem of `directory`, not into RAM."""
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if self.spill_fd >= 0:
            close(self.spill_fd)
        self.spill_fd = fd

    cdef int put(self, const void *data, size_t size, Text *out) noexcept nogil:
        """Copy bytes onto the heap, NUL-terminated. -1 when memory ends."""
        cdef int64_t need = self.heap_used + <int64_t>size + 1
        cdef int error
        if size > LONGEST_TEXT:
            return blame(&self.fault, ENAMETOOLONG, "hold the table", <const char *>data, 255)
        if need > self.heap_memory.room:
            error = EOVERFLOW if need > MOST_HEAP else region_grow(
                &self.heap_memory, self.heap_used, need, self.spill_fd
            )
            if error:
                return blame(&self.fault, error, "hold the table", "", 0)
            self.heap = self.heap_memory.at
        memcpy(self.heap + self.heap_used, data, size)
        self.heap[self.heap_used + <int64_t>size] = 0
        out.at = self.heap_used
        out.size = <uint32_t>size
        self.heap_used = need
        return 0

    cdef int64_t append(self, const Row *row) noexcept nogil:
        """Add a row at the end; its index, or -1 when memory ends."""
        cdef int64_t used = self.count * <int64_t>sizeof(Row), need = used + <int64_t>sizeof(Row)
        cdef int error
        if need > self.row_memory.room:
            error = EOVERFLOW if self.count >= MOST_ROWS else region_grow(
                &self.row_memory, used, need, self.spill_fd
            )
            if error:
                return blame(&self.fault, error, "hold the table", "", 0)
            self.rows = <Row *>self.row_memory.at
        self.rows[self.count] = row[0]
        self.count += 1
        return self.count - 1

    cdef int finish(self) noexcept nogil:
        """Set every row's subtree bounds; -1 where the order or the parentage is broken."""
        cdef int64_t i, parent, top = 0
        cdef Row *row
        cdef Row *above
        cdef const char *path
        cdef const char *prefix
        cdef size_t start
        # The chain of open ancestors is threaded through `end` of the open rows.
        if self.count == 0 or self.rows[0].path.size != 0 or self.rows[0].kind != DIRECTORY:
            return -1
        self.rows[0].first = 1
        for i in range(1, self.count):
            row = self.rows + i
            path = self.heap + row.path.at
            if row.path.size == 0 or path[row.path.size - 1] == c'/':
                return -1
            start = name_start(path, row.path.size)
            if start == 1:
                return -1
            if not plain_name(path + start, row.path.size - start):
                return -1
            if order(self.path_at(i - 1), self.rows[i - 1].path.size, path, row.path.size) >= 0:
                return -1
            while True:
                above = self.rows + top
                prefix = self.heap + above.path.at
                if (start == 0 and top == 0) or (
                    start > 0
                    and above.path.size == start - 1
                    and memcmp(prefix, path, start - 1) == 0
                ):
                    break
                if top == 0:
                    return -1
                parent = above.end
                above.end = <uint32_t>i
                top = parent
            row.first = <uint32_t>i + 1
            row.end = <uint32_t>i + 1
            if row.kind == DIRECTORY:
                row.end = <uint32_t>top
                top = i
        while top != 0:
            parent = self.rows[top].end
            self.rows[top].end = <uint32_t>self.count
            top = parent
        self.rows[0].end = <uint32_t>self.count
        return 0

    cdef int load(self, int64_t parent) noexcept nogil:
        """Make the children of `parent` known; a sorted table has them already."""
        return 0

    cdef int complete(self, int64_t i) noexcept nogil:
        """Make every fact of row `i` known; a sorted table has them already."""
        return 0

    cdef int64_t child(self, int64_t parent, const char *name, size_t size) noexcept nogil:
        """The row of `name` directly below `parent`, -1 if there is none, -2 on a fault."""
        cdef Row *up = self.rows + parent
        cdef int64_t low = up.first, high = up.end, middle
        cdef size_t skip = up.path.size + (1 if up.path.size else 0)
        cdef Row *row
        cdef int sign
        if up.kind != DIRECTORY:
            return -1
        while low < high:
            middle = (low + high) >> 1
            row = self.rows + middle
            sign = order(self.heap + row.path.at + skip, row.path.size - skip, name, size)
            if sign == 0:
                return middle
            if sign < 0:
                low = middle + 1
            else:
                high = middle
        return -1

    cdef int64_t next_child(self, int64_t child) noexcept nogil:
        """The row after `child` among its siblings (the caller compares with the parent's end)."""
        # A damaged image may say anything, but nobody is to go round in circles for it.
        return max(<int64_t>self.rows[child].end, child + 1)

    cdef int take(self, Table other, Row row) except -1:
        """Add a row of another table, with its texts."""
        if self.put_texts(&row, other.heap, 0) < 0 or self.append(&row) < 0:
            raise_fault(&self.fault)
        return 0

    cdef int put_texts(self, Row *row, const char *heap, int first) noexcept nogil:
        """Put a row's texts, from the `first` on, which lie on another heap, on this one's."""
        cdef int which
        cdef Text *text
        for which in range(first, TEXTS):
            text = row_text(row, which)
            if has_text(row, which) and self.put(heap + text.at, text.size, text) < 0:
                return -1
        return 0

    cdef Row *row_of(self, int64_t number) except NULL:
        """The row of a number that somebody else has.

        :raises IndexError: there is none
        """
        if not 0 <= number < self.count:
            raise IndexError(number)
        return self.rows + number

    cdef bytes text(self, Text where):
        return PyBytes_FromStringAndSize(self.heap + where.at, where.size)

    def path(self, int64_t i) -> bytes:
        """The path of row `i`."""
        return self.text(self.row_of(i).path)

    def entry(self, int64_t i):
        """Row `i` as a named tuple."""
        cdef Row *row = self.row_of(i)
        return Entry(
            self.text(row.path),
            KINDS[row.kind],
            row.flags & F_ON_DISK,
            row.mode,
            row.uid,
            row.gid,
            row.rdev,
            row.size,
            row.mtime_ns,
            row.group,
            self.text(row.target) if row.flags & F_TARGET else None,
            self.text(row.redirect) if row.flags & F_REDIRECT else None,
            self.text(row.origin) if row.flags & F_ORIGIN else None,
            (<char *>row.xattrs)[:DIGEST_BYTES] if row.flags & F_XATTRS else None,
            (<char *>row.digest)[:DIGEST_BYTES] if row.flags & F_DIGEST else None,
        )

    def summary(self) -> dict:
        """Counts over the whole table: entries, bytes on disk, what the layer uses and lacks.

        `bytes` counts each inode of a regular file once, in what it occupies.
        """
        cdef int64_t i, used = 0, unhashed = 0
        cdef bint redirects = False, metacopy = False
        cdef Row *row
        seen = set()
        for i in range(self.count):
            row = self.rows + i
            redirects |= (row.flags & F_REDIRECT) != 0
            metacopy |= (row.flags & F_METACOPY) != 0
            if row.kind == FILE:
                if not row.flags & (F_METACOPY | F_DIGEST):
                    unhashed += 1
                if row.group:
                    if row.group in seen:
                        continue
                    seen.add(row.group)
                used += <int64_t>row.blocks * 512
        return {
            "entries": self.count,
            "bytes": used,
            "hashed": unhashed == 0,
            "redirects": bool(redirects),
            "metacopy": bool(metacopy),
        }

    def without(self, paths) -> Table:
        """The table, or a copy that lacks the entries at `paths`, none of them a directory with entries."""
        cdef Table table = Table()
        cdef int64_t i
        cdef set unwanted = set(paths)
        if not unwanted:
            return self
        table.spill_fd = os.dup(self.spill_fd) if self.spill_fd >= 0 else -1
        for i in range(self.count):
            if self.text(self.rows[i].path) not in unwanted:
                table.take(self, self.rows[i])
        if table.finish() < 0:
            raise ValueError("entries were left without their directory")
        table.root_fd = os.dup(self.root_fd) if self.root_fd >= 0 else -1
        return table


cdef Text *row_text(Row *row, int which) noexcept nogil:
    """A row's path, target, redirect or origin, whether it has one or not."""
    if which < 2:
        return &row.target if which else &row.path
    return &row.redirect if which == 2 else &row.origin


cdef bint has_text(const Row *row, int which) noexcept nogil:
    return which == 0 or (row.flags & TEXT_FLAG[which]) != 0


cdef bint plain_name(const char *name, size_t size) noexcept nogil:
    """Neither empty, `.` nor `..`, and no NUL inside."""
    if size == 0 or memchr(name, 0, size) != NULL:
        return False
    return not (name[0] == c'.' and (size == 1 or (size == 2 and name[1] == c'.')))

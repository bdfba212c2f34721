"""The sorted table of one layer's entries, and the border to columns.

A row's subtree is one contiguous run of rows, so a directory's children are found by
skipping from sibling to sibling and a child by binary search. Offsets, not pointers: a
table may grow while it is used.
"""

import os
from collections import namedtuple

from cpython.exc cimport PyErr_CheckSignals
from cpython.bytes cimport PyBytes_AsString, PyBytes_FromStringAndSize
from libc.errno cimport EINTR, ENAMETOOLONG, ENOMEM, EOVERFLOW
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcmp, memcpy, memset

from dsbranch._core.columns import KINDS, Columns

from dsbranch._core.linux cimport close
from dsbranch._core.memory cimport munmap, region_free, region_grow, region_init

# Row numbers are 32 bits wide.
cdef int64_t MOST_ROWS = 0xFFFFFFF0
MOST_HEAP = <int64_t>1 << 40

# By which flag a row has its path, target, redirect and origin.
cdef uint8_t[TEXTS] TEXT_FLAG = [0, F_TARGET, F_REDIRECT, F_ORIGIN]

Entry = namedtuple(
    "Entry",
    "path kind flags mode uid gid rdev size mtime_ns nlink_group target redirect origin xattrs digest",
)


cdef enum:
    BATCH_ROWS = 1 << 17
    BATCH_BYTES = 1 << 26


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

    cdef bytes text(self, Text where):
        return PyBytes_FromStringAndSize(self.heap + where.at, where.size)

    def path(self, int64_t i) -> bytes:
        """The path of row `i`."""
        if not 0 <= i < self.count:
            raise IndexError(i)
        return self.text(self.rows[i].path)

    def entry(self, int64_t i):
        """Row `i` as a named tuple."""
        if not 0 <= i < self.count:
            raise IndexError(i)
        cdef Row *row = self.rows + i
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
            PyBytes_FromStringAndSize(<char *>row.xattrs, 16) if row.flags & F_XATTRS else None,
            PyBytes_FromStringAndSize(<char *>row.digest, 16) if row.flags & F_DIGEST else None,
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

    def columns(self, int64_t start=0, stop=None, *, bint ctime=False):
        """The rows from `start` to `stop` as `Columns`: raw little-endian buffers for a manifest.

        `ctime`: with the times of change, which tell of files that are nobody's to write.
        """
        cdef int64_t end = self.count if stop is None else stop
        if not 0 <= start <= end <= self.count:
            raise IndexError(f"rows {start} to {end} of {self.count}")
        cdef int64_t n = end - start, i
        cdef Row *row
        kind = bytes(n); flags = bytes(n); mode = bytes(2 * n)
        uid = bytes(4 * n); gid = bytes(4 * n); group = bytes(4 * n)
        rdev = bytes(8 * n); size = bytes(8 * n); mtime = bytes(8 * n)
        xattrs = bytes(16 * n); xattrs_valid = bytes(n)
        digest = bytes(16 * n); digest_valid = bytes(n)
        changed = bytes(8 * n) if ctime else None
        # Fresh bytes objects, filled before anyone else can see them.
        cdef uint8_t *kind_p = <uint8_t *>PyBytes_AsString(kind)
        cdef uint8_t *flags_p = <uint8_t *>PyBytes_AsString(flags)
        cdef uint16_t *mode_p = <uint16_t *>PyBytes_AsString(mode)
        cdef uint32_t *uid_p = <uint32_t *>PyBytes_AsString(uid)
        cdef uint32_t *gid_p = <uint32_t *>PyBytes_AsString(gid)
        cdef uint32_t *group_p = <uint32_t *>PyBytes_AsString(group)
        cdef uint64_t *rdev_p = <uint64_t *>PyBytes_AsString(rdev)
        cdef int64_t *size_p = <int64_t *>PyBytes_AsString(size)
        cdef int64_t *mtime_p = <int64_t *>PyBytes_AsString(mtime)
        cdef uint8_t *xattrs_p = <uint8_t *>PyBytes_AsString(xattrs)
        cdef uint8_t *xattrs_v = <uint8_t *>PyBytes_AsString(xattrs_valid)
        cdef uint8_t *digest_p = <uint8_t *>PyBytes_AsString(digest)
        cdef uint8_t *digest_v = <uint8_t *>PyBytes_AsString(digest_valid)
        cdef int64_t *changed_p = <int64_t *>PyBytes_AsString(changed) if ctime else NULL
        for i in range(n):
            row = self.rows + start + i
            kind_p[i] = row.kind
            flags_p[i] = row.flags & F_ON_DISK
            mode_p[i] = row.mode
            uid_p[i] = row.uid
            gid_p[i] = row.gid
            group_p[i] = row.group
            rdev_p[i] = row.rdev
            size_p[i] = row.size
            mtime_p[i] = row.mtime_ns
            if ctime:
                changed_p[i] = row.ctime_ns
            if row.flags & F_XATTRS:
                xattrs_v[i] = 1
                memcpy(xattrs_p + 16 * i, row.xattrs, 16)
            if row.flags & F_DIGEST:
                digest_v[i] = 1
                memcpy(digest_p + 16 * i, row.digest, 16)
        path_offsets, path_data, _ = self._strings(0, start, n)
        target_offsets, target_data, target_valid = self._strings(1, start, n)
        redirect_offsets, redirect_data, redirect_valid = self._strings(2, start, n)
        origin_offsets, origin_data, origin_valid = self._strings(3, start, n)
        return Columns(
            length=n,
            path_offsets=path_offsets, path_data=path_data,
            kind=kind, flags=flags, mode=mode, uid=uid, gid=gid,
            rdev=rdev, size=size, mtime_ns=mtime, nlink_group=group,
            target_offsets=target_offsets, target_data=target_data, target_valid=target_valid,
            redirect_offsets=redirect_offsets, redirect_data=redirect_data,
            redirect_valid=redirect_valid,
            origin_offsets=origin_offsets, origin_data=origin_data, origin_valid=origin_valid,
            xattrs=xattrs, xattrs_valid=xattrs_valid,
            digest=digest, digest_valid=digest_valid,
            ctime_ns=changed,
        )

    def batches(self, *, bint ctime=False):
        """All rows as `Columns`, in parts of a bounded number of rows and bytes."""
        cdef int64_t start = 0, i = 0, size = 0
        cdef int which
        while i < self.count:
            for which in range(TEXTS):
                if has_text(self.rows + i, which):
                    size += row_text(self.rows + i, which).size
            i += 1
            if i == self.count or i - start == BATCH_ROWS or size >= BATCH_BYTES:
                yield self.columns(start, i, ctime=ctime)
                start = i
                size = 0

    cdef tuple _strings(self, int which, int64_t start, int64_t n):
        """Offsets (int64), bytes and validity of one text column."""
        cdef int64_t i, total = 0
        cdef Row *row
        offsets = bytes(8 * (n + 1)); valid = bytes(n)
        cdef int64_t *offset = <int64_t *>PyBytes_AsString(offsets)
        cdef uint8_t *known = <uint8_t *>PyBytes_AsString(valid)
        for i in range(n):
            row = self.rows + start + i
            offset[i] = total
            if has_text(row, which):
                known[i] = 1
                total += row_text(row, which).size
        offset[n] = total
        data = bytes(total)
        cdef char *out = PyBytes_AsString(data)
        for i in range(n):
            if known[i]:
                row = self.rows + start + i
                memcpy(out + offset[i], self.heap + row_text(row, which).at, offset[i + 1] - offset[i])
        return offsets, data, valid

    @staticmethod
    def from_columns(columns) -> Table:
        """Build a table from `Columns`; see `from_batches`."""
        return Table.from_batches([columns])

    @staticmethod
    def from_batches(batches, *, spill=None) -> Table:
        """Build a table from `Columns` that follow one another; `spill` as in `spill_into`.

        :raises ValueError: a buffer of the wrong size, an unknown kind, rows out of order, a
            duplicate, or a path that is malformed or whose parent is missing
        """
        cdef Table table = Table()
        if spill is not None:
            table.spill_into(spill)
        for columns in batches:
            table._extend(columns)
        if table.finish() < 0:
            raise ValueError("rows out of order, duplicate, malformed or without a parent")
        return table

    cdef int _extend(self, columns) except -1:
        cdef int64_t n = columns.length, i, low, high
        cdef int which
        cdef Row row
        cdef const uint8_t[::1] kind = sized(columns.kind, n)
        cdef const uint8_t[::1] flags = sized(columns.flags, n)
        cdef const uint8_t[::1] mode = sized(columns.mode, 2 * n)
        cdef const uint8_t[::1] uid = sized(columns.uid, 4 * n)
        cdef const uint8_t[::1] gid = sized(columns.gid, 4 * n)
        cdef const uint8_t[::1] group = sized(columns.nlink_group, 4 * n)
        cdef const uint8_t[::1] rdev = sized(columns.rdev, 8 * n)
        cdef const uint8_t[::1] size = sized(columns.size, 8 * n)
        cdef const uint8_t[::1] mtime = sized(columns.mtime_ns, 8 * n)
        cdef const uint8_t[::1] xattrs = sized(columns.xattrs, 16 * n)
        cdef const uint8_t[::1] xattrs_valid = sized(columns.xattrs_valid, n)
        cdef const uint8_t[::1] digest = sized(columns.digest, 16 * n)
        cdef const uint8_t[::1] digest_valid = sized(columns.digest_valid, n)
        cdef bint ctime = columns.ctime_ns is not None
        cdef const uint8_t[::1] changed = sized(columns.ctime_ns if ctime else b"", 8 * n if ctime else 0)
        cdef const uint8_t[::1] view
        cdef const uint8_t *valid[TEXTS]
        cdef const uint8_t *offsets[TEXTS]
        cdef const uint8_t *data[TEXTS]
        cdef int64_t data_size[TEXTS]
        for which, name in enumerate(("path", "target", "redirect", "origin")):
            # The buffers live as long as `columns` does.
            view = sized(getattr(columns, f"{name}_offsets"), 8 * (n + 1))
            offsets[which] = &view[0]
            view = sized(getattr(columns, f"{name}_data"), 0)
            data_size[which] = view.shape[0]
            data[which] = &view[0] if view.shape[0] else <const uint8_t *>b""
            valid[which] = NULL
            if which and n:
                view = sized(getattr(columns, f"{name}_valid"), n)
                valid[which] = &view[0]
        for i in range(n):
            memset(&row, 0, sizeof(Row))
            if kind[i] > WHITEOUT or flags[i] & ~F_ON_DISK:
                raise ValueError(f"row {i}: unknown kind or flag")
            row.kind = kind[i]
            row.flags = flags[i] & ~F_REDIRECT
            memcpy(&row.mode, &mode[2 * i], 2)
            memcpy(&row.uid, &uid[4 * i], 4)
            memcpy(&row.gid, &gid[4 * i], 4)
            memcpy(&row.group, &group[4 * i], 4)
            memcpy(&row.rdev, &rdev[8 * i], 8)
            memcpy(&row.size, &size[8 * i], 8)
            memcpy(&row.mtime_ns, &mtime[8 * i], 8)
            if row.size < 0:
                raise ValueError(f"row {i}: a negative size")
            if ctime:
                memcpy(&row.ctime_ns, &changed[8 * i], 8)
            if xattrs_valid[i]:
                row.flags |= F_XATTRS
                memcpy(row.xattrs, &xattrs[16 * i], 16)
            if digest_valid[i]:
                row.flags |= F_DIGEST
                memcpy(row.digest, &digest[16 * i], 16)
            for which in range(TEXTS):
                if which:
                    if not valid[which][i]:
                        continue
                    row.flags |= TEXT_FLAG[which]
                memcpy(&low, offsets[which] + 8 * i, 8)
                memcpy(&high, offsets[which] + 8 * (i + 1), 8)
                if low < 0 or high < low or high > data_size[which] or high - low > LONGEST_TEXT:
                    raise ValueError(f"row {i}: text out of bounds")
                if self.put(data[which] + low, high - low, row_text(&row, which)) < 0:
                    raise_fault(&self.fault)
            if self.append(&row) < 0:
                raise_fault(&self.fault)
        return 0


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


def sized(buffer, Py_ssize_t size):
    view = memoryview(buffer).cast("B")
    if view.nbytes < size:
        raise ValueError(f"a column of {view.nbytes} bytes where {size} are due")
    return view

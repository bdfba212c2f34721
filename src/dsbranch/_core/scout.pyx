"""Looking names up in the dataset ahead of those who will ask for them, in threads.

What a layer holds is compared with what the dataset has under the same name. Asked one by one, these
calls wait for a disk or a network one by one. So the rows of a layer are divided into windows, and
when a walk comes to one, what the dataset was not asked for yet is looked up at once. Whatever is
not an ordinary entry, or cannot be looked up, is left to be asked for by who comes to it.
"""

from libc.errno cimport ENOENT, ENOTDIR, errno
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memset

from dsbranch._core.crew import crew_of, run_threads

from dsbranch._core.base cimport NOT_ASKED, Base
from dsbranch._core.files cimport open_to_read, row_from_stat
from dsbranch._core.linux cimport *
from dsbranch._core.table cimport *

cdef enum:
    SHARE = 16           # errands that a thread takes at once

# Rows. Four windows' answers are what a Base keeps.
_WINDOW = 1 << 14
# From how many names on it is worth starting threads.
_LEAST = 512


cdef class Scout:
    """Goes ahead of a walk through `guide`, a layer's complete table that lies on the layers `lowers`
    and, below them, `base`."""

    def __init__(self, Base base, Table guide, list lowers):
        self.base = base
        self.guide = guide
        self.lowers = lowers

    def __dealloc__(self):
        # Not before: after a second Ctrl-C threads may be at them still.
        free(self.errands)
        free(self.come_to)

    cdef int come(self, int64_t row) except -1:
        """The walk comes to this row of the guide.

        It may come again, from another side, when the answers are lost: looking them all up then
        takes longer than to ask for those that are needed.
        """
        cdef int64_t size = _WINDOW
        cdef int64_t window = row // size, low = window * size
        cdef int64_t high = min(low + size, self.guide.count)
        if self.stop or high - low < <int64_t>_LEAST:
            return 0
        if self.come_to == NULL:
            self.come_to = <char *>calloc(self.guide.count // size + 1, 1)
        if self.errands == NULL:
            self.errands = <Errand *>malloc(min(size, self.guide.count) * sizeof(Errand))
        if self.errands == NULL or self.come_to == NULL or self.come_to[window]:
            return 0
        self.come_to[window] = 1
        self.plan(low, high)
        if self.count < <int64_t>_LEAST:
            return 0
        self.taken = 0
        crew, late = crew_of(None)
        run_threads(self.work, crew, self.cancel, None, late)
        return self.hand_over()

    def cancel(self) -> None:
        store_int(&self.stop, 1)

    def work(self, number: int) -> None:
        with nogil:
            self.run()

    cdef int plan(self, int64_t low, int64_t high) except -1:
        """Find the names of these rows that the base was not asked for."""
        cdef Row *rows = self.guide.rows
        cdef Errand *errand
        cdef const char *path
        cdef const char *last = NULL
        cdef size_t start, size, last_size = 0
        cdef int64_t i, folder = -1, parent = NOT_ASKED
        cdef list over = []
        self.count = 0
        for i in range(max(low, 1), high):
            path = self.guide.path_at(i)
            start = name_start(path, rows[i].path.size)
            size = start - 1 if start else 0
            if last == NULL or size != last_size or memcmp(path, last, size) != 0:
                last = path
                last_size = size
                folder = shown(self.guide, path, size)
                parent = self.base.recall_path(path, size)
                over = None
                if folder >= 0 and (parent >= 0 or parent == NOT_ASKED and folder >= low):
                    over = self.parts_over(path, size)
            if (
                over is None
                or is_hidden(over, path + start, rows[i].path.size - start)
                or parent >= 0
                and self.base.recall(parent, path + start, rows[i].path.size - start) != NOT_ASKED
            ):
                continue
            errand = self.errands + self.count
            errand.row = i
            errand.folder = folder
            errand.told = errand.absent = errand.bare = False
            self.count += 1
        return 0

    cdef list parts_over(self, const char *path, size_t size):
        """What the layers between have of a directory, ``(table, row)``; None: one of them hides
        what the dataset has there."""
        cdef list parts = []
        cdef Table lower
        cdef int64_t row
        for lower in self.lowers:
            row = shown(lower, path, size)
            if row == -2:
                return None
            if row >= 0:
                parts.append((lower, row))
        return parts

    cdef void run(self) noexcept nogil:
        cdef Folder here, before
        cdef int64_t at, i
        here.row = before.row = -1
        here.fd = before.fd = -1
        while not load_int(&self.stop):
            at = fetch_add(&self.taken, SHARE)
            if at >= self.count:
                break
            for i in range(at, min(at + SHARE, self.count)):
                if load_int(&self.stop):
                    break
                self.look(self.errands + i, &here, &before)
        if here.fd >= 0:
            close(here.fd)
        if before.fd >= 0:
            close(before.fd)

    cdef void look(self, Errand *errand, Folder *here, Folder *before) noexcept nogil:
        """Look one name up in the dataset."""
        cdef Text path = self.guide.rows[errand.folder].path
        cdef const char *name = self.guide.path_at(errand.row) + path.size + (path.size > 0)
        cdef Folder last
        cdef statx_t s
        if here.row != errand.folder:
            # A directory's names are interrupted by those in it: it will be needed again.
            last = here[0]
            here[0] = before[0]
            before[0] = last
        if here.row != errand.folder:
            if here.fd >= 0:
                close(here.fd)
            here.row = errand.folder
            here.fd = open_to_read(
                self.base.root_fd, self.guide.heap + path.at, path.size, O_DIRECTORY
            )
            errand.bare = here.fd >= 0 and flistxattr(here.fd, NULL, 0) == 0
        if here.fd < 0:
            return
        if statx(here.fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &s) < 0:
            errand.told = errand.absent = errno == ENOENT or errno == ENOTDIR
            return
        memset(&errand.found, 0, sizeof(Row))
        row_from_stat(&errand.found, &s)
        # A link has to be read, and what may be a whiteout looked at.
        errand.told = errand.found.kind == DIRECTORY or (
            errand.found.kind == FILE and errand.found.size > 0
        )

    cdef int hand_over(self) except -1:
        """Have the base keep what was found."""
        cdef Errand *errand
        cdef size_t start = 0
        cdef int64_t i, folder = -1, parent = NOT_ASKED
        for i in range(self.count):
            errand = self.errands + i
            if errand.folder != folder:
                folder = errand.folder
                start = self.guide.rows[folder].path.size
                parent = self.base.recall_path(self.guide.path_at(folder), start)
                start += start > 0
            if parent >= 0 and errand.bare:
                self.base.set_bare(parent)
            if parent >= 0 and errand.told and self.base.remember(
                parent,
                self.guide.path_at(errand.row) + start,
                self.guide.rows[errand.row].path.size - start,
                NULL if errand.absent else &errand.found,
            ) < 0:
                raise_fault(&self.base.fault)
        return 0


cdef int64_t shown(Table table, const char *path, size_t size) noexcept nogil:
    """The row of a directory in which a layer shows what lies below it; -1: it has none, -2: it hides
    that, or shows what lies elsewhere."""
    cdef int64_t row = 0
    cdef size_t at = 0, end
    while is_see_through(table.rows + row):
        if at >= size:
            return row
        end = name_end(path, size, at)
        row = table.child(row, path + at, end - at)
        if row < 0:
            return -1
        at = end + 1
    return -2


cdef bint is_hidden(list parts, const char *name, size_t size):
    """Whether one of the directories has something of this name that hides what lies below it."""
    cdef Table table
    cdef int64_t row
    for table, row in parts:
        row = table.child(row, name, size)
        if row >= 0 and not is_see_through(table.rows + row):
            return True
    return False


cdef bint is_see_through(const Row *row) noexcept nogil:
    """Whether it is a directory that shows what lies right below it, too."""
    return row.kind == DIRECTORY and not row.flags & (F_OPAQUE | F_REDIRECT)

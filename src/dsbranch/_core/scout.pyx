"""Looking names up in the dataset ahead of those who will ask for them, in threads.

What a layer holds is compared with what the dataset has under the same name. Asked one by one, these
calls are a third of a comparison's time, and where a disk or a network has to be waited for nearly
all of it. So when a directory of a layer is gone through, the names from there on are looked up, as
many as the dataset keeps in mind. Whatever is not an ordinary entry is left to be asked for again.
"""

from libc.errno cimport ENOENT, ENOTDIR, errno
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

from dsbranch._core.crew import crew_of, run_threads

from dsbranch._core.base cimport Base
from dsbranch._core.files cimport open_to_read, row_from_stat
from dsbranch._core.linux cimport *
from dsbranch._core.table cimport *

cdef enum:
    # A fourth of the answers that a Base keeps: few of them are in another's place.
    WINDOW = 1 << 14
    SHARE = 64           # rows that a thread takes at once


cdef class Scout:
    """Goes ahead of a walk through `guide`, a layer's complete table that lies on `base`."""

    def __init__(self, Base base, Table guide, int64_t least):
        self.base = base
        self.guide = guide
        self.least = least

    cdef int come(self, int64_t row) except -1:
        """The walk comes to this directory of the guide; what follows in it is looked up now."""
        cdef int64_t end = min(row + WINDOW, self.guide.count)
        if self.low <= row < self.high:
            return 0
        if row < self.low < end:
            end = self.low
        if end - row < self.least:
            return 0
        self.facts = <Fact *>calloc(end - row, sizeof(Fact))
        if self.facts == NULL:
            raise MemoryError
        try:
            self.low = self.taken = row
            self.high = end
            crew, late = crew_of(None)
            run_threads(self.work, crew, self.cancel, None, late)
            self.hand_over()
        finally:
            free(self.facts)
            self.facts = NULL
        return 0

    def cancel(self) -> None:
        store_int(&self.stop, 1)

    def work(self, number: int) -> None:
        with nogil:
            self.run()

    cdef void run(self) noexcept nogil:
        cdef Folder here, before
        cdef int64_t at, i
        here.path = before.path = NULL
        here.fd = before.fd = -1
        while not load_int(&self.stop):
            at = fetch_add(&self.taken, SHARE)
            if at >= self.high:
                break
            for i in range(at, min(at + SHARE, self.high)):
                self.look(i, &here, &before)
        if here.fd >= 0:
            close(here.fd)
        if before.fd >= 0:
            close(before.fd)

    cdef void look(self, int64_t row, Folder *here, Folder *before) noexcept nogil:
        """Look one row's name up in the dataset."""
        cdef const char *path = self.guide.path_at(row)
        cdef size_t start = name_start(path, self.guide.rows[row].path.size)
        cdef size_t size = start - 1 if start else 0
        cdef Fact *fact = self.facts + (row - self.low)
        cdef Folder last
        cdef statx_t s
        if self.guide.rows[row].path.size == 0:
            return
        if not leads_to(here, path, size):
            # The rows of a directory are interrupted by what is in it: its own is needed again.
            last = here[0]
            here[0] = before[0]
            before[0] = last
            if not leads_to(here, path, size):
                if here.fd >= 0:
                    close(here.fd)
                self.enter(path, size, here)
        if here.fd < 0:
            return
        if statx(here.fd, path + start, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &s) < 0:
            fact.told = fact.absent = errno == ENOENT or errno == ENOTDIR
            return
        row_from_stat(&fact.row, &s)
        # A link has to be read, and what may be a whiteout looked at.
        fact.told = fact.row.kind == DIRECTORY or (fact.row.kind == FILE and fact.row.size > 0)

    cdef void enter(self, const char *path, size_t size, Folder *folder) noexcept nogil:
        """Open the dataset's directory of a path; where it fails, whoever needs it will be told."""
        cdef char *copy
        folder.path = path
        folder.size = size
        folder.fd = -1
        if self.hidden(path, size):
            return
        copy = <char *>malloc(size + 1)
        if copy != NULL:
            memcpy(copy, path, size)
            copy[size] = 0
            folder.fd = open_to_read(self.base.root_fd, copy, size, O_DIRECTORY)
            free(copy)

    cdef bint hidden(self, const char *path, size_t size) noexcept nogil:
        """Whether the layer shows nothing of what the dataset has under a directory's path."""
        cdef int64_t row = 0
        cdef size_t at = 0, end
        while True:
            if self.guide.rows[row].flags & (F_OPAQUE | F_REDIRECT):
                return True
            if at >= size:
                return False
            end = at
            while end < size and path[end] != c'/':
                end += 1
            row = self.guide.child(row, path + at, end - at)
            if row < 0:
                return True
            at = end + 1

    cdef int hand_over(self) except -1:
        """Have the base keep in mind what was found."""
        cdef Folder last
        cdef int64_t i, parent = -1
        cdef Fact *fact
        cdef const char *path
        cdef size_t start
        last.path = NULL
        for i in range(self.low, self.high):
            fact = self.facts + (i - self.low)
            if not fact.told:
                continue
            path = self.guide.path_at(i)
            start = name_start(path, self.guide.rows[i].path.size)
            if not leads_to(&last, path, start - 1 if start else 0):
                last.path = path
                last.size = start - 1 if start else 0
                parent = self.base.row_of(path, last.size)
            if parent >= 0 and self.base.remember(
                parent, path + start, self.guide.rows[i].path.size - start,
                NULL if fact.absent else &fact.row,
            ) < 0:
                raise_fault(&self.base.fault)
        return 0


cdef bint leads_to(const Folder *folder, const char *path, size_t size) noexcept nogil:
    return folder.path != NULL and folder.size == size and (
        folder.path == path or memcmp(folder.path, path, size) == 0
    )

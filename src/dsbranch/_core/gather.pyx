"""What small files hold, read into memory together by a job of threads, for who wants it in order;
and files that are read one by one, of which such a job tells the disk before."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free

from dsbranch._core.linux cimport *
from dsbranch._core.pieces cimport *
from dsbranch._core.reading cimport *
from dsbranch._core.table cimport *

cdef enum:
    SPARSE = 1 << 16     # below, holes save less than it costs to look for them

cdef struct Part:
    char *into
    bint whole           # all of it was read, and it has no holes
    bint bare            # it has no xattrs


cdef class Errand(Reading):
    """Nothing is read: the disk begins with it."""
    cdef list keep       # whose tables are being used
    cdef Source *sources

    def __cinit__(self, list places):
        cdef Table table
        cdef int64_t row
        self.keep = places
        self.sources = <Source *>calloc(len(places) + 1, sizeof(Source))
        if self.sources == NULL:
            raise MemoryError
        for table, row in places:
            table.row_of(row)
            describe(self.sources + self.count, table, row, True, False)
            self.count += 1

    def __dealloc__(self):
        free(self.sources)

    cdef void one(self, int64_t at, Desk *desk) noexcept nogil:
        self.announce(self.sources + at)


cdef class Gathering(Errand):
    cdef list contents   # whose bytes are being used
    cdef Part *parts

    def __cinit__(self, list places):
        cdef int64_t i
        cdef bytes content
        self.contents = []
        self.parts = <Part *>calloc(self.count + 1, sizeof(Part))
        if self.parts == NULL:
            raise MemoryError
        for i in range(self.count):
            content = PyBytes_FromStringAndSize(NULL, self.sources[i].size)
            self.contents.append(content)
            self.parts[i].into = PyBytes_AS_STRING(content)

    def __dealloc__(self):
        free(self.parts)

    cdef void ahead(self, int64_t at) noexcept nogil:
        self.announce(self.sources + at)

    cdef void one(self, int64_t at, Desk *desk) noexcept nogil:
        cdef Part *part = self.parts + at
        cdef Source *source = self.sources + at
        cdef statx_t s
        cdef int fd = self.open_file(source, &desk.directories[0])
        if fd < 0:
            return
        if (
            statx(fd, b"", AT_EMPTY_PATH, STATX_BASIC_STATS, &s) == 0
            and s.stx_mode & S_IFMT == S_IFREG
            and (<int64_t>s.stx_blocks * 512 >= source.size or source.size < SPARSE)
        ):
            part.whole = fill(fd, part.into, source.size, 0, source.size) == source.size
            part.bare = flistxattr(fd, NULL, 0) == 0
        close(fd)


def expect(list places) -> None:
    """Have the disk begin with regular files, ``(table, row)`` each, that are read soon. Where memory
    is short that is done without."""
    cdef Errand errand = Errand(places)
    try:
        errand.start(None, None)
    except MemoryError:
        pass


def gather(list places, *, threads=None) -> list:
    """What regular files hold: for each ``(table, row)`` its bytes and whether it has no xattrs.

    None for a file that cannot be read, that is shorter than its table says, or, if it has 64 KiB or
    more, that has holes. All are in memory at once, so who asks sees to their number and size.
    """
    cdef Gathering job = Gathering(places)
    cdef int64_t i
    job.start(threads, None)
    return [
        (job.contents[i], bool(job.parts[i].bare)) if job.parts[i].whole else None
        for i in range(job.count)
    ]

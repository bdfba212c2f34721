"""Looking names up in the dataset ahead of those who will ask for them."""

from libc.stdint cimport int64_t

from dsbranch._core.base cimport Base
from dsbranch._core.table cimport Row, Table

cdef struct Fact:
    bint told            # the dataset was asked, and nothing special is there
    bint absent
    Row row              # but for its path

cdef struct Folder:
    # A directory of the dataset that names are looked up in.
    int fd               # -1: there is none, or a layer hides it
    const char *path
    size_t size          # of its path

cdef class Scout:
    cdef Base base
    cdef Table guide
    cdef int64_t least   # entries worth threads
    cdef int64_t low     # the rows of the guide that were looked up last are [low, high)
    cdef int64_t high
    cdef int64_t taken
    cdef int stop
    cdef Fact *facts

    cdef int come(self, int64_t row) except -1
    cdef void run(self) noexcept nogil
    cdef void look(self, int64_t row, Folder *here, Folder *before) noexcept nogil
    cdef void enter(self, const char *path, size_t size, Folder *folder) noexcept nogil
    cdef bint hidden(self, const char *path, size_t size) noexcept nogil
    cdef int hand_over(self) except -1

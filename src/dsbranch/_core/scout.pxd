"""Looking names up in the dataset ahead of those who will ask for them."""

from libc.stdint cimport int64_t

from dsbranch._core.base cimport Base
from dsbranch._core.table cimport Row, Table

cdef struct Errand:
    # One name to be looked up.
    int64_t row          # of the guide
    int64_t folder       # the row of its directory, there
    bint told            # the dataset was asked, and nothing special is there
    bint absent
    bint bare            # its directory was opened for it, and has no xattrs
    Row found            # but for its path; only if it was told of and is there

cdef struct Folder:
    # A directory of the dataset that names are looked up in.
    int64_t row          # of the guide; -1: none
    int fd               # below 0: it cannot be opened

cdef class Scout:
    cdef Base base
    cdef Table guide
    cdef list lowers
    cdef char *come_to   # for each window whether the walk did
    cdef Errand *errands
    cdef int64_t count
    cdef int64_t taken
    cdef int stop

    cdef int come(self, int64_t row) except -1
    cdef int plan(self, int64_t low, int64_t high) except -1
    cdef list parts_over(self, const char *path, size_t size)
    cdef void run(self) noexcept nogil
    cdef void look(self, Errand *errand, Folder *here, Folder *before) noexcept nogil
    cdef int hand_over(self) except -1

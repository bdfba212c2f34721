"""The adopted directory as a table that fills itself."""

from libc.stdint cimport int64_t, uint32_t

from dsbranch._core.files cimport Scratch
from dsbranch._core.table cimport Row, Table

cdef enum:
    NOT_ASKED = -3       # nobody has asked for the name

cdef struct Answer:
    int64_t row          # -1: the name is not there
    int64_t at           # of the name on the heap
    uint32_t size        # of the name
    uint32_t parent

cdef struct Opened:
    int fd               # -1: none
    int64_t at           # of its path on the heap
    size_t size

cdef class Base(Table):
    # A hash table of the answers' numbers, 0: none. Only these lie scattered; answers lie side by side,
    # so that a page holds many in use.
    cdef uint32_t *places
    cdef Answer *answers    # from 1 on; one that gives way leaves its number to the next
    cdef uint32_t kept      # how many there are
    cdef Scratch scratch
    cdef char *listing
    cdef bint user
    cdef Opened here         # the directory that was asked of last
    cdef Opened before       # and the one before that
    cdef bint is_marked(self, const char *name) noexcept nogil
    cdef int copy_prefix(self, int64_t parent) noexcept nogil
    cdef int enter(self, int64_t at, size_t size) noexcept nogil
    cdef bint is_at(self, const Opened *opened, int64_t at, size_t size) noexcept nogil
    cdef int64_t look(self, int64_t parent, const char *name, size_t size) noexcept nogil
    cdef int64_t add(self, int64_t parent, const char *name, size_t size, Row *row) noexcept nogil
    cdef uint32_t *place_of(self, int64_t parent, const char *name, size_t size) noexcept nogil
    cdef bint answers_to(
        self, const Answer *answer, int64_t parent, const char *name, size_t size
    ) noexcept nogil
    cdef int64_t said(
        self, uint32_t number, int64_t parent, const char *name, size_t size
    ) noexcept nogil
    cdef int keep(
        self, uint32_t *number, int64_t parent, const char *name, size_t size, int64_t row
    ) noexcept nogil
    cdef int64_t recall(self, int64_t parent, const char *name, size_t size) noexcept nogil
    cdef int64_t recall_path(self, const char *path, size_t size) noexcept nogil
    cdef int remember(self, int64_t parent, const char *name, size_t size, Row *row) noexcept nogil
    cdef void set_bare(self, int64_t row) noexcept nogil
    cdef int64_t ask(self, int64_t parent, const char *name, size_t size) noexcept nogil
    cdef int fail(self, int error, const char *action, int64_t parent, const char *name) noexcept nogil

"""Hard links into layers, made in threads."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t

cdef struct Where:
    # A name in a directory below an open one. Both end with NUL.
    int root
    const char *directory
    size_t size          # of its path
    const char *name

cdef struct Link:
    Where old            # in a layer
    Where new
    bint first           # of those in its directory
    int error            # why it could not be made

cdef class Links:
    cdef int target
    cdef list steps
    cdef list directories    # their paths
    cdef Link *links
    cdef int64_t count
    cdef int64_t taken
    cdef int stop

    cdef int make(self) except -1
    cdef int plan(self) except -1
    cdef int locate(self, Where *where, const Where *last, int root, const char *path, size_t size) except -1
    cdef void run(self) noexcept nogil
    cdef void run_again(self) noexcept nogil

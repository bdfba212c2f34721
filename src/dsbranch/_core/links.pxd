"""Hard links into layers, made in threads."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t

cdef struct Name:
    int root
    const char *path
    size_t start         # where the name itself begins

cdef struct Link:
    Name old             # in a layer
    Name new
    int layer            # which one: layers are numbered as they come
    bint first           # of those in its directory
    int error            # why it could not be made

cdef class Links:
    cdef object owner
    cdef list steps
    cdef Link *links
    cdef int64_t count
    cdef int64_t taken
    cdef int stop

    cdef int plan(self, int target) except -1
    cdef int make(self) except -1
    cdef void run(self) noexcept nogil
    cdef void run_again(self) noexcept nogil

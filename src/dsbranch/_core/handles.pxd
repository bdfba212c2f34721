"""File handles of rows, and the handles their origins name."""

from libc.stdint cimport int64_t

from dsbranch._core.table cimport Table

cdef class Handles:
    cdef dict uuids      # id of a table's filesystem -> its uuid, None if the kernel does not say
    cdef bint bare       # there is but one filesystem, without a uuid: handles do without
    cdef Table dir_table
    cdef bytes dir_path
    cdef int dir_fd
    cdef dict older      # handle -> (table, row) with an origin of its own

    cdef bytes of(self, Table table, int64_t row)
    cdef bytes origin(self, Table table, int64_t row)
    cdef int learn(self, Table table, set wanted) except -1
    cdef tuple first(self, Table table, int64_t row)
    cdef int enter(self, Table table, bytes path) except -1
    cdef bytes uuid(self, Table table)

cdef Handles ancestors(parts)

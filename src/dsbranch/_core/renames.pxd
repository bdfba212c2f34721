"""Which files were renamed."""

from dsbranch._core.delta cimport Delta
from dsbranch._core.handles cimport Handles
from dsbranch._core.sides cimport Sides
from dsbranch._core.table cimport Table

cdef class Renames:
    cdef Sides sides
    cdef Handles handles
    cdef list gone       # what only the old side has, no directories, as long as it is not paired
    cdef list come
    cdef str asked       # the letter of those whose own handles are asked for

    cdef list paired(self, list found)
    cdef int pair(self, key) except -1
    cdef int settle(self, list olds, list news) except -1
    cdef int by_ancestor(self) except -1
    cdef tuple with_origin(self, Delta delta)

"""Which directories moved."""

from dsbranch._core.sides cimport Pair, Sides
from dsbranch._core.view cimport Node, View

cdef class Moved:
    cdef Sides sides
    cdef View old
    cdef View new
    cdef Pair pair
    cdef dict matched    # path of a new directory -> the old node that it was
    cdef set taken       # paths of the old nodes in `matched`
    cdef bint forked     # the old side has layers that the new one has not

    cdef int find(self) except -1
    cdef int take(self, dict given) except -1
    cdef bint came(self, Node one, Node two) except -1
    cdef bint stays(self, bytes path)
    cdef tuple identity(self, View view, Node node)
    cdef bint has_redirects(self)
    cdef bint open_some(
        self, list closed, bint all_kinds, View view,
        dict gone, dict come, list closed_gone, list closed_come,
    ) except -1
    cdef int open_pair(
        self, Node one, Node two, list pairs,
        dict gone, dict come, list closed_gone, list closed_come,
    ) except -1

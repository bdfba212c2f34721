"""Two views side by side."""

from libc.stdint cimport int64_t

from dsbranch._core.table cimport Table
from dsbranch._core.view cimport Node, Spot, View

cdef bint same_spot(View a, Spot one, View b, Spot two)
cdef bint meta_differs(View a, Spot one, View b, Spot two, bint times) except -1

cdef class Sides:
    cdef View old
    cdef View new
    cdef set shared      # ids of the tables that both views have
    cdef int64_t steps

    cdef bint shares(self, Table table)
    cdef int pulse(self) except -1
    cdef list names(self, Node one, Node two)

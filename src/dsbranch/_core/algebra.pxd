"""What other modules of the core take from the comparison of views."""

from dsbranch._core.view cimport Spot, View

cdef bint same_spot(View a, Spot one, View b, Spot two)
cdef bint meta_differs(View a, Spot one, View b, Spot two, bint times) except -1

"""The steps of a plan."""

cdef enum:
    DIRECTORY_STEP
    LINK
    COPY
    STUB
    WHITEOUT_STEP
    AGAIN
    NODE
    TOMB

cdef class Step:
    cdef public int action
    cdef readonly bytes path
    cdef readonly tuple source
    cdef public tuple data
    cdef public bytes marker
    cdef readonly bytes first

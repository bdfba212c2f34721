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
    cdef public bytes first
    cdef public tuple facts

cdef Step new_step(int action, bytes path, tuple source=*, tuple data=*, bytes marker=*)

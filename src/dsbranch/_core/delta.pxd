"""One changed path."""

cdef class Delta:
    cdef readonly str status
    cdef readonly bytes path
    cdef readonly bytes old_path
    cdef readonly str kind
    cdef readonly object size
    cdef readonly object old_size
    cdef readonly tuple old
    cdef readonly tuple new
    cdef readonly tuple content
    cdef tuple place     # of D and A: (table, row) of the data, which a metacopy has elsewhere

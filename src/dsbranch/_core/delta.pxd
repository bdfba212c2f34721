"""One changed path, and the sequence of all."""

from dsbranch._core.ledger cimport Ledger

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

"""Which files were renamed."""

from libc.stdint cimport int64_t, uint64_t

from dsbranch._core.handles cimport Handles
from dsbranch._core.ledger cimport Change, Ledger
from dsbranch._core.sides cimport Sides
from dsbranch._core.view cimport View

cdef struct Candidate:
    uint64_t key[2]      # what the two halves of a pair have in common
    int64_t change       # its number: the order of paths

cdef class Renames:
    cdef Sides sides
    cdef Ledger ledger
    cdef Handles handles
    cdef Candidate *candidates
    cdef int64_t count
    cdef int64_t room
    cdef unsigned char *filter   # bits of the keys that the rarer letter has
    cdef uint64_t filter_mask
    cdef int64_t gone    # how many are not paired yet
    cdef int64_t come
    cdef unsigned char asked    # the letter of those whose own handles are asked for
    cdef dict numbers    # for keys that are no numbers
    cdef bint naming     # they get new ones

    cdef int pair_all(self) except -1
    cdef int pair(self, int rule) except -1
    cdef int collect(self, int rule, unsigned char status, bint rarer) except -1
    cdef int start_filter(self, int64_t keys) except -1
    cdef int keep(self, const Candidate *candidate) except -1
    cdef bint key(self, int rule, Change *change, uint64_t *key) except -1
    cdef bint place(self, Change *change, uint64_t *key) except -1
    cdef bint inode(self, Change *change, uint64_t *key) except -1
    cdef bint ancestor(self, Change *change, uint64_t *key) except -1
    cdef int by_ancestor(self) except -1
    cdef tuple with_origin(self, Change *change)
    cdef int settle(self, int64_t low, int64_t high) except -1
    cdef void zip(self, int64_t low, int64_t high) noexcept
    cdef Change *change(self, int64_t candidate) noexcept
    cdef View view(self, Change *change)
    cdef uint64_t number(self, key) except? 0

"""The changes of one comparison, compactly."""

from libc.stdint cimport int32_t, int64_t, uint32_t

from dsbranch._core.memory cimport Region
from dsbranch._core.table cimport Row
from dsbranch._core.view cimport Spot, View

cdef struct Place:
    int32_t layer        # -1: nowhere
    uint32_t row

cdef struct Change:
    Place old            # the metadata on each side
    Place new
    Place data           # the content on the new side, of a deletion on the old one
    uint32_t old_home    # which directory it is in on each side
    uint32_t new_home
    unsigned char status # its letter; 0: it is no change after all, or told with another

cdef struct Home:
    int64_t at           # on the heap
    int64_t size

cdef struct Name:
    const char *at
    size_t size

cdef class Ledger:
    cdef View old
    cdef View new
    cdef Change *changes
    cdef int64_t count
    cdef Region memory           # of the changes
    cdef int spill_fd
    cdef Home *homes             # paths of directories
    cdef int64_t home_count
    cdef int64_t home_room
    cdef char *heap
    cdef size_t heap_used
    cdef size_t heap_room

    cdef int64_t home(self, bytes path) except -1
    cdef Change *add(self, unsigned char status, const Spot *old, const Spot *new, const Spot *data) except NULL nogil
    cdef int tidy(self) except -1
    cdef Row *row(self, bint new, Place place) noexcept nogil
    cdef Row *old_row(self, const Change *change) noexcept nogil
    cdef Row *new_row(self, const Change *change) noexcept nogil
    cdef Row *data_row(self, const Change *change) noexcept nogil
    cdef tuple place(self, bint new, Place place)
    cdef Name name(self, bint new, const Change *change) noexcept nogil
    cdef bytes path(self, bint new, const Change *change)

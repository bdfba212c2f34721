"""The names that several parts of a directory hold, merged."""

from cpython.ref cimport PyObject
from libc.stdint cimport int64_t, uint32_t

from dsbranch._core.table cimport Row

cdef extern from *:
    """
    /* Tables of several parts at once are more than the processor foresees by itself: where they
       are larger than its caches, asking for rows ahead makes a comparison twice as fast, asking for
       names a tenth more. That the address may lie behind the table does no harm. */
    #define dsb_ask_for_row(p) \\
        (__builtin_prefetch(p), __builtin_prefetch((char *)(p) + 64), \\
         __builtin_prefetch((char *)(p) + 128))
    """
    void ask_for "__builtin_prefetch"(const void *at) noexcept nogil
    void ask_for_row "dsb_ask_for_row"(const Row *row) noexcept nogil

cdef struct Slot:
    PyObject *table      # a Table, which whoever has the slot keeps alive
    bint base            # it is a Base, which looks up anew what it is asked

cdef struct Spot:
    int layer            # index into the view's tables, the base last; -1: nowhere
    int64_t row

cdef struct Hit:
    int part             # index into a directory's spots
    int64_t row

cdef struct Lane:
    PyObject *table
    int64_t child
    int64_t end
    int64_t at           # where the child's name begins in the table's heap, which may move
    uint32_t size
    uint32_t skip        # the length of what stands before the name

cdef class Cursor:
    cdef Lane *lanes
    cdef int *heap               # the lanes that are not at their end, the lowest name first
    cdef int waiting             # how many these are
    cdef int parts               # how many lanes there are, ended or not
    cdef Hit *hits               # who has the name that was taken last, in the order of the parts
    cdef int hit_count
    cdef int room
    cdef char *name              # that name, NUL-terminated
    cdef size_t size
    cdef size_t name_room

    cdef int open(self, Slot *slots, const Spot *spots, int parts) except -1
    cdef void close(self) noexcept nogil
    cdef int take(self) except -1 nogil
    cdef int sign(self, Cursor other) noexcept nogil
    cdef bint goes_before(self, int a, int b) noexcept nogil
    cdef void sink(self, int place) noexcept nogil

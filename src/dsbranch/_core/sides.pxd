"""Two views side by side."""

from libc.stdint cimport int64_t

from dsbranch._core.cursor cimport Cursor
from dsbranch._core.scout cimport Scout
from dsbranch._core.table cimport Row, Table
from dsbranch._core.view cimport Found, Node, Spot, View

cdef enum:
    ENOUGH = 100         # so many files of a directory tell where it went
    TOO_MANY = 2000      # entries to look at for these

cdef bint same_spot(View a, Spot one, View b, Spot two) noexcept nogil
cdef bint same_parts(
    View a, const Spot *ones, int count, View b, const Spot *twos, int other
) noexcept nogil
cdef bint same_target(View a, Spot one, View b, Spot two) noexcept nogil
cdef bint meta_differs(View a, Spot one, View b, Spot two, bint times) except -1 nogil
cdef int lean(View shown, bytes at, bytes elsewhere, View where) except? -1
cdef bint looks_like(View view, Spot entry, const Row *row) noexcept nogil
cdef bint alike(const Row *one, const Row *other) noexcept nogil

cdef class Pair:
    """Two directories, and what each has under the name that both have come to."""
    cdef View old
    cdef View new
    cdef Node one                # either may be None
    cdef Node two
    cdef Cursor left
    cdef Cursor right
    cdef const char *at          # the name that both have come to
    cdef size_t size
    cdef Found before
    cdef Found after
    cdef int64_t old_home        # for whoever keeps the paths of directories; -1 at first
    cdef int64_t new_home

    cdef int open(self, Node one, Node two, int a, int b) except -1
    cdef bint step(self) except -1 nogil
    cdef int look_before(self, Node one) except -1
    cdef bytes name(self)
    cdef Node outer(self)
    cdef Node inner(self)

cdef class Sides:
    cdef View old
    cdef View new
    cdef set shared      # ids of the tables that both views have
    cdef dict scouts     # by the id of a table: who looks the dataset up for it
    cdef int64_t steps

    cdef int look_ahead(self, Pair pair) except -1
    cdef int send(self, Cursor cursor) except -1
    cdef bint shares(self, Table table)
    cdef int pulse(self) except -1
    cdef bint open(self, Pair pair, Node one, Node two) except -1

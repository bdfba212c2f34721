"""The names that several parts of a directory hold, merged: in order, each with who has it.

A layer's names are sorted, so they are read side by side from a heap of the parts; no set of
names is made, and no name is searched for in the part that it was read from. Rows and heaps are
reached through the tables at each step: a Base grows while it is asked.
"""

from cpython.ref cimport PyObject
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

from dsbranch._core.files cimport reserve
from dsbranch._core.table cimport *


cdef enum:
    # Far enough to be there in time, near enough not to be gone again.
    ROWS_AHEAD = 12
    BYTES_AHEAD = 640    # of paths, about as far


cdef int compare(const char *a, size_t na, const char *b, size_t nb) noexcept nogil:
    """The order of names, in which '/' does not occur."""
    cdef int sign = memcmp(a, b, na if na < nb else nb)
    if sign != 0:
        return sign
    return (na > nb) - (na < nb)


cdef int lane_order(const Lane *one, const Lane *two) noexcept nogil:
    """How the names compare before which two lanes stand."""
    return compare(
        (<Table>one.table).heap + one.at, one.size, (<Table>two.table).heap + two.at, two.size
    )


cdef class Cursor:
    """Use: `open` a directory's parts, then `take` names until there are none."""

    def __dealloc__(self):
        free(self.lanes)
        free(self.heap)
        free(self.hits)
        free(self.name)

    cdef int open(self, Slot *slots, const Spot *spots, int parts) except -1:
        """Stand before the first name of a directory's first `parts` parts, which are listed."""
        cdef int i
        cdef Lane *lane
        cdef Row *row
        cdef Table table
        if parts > self.room:
            free(self.lanes)
            free(self.heap)
            free(self.hits)
            self.lanes = <Lane *>malloc(parts * sizeof(Lane))
            self.heap = <int *>malloc(parts * sizeof(int))
            self.hits = <Hit *>malloc(parts * sizeof(Hit))
            self.room = parts
            if self.lanes == NULL or self.heap == NULL or self.hits == NULL:
                self.room = 0
                raise MemoryError
        self.close()
        self.parts = parts
        for i in range(parts):
            table = <Table>slots[spots[i].layer].table
            if table.load(spots[i].row) < 0:
                raise_fault(&table.fault)
            row = table.rows + spots[i].row
            lane = self.lanes + i
            lane.table = <PyObject *>table
            lane.child = row.first
            lane.end = row.end
            lane.skip = row.path.size + (1 if row.path.size else 0)
            if lane.child < lane.end:
                name_of(lane)
                self.heap[self.waiting] = i
                self.waiting += 1
        for i in reversed(range(self.waiting // 2)):
            self.sink(i)
        return 0

    cdef void close(self) noexcept nogil:
        """Hold no names, of no parts."""
        self.parts = self.waiting = self.hit_count = 0

    cdef bint goes_before(self, int a, int b) noexcept nogil:
        cdef int sign = lane_order(self.lanes + a, self.lanes + b)
        return sign < 0 or (sign == 0 and a < b)

    cdef void sink(self, int place) noexcept nogil:
        """Restore the heap's order below `place`."""
        cdef int lane = self.heap[place], below
        while True:
            below = 2 * place + 1
            if below >= self.waiting:
                break
            if below + 1 < self.waiting and self.goes_before(self.heap[below + 1], self.heap[below]):
                below += 1
            if self.goes_before(lane, self.heap[below]):
                break
            self.heap[place] = self.heap[below]
            place = below
        self.heap[place] = lane

    cdef int sign(self, Cursor other) noexcept nogil:
        """How the next name of this cursor, which must have one, compares with another's."""
        return lane_order(self.lanes + self.heap[0], other.lanes + other.heap[0])

    cdef int take(self) except -1 nogil:
        """Take the next name: 1, or 0 where there is none."""
        cdef Lane *lane
        self.hit_count = 0
        if self.waiting == 0:
            return 0
        lane = self.lanes + self.heap[0]
        if reserve(&self.name, &self.name_room, <size_t>lane.size + 1) < 0:
            with gil:
                raise MemoryError
        self.size = lane.size
        memcpy(self.name, (<Table>lane.table).heap + lane.at, self.size)
        self.name[self.size] = 0
        while True:
            self.hits[self.hit_count].part = self.heap[0]
            self.hits[self.hit_count].row = lane.child
            self.hit_count += 1
            lane.child = (<Table>lane.table).next_child(lane.child)
            if lane.child < lane.end:
                name_of(lane)
            else:
                self.waiting -= 1
                self.heap[0] = self.heap[self.waiting]
            if self.waiting == 0:
                return 1
            self.sink(0)
            lane = self.lanes + self.heap[0]
            if lane.size != self.size or memcmp(
                (<Table>lane.table).heap + lane.at, self.name, self.size
            ) != 0:
                return 1


cdef void name_of(Lane *lane) noexcept nogil:
    cdef Row *row = (<Table>lane.table).rows + lane.child
    ask_for_row(row + ROWS_AHEAD)
    lane.at = row.path.at + lane.skip
    lane.size = row.path.size - lane.skip
    ask_for((<Table>lane.table).heap + lane.at + BYTES_AHEAD)

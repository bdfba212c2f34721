"""The changes of one comparison, compactly: where the rows are, and in which directory.

A change takes some forty bytes, and its directory's path is kept once for all that are in it. Its
name is that of its row: what shows under a name was found under it.
"""

import os

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from dsbranch._core.cursor cimport Slot
from dsbranch._core.files cimport reserve
from dsbranch._core.linux cimport close, qsort_r
from dsbranch._core.memory cimport region_free, region_grow, region_init
from dsbranch._core.table cimport *
from dsbranch._core.view cimport Spot, View


cdef Place place_of(const Spot *spot) noexcept nogil:
    cdef Place place
    place.layer = -1
    place.row = 0
    if spot != NULL and spot.layer >= 0:
        place.layer = spot.layer
        place.row = <uint32_t>spot.row
    return place


cdef int in_order(const void *a, const void *b, void *ledger) noexcept nogil:
    """By path with '/' lowest; a deletion comes before whatever took the name."""
    cdef const Change *one = <const Change *>a
    cdef const Change *two = <const Change *>b
    cdef bint one_is_new = one.status != c'D', two_is_new = two.status != c'D'
    cdef Home home = (<Ledger>ledger).homes[one.new_home if one_is_new else one.old_home]
    cdef Home other_home = (<Ledger>ledger).homes[two.new_home if two_is_new else two.old_home]
    cdef Name name = (<Ledger>ledger).name(one_is_new, one)
    cdef Name other_name = (<Ledger>ledger).name(two_is_new, two)
    cdef const char *heap = (<Ledger>ledger).heap
    cdef size_t i = 0
    cdef int left, right
    if home.at == other_home.at:
        left = order(name.at, name.size, other_name.at, other_name.size)
        return left if left else one_is_new - two_is_new
    while True:
        left = byte_at(heap + home.at, home.size, name, i)
        right = byte_at(heap + other_home.at, other_home.size, other_name, i)
        if left != right:
            return -1 if left < right else 1
        if left < 0:
            return one_is_new - two_is_new
        i += 1


cdef int byte_at(const char *home, size_t size, Name name, size_t i) noexcept nogil:
    """The byte at `i` of a path, 0 for '/'; -1 behind its end."""
    cdef unsigned char byte
    if i < size:
        byte = home[i]
    elif size and i == size:
        return 0
    else:
        i -= size + 1 if size else 0
        if i >= name.size:
            return -1
        byte = name.at[i]
    return 0 if byte == c'/' else byte


cdef class Ledger:
    """Changes from `old` (None: an empty tree) to `new`, in the order in which they are added."""

    def __cinit__(self, *args):
        self.spill_fd = -1
        region_init(&self.memory)

    def __init__(self, View old, View new, bytes spill=None):
        """`spill` is a directory to whose filesystem changes go that are too many for memory."""
        self.old = old
        self.new = new
        if spill is not None:
            self.spill_fd = os.open(spill, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __dealloc__(self):
        region_free(&self.memory)
        if self.spill_fd >= 0:
            close(self.spill_fd)
        free(self.homes)
        free(self.heap)

    cdef int64_t home(self, bytes path) except -1:
        """Keep the path of a directory; its number."""
        cdef Home *homes
        cdef int64_t room
        cdef size_t size = len(path)
        if self.home_count == self.home_room:
            room = 2 * self.home_room + 16
            homes = <Home *>realloc(self.homes, room * sizeof(Home))
            if homes == NULL:
                raise MemoryError
            self.homes = homes
            self.home_room = room
        if reserve(&self.heap, &self.heap_room, self.heap_used + size + 1) < 0:
            raise MemoryError
        memcpy(self.heap + self.heap_used, <const char *>path, size)
        self.homes[self.home_count].at = self.heap_used
        self.homes[self.home_count].size = size
        # One byte more, so that no two homes begin at one place.
        self.heap_used += size + 1
        self.home_count += 1
        return self.home_count - 1

    cdef Change *add(self, unsigned char status, const Spot *old, const Spot *new, const Spot *data) except NULL nogil:
        """Add a change, NULL where a side has nothing; whoever adds it says the homes."""
        cdef Change *change
        cdef int64_t used = self.count * <int64_t>sizeof(Change)
        cdef int64_t need = used + <int64_t>sizeof(Change)
        cdef int error
        if need > self.memory.room:
            error = region_grow(&self.memory, used, need, self.spill_fd)
            if error:
                with gil:
                    raise OSError(error, f"cannot hold the changes: {os.strerror(error)}")
            self.changes = <Change *>self.memory.at
        change = self.changes + self.count
        self.count += 1
        change.status = status
        change.old = place_of(old)
        change.new = place_of(new)
        change.data = place_of(data)
        change.old_home = change.new_home = 0
        return change

    cdef int tidy(self) except -1:
        """Drop what is no change after all, and sort the rest by path."""
        cdef int64_t i, kept = 0
        cdef bint sorted_already = True
        for i in range(self.count):
            if self.changes[i].status == 0:
                continue
            self.changes[kept] = self.changes[i]
            if kept and sorted_already:
                sorted_already = in_order(
                    self.changes + kept - 1, self.changes + kept, <void *>self
                ) < 0
            kept += 1
        self.count = kept
        # Only what is gone from a directory that moved is told out of order.
        if not sorted_already:
            qsort_r(self.changes, kept, sizeof(Change), in_order, <void *>self)
        return 0

    cdef Row *row(self, bint new, Place place) noexcept nogil:
        cdef Slot *slots
        if place.layer < 0:
            return NULL
        slots = self.new.slots if new else self.old.slots
        return (<Table>slots[place.layer].table).rows + place.row

    cdef Row *old_row(self, const Change *change) noexcept nogil:
        return self.row(False, change.old)

    cdef Row *new_row(self, const Change *change) noexcept nogil:
        return self.row(True, change.new)

    cdef Row *data_row(self, const Change *change) noexcept nogil:
        return self.row(change.new.layer >= 0, change.data)

    cdef tuple place(self, bint new, Place place):
        """``(table, row)``; None: nowhere."""
        cdef View view = self.new if new else self.old
        return None if place.layer < 0 else (view.tables[place.layer], place.row)

    cdef Name name(self, bint new, const Change *change) noexcept nogil:
        """What it is called on one side, which must have it."""
        cdef Place place = change.new if new else change.old
        cdef Slot *slots = self.new.slots if new else self.old.slots
        cdef Slot slot = slots[place.layer]
        cdef Text path = (<Table>slot.table).rows[place.row].path
        cdef Name name
        cdef size_t start
        name.at = (<Table>slot.table).heap + path.at
        start = name_start(name.at, path.size)
        name.at += start
        name.size = path.size - start
        return name

    cdef bytes path(self, bint new, const Change *change):
        """Where it is on one side, which must have it."""
        cdef Home home = self.homes[change.new_home if new else change.old_home]
        cdef Name name = self.name(new, change)
        cdef bytes path
        cdef char *at
        if home.size == 0:
            return PyBytes_FromStringAndSize(name.at, name.size)
        # A fresh bytes object, filled before anyone else can see it.
        path = PyBytes_FromStringAndSize(NULL, home.size + 1 + name.size)
        at = path
        memcpy(at, self.heap + home.at, home.size)
        at[home.size] = c'/'
        memcpy(at + home.size + 1, name.at, name.size)
        return path

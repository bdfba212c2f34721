"""Looking names up in a stack of layers, as the kernel does."""

from libc.stdint cimport int64_t

from dsbranch._core.cursor cimport Cursor, Hit, Slot, Spot
from dsbranch._core.table cimport Row, Table

cdef struct Found:
    Spot entry           # the topmost, whose metadata count; layer -1: there is nothing
    Spot data            # of a regular file: where its content lies; layer -1: it is missing
    Spot *spots          # of a directory: its parts, with room for the view's depth
    int count            # how many these are; 0: it is no directory

cdef class Node:
    """A directory of a view: where its parts lie, top first."""
    cdef Spot *spots
    cdef int count
    cdef readonly bytes path

cdef class View:
    cdef list tables             # newest first, the base last
    cdef Slot *slots             # the same, for code without Python
    cdef int depth
    cdef bint user               # the layers on the base are an ordinary user's
    cdef readonly Node root

    cdef inline Table table(self, Spot spot):
        return <Table>self.slots[spot.layer].table
    cdef inline Row *row(self, Spot spot) noexcept nogil:
        return (<Table>self.slots[spot.layer].table).rows + spot.row
    cdef int find_in(
        self, const Spot *parts, int count, const char *name, size_t size, Cursor known, Found *found
    ) except -1 nogil
    cdef int find_from(self, const char *path, size_t size, int top, Found *found) except -1 nogil
    cdef int follow(self, const char *path, size_t size, int top, Found *found) except -1 nogil
    cdef Node node(self, Node parent, bytes name, const Found *found)
    cdef Node lookup(self, Node parent, bytes name, Spot *entry, Spot *data)
    cdef Node walk(self, bytes path, int top, Spot *entry, Spot *data)
    cdef int complete(self, Spot spot) except -1 nogil

cdef bytes joined(bytes directory, bytes name)
cdef Node new_node(bytes path, const Spot *spots, int count)
cdef Node lower_part(Node node, int split)
cdef Spot *room_for(int depth) except NULL nogil
cdef void nothing(Found *found) noexcept nogil

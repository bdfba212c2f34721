"""Looking names up in a stack of layers, as the kernel does."""

from libc.stdint cimport int64_t

from dsbranch._core.table cimport Row, Table

cdef struct Spot:
    int layer            # index into the view's tables, the base last; -1: nowhere
    int64_t row

cdef class Node:
    """A directory of a view: where its parts lie, top first."""
    cdef Spot *spots
    cdef int count
    cdef readonly bytes path

cdef class View:
    cdef list tables             # newest first, the base last
    cdef int depth
    cdef readonly Node root

    cdef inline Table table(self, Spot spot):
        return <Table>self.tables[spot.layer]
    cdef inline Row *row(self, Spot spot):
        cdef Table table = <Table>self.tables[spot.layer]
        return table.rows + spot.row
    cdef Node lookup(self, Node parent, bytes name, Spot *entry, Spot *data)
    cdef Node walk(self, bytes path, int top, Spot *entry, Spot *data)
    cdef int gather(self, Node node, int first, int last, set names) except -1
    cdef int complete(self, Spot spot) except -1
    cdef list children(self, Node node)
    cdef tuple at(self, bytes path)

cdef bytes joined(bytes directory, bytes name)
cdef Node new_node(bytes path, const Spot *spots, int count, int room)

"""Two views side by side: what they share, and whether two entries are one."""

from cpython.exc cimport PyErr_CheckSignals
from libc.string cimport memcmp

from dsbranch._core.base cimport Base
from dsbranch._core.table cimport *
from dsbranch._core.view cimport Node, Spot, View


cdef bint same_spot(View a, Spot one, View b, Spot two):
    cdef Table table = a.table(one)
    cdef Row *left
    cdef Row *right
    if table is not b.table(two):
        return False
    if one.row == two.row:
        return True
    if not isinstance(table, Base):
        return False
    # The base looks a path up anew each time it is asked.
    left = table.rows + one.row
    right = table.rows + two.row
    return left.path.size == right.path.size and memcmp(
        table.heap + left.path.at, table.heap + right.path.at, left.path.size
    ) == 0


cdef bint meta_differs(View a, Spot one, View b, Spot two, bint times) except -1:
    cdef Row *left
    cdef Row *right
    a.complete(one)
    b.complete(two)
    left = a.row(one)
    right = b.row(two)
    if left.mode != right.mode or left.uid != right.uid or left.gid != right.gid:
        return True
    if (left.kind != DIRECTORY or times) and left.mtime_ns != right.mtime_ns:
        return True
    if (left.flags ^ right.flags) & F_XATTRS:
        return True
    return left.flags & F_XATTRS and memcmp(left.xattrs, right.xattrs, 16) != 0


cdef class Sides:
    """An old view (None: an empty tree) and a new one."""

    def __init__(self, View old, View new):
        self.old = old
        self.new = new
        self.shared = set()
        if old is not None:
            self.shared = {id(table) for table in old.tables} & {id(table) for table in new.tables}

    cdef bint shares(self, Table table):
        return id(table) in self.shared

    cdef int pulse(self) except -1:
        """Let Ctrl-C through now and then."""
        self.steps += 1
        if self.steps & 1023 == 0:
            PyErr_CheckSignals()
        return 0

    cdef list names(self, Node one, Node two):
        """The names in the parts that two directories do not share; either may be None."""
        cdef int a = 0 if one is None else one.count
        cdef int b = 0 if two is None else two.count
        cdef set names = set()
        while a > 0 and b > 0 and same_spot(self.old, one.spots[a - 1], self.new, two.spots[b - 1]):
            a -= 1
            b -= 1
        if a:
            self.old.gather(one, 0, a, names)
        if b:
            self.new.gather(two, 0, b, names)
        return sorted(names)

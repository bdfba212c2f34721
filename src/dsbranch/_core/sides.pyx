"""Two views side by side: what they share, and whether two entries are one."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from libc.stdlib cimport free
from libc.string cimport memcmp

from dsbranch._core.base cimport Base
from dsbranch._core.cursor cimport Cursor, Lane
from dsbranch._core.scout cimport Scout
from dsbranch._core.table cimport *
from dsbranch._core.view cimport Node, Spot, View, nothing, room_for


cdef bint same_spot(View a, Spot one, View b, Spot two) noexcept nogil:
    cdef Row *left
    cdef Row *right
    cdef const char *heap
    if a.slots[one.layer].table != b.slots[two.layer].table:
        return False
    if one.row == two.row:
        return True
    if not a.slots[one.layer].base:
        return False
    # The base looks a path up anew each time it is asked.
    heap = (<Table>a.slots[one.layer].table).heap
    left = a.row(one)
    right = b.row(two)
    return left.path.size == right.path.size and memcmp(
        heap + left.path.at, heap + right.path.at, left.path.size
    ) == 0


cdef bint same_parts(
    View a, const Spot *ones, int count, View b, const Spot *twos, int other
) noexcept nogil:
    """Whether two directories are made of the same parts, and so hold and show the same."""
    cdef int i
    if count != other:
        return False
    for i in range(count):
        if not same_spot(a, ones[i], b, twos[i]):
            return False
    return True


cdef bint same_target(View a, Spot one, View b, Spot two) noexcept nogil:
    """Whether two symlinks lead to the same."""
    cdef Text left = a.row(one).target, right = b.row(two).target
    return left.size == right.size and memcmp(
        (<Table>a.slots[one.layer].table).heap + left.at,
        (<Table>b.slots[two.layer].table).heap + right.at,
        left.size,
    ) == 0


cdef bint meta_differs(View a, Spot one, View b, Spot two, bint times) except -1 nogil:
    """Whether two entries differ in their metadata.

    Without root nobody can give the root of a layer the owner that the dataset's root has.

    :raises OSError: the base did not tell
    """
    cdef Row *left
    cdef Row *right
    left = a.row(one)
    right = b.row(two)
    if left.mode != right.mode:
        return True
    if left.uid != right.uid or left.gid != right.gid:
        if left.path.size or right.path.size or not (a.user or b.user):
            return True
    if (left.kind != DIRECTORY or times) and left.mtime_ns != right.mtime_ns:
        return True
    a.complete(one)
    b.complete(two)
    if (left.flags ^ right.flags) & F_XATTRS:
        return True
    return left.flags & F_XATTRS != 0 and memcmp(left.xattrs, right.xattrs, DIGEST_BYTES) != 0


cdef int lean(View shown, bytes at, bytes elsewhere, View where) except? -1:
    """How many more of the files that `shown` has below `at` the other view has below `elsewhere` than
    below `at`, by kind, size and time; of a hundred at most."""
    cdef Table table
    cdef Spot entry, data
    cdef bytes path
    cdef int64_t row
    cdef int more = 0, looked_at = 0, told = 0, there
    for path, table, row in shown.tree(at):
        PyErr_CheckSignals()
        looked_at += 1
        if told == ENOUGH or looked_at == TOO_MANY:
            break
        if table.rows[row].kind == DIRECTORY:
            continue
        where.walk(elsewhere + path[len(at):], 0, &entry, &data)
        there = looks_like(where, entry, table.rows + row)
        where.walk(path, 0, &entry, &data)
        there -= looks_like(where, entry, table.rows + row)
        more += there
        told += there != 0
    return more


cdef bint looks_like(View view, Spot entry, const Row *row) noexcept nogil:
    """Whether an entry is there, and `alike` to `row`."""
    return entry.layer >= 0 and alike(view.row(entry), row)


cdef bint alike(const Row *one, const Row *other) noexcept nogil:
    """Whether two entries are of one kind and, unless they are directories, of one time and size."""
    if one.kind != other.kind:
        return False
    if one.kind == DIRECTORY:
        return True
    return one.mtime_ns == other.mtime_ns and (one.kind != FILE or one.size == other.size)


cdef class Pair:
    def __cinit__(self, View old, View new):
        self.old = old
        self.new = new
        self.left = Cursor()
        self.right = Cursor()
        self.before.spots = room_for(0 if old is None else old.depth)
        self.after.spots = room_for(new.depth)

    def __dealloc__(self):
        free(self.before.spots)
        free(self.after.spots)

    cdef int open(self, Node one, Node two, int a, int b) except -1:
        """Stand before the first name that the first `a` or `b` parts hold."""
        self.one = one
        self.two = two
        self.old_home = self.new_home = -1
        # A side that has no such directory is asked for no name of it.
        nothing(&self.before)
        nothing(&self.after)
        self.left.close()
        self.right.close()
        if a:
            self.left.open(self.old.slots, one.spots, a)
        if b:
            self.right.open(self.new.slots, two.spots, b)
        return 0

    cdef bint step(self) except -1 nogil:
        """Look up the next name on both sides; false where there is none."""
        cdef int sign
        self.left.hit_count = self.right.hit_count = 0
        if self.left.waiting and self.right.waiting:
            sign = self.left.sign(self.right)
        elif self.left.waiting:
            sign = -1
        elif self.right.waiting:
            sign = 1
        else:
            return False
        if sign <= 0:
            self.left.take()
            self.at = self.left.name
            self.size = self.left.size
        if sign >= 0:
            self.right.take()
            self.at = self.right.name
            self.size = self.right.size
        if self.one is not None:
            self.old.find_in(self.one.spots, self.one.count, self.at, self.size, self.left, &self.before)
        if self.two is not None:
            self.new.find_in(self.two.spots, self.two.count, self.at, self.size, self.right, &self.after)
        return True

    cdef int look_before(self, Node one) except -1:
        """Look the name up in an old directory that was left out of `open`; it may be None."""
        if one is None:
            nothing(&self.before)
        else:
            self.old.find_in(one.spots, one.count, self.at, self.size, None, &self.before)
        return 0

    cdef bytes name(self):
        return PyBytes_FromStringAndSize(self.at, self.size)

    cdef Node outer(self):
        """The directory that the old side has under the name; or None."""
        return self.old.node(self.one, self.name(), &self.before) if self.before.count else None

    cdef Node inner(self):
        """The directory that the new side has under the name; or None."""
        return self.new.node(self.two, self.name(), &self.after) if self.after.count else None


cdef class Sides:
    """An old view (None: an empty tree) and a new one."""

    def __init__(self, View old, View new):
        self.old = old
        self.new = new
        self.shared = set()
        if old is not None:
            self.shared = {id(table) for table in old.tables} & {id(table) for table in new.tables}
        self.scouts = {}
        base = new.tables[-1]
        if isinstance(base, Base) and self.shares(base):
            self.scouts = {
                id(table): Scout(base, table, view.tables[number + 1 : -1])
                for view in (old, new)
                for number, table in enumerate(view.tables)
                if not self.shares(table)
            }

    cdef int look_ahead(self, Pair pair) except -1:
        """Have the dataset be asked for the names that a walk comes to next."""
        self.send(pair.left)
        return self.send(pair.right)

    cdef int send(self, Cursor cursor) except -1:
        cdef Scout scout
        cdef Lane *lane
        cdef int i
        for i in range(cursor.waiting):
            lane = cursor.lanes + cursor.heap[i]
            scout = self.scouts.get(<size_t>lane.table)
            if scout is not None:
                scout.come(lane.child)
        return 0

    cdef bint shares(self, Table table):
        return id(table) in self.shared

    cdef int pulse(self) except -1:
        """Let Ctrl-C through now and then; whether it is a step to do what need not be done at each."""
        self.steps += 1
        if self.steps & 1023 == 0:
            PyErr_CheckSignals()
        return self.steps & 63 == 0

    cdef bint open(self, Pair pair, Node one, Node two) except -1:
        """Go for the names in the parts that two directories, either may be None, do not share;
        whether there are such parts."""
        cdef int a = 0 if one is None else one.count
        cdef int b = 0 if two is None else two.count
        while a > 0 and b > 0 and same_spot(self.old, one.spots[a - 1], self.new, two.spots[b - 1]):
            a -= 1
            b -= 1
        pair.open(one, two, a, b)
        self.look_ahead(pair)
        return a > 0 or b > 0

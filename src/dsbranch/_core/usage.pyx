"""Who holds which bytes: what layers occupy, by inode, so that a file linked into several of
them is counted once.

An inode with one name belongs to the layer it is met in. One with several is remembered, with
the set of layers that its names were met in; such sets are few, however many inodes share one.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from dsbranch._core.table cimport *

cdef enum:
    FIRST_ROOM = 1 << 12

OUTSIDE = -1

cdef struct Inode:
    uint64_t dev
    uint64_t ino         # 0: the place is free
    int64_t blocks
    uint32_t left        # how many of its names were not met
    int held             # index of its set of owners


cdef class Usage:
    """Counts what is added, owner by owner, in ascending order."""
    cdef Inode *inodes
    cdef uint64_t room
    cdef uint64_t used
    cdef int last
    cdef list sets       # of tuples of owners
    cdef dict numbers    # of those, and of (set, owner) on the way from one to the next
    cdef dict alone      # owner: [blocks, inodes] of what has one name

    def __cinit__(self):
        self.room = FIRST_ROOM
        self.inodes = <Inode *>calloc(self.room, sizeof(Inode))
        if self.inodes == NULL:
            raise MemoryError
        self.last = OUTSIDE
        self.sets = []
        self.numbers = {}
        self.alone = {}

    def __dealloc__(self):
        free(self.inodes)

    def add(self, Table table, int owner) -> None:
        """Count what `table`, fresh from a scan or a part of one, found; `owner` is 0 or more.

        :raises ValueError: another owner with a higher number was counted already
        """
        cdef int64_t i, blocks = 0, count = 0
        cdef Row *row
        cdef Inode *inode
        if owner < self.last or owner < 0:
            raise ValueError(f"owner {owner} after {self.last}")
        self.last = owner
        for i in range(table.count):
            if i & 0xFFFF == 0xFFFF:
                PyErr_CheckSignals()
            row = table.rows + i
            if row.kind == DIRECTORY or row.nlink < 2:
                blocks += <int64_t>row.blocks
                count += 1
                continue
            inode = self.find(row)
            if inode.left:
                inode.left -= 1
            if (<tuple>self.sets[inode.held])[-1] != owner:
                inode.held = self.joined(inode.held, owner)
        self.put(owner, blocks * 512, count)

    def put(self, int owner, int64_t size, int64_t inodes) -> None:
        """Count what has one name each and was met elsewhere."""
        totals = self.alone.setdefault(owner, [0, 0])
        totals[0] += size // 512
        totals[1] += inodes

    def shares(self) -> dict:
        """``{owners: (bytes, inodes)}``, each inode under the sorted owners of all its names.

        `OUTSIDE` is first among them where some of its names were never met.
        """
        cdef uint64_t i
        cdef Inode *inode
        found = {(owner,): list(totals) for owner, totals in self.alone.items()}
        for i in range(self.room):
            if i & 0xFFFF == 0xFFFF:
                PyErr_CheckSignals()
            inode = self.inodes + i
            if inode.ino == 0:
                continue
            owners = self.sets[inode.held]
            if inode.left:
                owners = (OUTSIDE, *owners)
            totals = found.setdefault(owners, [0, 0])
            totals[0] += inode.blocks
            totals[1] += 1
        return {owners: (blocks * 512, count) for owners, (blocks, count) in found.items()}

    cdef Inode *place(self, uint64_t dev, uint64_t ino) noexcept nogil:
        """Where the inode is, or would be: the table is never full."""
        cdef uint64_t at = (ino * 0x9E3779B97F4A7C15ULL ^ dev) * 0xC2B2AE3D27D4EB4FULL
        at = (at >> 32) & (self.room - 1)
        while self.inodes[at].ino and (self.inodes[at].ino != ino or self.inodes[at].dev != dev):
            at = (at + 1) & (self.room - 1)
        return self.inodes + at

    cdef Inode *find(self, const Row *row) except NULL:
        cdef Inode *inode = self.place(row.dev, row.ino)
        if inode.ino:
            return inode
        if self.used * 2 >= self.room:
            self.grow()
            inode = self.place(row.dev, row.ino)
        self.used += 1
        inode.dev = row.dev
        inode.ino = row.ino
        inode.blocks = row.blocks
        inode.left = row.nlink
        inode.held = self.number((self.last,))
        return inode

    cdef int grow(self) except -1:
        cdef Inode *old = self.inodes
        cdef uint64_t i, count = self.room
        cdef Inode *fresh = <Inode *>calloc(count * 2, sizeof(Inode))
        if fresh == NULL:
            raise MemoryError
        self.inodes = fresh
        self.room = count * 2
        for i in range(count):
            if old[i].ino:
                self.place(old[i].dev, old[i].ino)[0] = old[i]
        free(old)
        return 0

    cdef int number(self, tuple owners) except -1:
        found = self.numbers.get(owners)
        if found is None:
            found = self.numbers[owners] = len(self.sets)
            self.sets.append(owners)
        return found

    cdef int joined(self, int held, int owner) except -1:
        """The number of a set with one owner more; the step is remembered, as it is taken often."""
        step = (held, owner, None)
        found = self.numbers.get(step)
        if found is None:
            found = self.numbers[step] = self.number((*self.sets[held], owner))
        return found

"""Which files came back under another name; no content is read for it.

What the comparison by names left over is paired, the surest first: D and A whose data lie at the
same place of a layer that both sides have, that are one inode, that were copied up from one
inode, or that are known to have equal digests. One D goes with one A.
"""

from libc.stdint cimport int64_t

from dsbranch._core.base cimport Base
from dsbranch._core.delta cimport Delta
from dsbranch._core.handles cimport Handles
from dsbranch._core.sides cimport Sides
from dsbranch._core.table cimport *
from dsbranch._core.view cimport View


cdef class Renames:
    def __init__(self, Sides sides):
        self.sides = sides

    cdef list paired(self, list found):
        """The changes, sorted as they came, with an R for each pair of D and A."""
        cdef Delta delta
        self.gone = [delta for delta in found if delta.status == "D" and delta.kind != "directory"]
        self.come = [delta for delta in found if delta.status == "A" and delta.kind != "directory"]
        if not self.gone or not self.come:
            return found
        self.pair(self.place)
        self.pair(self.inode)
        self.by_ancestor()
        self.pair(digest)
        return [delta for delta in found if delta.status is not None]

    cdef int pair(self, key) except -1:
        """Pair what has the same key, the rest remains; None: nothing is known."""
        cdef Delta delta
        cdef dict groups = {}
        cdef list group
        if not self.gone or not self.come:
            return 0
        for delta in self.gone:
            self.sides.pulse()
            found = key(delta)
            if found is not None:
                group = groups.get(found)
                if group is None:
                    groups[found] = [[delta], []]
                else:
                    group[0].append(delta)
        if not groups:
            return 0
        for delta in self.come:
            self.sides.pulse()
            group = groups.get(key(delta))
            if group is not None:
                (<list>group[1]).append(delta)
        for olds, news in groups.values():
            self.settle(olds, news)
        self.gone = [delta for delta in self.gone if delta.status is not None]
        self.come = [delta for delta in self.come if delta.status == "A"]
        return 0

    cdef int settle(self, list olds, list news) except -1:
        """Pair those of one key: the likest first, else in the order of their paths."""
        cdef Delta delta
        cdef dict waiting
        if len(olds) == 1 and len(news) == 1:
            rename(olds[0], news[0])
            return 0
        for likeness in LIKENESSES:
            if not olds or not news:
                return 0
            waiting = {}
            for delta in reversed(olds):
                waiting.setdefault(likeness(delta), []).append(delta)
            for delta in news:
                same = waiting.get(likeness(delta))
                if same:
                    rename(same.pop(), delta)
            olds = [delta for delta in olds if delta.status is not None]
            news = [delta for delta in news if delta.status == "A"]
        return 0

    def place(self, Delta delta):
        """Where the data lie, in a layer that both sides have."""
        cdef Table table
        if delta.place is None:
            return None
        table, row = delta.place
        if not self.sides.shares(table):
            return None
        # The base looks a path up anew each time it is asked.
        return id(table), table.path(row) if isinstance(table, Base) else row

    def inode(self, Delta delta):
        """The inode in a layer that only one side has; another layer may hold a hard link to it.

        Not that of several names of one layer: which of them would be the renamed one?
        """
        cdef Table table
        cdef int64_t row
        table, row = delta.old or delta.new
        if isinstance(table, Base) or self.sides.shares(table):
            return None
        if table.rows[row].ino == 0 or table.rows[row].group:
            return None
        return table.rows[row].dev, table.rows[row].ino

    cdef int by_ancestor(self) except -1:
        """Pair by the inode they were copied up from, at first, in a layer that both sides have."""
        cdef Delta delta
        cdef View view
        cdef Table table
        cdef tuple start
        cdef list starts = [
            start for delta in self.gone + self.come if (start := self.with_origin(delta)) is not None
        ]
        if not starts:
            return 0
        self.handles = Handles(self.sides.old.tables + self.sides.new.tables)
        wanted = {self.handles.origin(start[0], start[1]) for start in starts}
        for view in (self.sides.old, self.sides.new):
            # Nothing is copied up from the topmost layer.
            for table in view.tables[1:]:
                if not self.sides.shares(table):
                    self.handles.learn(table, wanted)
        # One of the two has to be a copy: names of one inode in a shared layer are no rename.
        for asked, copies in (("D", self.come), ("A", self.gone)):
            if any(self.with_origin(delta) is not None for delta in copies):
                self.asked = asked
                self.pair(self.ancestor)
        return 0

    def ancestor(self, Delta delta):
        """The handle of the inode that an entry was copied up from, or its own if it was not."""
        cdef Table table
        cdef int64_t row
        cdef tuple start = self.with_origin(delta)
        if start is not None:
            table, row = self.handles.first(start[0], start[1])
            handle = self.handles.origin(table, row)
        else:
            table, row = delta.old or delta.new
            if delta.status != self.asked or not self.sides.shares(table):
                return None
            handle = self.handles.of(table, row)
        return None if handle is None else (delta.kind, handle)

    cdef tuple with_origin(self, Delta delta):
        """Which row of a change tells its origin: its own, else that of its data; not a shared one."""
        cdef Table table
        cdef int64_t row
        for place in (delta.old or delta.new, delta.place):
            if place is not None:
                table, row = place
                if table.rows[row].flags & F_ORIGIN and not self.sides.shares(table):
                    return place
        return None


def digest(Delta delta):
    """The digest of a file's content, where that is known and there is any."""
    cdef Table table
    cdef int64_t row
    if delta.place is None or not size(delta):
        return None
    table, row = delta.place
    return (<char *>table.rows[row].digest)[:16] if table.rows[row].flags & F_DIGEST else None


cdef size(Delta delta):
    return delta.old_size if delta.new is None else delta.size


cdef bytes name(Delta delta):
    return delta.path.rpartition(b"/")[2]


LIKENESSES = (
    lambda delta: (size(delta), digest(delta), name(delta)),
    lambda delta: (size(delta), digest(delta)),
    lambda delta: (size(delta), name(delta)),
    lambda delta: size(delta),
    lambda delta: name(delta),
    lambda delta: None,
)
"""What two changes of one key may have in common, the most telling first."""


cdef int rename(Delta old, Delta new) except -1:
    """Make an R of an A; its D is marked as told."""
    new.status = "R"
    new.old_path = old.path
    new.old = old.old
    new.old_size = old.old_size
    old.status = None
    return 0

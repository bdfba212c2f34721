"""Which directories moved: the same lowest part of the same layer under another name."""

from libc.stdint cimport int64_t

from dsbranch._core.base cimport Base
from dsbranch._core.sides cimport Pair, Sides, lean
from dsbranch._core.table cimport *
from dsbranch._core.view cimport Node, Spot, View


cdef class Moved:
    """The directories of two views that are one, found without looking into what both share."""

    def __init__(self, Sides sides):
        self.sides = sides
        self.old = sides.old
        self.new = sides.new
        self.pair = Pair(sides.old, sides.new)
        self.matched = {}
        self.taken = set()
        self.forked = False
        if self.old is not None:
            self.forked = not all(sides.shares(table) for table in self.old.tables)

    cdef tuple identity(self, View view, Node node):
        """Where the lowest part of a directory lies: what it keeps when it is renamed."""
        cdef Table table = view.table(node.spots[node.count - 1])
        return id(table), table.text(table.rows[node.spots[node.count - 1].row].path)

    cdef bint has_redirects(self):
        """Whether a layer that only one side has renamed a directory at all."""
        cdef View view
        cdef Table table
        cdef int64_t i
        for view in (self.old, self.new):
            for table in view.tables:
                if not self.sides.shares(table) and not isinstance(table, Base):
                    for i in range(table.count):
                        if table.rows[i].kind == DIRECTORY and table.rows[i].flags & F_REDIRECT:
                            return True
        return False

    cdef int find(self) except -1:
        """Match directories by identity.

        `gone` and `come` hold those of one side whose counterpart is not known yet. They are
        opened as late as can be: a directory that was moved whole is never looked into.
        """
        cdef list pairs = [(self.old.root, self.new.root)]
        cdef dict gone = {}, come = {}               # identity -> node
        cdef list closed_gone = [], closed_come = [] # nodes not opened yet
        cdef Node one, two
        cdef tuple key
        while True:
            while pairs:
                one, two = pairs.pop()
                self.open_pair(one, two, pairs, gone, come, closed_gone, closed_come)
            for key in sorted(gone.keys() & come.keys(), key=come_path(come)):
                one = gone.pop(key)
                two = come.pop(key)
                if not self.came(one, two):
                    # What is in them may have been renamed all the same.
                    closed_gone = [node for node in closed_gone if node is not one]
                    closed_come = [node for node in closed_come if node is not two]
                    self.open_pair(one, None, None, gone, come, closed_gone, closed_come)
                    self.open_pair(None, two, None, gone, come, closed_gone, closed_come)
                    continue
                self.matched[two.path] = one
                self.taken.add(one.path)
                pairs.append((one, two))
            if pairs or gone.keys() & come.keys():
                continue
            closed_gone = [node for node in closed_gone if node.path not in self.taken]
            closed_come = [node for node in closed_come if node.path not in self.matched]
            # What only one side can have made is opened first: there is no match to wait for.
            if self.open_some(closed_come, False, self.new, gone, come, closed_gone, closed_come):
                continue
            if not come:
                return 0
            if self.open_some(closed_gone, True, self.old, gone, come, closed_gone, closed_come):
                continue
            if not self.open_some(closed_come, True, self.new, gone, come, closed_gone, closed_come):
                return 0

    cdef bint came(self, Node one, Node two) except -1:
        """Whether a directory was renamed. Of two histories that came to the same on different ways,
        the one may have had under that name what the other moved there: then its files must tell."""
        cdef Spot entry, data
        if not self.forked or one.path == two.path:
            return True
        if self.old.walk(two.path, 0, &entry, &data) is None:
            return True
        return lean(self.new, two.path, one.path, self.old) > 0

    cdef int take(self, dict given) except -1:
        """Match directories that only the caller knows to be one, new path to old path, where they
        are not known to have moved otherwise. Below the new one there must be a difference."""
        cdef bytes path, source, at
        cdef Node node
        cdef Spot entry, data
        for path, source in given.items():
            if path in self.matched and not self.stays(path):
                continue
            if source in self.taken and not self.stays(source):
                continue
            node = self.old.walk(source, 0, &entry, &data)
            if node is None or self.new.walk(path, 0, &entry, &data) is None:
                continue
            # Who is matched with itself is so by its name alone.
            for at in (path, source):
                if self.stays(at):
                    del self.matched[at]
                    self.taken.discard(at)
            self.matched[path] = node
            self.taken.add(source)
        return 0

    cdef bint stays(self, bytes path):
        cdef Node node = self.matched.get(path)
        return node is not None and node.path == path

    cdef bint open_some(
        self, list closed, bint all_kinds, View view,
        dict gone, dict come, list closed_gone, list closed_come,
    ) except -1:
        """Open the directories of a list: all, or those that no shared layer has a part of."""
        cdef Node node
        cdef list chosen = [], rest = []
        for node in closed:
            if all_kinds or self.identity(view, node)[0] not in self.sides.shared:
                chosen.append(node)
            else:
                rest.append(node)
        if not chosen:
            return False
        closed[:] = rest
        for node in chosen:
            if view is self.new:
                self.open_pair(None, node, None, gone, come, closed_gone, closed_come)
            else:
                self.open_pair(node, None, None, gone, come, closed_gone, closed_come)
        return True

    cdef int open_pair(
        self, Node one, Node two, list pairs,
        dict gone, dict come, list closed_gone, list closed_come,
    ) except -1:
        """Look for directories in the parts that two directories do not share."""
        cdef Pair pair = self.pair
        cdef Node outer, inner
        cdef tuple key
        self.sides.open(pair, one, two)
        while pair.step():
            if self.sides.pulse():
                self.sides.look_ahead(pair)
            if pair.before.count == 0 and pair.after.count == 0:
                continue
            outer = pair.outer()
            inner = pair.inner()
            if outer is not None and inner is not None:
                key = self.identity(self.old, outer)
                if key == self.identity(self.new, inner):
                    self.matched[inner.path] = outer
                    self.taken.add(outer.path)
                    pairs.append((outer, inner))
                    continue
            if outer is not None:
                gone.setdefault(self.identity(self.old, outer), outer)
                closed_gone.append(outer)
            if inner is not None:
                come.setdefault(self.identity(self.new, inner), inner)
                closed_come.append(inner)
        return 0


def come_path(come: dict):
    """A sort key by the path of the new node, so that the answer depends on nothing else."""
    return lambda key: (<Node>come[key]).path

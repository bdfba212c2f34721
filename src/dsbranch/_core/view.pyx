"""Looking names up in a stack of layers, as the kernel does: the rules of ovl_lookup.

A directory of the view is a list of spots, one for each layer that has a part of it. A name
is looked up in them from the top: a whiteout ends the search, a non-directory ends it
and is the answer if nothing was found above, an opaque directory is the last that counts,
and a redirect goes on under another name or, if absolute, from the root of the layers
below. Each step costs a search per layer, whatever the size of the dataset.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from dsbranch._core.table cimport *


cdef class Node:
    def __dealloc__(self):
        free(self.spots)


cdef Node new_node(bytes path, const Spot *spots, int count, int room):
    """A directory made of `count` spots, with room for `room`."""
    cdef Node node = Node()
    node.spots = <Spot *>malloc(max(room, count, 1) * sizeof(Spot))
    if node.spots == NULL:
        raise MemoryError
    if count:
        memcpy(node.spots, spots, count * sizeof(Spot))
    node.count = count
    node.path = path
    return node


cdef bytes joined(bytes directory, bytes name):
    return directory + b"/" + name if directory else name


cdef class View:
    """The tree that a stack of layers shows once merged.

    `tables` are newest first; `base` comes below them. Without a base the bottom is empty.
    """

    def __init__(self, tables, Table base=None):
        cdef int i
        self.tables = list(tables)
        if base is not None:
            self.tables.append(base)
        self.depth = len(self.tables)
        if not self.depth:
            raise ValueError("a stack of no layers")
        self.root = new_node(b"", NULL, 0, self.depth)
        self.root.count = self.depth
        for i in range(self.depth):
            self.root.spots[i].layer = i
            self.root.spots[i].row = 0

    cdef Node lookup(self, Node parent, bytes name, Spot *entry, Spot *data):
        """Find `name` in `parent`. Returns its Node if it is a directory, else None.

        `entry` is the topmost spot, whose metadata count, with layer -1 if there is none;
        `data` is the spot that holds a regular file's content, which is another one for
        metacopy files, and has layer -1 where it is missing.
        """
        cdef Spot spot, other
        cdef int i
        cdef Table table
        cdef Row *row
        cdef Node node = None, rest
        cdef bytes seeking = name
        cdef bytes redirect
        cdef bint seeking_data = False
        entry.layer = data.layer = -1
        entry.row = data.row = 0
        for i in range(parent.count):
            spot.layer = parent.spots[i].layer
            table = self.table(spot)
            spot.row = table.child(parent.spots[i].row, seeking, len(seeking))
            if spot.row == -2:
                raise_fault(&table.fault)
            if spot.row < 0:
                continue
            row = table.rows + spot.row
            if row.kind == WHITEOUT:
                break
            if entry.layer < 0:
                entry[0] = spot
                seeking_data = row.kind == FILE and row.flags & F_METACOPY
                if row.kind != DIRECTORY and not seeking_data:
                    data[0] = spot
                    break
            elif seeking_data:
                if row.kind != FILE:
                    break
                if not row.flags & F_METACOPY:
                    data[0] = spot
                    break
            elif row.kind != DIRECTORY:
                break
            if row.kind == DIRECTORY:
                if node is None:
                    # Never more parts than there are layers from here down.
                    node = new_node(joined(parent.path, name), NULL, 0, self.depth - spot.layer)
                node.spots[node.count] = spot
                node.count += 1
                if row.flags & F_OPAQUE:
                    break
            if row.flags & F_REDIRECT:
                redirect = table.text(row.redirect)
                if redirect.startswith(b"/"):
                    rest = self.walk(redirect[1:], spot.layer + 1, &other, data)
                    if rest is not None and node is not None:
                        memcpy(node.spots + node.count, rest.spots, rest.count * sizeof(Spot))
                        node.count += rest.count
                    break
                seeking = redirect
        return node

    cdef Node walk(self, bytes path, int top, Spot *entry, Spot *data):
        """Find `path` from the root of the layers from index `top` down."""
        cdef Node node
        cdef bytes name
        cdef list names = [name for name in path.split(b"/") if name]
        entry.layer = data.layer = -1
        entry.row = data.row = 0
        if top >= self.depth:
            return None
        node = new_node(b"", self.root.spots + top, self.depth - top, 0)
        entry[0] = node.spots[0]
        for name in names:
            if node is None:
                entry.layer = -1
                data.layer = -1
                return None
            node = self.lookup(node, name, entry, data)
        return node

    cdef int gather(self, Node node, int first, int last, set names) except -1:
        """Add the names that the parts `first` to `last` of a directory hold, whiteouts included."""
        cdef int i
        cdef int64_t child, end
        cdef size_t skip
        cdef Table table
        cdef Row *row
        for i in range(first, last):
            table = self.table(node.spots[i])
            if table.load(node.spots[i].row) < 0:
                raise_fault(&table.fault)
            row = table.rows + node.spots[i].row
            skip = row.path.size + (1 if row.path.size else 0)
            child = row.first
            end = row.end
            while child < end:
                row = table.rows + child
                names.add((table.heap + row.path.at + skip)[:row.path.size - skip])
                child = table.next_child(child)
        return 0

    cdef int complete(self, Spot spot) except -1:
        """Make every fact of a spot known."""
        cdef Table table = self.table(spot)
        if table.complete(spot.row) < 0:
            raise_fault(&table.fault)
        return 0

    def find(self, path: bytes):
        """Where `path` is seen: ``(table, row)`` of its metadata, or None. For tools and tests."""
        cdef Spot entry, data
        self.walk(path.strip(b"/"), 0, &entry, &data)
        if entry.layer < 0:
            return None
        return self.tables[entry.layer], entry.row

    cdef list children(self, Node node):
        """What a directory shows, its last name first: ``(path, table, row, Node or None)``."""
        cdef Spot entry, data
        cdef Node inner
        cdef set names = set()
        cdef bytes name
        cdef list found = []
        self.gather(node, 0, node.count, names)
        for name in sorted(names, reverse=True):
            inner = self.lookup(node, name, &entry, &data)
            if entry.layer >= 0:
                found.append((joined(node.path, name), self.table(entry), entry.row, inner))
        return found

    cdef tuple at(self, bytes path):
        cdef Spot entry, data
        cdef Node node = self.walk(path, 0, &entry, &data)
        if entry.layer < 0:
            return None
        return path, self.table(entry), entry.row, node

    def tree(self, path: bytes):
        """Everything at `path` and below it: ``(path, table, row)``, sorted with '/' lowest.

        Lazily, and nothing where the view has nothing.
        """
        rest = [self.at(path.strip(b"/"))]
        while rest:
            top = rest.pop()
            if top is not None:
                yield top[:3]
                if top[3] is not None:
                    rest.extend(self.children(top[3]))

    def names(self, path: bytes) -> list:
        """The names in a directory, sorted; none where there is no directory."""
        cdef tuple top = self.at(path.strip(b"/"))
        if top is None or top[3] is None:
            return []
        return sorted(found[0].rpartition(b"/")[2] for found in self.children(top[3]))

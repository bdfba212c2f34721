"""Looking names up in a stack of layers, as the kernel does: the rules of ovl_lookup.

A directory of the view is a list of spots, one for each layer that has a part of it. A name
is looked up in them from the top: a whiteout ends the search, a non-directory ends it
and is the answer if nothing was found above, an opaque directory is the last that counts,
and a redirect goes on under another name or, if absolute, from the root of the layers
below. Each step costs a search per layer, whatever the size of the dataset, and no search
where a cursor has come by the name already.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.ref cimport PyObject
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcpy

from dsbranch._core.base cimport Base
from dsbranch._core.cursor cimport Cursor, Slot, Spot
from dsbranch._core.table cimport *


cdef class Node:
    def __dealloc__(self):
        free(self.spots)


cdef Node new_node(bytes path, const Spot *spots, int count):
    cdef Node node = Node()
    node.spots = room_for(count)
    memcpy(node.spots, spots, count * sizeof(Spot))
    node.count = count
    node.path = path
    return node


cdef Node lower_part(Node node, int split):
    """A directory without its parts in the topmost `split` layers, in the view without these;
    None where it has no others."""
    cdef int i, upper = 0
    cdef Node part
    while upper < node.count and node.spots[upper].layer < split:
        upper += 1
    if upper == node.count:
        return None
    part = new_node(node.path, node.spots + upper, node.count - upper)
    for i in range(part.count):
        part.spots[i].layer -= split
    return part


cdef bytes joined(bytes directory, bytes name):
    return directory + b"/" + name if directory else name


cdef Spot *room_for(int depth) except NULL nogil:
    """Room for the parts of a directory of a view; whoever asks for it frees it."""
    cdef Spot *spots = <Spot *>malloc((depth if depth else 1) * sizeof(Spot))
    if spots == NULL:
        with gil:
            raise MemoryError
    return spots


cdef void nothing(Found *found) noexcept nogil:
    found.entry.layer = found.data.layer = -1
    found.entry.row = found.data.row = 0
    found.count = 0


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
        self.slots = <Slot *>malloc(self.depth * sizeof(Slot))
        if self.slots == NULL:
            raise MemoryError
        self.root = Node()
        self.root.spots = room_for(self.depth)
        self.root.count = self.depth
        self.root.path = b""
        for i in range(self.depth):
            self.slots[i].table = <PyObject *>(<Table?>self.tables[i])
            self.slots[i].base = isinstance(self.tables[i], Base)
            if self.slots[i].base:
                self.user = (<Base>self.tables[i]).user
            self.root.spots[i].layer = i
            self.root.spots[i].row = 0

    def __dealloc__(self):
        free(self.slots)

    cdef int find_in(
        self, const Spot *parts, int count, const char *name, size_t size, Cursor known, Found *found
    ) except -1 nogil:
        """Find a name, NUL-terminated, in a directory's parts.

        A cursor that has just taken the name, of the first of these parts, knows which of them
        have it; None: nothing is known.

        :raises OSError: the base did not tell
        """
        cdef int i = 0, hit = 0, merged = 0 if known is None else known.parts
        cdef bint seeking_data = False
        cdef Spot spot
        cdef Row *row
        nothing(found)
        while True:
            if i < merged:
                if hit == known.hit_count:
                    i = merged
                    continue
                i = known.hits[hit].part
                spot.row = known.hits[hit].row
                hit += 1
            elif i < count:
                spot.row = (<Table>self.slots[parts[i].layer].table).child(parts[i].row, name, size)
            else:
                return 0
            spot.layer = parts[i].layer
            i += 1
            if spot.row < 0:
                if spot.row == -2:
                    with gil:
                        raise_fault(&self.table(spot).fault)
                continue
            row = self.row(spot)
            if row.kind == WHITEOUT:
                return 0
            if found.entry.layer < 0:
                found.entry = spot
                seeking_data = row.kind == FILE and row.flags & F_METACOPY
                if row.kind != DIRECTORY and not seeking_data:
                    found.data = spot
                    return 0
            elif seeking_data:
                if row.kind != FILE:
                    return 0
                if not row.flags & F_METACOPY:
                    found.data = spot
                    return 0
            elif row.kind != DIRECTORY:
                return 0
            if row.kind == DIRECTORY:
                found.spots[found.count] = spot
                found.count += 1
                if row.flags & F_OPAQUE:
                    return 0
            if row.flags & F_REDIRECT:
                name = (<Table>self.slots[spot.layer].table).heap + row.redirect.at
                size = row.redirect.size
                if size and name[0] == c'/':
                    return self.follow(name + 1, size - 1, spot.layer + 1, found)
                merged = 0

    cdef int follow(self, const char *path, size_t size, int top, Found *found) except -1 nogil:
        """Go on with an absolute redirect: add to a directory's parts, or find a file's data."""
        cdef Found rest
        if top >= self.depth:
            return 0
        rest.spots = room_for(self.depth - top)
        try:
            self.find_from(path, size, top, &rest)
            if found.count:
                memcpy(found.spots + found.count, rest.spots, rest.count * sizeof(Spot))
                found.count += rest.count
            else:
                found.data = rest.data
        finally:
            free(rest.spots)
        return 0

    cdef int find_from(self, const char *path, size_t size, int top, Found *found) except -1 nogil:
        """Find a path from the root of the layers from index `top` down."""
        cdef Spot *parts
        cdef char *name
        cdef const char *end
        cdef size_t length, at = 0
        cdef int i, count
        nothing(found)
        if top >= self.depth:
            return 0
        for i in range(top, self.depth):
            found.spots[i - top] = self.root.spots[i]
        found.entry = found.spots[0]
        found.count = self.depth - top
        parts = room_for(found.count)
        name = <char *>malloc(size + 1)
        try:
            if name == NULL:
                with gil:
                    raise MemoryError
            while at < size:
                end = <const char *>memchr(path + at, c'/', size - at)
                length = size - at if end == NULL else end - (path + at)
                if length:
                    if found.count == 0:
                        nothing(found)
                        return 0
                    memcpy(name, path + at, length)
                    name[length] = 0
                    count = found.count
                    memcpy(parts, found.spots, count * sizeof(Spot))
                    self.find_in(parts, count, name, length, None, found)
                at += length + 1
        finally:
            free(parts)
            free(name)
        return 0

    cdef Node node(self, Node parent, bytes name, const Found *found):
        """The directory that was found in `parent`, None if it is none."""
        return new_node(joined(parent.path, name), found.spots, found.count) if found.count else None

    cdef Node lookup(self, Node parent, bytes name, Spot *entry, Spot *data):
        """Find `name` in `parent`, as `Found` says. Returns its Node if it is a directory, else None."""
        cdef Found found
        found.spots = room_for(self.depth)
        try:
            self.find_in(parent.spots, parent.count, name, len(name), None, &found)
            entry[0] = found.entry
            data[0] = found.data
            return self.node(parent, name, &found)
        finally:
            free(found.spots)

    cdef Node walk(self, bytes path, int top, Spot *entry, Spot *data):
        """Find `path` from the root of the layers from index `top` down."""
        cdef Found found
        found.spots = room_for(self.depth)
        try:
            self.find_from(path, len(path), top, &found)
            entry[0] = found.entry
            data[0] = found.data
            if not found.count:
                return None
            return new_node(b"/".join(filter(None, path.split(b"/"))), found.spots, found.count)
        finally:
            free(found.spots)

    cdef int complete(self, Spot spot) except -1 nogil:
        """Make every fact of a spot known."""
        if (<Table>self.slots[spot.layer].table).complete(spot.row) < 0:
            with gil:
                raise_fault(&self.table(spot).fault)
        return 0

    def find(self, path: bytes):
        """Where `path` is seen: ``(table, row)`` of its metadata, or None."""
        cdef Spot entry, data
        self.walk(path.strip(b"/"), 0, &entry, &data)
        if entry.layer < 0:
            return None
        return self.table(entry), entry.row

    def without_data(self) -> list:
        """The paths of metadata-only files of the topmost table that have no content below."""
        cdef Table top = self.tables[0]
        cdef Spot entry, data
        cdef int64_t i
        cdef bytes path
        cdef list found = []
        for i in range(top.count):
            if top.rows[i].kind == FILE and top.rows[i].flags & F_METACOPY:
                path = top.text(top.rows[i].path)
                self.walk(path, 0, &entry, &data)
                if data.layer < 0:
                    found.append(path)
        return found

    def tree(self, path: bytes):
        """Everything at `path` and below it: ``(path, table, row)``, sorted with '/' lowest.

        Lazily, and nothing where the view has nothing.
        """
        return Tree(self, path.strip(b"/"))

    def names(self, path: bytes) -> list:
        """The names in a directory, sorted; none where there is no directory."""
        cdef Tree tree = Tree(self, path.strip(b"/"))
        cdef list found = []
        if tree.enter():
            while (name := tree.next_name()) is not None:
                found.append(name)
        return found


cdef class Tree:
    """A walk through a view, from one path down."""

    cdef View view
    cdef Found found
    cdef tuple top               # the path itself, as long as it was not told
    cdef Node inner              # the directory to open next
    cdef list nodes              # those that are open, the innermost last
    cdef list cursors            # theirs, and those that were of use and will be again
    cdef int level               # the index of the innermost; -1: none
    cdef int64_t steps

    def __init__(self, View view, bytes path):
        cdef Spot entry, data
        self.view = view
        self.nodes = []
        self.cursors = []
        self.level = -1
        self.found.spots = room_for(view.depth)
        self.inner = view.walk(path, 0, &entry, &data)
        if entry.layer >= 0:
            self.top = (path, view.table(entry), entry.row)

    def __dealloc__(self):
        free(self.found.spots)

    def __iter__(self):
        return self

    cdef bint enter(self) except -1:
        """Open the next directory, if there is one to be opened."""
        cdef Node node = self.inner
        if node is None:
            return False
        self.inner = None
        self.level += 1
        if self.level == len(self.cursors):
            self.cursors.append(Cursor())
        self.nodes.append(node)
        (<Cursor>self.cursors[self.level]).open(self.view.slots, node.spots, node.count)
        return True

    cdef bytes next_name(self):
        """The next name that the innermost directory shows, with `found` what it is; or None."""
        cdef Cursor cursor = self.cursors[self.level]
        cdef Node node = self.nodes[self.level]
        while cursor.take():
            self.steps += 1
            if self.steps & 1023 == 0:
                PyErr_CheckSignals()
            self.view.find_in(
                node.spots, node.count, cursor.name, cursor.size, cursor, &self.found
            )
            if self.found.entry.layer >= 0:
                return PyBytes_FromStringAndSize(cursor.name, cursor.size)

    def __next__(self):
        cdef tuple top = self.top
        cdef Node node
        cdef Spot entry
        cdef bytes name
        if top is not None:
            self.top = None
            return top
        self.enter()
        while self.level >= 0:
            node = self.nodes[self.level]
            name = self.next_name()
            if name is None:
                self.nodes.pop()
                self.level -= 1
                continue
            name = joined(node.path, name)
            entry = self.found.entry
            if self.found.count:
                self.inner = new_node(name, self.found.spots, self.found.count)
            return name, self.view.table(entry), entry.row
        raise StopIteration

"""Merging several layers into one: the plan, which is data. ``build`` carries it out.

The plan walks the directories that the range of layers touches. What a directory of the new
layer must say about the layers below follows from one comparison: the parts that the whole
stack finds below, against those that the layers below would offer at the same place. Equal:
nothing to say. None wanted, some offered: opaque. Others wanted: a redirect.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t

from dsbranch._core.sides cimport Pair, same_parts, same_spot
from dsbranch._core.table cimport *
from dsbranch._core.view cimport Node, Spot, View, joined, lower_part

cdef class Step:
    """One entry of the new layer.

    `source` is ``(table, row)`` of the metadata, `data` of the content to copy. `marker` is
    what the directory or stub says about the layers below: None, ``b"y"`` for opaque, or a
    redirect that begins with '/'. `facts`, if any, are the (mode, uid, gid, mtime_ns) that count
    in place of the source's. `action` is one of the constants in the .pxd; AGAIN links
    `path` to `first`, an entry that an earlier step has made; NODE makes a symlink, fifo, socket
    or device anew, where no inode can be shared, and TOMB an empty file, for exports.
    """


cdef Step new_step(int action, bytes path, tuple source=None, tuple data=None, bytes marker=None):
    cdef Step step = Step()
    step.action = action
    step.path = path
    step.source = source
    step.data = data
    step.marker = marker
    return step


def export_step(
    str action, bytes path, tuple source=None, tuple data=None, bytes first=None
) -> Step:
    """A step of an export: ``directory``, ``copy``, ``again``, ``node`` or ``tomb``."""
    cdef dict actions = {
        "directory": DIRECTORY_STEP, "copy": COPY, "again": AGAIN, "node": NODE, "tomb": TOMB,
    }
    cdef Step step = new_step(actions[action], path, source, data)
    step.first = first
    return step


cdef bytes continuation(Table table, bytes path):
    """Under which path the layers below `table` go on with `path`; None: not at all."""
    cdef int64_t row = 0
    cdef bytes name, below = b"", redirect
    cdef Row *found
    for name in path.split(b"/"):
        if row >= 0:
            row = table.child(row, name, len(name))
        if row < 0:
            below = None if below is None else joined(below, name)
            continue
        found = table.rows + row
        if found.kind == WHITEOUT or (found.kind != DIRECTORY and not found.flags & F_METACOPY):
            return None
        if found.flags & F_REDIRECT:
            redirect = table.text(found.redirect)
            if redirect.startswith(b"/"):
                below = redirect[1:]
            else:
                below = None if below is None else joined(below, redirect)
        elif found.flags & F_OPAQUE:
            below = None
        else:
            below = None if below is None else joined(below, name)
    return below


cdef class Plan:
    """The steps, made anew each time they are gone through: a million of them are never held."""
    cdef list layers             # the tables to merge, newest first
    cdef int split
    cdef View whole
    cdef View below
    cdef bytes aside             # the directory of the data layer; None: data are copied
    cdef readonly list data_steps    # what makes the data layer, once all steps were asked for
    cdef dict copied             # (table id, inode group) -> path of the copy

    def __init__(self, layers, below, Table base, bytes aside=None):
        self.aside = aside
        self.layers = list(layers)
        self.split = len(self.layers)
        self.whole = View(self.layers + list(below), base)
        self.below = View(below, base)

    cdef bytes redirect_to(self, bytes path):
        cdef Table table
        for table in self.layers:
            path = continuation(table, path)
            if path is None:
                raise ValueError("a layer's redirect leads nowhere")
        return b"/" + path

    cdef tuple at(self, Spot spot):
        return self.whole.table(spot), spot.row

    def __iter__(self):
        cdef list rest = []
        cdef Pair pair = Pair(self.below, self.whole)
        cdef Node node, beneath, inner, offered, part
        cdef bytes path, marker
        cdef int upper
        cdef int64_t count = 0
        self.data_steps = []
        self.copied = {}
        yield new_step(DIRECTORY_STEP, b"", self.at(self.whole.root.spots[0]))
        rest.append((self.whole.root, lower_part(self.whole.root, self.split)))
        while rest:
            node, beneath = rest.pop()
            upper = 0
            while upper < node.count and node.spots[upper].layer < self.split:
                upper += 1
            pair.open(None, node, 0, upper)
            while pair.step():
                count += 1
                if count & 1023 == 0:
                    PyErr_CheckSignals()
                path = joined(node.path, pair.name())
                if self.is_whole(pair.after.entry):
                    yield new_step(LINK, path, self.at(pair.after.entry))
                    continue
                # What lies below the range is asked only where it counts: a name costs a call.
                pair.look_before(beneath)
                if pair.after.entry.layer < 0:
                    if pair.before.entry.layer >= 0:
                        yield new_step(WHITEOUT_STEP, path)
                    continue
                inner = pair.inner()
                if inner is None:
                    aside = len(self.data_steps)
                    yield self.stub(path, pair.after.entry, pair.after.data, pair.before.data)
                    if not aside and self.data_steps:
                        # The data layer lies right below, and what it holds is no part of the view.
                        yield new_step(WHITEOUT_STEP, self.aside)
                    continue
                offered = self.below.node(beneath, pair.name(), &pair.before)
                part = lower_part(inner, self.split)
                marker = None
                if part is None:
                    if offered is not None:
                        marker = b"y"
                elif offered is None or not same_parts(
                    self.below, part.spots, part.count, self.below, offered.spots, offered.count
                ):
                    marker = self.redirect_to(path)
                yield new_step(DIRECTORY_STEP, path, self.at(pair.after.entry), None, marker)
                rest.append((inner, part))

    cdef bint is_whole(self, Spot entry) except -1:
        """Whether an entry is there, and stands for itself, whatever lies below."""
        cdef Row *row
        if entry.layer < 0:
            return False
        row = self.whole.row(entry)
        return row.kind != DIRECTORY and not (row.kind == FILE and row.flags & F_METACOPY)

    cdef Step stub(self, bytes path, Spot entry, Spot data, Spot below_data):
        """The step of a metadata-only copy."""
        cdef Row *row = self.whole.row(entry)
        cdef Table table = self.whole.table(entry)
        cdef Step step
        cdef bytes marker = None
        cdef bytes present = None
        cdef tuple key
        if data.layer < 0:
            raise ValueError(f"no data below the metadata-only copy of {path!r}")
        if data.layer >= self.split:
            if row.flags & F_REDIRECT:
                present = table.text(row.redirect)
            if (
                # The names of one inode must agree on where it leads, so that it stays one.
                row.group
                or below_data.layer < 0
                or not same_spot(self.whole, data, self.below, below_data)
                or present == self.redirect_to(path)
            ):
                marker = self.redirect_to(path)
            step = new_step(LINK if marker == present else STUB, path, self.at(entry), None, marker)
        elif self.aside is not None:
            step = new_step(STUB, path, self.at(entry))
        else:
            step = new_step(COPY, path, self.at(entry), self.at(data))
        if row.group and step.action != LINK:
            key = (id(table), row.group)
            if key in self.copied:
                step.action = AGAIN
                step.first = self.copied[key]
            else:
                self.copied[key] = path
        if step.action == STUB and data.layer < self.split:
            step.marker = b"/" + self.put_aside(data)
        return step

    cdef bytes put_aside(self, Spot data):
        """The path in the data layer under which a file's content is linked."""
        cdef bytes path
        cdef tuple root = self.at(self.whole.root.spots[0])
        if not self.data_steps:
            self.data_steps.append(new_step(DIRECTORY_STEP, b"", root))
            self.data_steps.append(new_step(DIRECTORY_STEP, self.aside, root))
        path = joined(self.aside, b"%d" % len(self.data_steps))
        self.data_steps.append(new_step(LINK, path, self.at(data)))
        return path


def plan(layers, below, Table base) -> Plan:
    """The steps that make one layer of `layers`, to lie on the stack `below` and `base`.

    `layers` and `below` are sequences of tables, newest first. A parent comes before its
    children. Going through the steps raises

    :raises OSError: the base could not be read
    :raises ValueError: a metadata-only copy or a redirect leads nowhere
    """
    return Plan(layers, below, base)


def plan_apart(layers, below, Table base, bytes aside) -> Plan:
    """As `plan`, for two layers that together copy nothing.

    Where the metadata of one layer belong to the data of another, a metadata-only copy refers to
    the data layer, which holds them in a directory `aside`, a name that nothing else has. It is
    to lie right below the other. `data_steps` make it, once all steps were gone through; an empty
    list: there are no such files, and no such layer.
    """
    return Plan(layers, below, base, aside)

"""Replaying what theirs did as an overlay layer on top of ours: the steps of a merge.

The layer is what the upper directory of a mount of ours would be, had theirs' changes been
made in it. Only directories in which something changes against ours are entered. A directory
that is to lie elsewhere refers to where ours has it, so all that ours changed in it comes along.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t

import os

from dsbranch._core.algebra import changes

from dsbranch._core.sides cimport same_parts, same_spot
from dsbranch._core.base cimport Base
from dsbranch._core.entities cimport *
from dsbranch._core.squash cimport *
from dsbranch._core.table cimport *
from dsbranch._core.view cimport Node, Spot, View, joined

cdef enum:
    # The kernel reads longer ones; the filesystem's room for xattrs is what ends.
    LONGEST_REDIRECT = 2048


cdef class Replay:
    cdef Sides merge
    cdef Side ours
    cdef Side theirs
    cdef bint stubs              # whether the dialect knows redirects and metadata-only copies
    cdef dict touched            # directory -> {name: entity, or None where it goes}
    cdef dict copied             # (table id, inode group) -> path of the copy
    cdef list steps
    cdef dict counts

    def __init__(self, Sides merge, bint stubs):
        self.merge = merge
        self.ours, self.theirs = merge.sides
        self.stubs = stubs
        self.touched, self.copied, self.steps, self.counts = {}, {}, [], {}

    # --- what differs from ours ---

    cdef dict inside(self, Entity home):
        """The names that matter in a directory; it and those above it are to be made."""
        cdef dict names = self.touched.get(home)
        if names is None:
            names = self.touched[home] = {}
            if home.home is not None:
                self.inside(home.home)[home.name] = home
        return names

    cdef int touch(self, Entity one) except -1:
        """Note where an entity differs from ours."""
        cdef bint was = self.merge.has(one, OURS)
        cdef Entity home = None
        cdef bytes name = None
        cdef str letter
        if not one.alive and not was:
            return 0
        if was:
            home, name = self.merge.place(one, OURS)
        if not one.alive:
            letter = "D"
        elif not was:
            letter = "A"
        elif home is not one.home or name != one.name:
            letter = "R"
        elif not one.content & OURS_FITS:
            letter = "M"
        elif one.meta != OURS:
            letter = "m"
        else:
            return 0
        self.count(one, letter)
        if one.alive and one.home is not None:
            self.inside(one.home)[one.name] = one
        elif one.alive:
            self.inside(one)
        if letter in "DR" and home.alive:
            self.inside(home).setdefault(name, None)
        return 0

    cdef int count(self, Entity one, str letter) except -1:
        delta = one.deltas[THEIRS]
        if delta is None and one.forced < 0:
            return 0             # another name of an inode that changed
        if delta is not None and delta.status == "T":
            if letter == "D":
                return 0         # told with what took its place
            letter = "T"
        self.counts[letter] = self.counts.get(letter, 0) + 1
        return 0

    cdef tuple spot_of(self, View view, Spot spot):
        return None if spot.layer < 0 else (view.table(spot), spot.row)

    cdef tuple seen(self, Entity one, int number, Spot *entry, Spot *data):
        """``(entry, data)`` places of an entity on one side, which must have it."""
        cdef Side side = self.merge.sides[number]
        side.find(self.merge.path(one, number), entry, data)
        if entry.layer < 0:
            raise ValueError(f"{self.merge.path(one, number)!r} is not where it was")
        return self.spot_of(side.view, entry[0]), self.spot_of(side.view, data[0])

    # --- inodes with several names ---

    cdef int keep_inodes(self) except -1:
        """Have the names of one inode in theirs stay one, where ours did not touch them."""
        cdef Entity one, other
        cdef dict wanted = {}
        cdef Spot entry, data
        cdef Table table
        cdef int64_t i
        cdef int layer
        for one in self.merge.entities:
            if not one.alive or one.meta != THEIRS or one.deltas[THEIRS] is None:
                continue
            table, i = one.deltas[THEIRS].new
            if table.rows[i].group and table.rows[i].kind == FILE and not isinstance(table, Base):
                wanted.setdefault(id(table), set()).add(table.rows[i].group)
        for layer in range(self.theirs.view.depth if wanted else 0):
            table = self.theirs.view.tables[layer]
            groups = wanted.get(id(table))
            moved = None
            for i in range(table.count if groups else 0):
                if table.rows[i].group not in groups:
                    continue
                if moved is None:
                    moved = self.moved_above(layer)
                path = moved_to(moved, table.text(table.rows[i].path))
                self.theirs.find(path, &entry, &data)
                if entry.layer != layer or entry.row != i:
                    continue
                other = self.merge.at(THEIRS, path)
                if other.deltas == [None, None] and other.forced < 0 and other.alive:
                    other.meta = THEIRS
                    self.touch(other)
        return 0

    cdef dict moved_above(self, int layer):
        """Where theirs' newer layers moved the directories that `layer` and those below show."""
        if layer == 0:
            return {}
        found = changes(View(self.theirs.view.tables[layer:]), self.theirs.view)
        return {delta.old_path: delta.path for delta in found if delta.status == "R"}

    # --- steps ---

    cdef int run(self) except -1:
        cdef Entity one, inner
        cdef list rest
        cdef bytes path, name
        cdef Node under, mine, offered
        cdef Spot entry, data
        cdef dict names
        cdef int64_t count = 0
        for one in self.merge.entities:
            self.touch(one)
        if not self.touched:
            return 0
        if self.merge.whole:
            self.keep_inodes()
        one = self.merge.of_base(b"")
        self.directory(one, b"", self.ours.view.root, self.ours.view.root)
        rest = [(one, b"", self.ours.view.root)]
        while rest:
            one, path, under = rest.pop()
            names = self.touched.get(one, {})
            for name in sorted(names):
                count += 1
                if count & 1023 == 0:
                    PyErr_CheckSignals()
                inner = names[name]
                offered = None
                entry.layer = data.layer = -1
                if under is not None:
                    offered = self.ours.view.lookup(under, name, &entry, &data)
                if inner is None:
                    if entry.layer >= 0:
                        self.steps.append(new_step(WHITEOUT_STEP, joined(path, name)))
                elif self.is_directory(inner):
                    mine = None
                    if self.merge.has(inner, OURS):
                        mine = self.ours.node(self.merge.path(inner, OURS))
                    self.directory(inner, joined(path, name), mine, offered)
                    rest.append((inner, joined(path, name), mine))
                else:
                    self.plain(inner, joined(path, name), entry, data)
        return 0

    cdef bint is_directory(self, Entity one):
        cdef int number
        if one in self.touched:
            return True
        for number in range(2):
            delta = one.deltas[number]
            if delta is not None and (self.merge.has(one, number) or one.base is not None):
                place = delta.new if self.merge.has(one, number) else delta.old
                return row_of(place).kind == DIRECTORY
        return False

    cdef int directory(self, Entity one, bytes path, Node mine, Node offered) except -1:
        cdef bytes marker = None
        cdef Spot entry, data
        cdef Step step
        if mine is None:
            if offered is not None:
                marker = b"y"
        elif offered is None or not same_parts(
            self.ours.view, mine.spots, mine.count, self.ours.view, offered.spots, offered.count
        ):
            marker = b"/" + self.merge.path(one, OURS)
            if not self.stubs or len(marker) > LONGEST_REDIRECT:
                raise NotImplementedError(os.fsdecode(path))
        step = new_step(DIRECTORY_STEP, path, self.source(one, &entry, &data)[0], None, marker)
        step.facts = one.facts if one.meta == MIXED else None
        self.steps.append(step)
        return 0

    cdef tuple source(self, Entity one, Spot *entry, Spot *data):
        """The places of the entity whose xattrs count, and of its data."""
        cdef int number = one.xattrs if one.meta == MIXED else one.meta
        delta = one.deltas[number]
        if delta is not None and delta.new is not None and self.merge.has(one, number):
            return delta.new, delta.content
        return self.seen(one, number, entry, data)

    cdef tuple content_of(self, Entity one, int number, Spot *entry, Spot *data):
        """The place of an entity's content on one side; of what is no file, its own."""
        delta = one.deltas[number]
        if delta is None or delta.new is None or not self.merge.has(one, number):
            return self.seen(one, number, entry, data)[1]
        return delta.new if delta.content is None else delta.content

    cdef int plain(self, Entity one, bytes path, Spot offered, Spot offered_data) except -1:
        """An entry that is no directory."""
        cdef Spot entry, data, ours, ours_data
        cdef tuple source, content, mine = None
        cdef bytes shown
        cdef bint fits = False
        source, content = self.source(one, &entry, &data)
        if not one.content & OURS_FITS:
            content = self.content_of(one, THEIRS, &entry, &data)
        if self.merge.has(one, OURS):
            _, mine = self.seen(one, OURS, &ours, &ours_data)
            fits = one.content & OURS_FITS or (mine is not None and same_place(mine, content))
            if one.meta == OURS and fits and offered.layer >= 0 and same_spot(
                self.ours.view, ours, self.ours.view, offered
            ) and (ours_data.layer < 0 or same_spot(self.ours.view, ours_data, self.ours.view, offered_data)):
                return 0         # it shows as it is
        if fits:
            content = mine
        if row_of(source).kind == FILE:
            shown = self.merge.path(one, OURS) if fits else self.shown(source, content)
            return self.file(one, path, source, content, shown, self.spot_of(self.ours.view, offered_data))
        if one.meta != MIXED and not isinstance(source[0], Base):
            return self.add(one, LINK, path, source, None, None)
        return self.add(one, NODE, path, source, content, None)

    cdef int file(
        self, Entity one, bytes path, tuple source, tuple content, bytes shown, tuple offered
    ) except -1:
        """A regular file. Ours shows its content at `shown`, and `offered` in its very place."""
        cdef Table table = source[0]
        cdef Row *row = row_of(source)
        cdef bytes marker = None, present = None
        cdef bint whole = one.meta != MIXED and not isinstance(table, Base)
        cdef bint beneath
        if whole and not row.flags & F_METACOPY:
            return self.add(one, LINK, path, source, None, None)
        if content is None:
            raise ValueError(f"no data below the metadata-only copy of {path!r}")
        if self.stubs and shown is not None:
            # The names of one inode must agree on where it leads, so that it stays one.
            beneath = not row.group and offered is not None and same_place(content, offered)
            if not beneath and len(shown) < LONGEST_REDIRECT:
                marker = b"/" + shown
            if beneath or marker is not None:
                if row.flags & F_REDIRECT:
                    present = table.text(row.redirect)
                whole = whole and row.flags & F_METACOPY and present == marker
                return self.add(one, LINK if whole else STUB, path, source, content, marker)
        return self.add(one, COPY, path, source, content, None)

    cdef bytes shown(self, tuple source, tuple content):
        """Where ours shows the very data of an entry that theirs made of another; or None."""
        cdef Row *row = row_of(source)
        cdef Spot entry, data
        cdef Entity one
        cdef bytes path
        cdef list candidates
        if content is None:
            return None
        candidates = [(<Table>content[0]).text(row_of(content).path)]
        if row.flags & F_REDIRECT:
            candidates.append((<Table>source[0]).text(row.redirect).strip(b"/"))
        for path in candidates:
            one = self.merge.of_base(path)
            if self.merge.has(one, OURS):
                path = self.merge.path(one, OURS)
                self.ours.find(path, &entry, &data)
                if data.layer >= 0 and same_place(content, self.spot_of(self.ours.view, data)):
                    return path
        return None

    cdef int add(self, Entity one, int action, bytes path, tuple source, tuple data, bytes marker) except -1:
        cdef Step step = new_step(action, path, source, data, marker)
        cdef Row *row = row_of(source)
        if one.meta == MIXED:
            step.facts = one.facts
        elif row.group and action != LINK:
            key = (id(source[0]), row.group)
            if key in self.copied:
                step.action = AGAIN
                step.first = self.copied[key]
            else:
                self.copied[key] = path
        self.steps.append(step)
        return 0


cdef bint same_place(tuple one, tuple two):
    """Whether both are one row; the base has several of one path."""
    cdef Table table = one[0]
    if two is None or table is not two[0]:
        return False
    return one[1] == two[1] or table.text(row_of(one).path) == table.text(row_of(two).path)


cdef bytes moved_to(dict moved, bytes path):
    cdef bytes top = path
    while top and moved:
        top = above(top)
        if top in moved:
            return moved[top] + path[len(top):]
    return path


def replay(Sides merge, *, str dialect="trusted") -> tuple:
    """``(steps, counts)``: what makes the layer of a merge without conflicts, to lie on ours;
    and the number of changes against ours, by letter. No steps where there is no change.

    :raises NotImplementedError: a renamed directory that cannot refer to where ours has it,
        because that path is too long
    :raises ValueError: layers that contradict each other
    """
    if merge.conflicts:
        raise ValueError("a merge with conflicts")
    cdef Replay job = Replay(merge, dialect == "trusted")
    job.run()
    return job.steps, job.counts

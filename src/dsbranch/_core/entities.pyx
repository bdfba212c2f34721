"""Who is who in a three-way merge: what each side did to the entries of the base.

An entry of the base is one `Entity` wherever the sides have put it, and so is what both have
added under one name. Nothing is decided here.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t
from libc.string cimport memcmp

from dsbranch._core.algebra import changes
from dsbranch._core.content import compare_files

from dsbranch._core.delta cimport Delta
from dsbranch._core.sides cimport ENOUGH, TOO_MANY, alike, looks_like
from dsbranch._core.table cimport *
from dsbranch._core.view cimport Node, Spot, View, joined


cdef bytes above(bytes path):
    return path.rpartition(b"/")[0]


cdef bytes last(bytes path):
    return path.rpartition(b"/")[2]


cdef Row *row_of(tuple place):
    cdef Table table = place[0]
    return table.rows + <int64_t>place[1]


cdef bytes text_of(Table table, Text text):
    return table.text(text)


def path_order(bytes path) -> bytes:
    """A sort key with '/' lower than every other byte; names hold no NUL."""
    return path.replace(b"/", b"\0")


cdef class Entity:
    """One entry through the merge: `base`, its path there, is None for what was added.

    `paths` are those of an added one on each side; `deltas` what each side did to it.
    `forced` is the side that a choice gave it to, -1 if none. Decided are `alive`, its place
    (`home` and `name`), whose `content` fits, and whose metadata it gets: those of `meta`, or
    the `facts` (mode, uid, gid, mtime) with the `xattrs` of one side. `torn`: it is in a clash.
    """

    def __init__(self, bytes base):
        self.base = base
        self.paths = [None, None]
        self.deltas = [None, None]
        self.forced = -1
        self.alive = True
        self.content = OURS_FITS | THEIRS_FITS
        self.meta = OURS


cdef class Side:
    """What one side did, by path: `new` by its own paths, the others by those of the base."""

    def __init__(self, View base, View view, wanted, threads, progress, moved=None):
        self.view = view
        self.new, self.gone, self.replaced, self.edits = {}, {}, {}, {}
        self.moved_to, self.moved_from = {}, {}
        self.entities, self.origins, self.nodes = {}, {b"": b""}, {b"": view.root}
        found = changes(
            base, view, renames=wanted is None, moved=moved, threads=threads, progress=progress
        )
        for delta in found if wanted is None else within(found, wanted):
            path = delta.path
            if delta.status == "A":
                self.new[path] = delta
                continue
            old = path if delta.old_path is None else delta.old_path
            if delta.status == "D":
                self.gone[path] = delta
            elif delta.status == "T" and DIRECTORY in (row_of(delta.old).kind, row_of(delta.new).kind):
                self.new[path] = self.gone[old] = delta
                self.replaced[old] = path
            else:
                self.edits[old] = delta
                if delta.status == "R":
                    self.moved_to[path] = old
                    self.moved_from[old] = path

    cdef bytes base_path(self, bytes path):
        """The base's path of what is at `path` and was not added."""
        cdef bytes found
        if not self.moved_to:
            return path
        found = self.origins.get(path)
        if found is None:
            found = self.moved_to.get(path)
            if found is None:
                found = joined(self.base_path(above(path)), last(path))
            self.origins[path] = found
        return found

    cdef bytes path_of(self, bytes path):
        """Where the base's `path` is on this side, which must have it."""
        cdef bytes found
        if not path or not self.moved_from:
            return path
        found = self.moved_from.get(path)
        return joined(self.path_of(above(path)), last(path)) if found is None else found

    cdef Node node(self, bytes path):
        """The directory at `path`, or None."""
        cdef Spot entry, data
        if path not in self.nodes:
            self.nodes[path] = self.find(path, &entry, &data)
        return self.nodes[path]

    cdef Node find(self, bytes path, Spot *entry, Spot *data):
        cdef Node home
        if not path:
            return self.view.walk(path, 0, entry, data)
        home = self.node(above(path))
        if home is None:
            entry.layer = data.layer = -1
            return None
        return self.view.lookup(home, last(path), entry, data)


cdef list within(deltas, wanted):
    """Those at or below the wanted paths, and the new directories that lead there."""
    cdef bytes path, top
    return [
        delta for delta in deltas for path in (delta.path,) if any(
            not top or path == top or path.startswith(top + b"/") or (
                delta.status in "AT" and delta.kind == "directory" and top.startswith(path + b"/")
            )
            for top in wanted
        )
    ]


cdef class Sides:
    """Both sides of a merge, and the entities that either touched."""

    def __init__(self, View base, View ours, View theirs, wanted, threads, progress):
        self.whole = wanted is None
        self.sides = [
            Side(base, ours, None, threads, progress), Side(base, theirs, wanted, threads, progress)
        ]
        if self.whole:
            self.follow(base, threads, progress)
        self.known = {}
        self.meet()
        self.compare(base, threads, progress)

    # --- what only one side tells as a rename ---

    cdef int follow(self, View base, threads, progress) except -1:
        """Have what one side deleted, and added where the other moved it to, be moved there by it,
        too: an archive of the other's outcome, applied, does not say so."""
        cdef Side side
        cdef int number
        cdef list moved = [self.copied_directories(base, number) for number in range(2)]
        for number in range(2):
            if moved[number]:
                side = self.sides[number]
                self.sides[number] = Side(base, side.view, None, threads, progress, moved[number])
        for number in range(2):
            self.follow_files(number)
        return 0

    cdef dict copied_directories(self, View base, int number):
        """The directories that the other side moved, and whose content this one has there as well,
        new path to old path."""
        cdef Side side = self.sides[number], other = self.sides[1 - number]
        cdef bytes old, path, top
        cdef list stay = []
        cdef dict found = {}
        for path, old in other.moved_to.items():
            if other.edits[old].kind != "directory" or old in side.moved_from or path in side.moved_to:
                continue
            if side.node(path) is None:
                continue
            if path == old:
                stay.append(path)
            elif self.was_copied(base, side, other, old, path):
                found[path] = old
        # What kept its place while the directory around it moved away looks the same in any case.
        tops = set(found.values())
        for path in stay:
            top = above(path)
            while top and top not in tops:
                top = above(top)
            if top:
                found[path] = path
        return found

    cdef bint was_copied(self, View base, Side side, Side other, bytes old, bytes path) except -1:
        """Whether a side has half of the files of the base's directory `old` where the other side moved
        it to, and has fewer of its own at the old place.

        Files are told by kind, size and time; a hundred at most, and none that is empty, that the
        other side changed, or that the base has in both places."""
        cdef Table table
        cdef Spot entry, theirs, data
        cdef bytes at, inner
        cdef int64_t row
        cdef int total = 0, came = 0, stayed = 0, looked_at = 0
        cdef bint empty = True
        for at, table, row in base.tree(old):
            PyErr_CheckSignals()
            looked_at += 1
            if total == ENOUGH or looked_at == TOO_MANY:
                break
            if table.rows[row].kind == DIRECTORY:
                continue
            empty = False
            if table.rows[row].kind == FILE and table.rows[row].size == 0:
                continue
            inner = path + at[len(old):]
            other.view.walk(inner, 0, &entry, &data)
            if not looks_like(other.view, entry, table.rows + row):
                continue
            base.walk(inner, 0, &entry, &data)
            if looks_like(base, entry, table.rows + row):
                continue
            total += 1
            side.view.walk(inner, 0, &entry, &data)
            came += looks_like(side.view, entry, table.rows + row)
            side.view.walk(at, 0, &entry, &data)
            other.view.walk(at, 0, &theirs, &data)
            if entry.layer >= 0 and (
                theirs.layer < 0 or not looks_like(side.view, entry, other.view.row(theirs))
            ):
                stayed += 1
        if empty:
            return old in side.gone and path in side.new
        return 2 * came >= total and came > stayed

    cdef int follow_files(self, int number) except -1:
        """Take a file that this side deleted, and has where the other moved it to, for moved."""
        cdef Side side = self.sides[number], other = self.sides[1 - number]
        cdef Delta lost, added, delta
        cdef bytes old, path
        for path, old in other.moved_to.items():
            self.pulse()
            lost, added = side.gone.get(old), side.new.get(path)
            if lost is None or added is None or (lost.status, added.status) != ("D", "A"):
                continue
            if added.kind == "directory" or not alike(row_of(added.new), row_of(lost.old)):
                continue
            delta = Delta()
            delta.status, delta.kind, delta.path, delta.old_path = "R", added.kind, path, old
            delta.old, delta.new, delta.content = lost.old, added.new, added.content
            del side.gone[old], side.new[path]
            side.edits[old], side.moved_to[path], side.moved_from[old] = delta, old, path
        return 0

    cdef int pulse(self) except -1:
        """Let Ctrl-C through now and then."""
        self.steps += 1
        if self.steps & 1023 == 0:
            PyErr_CheckSignals()
        return 0

    # --- who is who ---

    cdef int meet(self) except -1:
        """Make the entities that either side touched; what both added under one name is one."""
        cdef Side side
        cdef Entity one, other, home
        cdef dict added = {}
        cdef bytes path
        cdef int number
        for number in range(2):
            side = self.sides[number]
            for table in (side.edits, side.gone):
                for path, delta in table.items():
                    one = self.of_base(path)
                    one.deltas[number] = delta
            for path in sorted(side.new, key=path_order):
                home = self.at(number, above(path))
                delta = side.new[path]
                one = None
                other = added.get((home, last(path)))
                # A file and a directory of one name stay two, which collide.
                if other is not None and (delta.kind == "directory") == (
                    other.deltas[OURS].kind == "directory"
                ):
                    one = other
                if one is None:
                    one = Entity(None)
                    one.home, one.name = home, last(path)
                    if number == OURS:
                        added[home, one.name] = one
                one.deltas[number] = delta
                one.paths[number] = path
                side.entities[path] = one
        self.entities = [one for one in self.known.values() if one.deltas != [None, None]]
        for number in range(2):
            side = self.sides[number]
            for one in side.entities.values():
                if number == OURS or one.paths[OURS] is None:
                    self.entities.append(one)
        return 0

    cdef Entity of_base(self, bytes path):
        cdef Entity one = self.known.get(path)
        if one is None:
            one = Entity(path)
            self.known[path] = one
            if path:
                one.home, one.name = self.of_base(above(path)), last(path)
        return one

    cdef Entity at(self, int number, bytes path):
        """The entity that one side has at `path`."""
        cdef Side side = self.sides[number]
        cdef Entity one = side.entities.get(path)
        return self.of_base(side.base_path(path)) if one is None else one

    cdef bint has(self, Entity one, int number):
        cdef Side side = self.sides[number]
        return one.paths[number] is not None if one.base is None else one.base not in side.gone

    cdef bytes path(self, Entity one, int number):
        """Where one side, which must have it, shows an entity."""
        cdef Side side = self.sides[number]
        return one.paths[number] if one.base is None else side.path_of(one.base)

    cdef tuple place(self, Entity one, int number):
        """``(home, name)`` on one side, which must have it."""
        cdef Side side = self.sides[number]
        cdef bytes path
        if one.base is None:
            # Both sides agree on the home of what both have added.
            path = one.paths[number]
        elif one.base in side.moved_from:
            path = side.moved_from[one.base]
        elif not one.base:
            return None, b""
        else:
            return self.of_base(above(one.base)), last(one.base)
        return self.at(number, above(path)), last(path)

    # --- equal contents ---

    cdef int compare(self, View base, threads, progress) except -1:
        """Find out which contents are equal, as far as that decides anything.

        `same` holds, for an entity that both sides touched, whether their contents are equal;
        and for ``(entity, side)`` whether a renamed file still has the base's.
        """
        cdef Entity one
        cdef Spot entry, data
        cdef list questions = [], keys = []
        cdef Side side
        cdef int number
        self.same = {}
        for one in self.entities:
            if one.deltas[OURS] is None or one.deltas[THEIRS] is None:
                continue
            if not (self.has(one, OURS) and self.has(one, THEIRS)):
                continue
            ours, theirs = one.deltas
            self.ask(one, ours.new, ours.content, theirs.new, theirs.content, questions, keys)
            for number in range(2):
                delta = one.deltas[number]
                if delta.status == "R" and delta.kind != "directory":
                    base.walk(one.base, 0, &entry, &data)
                    was = None if data.layer < 0 else (base.table(data), data.row)
                    self.ask((one, number), delta.old, was, delta.new, delta.content, questions, keys)
        if questions:
            for key, equal in zip(keys, compare_files(questions, threads=threads, progress=progress)):
                self.same[key] = equal
        return 0

    cdef int ask(self, key, tuple a, tuple a_data, tuple b, tuple b_data, list questions, list keys) except -1:
        cdef Row *one = row_of(a)
        cdef Row *other = row_of(b)
        if one.kind != other.kind or one.size != other.size or one.rdev != other.rdev:
            self.same[key] = False
        elif one.kind == SYMLINK:
            self.same[key] = text_of(a[0], one.target) == text_of(b[0], other.target)
        elif one.kind != FILE or one.size == 0 or a_data == b_data:
            self.same[key] = True
        else:
            if a_data is None or b_data is None:
                raise ValueError("no data below a metadata-only copy")
            one = row_of(a_data)
            other = row_of(b_data)
            if one.ino and one.ino == other.ino and one.dev == other.dev:
                self.same[key] = True
            elif one.flags & F_DIGEST and other.flags & F_DIGEST:
                self.same[key] = memcmp(one.digest, other.digest, DIGEST_BYTES) == 0
            else:
                keys.append(key)
                questions.append((*a_data, *b_data))
        return 0

    cdef bint content_changed(self, Entity one, int number):
        delta = one.deltas[number]
        if delta.status == "R":
            return delta.kind != "directory" and not self.same[one, number]
        return delta.status != "m"

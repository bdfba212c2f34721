"""Deciding a three-way merge: what becomes of every entry that either side touched.

Where an entry lies, what it holds and its metadata are merged apart from each other. What
cannot be decided is a `Clash`; a choice forces the entities in it to be as they are on one
side, and everything is decided anew.
"""

from libc.stdint cimport int64_t

from dsbranch._core.algebra import same
from dsbranch._core.table import KINDS
from dsbranch._core.entries import inode
from dsbranch._core.entities import path_order

from dsbranch._core.entities cimport *
from dsbranch._core.table cimport *
from dsbranch._core.view cimport Spot, View


cdef dict SAID = {
    "A": "added", "M": "modified", "m": "metadata", "T": "type changed", "R": "renamed",
}


cdef tuple described(bytes path, Row *row):
    return path, KINDS[row.kind], row.size if row.kind == FILE else None


cdef tuple facts_of(tuple place):
    """The metadata that are merged one by one: xattrs, mode, uid, gid, modification time."""
    cdef Table table = place[0]
    cdef Row *row
    if table.complete(<int64_t>place[1]) < 0:
        raise_fault(&table.fault)
    row = row_of(place)
    xattrs = (<char *>row.xattrs)[:DIGEST_BYTES] if row.flags & F_XATTRS else None
    return xattrs, row.mode, row.uid, row.gid, row.mtime_ns


cdef bint is_directory(Entity one):
    return any(delta is not None and delta.kind == "directory" for delta in one.deltas)


def by_base(Entity one) -> bytes:
    return path_order(one.base)


def by_clash_path(Clash clash) -> bytes:
    return path_order(clash.path)


cdef class Clash:
    """A conflict: `path`, a `reason` in a few words, ours first, and ``(path, kind, size)`` of
    the base's, ours' and theirs' entry, None where there is none."""

    cdef readonly bytes path
    cdef readonly str reason
    cdef readonly tuple base
    cdef readonly tuple ours
    cdef readonly tuple theirs
    cdef tuple members           # what to force if ours is chosen, and if theirs
    cdef Entity top              # a directory to force with all that is below it, instead
    cdef int taken_by            # the side that removed it
    cdef tuple rivals            # two directories in one place, ours first; or None

    def astuple(self) -> tuple:
        return (self.path, self.reason, self.base, self.ours, self.theirs)


cdef class Merge(Sides):
    cdef list found              # the clashes of one judgement
    cdef dict inside             # (home, side) -> what that side put there; made when asked for
    cdef dict united             # a directory that a choice gave up -> the one that has its place

    # --- one entity ---

    cdef int settle(self, Entity one) except -1:
        cdef bint ours = self.has(one, OURS), theirs = self.has(one, THEIRS)
        cdef int keeper = OURS if ours else THEIRS
        one.torn = False
        one.alive = True
        if one.forced >= 0:
            return self.take(one, one.forced)
        if ours and theirs:
            return self.unite(one)
        if one.base is None:
            return self.take(one, keeper)
        one.alive = False
        if ours or theirs:
            if one.deltas[keeper] is not None:
                self.clash(one)
        elif (one.base in (<Side>self.sides[OURS]).replaced) != (
            one.base in (<Side>self.sides[THEIRS]).replaced
        ):
            self.clash(one)
        return 0

    cdef int take(self, Entity one, int number) except -1:
        """Have an entity be what it is on one side."""
        one.alive = self.has(one, number)
        if one.alive:
            one.home, one.name = self.place(one, number)
            one.meta = number
            one.content = OURS_FITS if number == OURS else THEIRS_FITS
            if one.deltas[OURS] is None and one.deltas[THEIRS] is None:
                one.content = OURS_FITS | THEIRS_FITS
        return 0

    cdef int unite(self, Entity one) except -1:
        """Merge an entity that both sides have: its place, its content, its metadata."""
        cdef tuple ours = self.place(one, OURS), theirs = self.place(one, THEIRS), was = ours
        if one.base:
            was = self.of_base(above(one.base)), last(one.base)
        if ours != theirs and ours != was and theirs != was:
            return self.clash(one)
        one.home, one.name = theirs if ours == was else ours
        one.meta = OURS
        one.content = OURS_FITS | THEIRS_FITS
        if one.deltas[THEIRS] is None:
            one.content = OURS_FITS if one.deltas[OURS] is not None else one.content
        elif one.deltas[OURS] is None:
            one.meta = THEIRS
            if one.deltas[THEIRS].status in "MTR" and one.deltas[THEIRS].kind != "directory":
                one.content = THEIRS_FITS
        else:
            self.combine(one)
        return 0

    cdef int combine(self, Entity one) except -1:
        """Merge what both sides made of an entity: content and each fact of its metadata."""
        cdef tuple facts, ours, theirs, was = None
        cdef bint we = self.content_changed(one, OURS), they = self.content_changed(one, THEIRS)
        cdef int i
        cdef list merged = []
        left, right = one.deltas
        cdef bint directory = left.kind == "directory"
        ours, theirs = facts_of(left.new), facts_of(right.new)
        if left.kind != right.kind or (we and they and not directory and not self.same[one]):
            return self.clash(one)
        if one.base is not None and row_of(left.old).kind == row_of(left.new).kind:
            was = facts_of(left.old)
        if not directory and we != they:
            one.content = OURS_FITS if we else THEIRS_FITS
        for i in range(4):
            if ours[i] == theirs[i] or (was is not None and theirs[i] == was[i]):
                merged.append(ours[i])
            elif was is not None and ours[i] == was[i]:
                merged.append(theirs[i])
            else:
                return self.clash(one, "metadata / metadata")
        # A modification time comes with the content; where both have the same one, with ours.
        if directory or we or (not they and theirs[4] == was[4]):
            merged.append(ours[4])
        elif they or ours[4] == was[4]:
            merged.append(theirs[4])
        else:
            merged.append(max(ours[4], theirs[4]))
        facts = tuple(merged)
        if facts == ours and one.content & OURS_FITS:
            return 0
        if facts == theirs and one.content & THEIRS_FITS:
            one.meta = THEIRS
            return 0
        one.meta = MIXED
        one.facts = facts[1:]
        one.xattrs = OURS if facts[0] == ours[0] else THEIRS
        return 0

    # --- what cannot be ---

    cdef str word(self, Entity one, int number):
        cdef Side side = self.sides[number]
        if not self.has(one, number):
            return "type changed" if one.base in side.replaced else "deleted"
        return "unchanged" if one.deltas[number] is None else SAID[one.deltas[number].status]

    cdef int clash(self, Entity one, str reason=None) except -1:
        """Note that an entity cannot be decided."""
        cdef Entity other
        cdef Side side
        cdef Clash clash
        cdef list members = [one]
        cdef int number
        for number in range(2):
            side = self.sides[number]
            if one.base is None or self.has(one, number):
                continue
            if self.clash_above(one):
                one.torn = True
                return 0
            if one.base in side.replaced:
                members.append(side.entities[side.replaced[one.base]])
        if reason is None:
            reason = f"{self.word(one, OURS)} / {self.word(one, THEIRS)}"
        one.torn = True
        for other in members:
            other.torn = True
        clash = self.note(reason, one, one, (members, members))
        for number in range(2):
            # To keep a directory is to keep what was in it; what to lose is asked one by one.
            if one.base and not self.has(one, number) and self.has(one, 1 - number):
                if row_of(one.deltas[number].old).kind == DIRECTORY:
                    clash.top, clash.taken_by = one, number
        return 0

    cdef bint clash_above(self, Entity one) except -1:
        """Whether a side that lacks an entry put something that is no directory in the place of
        one at or above it; the clash is there, at the top, then."""
        cdef Side side
        cdef Entity top = None, other
        cdef Clash clash
        cdef bytes at = one.base
        cdef int number, taker = OURS
        while at:
            for number in range(2):
                side = self.sides[number]
                if at in side.replaced and not self.has(one, number):
                    if row_of(side.gone[at].old).kind == DIRECTORY:
                        top, taker = self.of_base(at), number
            at = above(at)
        if top is None:
            return False
        if not top.torn:
            side = self.sides[taker]
            top.torn = True
            other = side.entities[side.replaced[top.base]]
            other.torn = True
            words = ["changed" if self.has(top, 1 - taker) else "deleted"] * 2
            words[taker] = "type changed"
            clash = self.note(" / ".join(words), top, top, None)
            clash.top, clash.taken_by = top, taker
        return True

    cdef Clash note(self, str reason, Entity ours, Entity theirs, tuple members):
        """A clash of what ours and theirs have; they can be one."""
        cdef Clash clash = Clash()
        cdef Entity one
        clash.reason = reason
        clash.members = members
        clash.ours = self.described(ours, OURS)
        clash.theirs = self.described(theirs, THEIRS)
        for one in (ours, theirs):
            if one.base is not None and clash.base is None:
                delta = next((d for d in one.deltas if d is not None and d.old is not None), None)
                if delta is not None:
                    clash.base = described(one.base, row_of(delta.old))
        for found in (clash.ours, clash.theirs, clash.base):
            if found is not None:
                clash.path = found[0]
                break
        self.found.append(clash)
        return clash

    cdef tuple described(self, Entity one, int number):
        cdef Side side = self.sides[number]
        cdef Spot entry, data
        cdef bytes path
        if not self.has(one, number):
            # What has taken its place says more than that it is gone.
            if one.base is None or one.base not in side.replaced:
                return None
            path = side.replaced[one.base]
        else:
            path = self.path(one, number)
        side.find(path, &entry, &data)
        return None if entry.layer < 0 else described(path, side.view.row(entry))

    cdef int require_homes(self) except -1:
        """Nothing may lie in a directory that is gone."""
        cdef Entity one, home
        cdef int number
        for one in self.entities:
            home = one.home
            if not one.alive or one.torn or home is None or home.alive or home.torn:
                continue
            # The side that has the directory is the one that put the entity there.
            number = THEIRS if self.has(home, THEIRS) else OURS
            one.torn = True
            if home.base is not None and self.clash_above(home):
                continue
            words = [self.word(one, OURS), self.word(one, THEIRS)]
            words[1 - number] = "directory deleted"
            self.note(" / ".join(words), one, one, ([one], [one]))
        return 0

    cdef int require_places(self) except -1:
        """No two may lie in one place."""
        cdef Entity one, other, ours, theirs
        cdef Clash found
        cdef dict taken = {}
        for one in self.entities:
            if not one.alive or one.torn or one.home is None:
                continue
            other = taken.setdefault((one.home, one.name), one)
            if other is one:
                continue
            ours, theirs = (one, other) if self.is_ours(one, other) else (other, one)
            one.torn = other.torn = True
            found = self.note(
                f"{self.word(ours, OURS)} / {self.word(theirs, THEIRS)}",
                ours, theirs, ([theirs], [ours]),
            )
            if is_directory(ours) and is_directory(theirs):
                found.rivals = (ours, theirs)
            if found.reason == "added / added":
                found.reason = f"{found.ours[1]} / {found.theirs[1]}"
        return 0

    cdef bint is_ours(self, Entity one, Entity other):
        """Whether of two in one place it is the first that ours has there."""
        if self.was_united(one, OURS) or self.was_united(other, THEIRS):
            return True
        if self.was_united(one, THEIRS) or self.was_united(other, OURS):
            return False
        return self.has(one, OURS) and self.place(one, OURS) == (one.home, one.name)

    cdef bint was_united(self, Entity one, int number):
        """Whether one side has an entry in a directory that a choice gave up."""
        return self.has(one, number) and self.place(one, number)[0] in self.united

    cdef int require_tops(self) except -1:
        """No directory may lie in itself."""
        cdef Entity one, up
        cdef set seen
        for one in self.entities:
            if not one.alive or one.torn or not one.base or one.home is self.of_base(above(one.base)):
                continue
            seen = {one}
            up = one.home
            while up is not None and up not in seen and not up.torn:
                seen.add(up)
                up = up.home
            if up is not one:
                continue
            members = []
            for up in seen:
                if up.base is not None:
                    up.torn = True
                    members.append(up)
            members.sort(key=by_base)
            for one in members:
                if one.home is not self.of_base(above(one.base)):
                    break
            self.note("renamed / renamed", one, one, (members, members))
        return 0

    cdef int require_inodes(self) except -1:
        """One inode may not have been written to under different names."""
        cdef tuple writers = ({}, {})
        cdef Entity one
        cdef int number
        for one in self.entities:
            if not one.alive or one.torn or one.base is None or one.forced >= 0:
                continue
            if one.content not in (OURS_FITS, THEIRS_FITS):
                continue
            number = OURS if one.content == OURS_FITS else THEIRS
            delta = one.deltas[number]
            if delta is not None and delta.kind == "file" and delta.status == "M":
                key = inode(*delta.old)
                if key is not None:
                    (<dict>writers[number]).setdefault(key, []).append(one)
        for key in (<dict>writers[OURS]).keys() & (<dict>writers[THEIRS]).keys():
            for number in range(2):
                words = ["another link modified", "another link modified"]
                words[number] = "modified"
                for one in (<dict>writers[number])[key]:
                    self.note(" / ".join(words), one, one, ([one], [one]))
        return 0

    # --- choosing ---

    cdef int judge(self) except -1:
        cdef Entity one
        self.found = []
        # Directories that nobody touched are torn, too, where they would lie in each other.
        for one in self.known.values():
            one.torn = False
        for one in self.entities:
            one.torn = False
        for one in self.entities:
            self.pulse()
            # One that was torn by another's clash is in that one's members.
            if not one.torn:
                self.settle(one)
        if self.united:
            self.unite_directories()
        self.require_homes()
        self.require_places()
        self.require_tops()
        self.require_inodes()
        self.found.sort(key=by_clash_path)
        return 0

    cdef int unite_directories(self) except -1:
        """Put what is in directories that a choice gave up into those that have their places."""
        cdef Entity one
        for one in self.entities:
            if one in self.united:
                one.alive = False
            while one.home in self.united:
                one.home = self.united[one.home]
        return 0

    cdef int run(self, choose) except -1:
        """Decide everything, asking `choose` about each clash for as long as that helps."""
        cdef Clash clash
        cdef bint forced = True
        self.united = {}
        while forced:
            forced = False
            self.judge()
            for clash in self.found if choose is not None else ():
                side = choose(clash.path)
                if side is not None and self.resolve(clash, OURS if side == "ours" else THEIRS):
                    forced = True
        self.conflicts = self.found
        return 0

    cdef bint resolve(self, Clash clash, int number) except -1:
        """Have all that a clash is about be as it is on one side; whether that is news."""
        cdef Entity one, up
        cdef bint news = False
        if clash.rivals is not None:
            one = clash.rivals[1 - number]
            if one.base is None and not self.has(one, number) and one not in self.united:
                # Another directory is no reason to lose what is in this one.
                self.united[one] = clash.rivals[number]
                return True
        if clash.members is not None and (clash.top is None or number == clash.taken_by):
            members = clash.members[number]
        else:
            members = self.below(clash.top, clash.taken_by)
        for one in members:
            news |= self.give(one, number)
            if not self.has(one, number):
                continue
            up = self.place(one, number)[0]
            while up is not None and not up.alive and not up.torn:
                news |= self.give(up, number)
                up = self.place(up, number)[0]
        return news

    cdef bint give(self, Entity one, int number) except -1:
        """Force an entity, unless it is; what only the other side has goes with all in it."""
        cdef Entity inner
        if one.forced >= 0:
            return False
        one.forced = number
        if one.base is None and not self.has(one, number):
            for inner in self.within(one, 1 - number):
                self.give(inner, number)
        return True

    cdef list within(self, Entity home, int number):
        """What one side put into a directory, moved or added."""
        cdef Entity one
        cdef int side
        if self.inside is None:
            self.inside = {}
            for one in self.entities:
                for side in range(2):
                    if self.has(one, side) and one.base != b"":
                        key = (self.place(one, side)[0], side)
                        self.inside.setdefault(key, []).append(one)
        return self.inside.get((home, number), [])

    cdef list below(self, Entity top, int number):
        """A directory that `number` removed, what took its place, and whatever either side
        touched below the directory."""
        cdef Side taker = self.sides[number], keeper = self.sides[1 - number]
        cdef bytes path, prefix = top.base + b"/"
        cdef list found = [top]
        if top.base in taker.replaced:
            found.append(taker.entities[taker.replaced[top.base]])
        found += [self.of_base(path) for path in taker.gone if path.startswith(prefix)]
        if self.has(top, 1 - number):
            prefix = keeper.path_of(top.base) + b"/"
            found += [one for path, one in keeper.entities.items() if path.startswith(prefix)]
            found += [self.of_base(old) for path, old in keeper.moved_to.items() if path.startswith(prefix)]
        return found


def decide(
    View base, View ours, View theirs, *, choose=None, paths=None, threads=None, progress=None
) -> Merge:
    """Merge what `ours` and `theirs` made of `base`; of theirs only `paths` with all that is
    below them, if any are given: renames are a deletion and an addition, then.

    `choose(path)` is asked about each clash, ``"ours"``, ``"theirs"`` or None; what it leaves
    open is in `conflicts`. Contents are read only where neither size nor digest decides. Where both
    came to one view, whatever their ways, nothing is in conflict.

    :raises OSError: a file or directory could not be read
    :raises ValueError: a metadata-only copy without data below it
    """
    if paths is None and same(ours, theirs, threads=threads, progress=progress):
        base = theirs = ours
    cdef Merge merge = Merge(base, ours, theirs, paths, threads, progress)
    merge.run(choose)
    return merge

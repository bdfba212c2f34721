"""What changed between two views.

Two directories are compared by the layers that only one of them has: names that occur in
none of those are the same on both sides, so the cost follows the changes. What was renamed
is found elsewhere: directories before the comparison, files in what it leaves over.
"""

from libc.string cimport memcmp

from dsbranch._core.columns import KINDS
from dsbranch._core.content import compare_files
from dsbranch._core.delta import by_path

from dsbranch._core.delta cimport Delta
from dsbranch._core.moved cimport Moved
from dsbranch._core.renames cimport Renames
from dsbranch._core.sides cimport Sides, meta_differs, same_spot
from dsbranch._core.table cimport *
from dsbranch._core.view cimport Node, Spot, View, joined

cdef int KNOWN_EQUAL = 1
cdef int KNOWN_DIFFERENT = 0
cdef int UNKNOWN = -1


cdef class Changes:
    """One comparison under way.

    First the directories that moved are found, without looking into what both sides share;
    then the two trees are compared from the top, with these as they were matched and all else
    by its name.
    """

    cdef Sides sides
    cdef View old
    cdef View new
    cdef bint times
    cdef Moved moved
    cdef list found
    cdef list open_questions     # (delta, table, row, table, row, bool) that only reading settles

    def __init__(self, View old, View new, bint times):
        self.sides = Sides(old, new)
        self.old = old
        self.new = new
        self.times = times
        self.moved = Moved(self.sides)
        self.found = []
        self.open_questions = []

    cdef Delta note(self, str status, bytes path, Spot *before, Spot *after, Spot *data, bytes old_path):
        """Report a change; `data` is where the new side's data are, the old side's for D."""
        cdef Delta delta = Delta()
        cdef View view
        cdef Row *row
        delta.status = status
        delta.path = path
        # A directory that stays where it was while its parent moves away is renamed all the same.
        if old_path is not None and (old_path != path or status == "R"):
            delta.old_path = old_path
        if before != NULL:
            row = self.old.row(before[0])
            delta.old = (self.old.table(before[0]), before.row)
            delta.kind = KINDS[row.kind]
            if row.kind == FILE:
                delta.old_size = row.size
        if after != NULL:
            row = self.new.row(after[0])
            delta.new = (self.new.table(after[0]), after.row)
            delta.kind = KINDS[row.kind]
            if row.kind == FILE:
                if row.flags & F_METACOPY and (data == NULL or data.layer < 0):
                    raise ValueError(f"no data below the metadata-only copy of {path!r}")
                delta.size = row.size
                if data != NULL and data.layer >= 0:
                    delta.content = (self.new.table(data[0]), data.row)
        if (before == NULL or after == NULL) and data != NULL and data.layer >= 0:
            view = self.old if after == NULL else self.new
            delta.place = (view.table(data[0]), data.row)
        self.found.append(delta)
        return delta

    cdef int run(self, bint renames) except -1:
        cdef list pairs
        cdef Node one, two
        cdef bytes path
        if self.old is None:
            self.note("A", b"", NULL, &self.new.root.spots[0], NULL, None)
            self.expand(self.new.root, True)
            return 0
        if renames and self.moved.has_redirects():
            self.moved.find()
        pairs = []
        self.both_directories(self.old.root, self.new.root, pairs)
        while pairs:
            one, two = pairs.pop()
            self.compare(one, two, pairs)
        return 0

    cdef int compare(self, Node one, Node two, list pairs) except -1:
        """Compare two directories that are one, name by name."""
        cdef bytes name
        cdef Spot before, before_data, after, after_data
        cdef Node outer, inner, source
        cdef bint was
        for name in self.sides.names(one, two):
            self.sides.pulse()
            outer = self.old.lookup(one, name, &before, &before_data)
            inner = self.new.lookup(two, name, &after, &after_data)
            source = None if inner is None else self.moved.matched.get(inner.path)
            if source is not None:
                # Its story is told here; what was under this name, if anything else, is gone.
                if outer is None or source.path != outer.path:
                    self.renamed(source, inner, pairs)
                    self.only(False, joined(one.path, name), outer, &before, &before_data, pairs)
                else:
                    self.both_directories(outer, inner, pairs)
                continue
            was = before.layer >= 0 and not (outer is not None and outer.path in self.moved.taken)
            if was and after.layer >= 0:
                self.both(one, two, name, outer, inner, before, before_data, after, after_data, pairs)
            else:
                if was:
                    self.only(False, joined(one.path, name), outer, &before, &before_data, pairs)
                self.only(True, joined(two.path, name), inner, &after, &after_data, pairs)
        return 0

    cdef int renamed(self, Node source, Node node, list pairs) except -1:
        """Whatever else is new about a renamed directory, its name says the most."""
        self.note("R", node.path, &source.spots[0], &node.spots[0], NULL, source.path)
        pairs.append((source, node))
        return 0

    cdef int only(
        self, bint new, bytes path, Node node, Spot *entry, Spot *data, list pairs
    ) except -1:
        """Report what only one side has; nothing where it has nothing."""
        if entry.layer < 0:
            return 0
        if node is not None:
            return self.expand(node, new, pairs)
        self.note_only(new, path, entry, data)
        return 0

    cdef int note_only(self, bint new, bytes path, Spot *entry, Spot *data) except -1:
        if new:
            self.note("A", path, NULL, entry, data, None)
        else:
            self.note("D", path, entry, NULL, data, None)
        return 0

    cdef int expand(self, Node top, bint new, list pairs=None, bint inside=False) except -1:
        """Report a whole tree of one side, without what moved; `inside`: without its top."""
        cdef list rest = [top]
        cdef View view = self.new if new else self.old
        cdef set names
        cdef bytes name
        cdef Node node, inner, source
        cdef Spot entry, data
        while rest:
            node = rest.pop()
            if new:
                source = self.moved.matched.get(node.path)
                if source is not None:
                    self.renamed(source, node, pairs)
                    continue
            elif node.path in self.moved.taken:
                continue
            if node.path and not (inside and node is top):
                self.note_only(new, node.path, &node.spots[0], NULL)
            names = set()
            view.gather(node, 0, node.count, names)
            for name in names:
                self.sides.pulse()
                inner = view.lookup(node, name, &entry, &data)
                if inner is not None:
                    rest.append(inner)
                elif entry.layer >= 0:
                    self.note_only(new, joined(node.path, name), &entry, &data)
        return 0

    cdef int both(
        self, Node one, Node two, bytes name, Node outer, Node inner,
        Spot before, Spot before_data, Spot after, Spot after_data, list pairs,
    ) except -1:
        """Compare two entries that are one by their name."""
        cdef Row *left = self.old.row(before)
        cdef Row *right = self.new.row(after)
        cdef bytes path = joined(two.path, name)
        cdef bytes old_path = joined(one.path, name)
        cdef Delta delta
        cdef int content
        if left.kind != right.kind:
            self.note("T", path, &before, &after, &after_data, old_path)
            if outer is not None:
                self.expand(outer, False, pairs, True)
            if inner is not None:
                self.expand(inner, True, pairs, True)
            return 0
        if left.kind == DIRECTORY:
            return self.both_directories(outer, inner, pairs)
        if same_spot(self.old, before, self.new, after):
            return 0
        content = self.content(before, before_data, after, after_data)
        if content == KNOWN_DIFFERENT:
            self.note("M", path, &before, &after, &after_data, old_path)
        elif content == UNKNOWN:
            delta = self.note("M", path, &before, &after, &after_data, old_path)
            self.open_questions.append((
                delta, self.old.table(before_data), before_data.row,
                self.new.table(after_data), after_data.row,
                bool(meta_differs(self.old, before, self.new, after, self.times)),
            ))
        elif meta_differs(self.old, before, self.new, after, self.times):
            self.note("m", path, &before, &after, &after_data, old_path)
        return 0

    cdef int both_directories(self, Node one, Node two, list pairs) except -1:
        if not same_spot(self.old, one.spots[0], self.new, two.spots[0]):
            if meta_differs(self.old, one.spots[0], self.new, two.spots[0], self.times):
                self.note("m", two.path, &one.spots[0], &two.spots[0], NULL, one.path)
        pairs.append((one, two))
        return 0

    cdef int content(self, Spot before, Spot before_data, Spot after, Spot after_data) except -2:
        """Whether two entries of one kind, no directories, hold the same."""
        cdef Row *left = self.old.row(before)
        cdef Row *right = self.new.row(after)
        cdef Table one, two
        if left.kind == SYMLINK:
            one = self.old.table(before)
            two = self.new.table(after)
            if left.target.size == right.target.size and memcmp(
                one.heap + left.target.at, two.heap + right.target.at, left.target.size
            ) == 0:
                return KNOWN_EQUAL
            return KNOWN_DIFFERENT
        if left.kind != FILE:
            return KNOWN_EQUAL if left.rdev == right.rdev else KNOWN_DIFFERENT
        if left.size != right.size:
            return KNOWN_DIFFERENT
        if left.size == 0:
            return KNOWN_EQUAL
        if before_data.layer < 0 or after_data.layer < 0:
            path = self.new.table(after).text(right.path)
            raise ValueError(f"no data below the metadata-only copy of {path!r}")
        if same_spot(self.old, before_data, self.new, after_data):
            return KNOWN_EQUAL
        left = self.old.row(before_data)
        right = self.new.row(after_data)
        if left.dev == right.dev and left.ino == right.ino and left.ino != 0:
            return KNOWN_EQUAL
        if left.flags & F_DIGEST and right.flags & F_DIGEST:
            return KNOWN_EQUAL if memcmp(left.digest, right.digest, 16) == 0 else KNOWN_DIFFERENT
        return UNKNOWN


def changes(
    View old,
    View new,
    *,
    renames: bool = True,
    directory_times: bool = False,
    known=None,
    threads: int | None = None,
    progress=None,
) -> list:
    """The `Delta` of every path that differs from `old` (None: an empty tree) to `new`.

    Sorted by path with '/' lowest. `renames` pairs directories by where their lowest part lies
    and files by where their data lie, by what they were copied up from and by known digests;
    without it what was renamed is deleted and added. `directory_times` also reports
    directories whose modification time alone differs. Files of equal size are told apart by
    content, in `threads` threads (None: as many as processors, up to 8); `progress(done, total, bytes)` is told of that.
    `known` (see `columns.Known`) has digests of files that were read before.

    :raises OSError: a file or directory could not be read
    :raises ValueError: a metadata-only copy without data below it
    """
    cdef Changes job = Changes(old, new, directory_times)
    cdef Delta delta
    job.run(renames)
    if job.open_questions:
        questions = [question[1:5] for question in job.open_questions]
        equal = set()
        answers = compare_files(questions, known=known, threads=threads, progress=progress)
        for question, same in zip(job.open_questions, answers):
            if not same:
                continue
            delta = question[0]
            delta.status = "m"
            if not question[5]:
                equal.add(delta)
        job.found = [delta for delta in job.found if delta not in equal]
    job.found.sort(key=by_path)
    return Renames(job.sides).paired(job.found) if renames and old is not None else job.found

"""What changed between two views.

Two directories are compared by the layers that only one of them has: names that occur in
none of those are the same on both sides, so the cost follows the changes. The names are read in
order from both sides at once, and what is equal never becomes an object of Python. What was
renamed is found elsewhere: directories before the comparison, files in what it leaves over.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp

from dsbranch._core.content import compare_files
from dsbranch._core.delta import Deltas

from dsbranch._core.ledger cimport Change, Ledger
from dsbranch._core.moved cimport Moved
from dsbranch._core.renames cimport Renames
from dsbranch._core.sides cimport Pair, Sides, meta_differs, same_parts, same_spot, same_target
from dsbranch._core.table cimport *
from dsbranch._core.view cimport Node, Spot, View, joined

cdef enum:
    KNOWN_EQUAL
    KNOWN_DIFFERENT
    UNKNOWN

cdef enum:
    AT_END
    AT_DIRECTORIES
    PAUSED
    # So many names are compared before Ctrl-C is let through; a slow base takes 1 ms for each.
    AT_ONCE = 64

cdef struct Question:
    int64_t change       # its number
    Spot old             # the entries
    Spot new
    Spot before          # where their contents lie
    Spot after


cdef class Comparison:
    """One comparison under way.

    First the directories that moved are found, without looking into what both sides share;
    then the two trees are compared from the top, with these as they were matched and all else
    by its name. A tree of one side alone is compared with nothing.
    """

    cdef Sides sides
    cdef View old
    cdef View new
    cdef bint times
    cdef Moved moved
    cdef Ledger ledger
    cdef list pairs              # the directories that are open, and more to be used again
    cdef int depth               # how many are open
    cdef Question *questions     # what only reading settles
    cdef int64_t asked
    cdef int64_t room
    cdef bint once               # the first difference is enough

    def __init__(self, View old, View new, bint times, bytes spill):
        self.sides = Sides(old, new)
        self.old = old
        self.new = new
        self.times = times
        self.moved = Moved(self.sides)
        self.ledger = Ledger(old, new, spill)
        self.pairs = []

    def __dealloc__(self):
        free(self.questions)

    cdef int run(self, bint renames, dict moved) except -1:
        cdef Pair pair
        cdef int state
        cdef Node root = None if self.old is None else self.old.root
        self.ledger.home(b"")
        if root is None:
            self.ledger.add(c"A", NULL, &self.new.root.spots[0], NULL)
        else:
            if renames and self.moved.has_redirects():
                self.moved.find()
            if moved:
                self.moved.take(moved)
            if not same_spot(self.old, root.spots[0], self.new, self.new.root.spots[0]):
                if meta_differs(self.old, root.spots[0], self.new, self.new.root.spots[0], self.times):
                    self.ledger.add(c"m", &root.spots[0], &self.new.root.spots[0], NULL)
        self.enter(root, self.new.root)
        while self.depth and not (self.once and self.ledger.count > self.asked):
            pair = self.pairs[self.depth - 1]
            with nogil:
                state = self.compare(pair)
            if state == AT_END:
                self.depth -= 1
            elif state == AT_DIRECTORIES:
                self.directories(pair)
            else:
                self.sides.look_ahead(pair)
            PyErr_CheckSignals()
        return 0

    cdef int enter(self, Node one, Node two) except -1:
        """Have two directories, either may be None, be compared next."""
        if self.depth == len(self.pairs):
            self.pairs.append(Pair(self.old, self.new))
        if self.sides.open(self.pairs[self.depth], one, two):
            self.depth += 1
        return 0

    # --- what has no parts ---

    cdef int compare(self, Pair pair) except -1 nogil:
        """Compare name by name, up to one that is a directory, on either side, and not the same."""
        cdef int i
        for i in range(AT_ONCE):
            if not pair.step():
                return AT_END
            if pair.before.count == 0 and pair.after.count == 0:
                self.plain(pair)
            elif not same_parts(
                self.old, pair.before.spots, pair.before.count,
                self.new, pair.after.spots, pair.after.count,
            ):
                return AT_DIRECTORIES
        return PAUSED

    cdef int plain(self, Pair pair) except -1 nogil:
        """Compare two entries of one name, no directories; one of them may be missing."""
        cdef Spot before = pair.before.entry, after = pair.after.entry
        cdef int content
        if before.layer < 0 or after.layer < 0:
            return self.only(pair, before.layer < 0)
        if self.old.row(before).kind != self.new.row(after).kind:
            return self.both(c"T", pair)
        if same_spot(self.old, before, self.new, after):
            return 0
        content = self.contents(pair)
        if content == KNOWN_DIFFERENT:
            return self.both(c"M", pair)
        if content == UNKNOWN:
            self.both(c"M", pair)
            return self.ask(pair)
        if meta_differs(self.old, before, self.new, after, self.times):
            return self.both(c"m", pair)
        return 0

    cdef int contents(self, Pair pair) except -1 nogil:
        """Whether two entries of one kind, no directories, hold the same."""
        cdef Spot before = pair.before.entry, after = pair.after.entry
        cdef Row *left = self.old.row(before)
        cdef Row *right = self.new.row(after)
        cdef bint same
        if left.kind == SYMLINK:
            same = same_target(self.old, before, self.new, after)
            return KNOWN_EQUAL if same else KNOWN_DIFFERENT
        if left.kind != FILE:
            return KNOWN_EQUAL if left.rdev == right.rdev else KNOWN_DIFFERENT
        if left.size != right.size:
            return KNOWN_DIFFERENT
        if left.size == 0:
            return KNOWN_EQUAL
        before = pair.before.data
        after = pair.after.data
        if before.layer < 0 or after.layer < 0:
            self.no_data(pair)
        if same_spot(self.old, before, self.new, after):
            return KNOWN_EQUAL
        left = self.old.row(before)
        right = self.new.row(after)
        if left.dev == right.dev and left.ino == right.ino and left.ino != 0:
            return KNOWN_EQUAL
        if left.flags & F_DIGEST and right.flags & F_DIGEST:
            if memcmp(left.digest, right.digest, DIGEST_BYTES) == 0:
                return KNOWN_EQUAL
            return KNOWN_DIFFERENT
        return UNKNOWN

    cdef int no_data(self, Pair pair) except -1 nogil:
        with gil:
            path = joined(pair.two.path, pair.name())
            raise ValueError(f"no data below the metadata-only copy of {path!r}")

    # --- what is told ---

    cdef int both(self, unsigned char status, Pair pair) except -1 nogil:
        """Report what both sides have, under one name in directories that are one."""
        self.require_data(pair)
        return self.at_home(pair, self.ledger.add(
            status, &pair.before.entry, &pair.after.entry, &pair.after.data
        ))

    cdef int only(self, Pair pair, bint new) except -1 nogil:
        """Report what only one side has under a name; nothing where it has nothing."""
        if not new:
            if pair.before.entry.layer < 0:
                return 0
            return self.at_home(pair, self.ledger.add(
                c"D", &pair.before.entry, NULL, &pair.before.data
            ))
        if pair.after.entry.layer < 0:
            return 0
        self.require_data(pair)
        return self.at_home(pair, self.ledger.add(c"A", NULL, &pair.after.entry, &pair.after.data))

    cdef int require_data(self, Pair pair) except -1 nogil:
        cdef Row *row = self.new.row(pair.after.entry)
        if row.kind == FILE and row.flags & F_METACOPY and pair.after.data.layer < 0:
            self.no_data(pair)
        return 0

    cdef int at_home(self, Pair pair, Change *change) except -1 nogil:
        """Say of a change in which directories it is."""
        if pair.new_home < 0:
            with gil:
                self.keep_homes(pair)
        change.old_home = <uint32_t>pair.old_home
        change.new_home = <uint32_t>pair.new_home
        return 0

    cdef int keep_homes(self, Pair pair) except -1:
        pair.old_home = pair.new_home = 0
        if pair.one is not None:
            pair.old_home = self.ledger.home(pair.one.path)
        if pair.two is not None:
            if pair.one is not None and pair.one.path == pair.two.path:
                pair.new_home = pair.old_home
            else:
                pair.new_home = self.ledger.home(pair.two.path)
        return 0

    cdef int ask(self, Pair pair) except -1 nogil:
        """Have the contents of the change that was told last be compared later."""
        cdef Question *questions
        cdef int64_t room
        if self.asked == self.room:
            room = 2 * self.room + 64
            questions = <Question *>realloc(self.questions, room * sizeof(Question))
            if questions == NULL:
                with gil:
                    raise MemoryError
            self.questions = questions
            self.room = room
        questions = self.questions + self.asked
        self.asked += 1
        questions.change = self.ledger.count - 1
        questions.old = pair.before.entry
        questions.new = pair.after.entry
        questions.before = pair.before.data
        questions.after = pair.after.data
        return 0

    # --- directories ---

    cdef int directories(self, Pair pair) except -1:
        """Compare what is under one name, where it is a directory on a side."""
        cdef Node outer = pair.outer(), inner = pair.inner(), source = None
        cdef bint was
        if inner is not None:
            source = self.moved.matched.get(inner.path)
        if source is not None:
            if outer is not None and source.path == outer.path:
                return self.both_directories(pair, outer, inner)
            # Its story is told here; what was under this name, if anything else, is gone.
            self.renamed(pair, source, inner)
            return self.gone(pair, outer)
        was = pair.before.entry.layer >= 0 and not (
            outer is not None and outer.path in self.moved.taken
        )
        if not was:
            return self.come(pair, inner)
        if pair.after.entry.layer < 0:
            return self.gone(pair, outer)
        if outer is not None and inner is not None:
            return self.both_directories(pair, outer, inner)
        self.both(c"T", pair)
        return self.enter(outer, inner)

    cdef int both_directories(self, Pair pair, Node one, Node two) except -1:
        if not same_spot(self.old, one.spots[0], self.new, two.spots[0]):
            if meta_differs(self.old, one.spots[0], self.new, two.spots[0], self.times):
                self.both(c"m", pair)
        return self.enter(one, two)

    cdef int renamed(self, Pair pair, Node source, Node node) except -1:
        """Whatever else is new about a renamed directory, its name says the most."""
        cdef Change *change = self.ledger.add(c"R", &source.spots[0], &node.spots[0], NULL)
        self.at_home(pair, change)
        change.old_home = <uint32_t>self.ledger.home(source.path.rpartition(b"/")[0])
        return self.enter(source, node)

    cdef int gone(self, Pair pair, Node node) except -1:
        """Report what only the old side has, with all in it, but for what moved."""
        if node is not None and node.path in self.moved.taken:
            return 0
        self.only(pair, False)
        return 0 if node is None else self.enter(node, None)

    cdef int come(self, Pair pair, Node node) except -1:
        """Report what only the new side has, with all in it."""
        self.only(pair, True)
        return 0 if node is None else self.enter(None, node)

    # --- contents ---

    cdef int answer(self, known, threads, progress) except -1:
        """Read what has to be read, and take back the changes that are none."""
        cdef Question *question = self.questions
        cdef int64_t i
        answers = compare_files(
            self.as_asked(), total=self.asked, known=known, threads=threads, progress=progress
        )
        for i in range(self.asked):
            if answers[i]:
                self.ledger.changes[question[i].change].status = c"m" if meta_differs(
                    self.old, question[i].old, self.new, question[i].new, self.times
                ) else 0
        return 0

    def as_asked(self):
        """The questions as `compare_files` takes them."""
        cdef Question *question = self.questions
        cdef int64_t i
        for i in range(self.asked):
            yield (
                self.old.table(question[i].before), question[i].before.row,
                self.new.table(question[i].after), question[i].after.row,
            )


def same(View one, View other, *, threads: int | None = None, progress=None) -> bool:
    """Whether two views show the same at every path; `changes` says more, and takes longer.

    :raises OSError: a file or directory could not be read
    :raises ValueError: a metadata-only copy without data below it
    """
    cdef Comparison job = Comparison(one, other, False, None)
    job.once = True
    job.run(False, None)
    if job.ledger.count > job.asked:
        return False
    if job.asked:
        job.answer(None, threads, progress)
        job.ledger.tidy()
    return job.ledger.count == 0


def changes(
    View old,
    View new,
    *,
    renames: bool = True,
    dict moved=None,
    directory_times: bool = False,
    known=None,
    threads: int | None = None,
    spill: bytes | None = None,
    progress=None,
) -> Deltas:
    """The `Delta` of every path that differs from `old` (None: an empty tree) to `new`.

    Sorted by path with '/' lowest. `renames` pairs directories by where their lowest part lies
    and files by where their data lie, by what they were copied up from and by known digests;
    without it what was renamed is deleted and added. `moved` has directories that count as renamed,
    new path to old path, unless either is known to have moved otherwise. `directory_times` also reports
    directories whose modification time alone differs. Files of equal size are told apart by
    content, in `threads` threads (None: as many as processors, up to 8); `progress(done, total, bytes)` is told of that.
    `known` (see `jobs.Known`) has digests of files that were read before. `spill` is a directory
    to whose filesystem the answer goes if it is too large for memory.

    :raises OSError: a file or directory could not be read
    :raises ValueError: a metadata-only copy without data below it
    """
    cdef Comparison job = Comparison(old, new, directory_times, spill)
    job.run(renames, moved)
    if job.asked:
        job.answer(known, threads, progress)
    job.ledger.tidy()
    if renames and old is not None:
        Renames(job.sides, job.ledger).pair_all()
    return Deltas(job.ledger)

"""Which files came back under another name; no content is read for it.

What the comparison by names left over is paired, the surest first: D and A whose data lie at the
same place of a layer that both sides have, that are one inode, that were copied up from one
inode, or that are known to have equal digests. One D goes with one A. Those of one key are found
by sorting; of several, the likest go together, else they go in the order of their paths.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy

from dsbranch._core.handles cimport Handles
from dsbranch._core.ledger cimport Change, Ledger, Name, Place
from dsbranch._core.linux cimport qsort_r
from dsbranch._core.sides cimport Sides
from dsbranch._core.table cimport *
from dsbranch._core.view cimport View

cdef enum:
    PLACE
    INODE
    ANCESTOR
    DIGEST

cdef enum:
    # What two changes of one key may have in common besides, the most telling first.
    SIZE = 1
    CONTENT = 2
    NAME = 4

cdef int[6] LIKENESSES = [SIZE | CONTENT | NAME, SIZE | CONTENT, SIZE | NAME, SIZE, NAME, 0]

cdef uint64_t NOBODY = 0xFFFFFFFFFFFFFFFF

cdef struct Likeness:
    void *ledger
    int traits


cdef int64_t size_of(Ledger ledger, const Change *change) noexcept nogil:
    """The size of a regular file; -1: it is none."""
    cdef Row *row = ledger.old_row(change) if change.status == c"D" else ledger.new_row(change)
    return row.size if row.kind == FILE else -1


cdef const unsigned char *digest_of(Ledger ledger, const Change *change) noexcept nogil:
    """The digest of a file's content, where that is known and there is any; or NULL."""
    cdef Row *row = ledger.data_row(change)
    if row == NULL or size_of(ledger, change) <= 0 or not row.flags & F_DIGEST:
        return NULL
    return row.digest


cdef int compare_traits(
    Ledger ledger, int traits, const Change *one, const Change *two
) noexcept nogil:
    cdef int sign
    cdef int64_t size, other_size
    cdef const unsigned char *digest
    cdef const unsigned char *other_digest
    cdef Name name, other_name
    if traits & SIZE:
        size = size_of(ledger, one)
        other_size = size_of(ledger, two)
        if size != other_size:
            return -1 if size < other_size else 1
    if traits & CONTENT:
        digest = digest_of(ledger, one)
        other_digest = digest_of(ledger, two)
        if digest == NULL or other_digest == NULL:
            if digest != other_digest:
                return -1 if digest == NULL else 1
        else:
            sign = memcmp(digest, other_digest, DIGEST_BYTES)
            if sign:
                return sign
    if traits & NAME:
        name = ledger.name(one.status != c"D", one)
        other_name = ledger.name(two.status != c"D", two)
        return order(name.at, name.size, other_name.at, other_name.size)
    return 0


cdef int by_likeness(const void *a, const void *b, void *likeness) noexcept nogil:
    cdef Likeness *by = <Likeness *>likeness
    cdef int64_t one = (<const Candidate *>a).change, two = (<const Candidate *>b).change
    cdef int sign = compare_traits(
        <Ledger>by.ledger, by.traits,
        (<Ledger>by.ledger).changes + one, (<Ledger>by.ledger).changes + two,
    )
    return sign if sign else (one > two) - (one < two)


cdef int by_key(const void *a, const void *b, void *_) noexcept nogil:
    cdef const Candidate *one = <const Candidate *>a
    cdef const Candidate *two = <const Candidate *>b
    if one.key[0] != two.key[0]:
        return -1 if one.key[0] < two.key[0] else 1
    if one.key[1] != two.key[1]:
        return -1 if one.key[1] < two.key[1] else 1
    return (one.change > two.change) - (one.change < two.change)


cdef uint64_t bit_of(const Candidate *one) noexcept nogil:
    return (one.key[0] * 0x9E3779B97F4A7C15ULL ^ one.key[1]) * 0xC2B2AE3D27D4EB4FULL >> 20


cdef bint same_key(const Candidate *one, const Candidate *two) noexcept nogil:
    return one.key[0] == two.key[0] and one.key[1] == two.key[1]


cdef class Renames:
    """Makes an R of each pair of D and A in a ledger, which is sorted."""

    def __init__(self, Sides sides, Ledger ledger):
        self.sides = sides
        self.ledger = ledger
        self.numbers = {}

    def __dealloc__(self):
        free(self.candidates)
        free(self.filter)

    cdef int pair_all(self) except -1:
        cdef int64_t i
        for i in range(self.ledger.count):
            if unpaired(self.ledger, self.ledger.changes + i):
                if self.ledger.changes[i].status == c"D":
                    self.gone += 1
                else:
                    self.come += 1
        if not self.gone or not self.come:
            return 0
        self.pair(PLACE)
        self.pair(INODE)
        self.by_ancestor()
        self.pair(DIGEST)
        return self.ledger.tidy()

    cdef int pair(self, int rule) except -1:
        """Pair what has the same key; the rest remains."""
        cdef int64_t i, low = 0
        cdef unsigned char rarer = c"D" if self.gone < self.come else c"A"
        if not self.gone or not self.come:
            return 0
        self.count = 0
        self.numbers.clear()
        self.start_filter(min(self.gone, self.come))
        self.collect(rule, rarer, True)
        if not self.count:
            return 0
        self.collect(rule, c"A" if rarer == c"D" else c"D", False)
        qsort_r(self.candidates, self.count, sizeof(Candidate), by_key, NULL)
        for i in range(1, self.count + 1):
            if i == self.count or not same_key(self.candidates + low, self.candidates + i):
                if i - low > 1:
                    self.settle(low, i)
                low = i
        return 0

    cdef int collect(self, int rule, unsigned char status, bint rarer) except -1:
        """Make candidates of the changes of one letter: of the rarer one all that have a key, then of
        the other those whose key one of these may have, so that few are kept and sorted."""
        cdef int64_t i
        cdef uint64_t bit
        cdef Candidate candidate
        cdef Change *change
        self.naming = rarer
        for i in range(self.ledger.count):
            change = self.ledger.changes + i
            if change.status != status or not unpaired(self.ledger, change):
                continue
            self.sides.pulse()
            if not self.key(rule, change, candidate.key):
                continue
            bit = bit_of(&candidate) & self.filter_mask
            if rarer:
                self.filter[bit >> 3] |= 1 << (bit & 7)
            elif not self.filter[bit >> 3] & 1 << (bit & 7):
                continue
            candidate.change = i
            self.keep(&candidate)
        return 0

    cdef int start_filter(self, int64_t keys) except -1:
        """Have an empty set of bits, about sixteen for each of so many keys."""
        cdef uint64_t bits = 64
        while bits < <uint64_t>keys * 16:
            bits *= 2
        free(self.filter)
        self.filter = <unsigned char *>calloc(bits >> 3, 1)
        if self.filter == NULL:
            raise MemoryError
        self.filter_mask = bits - 1
        return 0

    cdef int keep(self, const Candidate *candidate) except -1:
        cdef Candidate *grown
        cdef int64_t room
        if self.count == self.room:
            room = 2 * self.room + 64
            grown = <Candidate *>realloc(self.candidates, room * sizeof(Candidate))
            if grown == NULL:
                raise MemoryError
            self.candidates = grown
            self.room = room
        self.candidates[self.count] = candidate[0]
        self.count += 1
        return 0

    cdef bint key(self, int rule, Change *change, uint64_t *key) except -1:
        """What it is paired by; false where nothing is known."""
        cdef const unsigned char *digest
        if rule == PLACE:
            return self.place(change, key)
        if rule == INODE:
            return self.inode(change, key)
        if rule == ANCESTOR:
            return self.ancestor(change, key)
        digest = digest_of(self.ledger, change)
        if digest != NULL:
            memcpy(key, digest, DIGEST_BYTES)
        return digest != NULL

    cdef int settle(self, int64_t low, int64_t high) except -1:
        """Pair those of one key: the likest first, else in the order of their paths."""
        cdef Likeness likeness
        cdef int64_t i, first, left
        cdef int traits
        if high - low == 2:
            self.zip(low, high)
            return 0
        likeness.ledger = <void *>self.ledger
        for traits in LIKENESSES:
            likeness.traits = traits
            qsort_r(self.candidates + low, high - low, sizeof(Candidate), by_likeness, &likeness)
            first = low
            for i in range(low + 1, high + 1):
                if i == high or compare_traits(
                    self.ledger, traits, self.change(first), self.change(i)
                ):
                    self.zip(first, i)
                    first = i
            left = low
            for i in range(low, high):
                if self.change(i).status in (c"D", c"A"):
                    self.candidates[left] = self.candidates[i]
                    left += 1
            high = left
        return 0

    cdef Change *change(self, int64_t candidate) noexcept:
        return self.ledger.changes + self.candidates[candidate].change

    cdef void zip(self, int64_t low, int64_t high) noexcept:
        """Pair the first D with the first A, and so on."""
        cdef int64_t i = low, j = low
        cdef Change *old
        cdef Change *new
        while True:
            while i < high and self.change(i).status != c"D":
                i += 1
            while j < high and self.change(j).status != c"A":
                j += 1
            if i == high or j == high:
                return
            old = self.change(i)
            new = self.change(j)
            new.old = old.old
            new.old_home = old.old_home
            new.status = c"R"
            old.status = 0
            self.gone -= 1
            self.come -= 1

    # --- what pairs are made by ---

    cdef bint place(self, Change *change, uint64_t *key) except -1:
        """Where the data lie, in a layer that both sides have."""
        cdef View view = self.view(change)
        cdef Table table
        cdef bytes path
        if change.data.layer < 0:
            return False
        table = view.tables[change.data.layer]
        if not self.sides.shares(table):
            return False
        key[0] = <uint64_t><void *>table
        key[1] = change.data.row
        if view.slots[change.data.layer].base:
            # The base looks a path up anew each time it is asked.
            key[1] = self.number(table.text(table.rows[change.data.row].path))
        return True

    cdef bint inode(self, Change *change, uint64_t *key) except -1:
        """The inode in a layer that only one side has; another layer may hold a hard link to it.

        Not that of several names of one layer: which of them would be the renamed one?
        """
        cdef View view = self.view(change)
        cdef Place place = own_place(change)
        cdef Row *row = self.ledger.row(change.status != c"D", place)
        if view.slots[place.layer].base or self.sides.shares(view.tables[place.layer]):
            return False
        if row.ino == 0 or row.group:
            return False
        key[0] = row.dev
        key[1] = row.ino
        return True

    cdef int by_ancestor(self) except -1:
        """Pair by the inode they were copied up from, at first, in a layer that both sides have."""
        cdef View view
        cdef Table table
        cdef tuple start
        cdef dict starts = {c"D": [], c"A": []}
        cdef Change *change
        cdef int64_t i
        if not self.gone or not self.come:
            return 0
        for i in range(self.ledger.count):
            change = self.ledger.changes + i
            if unpaired(self.ledger, change):
                self.sides.pulse()
                start = self.with_origin(change)
                if start is not None:
                    (<list>starts[change.status]).append(start)
        if not starts[c"D"] and not starts[c"A"]:
            return 0
        self.handles = Handles(self.sides.old.tables + self.sides.new.tables)
        wanted = {self.handles.origin(start[0], start[1]) for start in starts[c"D"] + starts[c"A"]}
        for view in (self.sides.old, self.sides.new):
            # Nothing is copied up from the topmost layer.
            for table in view.tables[1:]:
                if not self.sides.shares(table):
                    self.handles.learn(table, wanted)
        # One of the two has to be a copy: names of one inode in a shared layer are no rename.
        if starts[c"A"]:
            self.asked = c"D"
            self.pair(ANCESTOR)
        if starts[c"D"]:
            self.asked = c"A"
            self.pair(ANCESTOR)
        return 0

    cdef bint ancestor(self, Change *change, uint64_t *key) except -1:
        """The handle of the inode that an entry was copied up from, or its own if it was not."""
        cdef Place place = own_place(change)
        cdef Table table
        cdef int64_t row
        cdef tuple start = self.with_origin(change)
        if start is not None:
            table, row = self.handles.first(start[0], start[1])
            handle = self.handles.origin(table, row)
        else:
            table, row = self.ledger.place(change.status != c"D", place)
            if change.status != self.asked or not self.sides.shares(table):
                return False
            handle = self.handles.of(table, row)
        if handle is None:
            return False
        key[0] = self.ledger.row(change.status != c"D", place).kind
        key[1] = self.number(handle)
        return True

    cdef tuple with_origin(self, Change *change):
        """Which row of a change tells its origin: its own, else that of its data; not a shared one."""
        cdef bint new = change.status != c"D"
        cdef Place place
        for place in (own_place(change), change.data):
            if place.layer >= 0 and self.ledger.row(new, place).flags & F_ORIGIN:
                if not self.sides.shares(self.view(change).tables[place.layer]):
                    return self.ledger.place(new, place)
        return None

    cdef View view(self, Change *change):
        return self.sides.old if change.status == c"D" else self.sides.new

    cdef uint64_t number(self, key) except? 0:
        """A number for what is none, the same for what is equal; of what only the more frequent
        letter has, the last one there is."""
        if self.naming:
            return self.numbers.setdefault(key, len(self.numbers))
        return self.numbers.get(key, NOBODY)


cdef Place own_place(const Change *change) noexcept:
    return change.old if change.status == c"D" else change.new


cdef bint unpaired(Ledger ledger, const Change *change) noexcept:
    """Whether it is a D or an A, of what is no directory."""
    cdef Row *row
    if change.status == c"D":
        row = ledger.old_row(change)
    elif change.status == c"A":
        row = ledger.new_row(change)
    else:
        return False
    return row.kind != DIRECTORY

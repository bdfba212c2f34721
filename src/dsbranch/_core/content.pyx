"""What files hold: digests for a table, and whether two files are the same."""

from itertools import islice

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EAGAIN
from libc.stdint cimport int64_t, uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

from dsbranch._core.base cimport Base
from dsbranch._core.digest cimport stream_copy, stream_digest, stream_reset, stream_update
from dsbranch._core.linux cimport *
from dsbranch._core.memory cimport Numbers
from dsbranch._core.pieces cimport *
from dsbranch._core.reading cimport *
from dsbranch._core.table cimport *

cdef enum:
    # Two files that are the same up to this part of their size are read to the end and hashed.
    EARLY = 8
    # Pairs take a few hundred bytes each.
    AT_ONCE = 1 << 13

cdef struct Pair:
    Source one
    Source two
    bint same


cdef class Digesting(Reading):
    cdef Table table
    cdef uint32_t *rows

    def __cinit__(self, Table table, known, given, problems):
        cdef int64_t i
        cdef Row *row
        cdef Numbers wanted
        self.table = table
        self.known = known
        self.problems = problems
        if given is not None:
            wanted = Numbers(given)
            self.count = wanted.count
            self.rows = <uint32_t *>malloc((self.count + 1) * sizeof(uint32_t))
            if self.rows == NULL:
                raise MemoryError
            for i in range(self.count):
                self.rows[i] = <uint32_t>wanted.numbers[i]
                self.long_ones |= table.row_of(wanted.numbers[i]).size >= LONG
            return
        self.rows = <uint32_t *>malloc((table.count + 1) * sizeof(uint32_t))
        if self.rows == NULL:
            raise MemoryError
        seen = set()
        for i in range(table.count):
            row = table.rows + i
            if row.kind != FILE or row.flags & (F_METACOPY | F_DIGEST):
                continue
            if row.group:
                if row.group in seen:
                    continue
                seen.add(row.group)
            self.rows[self.count] = <uint32_t>i
            self.count += 1
            self.long_ones |= row.size >= LONG
        if known is not None:
            self.recall()

    def __dealloc__(self):
        free(self.rows)

    cdef int recall(self) except -1:
        """Take the digests that are known; only the other files are left to be read."""
        cdef int64_t i, left = 0
        cdef Source source
        for i in range(self.count):
            describe(&source, self.table, self.rows[i], False, True)
            self.ask(self.rows[i], &source)
        self.asked()
        for i in range(self.count):
            if not self.table.rows[self.rows[i]].flags & F_DIGEST:
                self.rows[left] = self.rows[i]
                left += 1
        self.count = left
        return 0

    cdef void found(self, int64_t place, const uint8_t *digest):
        memcpy(self.table.rows[place].digest, digest, DIGEST_BYTES)
        self.table.rows[place].flags |= F_DIGEST

    cdef void ahead(self, int64_t at) noexcept nogil:
        cdef Source source
        describe(&source, self.table, self.rows[at], False, False)
        self.announce(&source)

    cdef void one(self, int64_t at, Desk *desk) noexcept nogil:
        cdef Row *row = self.table.rows + self.rows[at]
        cdef Source source
        cdef int64_t got
        cdef int fd
        describe(&source, self.table, self.rows[at], False, self.known is not None)
        fd = self.begin(&source, &desk.directories[0])
        if fd < 0:
            return
        got = self.hash_file(fd, &source, desk)
        if got < 0:
            self.fail(<int>-got, b"read", &source)
        elif self.problems is not None and not is_still(fd, row):
            if not load_int(&self.stop):
                self.fail(EAGAIN, b"hash a file while it changes:", &source)
        elif not load_int(&self.stop) and got == row.size:
            memcpy(row.digest, source.digest, DIGEST_BYTES)
            row.flags |= F_DIGEST
            self.end(&source, fd)
        elif not load_int(&self.stop):
            self.fail(EAGAIN, b"hash a file while it changes size:", &source)
        close(fd)


cdef bint is_still(int fd, const Row *row) noexcept nogil:
    """Whether a file is, after having been read, what its row says."""
    cdef Key key
    return (
        identify(fd, &key)
        and key.dev == row.dev
        and key.ino == row.ino
        and key.size == row.size
        and key.mtime_ns == row.mtime_ns
        and key.ctime_ns == row.ctime_ns
    )


def digest_files(
    Table table, *, rows=None, list problems=None, known=None, threads=None, progress=None
) -> None:
    """Fill in the digests of the regular files that have none; metacopy files have no content.

    `rows`, an array of int64, picks those to be read, one name of each inode; other names get none.
    `problems` takes ``(path, errno)`` of files that cannot be read, up to 10,000, and with EAGAIN of
    those that are no longer what was scanned; they get no digest, and the job goes on.

    `known` (see `jobs.Known`) is asked for those of larger files and told of them.
    `progress(done, total, bytes)` is told of files and of bytes. `threads` None: as many as there
    are processors, up to 8.

    :raises OSError: the first failure, with errno and the path relative to the root
    """
    cdef Digesting job = Digesting(table, known, rows, problems)
    job.start(threads, progress)
    if rows is None:
        share_digests(table)


def share_digests(Table table) -> None:
    """Give all names of an inode the digest that one has."""
    cdef int64_t i
    cdef Row *row
    first = {}
    for i in range(table.count):
        if i & 0x3FFF == 0:
            PyErr_CheckSignals()
        row = table.rows + i
        if row.group and row.kind == FILE and row.flags & F_DIGEST:
            first.setdefault(row.group, i)
    for i in range(table.count):
        if i & 0x3FFF == 0:
            PyErr_CheckSignals()
        row = table.rows + i
        if row.group and row.kind == FILE:
            other = first.get(row.group, i)
            if other != i:
                memcpy(row.digest, table.rows[<int64_t>other].digest, DIGEST_BYTES)
                row.flags |= F_DIGEST


cdef class Comparing(Reading):
    """Pairs of files of equal size, to be told apart by content."""

    cdef Pair *pairs
    cdef int64_t *open_pairs     # those that only reading settles
    cdef list keep

    def __cinit__(self, list questions, known):
        cdef Pair *pair
        cdef int64_t i, j, n = 0
        cdef Table one, two
        self.keep = questions
        self.known = known
        self.pairs = <Pair *>malloc((len(questions) + 1) * sizeof(Pair))
        self.open_pairs = <int64_t *>malloc((len(questions) + 1) * sizeof(int64_t))
        if self.pairs == NULL or self.open_pairs == NULL:
            raise MemoryError
        for one, i, two, j in questions:
            pair = self.pairs + n
            one.row_of(i)
            two.row_of(j)
            describe(&pair.one, one, i, isinstance(one, Base), known is not None)
            describe(&pair.two, two, j, isinstance(two, Base), known is not None)
            if known is not None:
                self.ask(2 * n, &pair.one)
                self.ask(2 * n + 1, &pair.two)
            n += 1
        self.asked()
        for i in range(n):
            pair = self.pairs + i
            pair.same = False
            if pair.one.known and pair.two.known:
                pair.same = memcmp(pair.one.digest, pair.two.digest, DIGEST_BYTES) == 0
            else:
                self.open_pairs[self.count] = i
                self.count += 1
                self.long_ones |= pair.one.size >= LONG

    def __dealloc__(self):
        free(self.pairs)
        free(self.open_pairs)

    cdef void found(self, int64_t place, const uint8_t *digest):
        cdef Pair *pair = self.pairs + place // 2
        cdef Source *source = &pair.two if place % 2 else &pair.one
        memcpy(source.digest, digest, DIGEST_BYTES)
        source.known = True

    cdef void ahead(self, int64_t at) noexcept nogil:
        cdef Pair *pair = self.pairs + self.open_pairs[at]
        if not pair.one.known:
            self.announce(&pair.one)
        if not pair.two.known:
            self.announce(&pair.two)

    cdef void one(self, int64_t at, Desk *desk) noexcept nogil:
        cdef Pair *pair = self.pairs + self.open_pairs[at]
        cdef int one, two
        if pair.one.known:
            self.by_digest(pair, &pair.one, &pair.two, desk)
        elif pair.two.known:
            self.by_digest(pair, &pair.two, &pair.one, desk)
        else:
            one = self.begin(&pair.one, &desk.directories[0])
            if one < 0:
                return
            two = self.begin(&pair.two, &desk.directories[1])
            if two >= 0:
                self.by_bytes(pair, one, two, desk)
                close(two)
            close(one)

    cdef void by_digest(self, Pair *pair, Source *known, Source *other, Desk *desk) noexcept nogil:
        cdef int fd = self.begin(other, &desk.directories[0 if other == &pair.one else 1])
        cdef int64_t got
        if fd < 0:
            return
        got = self.hash_file(fd, other, desk)
        if got < 0:
            self.fail(<int>-got, b"read", other)
        elif not load_int(&self.stop):
            self.end(other, fd)
            pair.same = memcmp(other.digest, known.digest, DIGEST_BYTES) == 0
        close(fd)

    cdef void by_bytes(self, Pair *pair, int one, int two, Desk *desk) noexcept nogil:
        """Read both until they differ, and beyond if the digests are worth what that costs."""
        cdef bint hash = pair.one.keep or pair.two.keep
        cdef int64_t at
        stream_reset(desk.state)
        at = self.while_same(pair, one, two, hash, desk)
        if not hash or load_int(&self.stop):
            stream_digest(desk.state, pair.one.digest)
        elif pair.same:
            stream_digest(desk.state, pair.one.digest)
            memcpy(pair.two.digest, pair.one.digest, DIGEST_BYTES)
            self.end(&pair.one, one)
            self.end(&pair.two, two)
        elif at < pair.one.size // EARLY:
            # Finding the difference again costs little.
            stream_digest(desk.state, pair.one.digest)
        else:
            stream_copy(desk.state, desk.fork)
            self.finish(&pair.one, one, at, desk.state, desk)
            self.finish(&pair.two, two, at, desk.fork, desk)

    cdef int64_t while_same(
        self, Pair *pair, int one, int two, bint hash, Desk *desk
    ) noexcept nogil:
        """Read two files side by side, into the stream if `hash`; how far they are the same."""
        cdef int64_t at = 0, hole, other
        cdef ssize_t got, more
        cdef Relay relay
        if pair.one.size >= LONG and not (pair.one.sparse and pair.two.sparse):
            run_relay(&self.relays, &relay, one, two, 0, desk.state if hash else NULL, desk)
            if relay.error:
                self.fail(relay.error, b"read", &pair.one if relay.blamed == one else &pair.two)
            pair.same = relay.ended and not (relay.differ or relay.error)
            return relay.end
        while not load_int(&self.stop):
            if pair.one.sparse and pair.two.sparse:
                hole = next_data(one, at)
                other = next_data(two, at)
                if hole < 0 or other < 0:
                    self.fail(<int>-(hole if hole < 0 else other), b"read", &pair.one if hole < 0 else &pair.two)
                    break
                hole = hole if hole < other else other
                if hash:
                    self.hash_zeros(hole - at, desk.state, desk)
                at = hole
            got = fill(one, desk.piece, PIECE, at, pair.one.size)
            more = fill(two, desk.other, PIECE, at, pair.two.size)
            if got < 0 or more < 0:
                self.fail(<int>-(got if got < 0 else more), b"read", &pair.one if got < 0 else &pair.two)
                break
            if got != more or memcmp(desk.piece, desk.other, got) != 0:
                break
            if hash:
                stream_update(desk.state, desk.piece, got)
            fetch_add(&self.bytes, got)
            at += got
            if got < PIECE:
                pair.same = True
                break
        return at

    cdef void finish(
        self, Source *source, int fd, int64_t at, void *state, Desk *desk
    ) noexcept nogil:
        """Read the rest of a file whose answer is known, to learn its digest if that can be had."""
        cdef int64_t end = self.hash_rest(fd, source, at, state, desk) if source.keep else -1
        stream_digest(state, source.digest)
        if end >= 0 and not load_int(&self.stop):
            self.end(source, fd)


def compare_files(
    questions, *, total: int | None = None, known=None, threads=None, progress=None
) -> list:
    """Whether the files of each ``(table, row, table, row)`` hold the same bytes.

    Where both digests are known nothing is read; where one is, the other file is hashed; else
    both are read until they differ. `known` (see `jobs.Known`) is asked for digests of larger
    files, and told of those that were read to the end. `questions` may be an iterator, of `total`
    questions then: a bounded number of them is taken at a time.
    """
    cdef Comparing job
    cdef int64_t i, before = 0
    cdef list part, answers = []
    whole = len(questions) if total is None else total
    rest = iter(questions)

    def tell(done: int, _: int | None, read: int) -> None:
        progress(len(answers) + done, whole, before + read)

    while part := list(islice(rest, AT_ONCE)):
        job = Comparing(part, known)
        job.start(threads, None if progress is None else tell)
        answers += [bool(job.pairs[i].same) for i in range(len(part))]
        before += job.bytes
    return answers

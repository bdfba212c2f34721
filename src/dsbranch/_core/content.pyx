"""Reading what files hold: digests for a table, and whether two files are the same.

Threads take files from a shared counter, so one file is read by one thread.
Holes are hashed from a page of zeros, never read.
"""

from libc.errno cimport EAGAIN, EINTR, ENOMEM, ENXIO, errno
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

from dsbranch._core.digest cimport STATE_SIZE, digest_buffer, stream_digest, stream_reset, stream_update
from dsbranch._core.files cimport open_to_read
from dsbranch._core.linux cimport *
from dsbranch._core.crew import crew_size, run_threads
from dsbranch._core.table cimport *

cdef enum:
    # Twice this stays in the second-level cache, which is where hashing is nearly free.
    PIECE = 1 << 18

cdef struct Side:
    int root
    const char *path
    size_t size
    const uint8_t *digest   # NULL where it is not known
    bint sparse

cdef struct Pair:
    Side one
    Side two
    int failed           # which side could not be read: 1 or 2
    bint same

cdef struct Desk:
    # One thread's memory.
    char *piece
    char *other
    char *zeros
    void *state


cdef bint is_sparse(const Row *row) noexcept nogil:
    """Whether a file has holes worth skipping; only what was scanned knows its blocks."""
    return 0 < row.ino and <int64_t>row.blocks * 512 < row.size and row.size > PIECE


cdef int furnish(Desk *desk) noexcept nogil:
    memset(desk, 0, sizeof(Desk))
    if (
        posix_memalign(<void **>&desk.piece, 4096, PIECE)
        or posix_memalign(<void **>&desk.other, 4096, PIECE)
        or posix_memalign(<void **>&desk.zeros, 4096, PIECE)
        or posix_memalign(&desk.state, 64, STATE_SIZE)
    ):
        return -1
    memset(desk.zeros, 0, PIECE)
    return 0


cdef void clear(Desk *desk) noexcept nogil:
    free(desk.piece)
    free(desk.other)
    free(desk.zeros)
    free(desk.state)


cdef ssize_t fill(int fd, char *piece, size_t room) noexcept nogil:
    """Read until `room` is full or the file ends."""
    cdef size_t used = 0
    cdef ssize_t got
    while used < room:
        got = read(fd, piece + used, room - used)
        if got == 0:
            break
        if got < 0:
            if errno == EINTR:
                continue
            return -errno
        used += got
    return used


cdef int64_t hash_file(
    int fd, bint sparse, uint8_t *out, Desk *desk, int *stop, int64_t *bytes
) noexcept nogil:
    """Digest an open file from its start; bytes hashed, or -errno."""
    cdef int64_t total = 0, data, hole, step
    cdef ssize_t got = fill(fd, desk.piece, PIECE) if not sparse else 0
    if not sparse and got < PIECE:
        if got >= 0:
            digest_buffer(desk.piece, got, out)
            fetch_add(bytes, got)
        return got
    stream_reset(desk.state)
    while not sparse and got > 0:
        stream_update(desk.state, desk.piece, got)
        total += got
        fetch_add(bytes, got)
        if load_int(stop):
            break
        got = fill(fd, desk.piece, PIECE)
    while sparse:
        data = lseek(fd, total, SEEK_DATA)
        if data < 0:
            if errno != ENXIO:
                got = -errno
                break
            data = lseek(fd, 0, SEEK_END)  # only a hole is left
            sparse = False
        while total < data and not load_int(stop):
            step = data - total if data - total < PIECE else PIECE
            stream_update(desk.state, desk.zeros, step)
            total += step
            fetch_add(bytes, step)
        if not sparse:
            break
        hole = lseek(fd, data, SEEK_HOLE)
        if hole < 0 or lseek(fd, data, SEEK_SET) < 0:
            got = -errno
            break
        while total < hole and not load_int(stop):
            got = fill(fd, desk.piece, hole - total if hole - total < PIECE else PIECE)
            if got <= 0:
                break
            stream_update(desk.state, desk.piece, got)
            total += got
            fetch_add(bytes, got)
        if got <= 0 or load_int(stop):
            break
    stream_digest(desk.state, out)
    return total if got >= 0 else got


cdef int same_content(Pair *pair, Desk *desk, int *stop, int64_t *bytes) noexcept nogil:
    """Set pair.same; -errno on failure, with the failing side in `pair.failed`."""
    cdef uint8_t digest[16]
    cdef Side *known = &pair.one if pair.one.digest != NULL else &pair.two
    cdef Side *unknown = &pair.two if pair.one.digest != NULL else &pair.one
    cdef int fd, other
    cdef int64_t got, more
    fd = open_to_read(unknown.root, unknown.path, unknown.size, 0)
    if fd < 0:
        pair.failed = 1 if unknown == &pair.one else 2
        return fd
    if known.digest != NULL:
        got = hash_file(fd, unknown.sparse, digest, desk, stop, bytes)
        close(fd)
        if got < 0:
            pair.failed = 1 if unknown == &pair.one else 2
            return <int>got
        pair.same = memcmp(digest, known.digest, 16) == 0
        return 0
    other = open_to_read(known.root, known.path, known.size, 0)
    if other < 0:
        close(fd)
        pair.failed = 1 if known == &pair.one else 2
        return other
    pair.same = True
    while not load_int(stop):
        got = fill(fd, desk.piece, PIECE)
        more = fill(other, desk.other, PIECE)
        if got < 0 or more < 0:
            pair.failed = 1 if (got < 0) == (unknown == &pair.one) else 2
            close(fd)
            close(other)
            return <int>(got if got < 0 else more)
        if got != more or memcmp(desk.piece, desk.other, got) != 0:
            pair.same = False
            break
        fetch_add(bytes, got)
        if got < PIECE:
            break
    close(fd)
    close(other)
    return 0


cdef class Reading:
    """The shared state of one reading job over `count` files."""

    cdef int64_t count
    cdef int64_t taken
    cdef int64_t bytes
    cdef int stop
    cdef Fault fault
    cdef pthread_mutex_t mutex

    def __cinit__(self, *args):
        pthread_mutex_init(&self.mutex, NULL)
        memset(&self.fault, 0, sizeof(Fault))

    def __dealloc__(self):
        free(self.fault.path)
        pthread_mutex_destroy(&self.mutex)

    def cancel(self) -> None:
        store_int(&self.stop, 1)

    def start(self, threads, progress) -> None:
        """Do the job in `threads` threads, telling `progress` of it, and raise what failed."""
        if self.count == 0:
            return
        run_threads(
            self.work,
            min(self.count, crew_size(threads)),
            self.cancel,
            None if progress is None else lambda: progress(
                min(load_long(&self.taken), self.count), self.count, load_long(&self.bytes)
            ),
        )
        raise_fault(&self.fault)
        if progress is not None:
            progress(self.count, self.count, self.bytes)

    def work(self, int number) -> None:
        cdef Desk desk
        with nogil:
            if furnish(&desk) < 0:
                self.fail(ENOMEM, b"read", b"", 0)
            else:
                self.run(&desk)
            clear(&desk)

    cdef void fail(self, int error, const char *action, const char *path, size_t size) noexcept nogil:
        pthread_mutex_lock(&self.mutex)
        blame(&self.fault, error, action, path, size)
        pthread_mutex_unlock(&self.mutex)
        store_int(&self.stop, 1)

    cdef void run(self, Desk *desk) noexcept nogil:
        cdef int64_t at
        while not load_int(&self.stop):
            at = fetch_add(&self.taken, 1)
            if at >= self.count:
                return
            self.one(at, desk)

    cdef void one(self, int64_t at, Desk *desk) noexcept nogil:
        pass


cdef class Digesting(Reading):
    cdef Table table
    cdef int64_t *rows

    def __cinit__(self, Table table):
        cdef int64_t i
        cdef Row *row
        self.table = table
        self.rows = <int64_t *>malloc((table.count + 1) * sizeof(int64_t))
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
            self.rows[self.count] = i
            self.count += 1

    def __dealloc__(self):
        free(self.rows)

    cdef void one(self, int64_t at, Desk *desk) noexcept nogil:
        cdef Row *row = self.table.rows + self.rows[at]
        cdef const char *path = self.table.heap + row.path.at
        cdef int64_t got
        cdef int fd = open_to_read(self.table.root_fd, path, row.path.size, 0)
        if fd < 0:
            self.fail(-fd, b"open", path, row.path.size)
            return
        got = hash_file(fd, is_sparse(row), row.digest, desk, &self.stop, &self.bytes)
        close(fd)
        if got < 0:
            self.fail(<int>-got, b"read", path, row.path.size)
        elif not load_int(&self.stop) and got == row.size:
            row.flags |= F_DIGEST
        elif not load_int(&self.stop):
            self.fail(EAGAIN, b"hash a file while it changes size:", path, row.path.size)


def digest_files(Table table, *, threads=None, progress=None) -> None:
    """Fill in the digests of the regular files that have none; metacopy files have no content.

    `progress(done, total, bytes)` is told of files and of bytes. `threads` None: as many as there
    are processors, up to 8.

    :raises OSError: the first failure, with errno and the path relative to the root
    """
    cdef Digesting job = Digesting(table)
    cdef int64_t i
    cdef Row *row
    job.start(threads, progress)
    first = {}
    for i in range(table.count):
        row = table.rows + i
        if row.group and row.kind == FILE:
            other = first.setdefault(row.group, i)
            if other != i and table.rows[<int64_t>other].flags & F_DIGEST:
                memcpy(row.digest, table.rows[<int64_t>other].digest, 16)
                row.flags |= F_DIGEST


cdef class Comparing(Reading):
    """Pairs of files of equal size, to be told apart by content."""

    cdef Pair *pairs
    cdef list keep

    def __cinit__(self, list questions):
        cdef Pair *pair
        cdef Table one, two
        self.pairs = <Pair *>malloc((len(questions) + 1) * sizeof(Pair))
        if self.pairs == NULL:
            raise MemoryError
        self.keep = questions
        for a, i, b, j in questions:
            one = a
            two = b
            pair = self.pairs + self.count
            memset(pair, 0, sizeof(Pair))
            describe(&pair.one, one, i)
            describe(&pair.two, two, j)
            self.count += 1

    def __dealloc__(self):
        free(self.pairs)

    cdef void one(self, int64_t at, Desk *desk) noexcept nogil:
        cdef Pair *pair = self.pairs + at
        cdef Side *bad
        cdef int result = same_content(pair, desk, &self.stop, &self.bytes)
        if result < 0:
            bad = &pair.one if pair.failed == 1 else &pair.two
            self.fail(-result, b"read", bad.path, bad.size)


cdef void describe(Side *side, Table table, int64_t i) noexcept nogil:
    cdef Row *row = table.rows + i
    side.root = table.root_fd
    side.path = table.heap + row.path.at
    side.size = row.path.size
    side.digest = row.digest if row.flags & F_DIGEST else NULL
    side.sparse = is_sparse(row)


def compare_files(questions: list, *, threads=None, progress=None) -> list:
    """Whether the files of each ``(table, row, table, row)`` hold the same bytes.

    Where one digest is known the other file is hashed; else both are read until they differ.
    """
    cdef Comparing job = Comparing(questions)
    cdef int64_t i
    job.start(threads, progress)
    return [bool(job.pairs[i].same) for i in range(job.count)]

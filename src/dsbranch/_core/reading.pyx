"""Reading what files hold: one file as a stream of pieces, many files as a job of threads.

Threads take files from a shared counter, and where the disk has to be waited for tell it of those to
come; those who find none left help with the large ones. Holes are hashed from a page of zeros, never
read. A job asks for digests before it reads, and tells what it learnt while it goes on, so that
little is lost with it if it is stopped.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.errno cimport ENOMEM, errno
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy, memset

from dsbranch._core.crew import crew_of, run_threads

from dsbranch._core.digest cimport digest_buffer, stream_digest, stream_reset, stream_update
from dsbranch._core.files cimport (
    MOST_PROBLEMS,
    Directory,
    is_of_one,
    leave,
    leave_all,
    open_below,
    open_beside,
    open_to_read,
    row_from_stat,
)
from dsbranch._core.linux cimport *
from dsbranch._core.pieces cimport *
from dsbranch._core.table cimport *

cdef enum:
    QUESTIONS = 10000    # how many digests are asked for at once
    AHEAD = 256          # how many files before it is read the disk is told of one
    SHARE = 16           # files that a thread takes at once
    MANY = 1024          # where so many are left


cdef bint identify(int fd, Key *key) noexcept nogil:
    cdef statx_t s
    cdef Row row
    if statx(fd, b"", AT_EMPTY_PATH, STATX_BASIC_STATS, &s) < 0:
        return False
    row.size = s.stx_size
    row.dev = <uint64_t>s.stx_dev_major << 32 | s.stx_dev_minor
    row.ino = s.stx_ino
    row.mtime_ns = mtime_ns(&s)
    row.ctime_ns = ctime_ns(&s)
    take_key(&row, key)
    return True


cdef void take_key(const Row *row, Key *key) noexcept nogil:
    key.dev = row.dev
    key.ino = row.ino
    key.size = row.size
    key.mtime_ns = row.mtime_ns
    key.ctime_ns = row.ctime_ns


cdef void describe(Source *source, Table table, int64_t i, bint base, bint keep) noexcept nogil:
    """Take in row `i`; `keep`: there is somebody to ask for digests and to tell of them."""
    cdef Row *row = table.rows + i
    memset(source, 0, sizeof(Source))
    source.root = table.root_fd
    source.path = table.heap + row.path.at
    source.path_size = row.path.size
    source.size = row.size
    # Only what was scanned knows its blocks.
    source.sparse = 0 < row.ino and <int64_t>row.blocks * 512 < row.size and row.size > PIECE
    # Sealed layers are written by nobody, and the base by contract.
    source.live = row.ino > 0 and not base
    source.keep = keep and row.size >= LEAST
    take_key(row, &source.key)
    if row.flags & F_DIGEST:
        source.known = True
        memcpy(source.digest, row.digest, DIGEST_BYTES)


cdef class Reading:
    """The shared state of one reading job over `count` files.

    `known` has digests of files that were read before; None: nobody knows any.
    """

    def __cinit__(self, *args):
        pthread_mutex_init(&self.mutex, NULL)
        memset(&self.relays, 0, sizeof(Relays))
        pthread_mutex_init(&self.relays.mutex, NULL)
        pthread_cond_init(&self.relays.changed, NULL)
        self.relays.stop = &self.stop
        self.relays.bytes = &self.bytes
        memset(&self.fault, 0, sizeof(Fault))
        self.places = []
        self.keys = []

    def __dealloc__(self):
        free(self.fault.path)
        free(self.learnt)
        pthread_mutex_destroy(&self.mutex)
        pthread_mutex_destroy(&self.relays.mutex)
        pthread_cond_destroy(&self.relays.changed)

    # --- what is known already ---

    cdef int ask(self, int64_t place, Source *source) except -1:
        """Ask for a digest, sooner or later; `found` gets the answer if there is one."""
        cdef int fd
        if not source.keep or source.known:
            return 0
        if source.key.ino == 0:
            # A manifest's row. What cannot be opened now fails when it is read.
            fd = open_below(source.root, source.path, source.path_size, O_PATH | O_NOFOLLOW)
            if fd < 0:
                return 0
            if not identify(fd, &source.key):
                source.key.ino = 0
            close(fd)
        self.places.append(place)
        self.keys.append(key_tuple(&source.key))
        return self.asked() if len(self.keys) >= QUESTIONS else 0

    cdef int asked(self) except -1:
        """Get the answers that are still due."""
        if not self.keys:
            return 0
        for place, digest in zip(self.places, self.known.find(self.keys), strict=True):
            if digest is None:
                continue
            if len(digest) != DIGEST_BYTES:
                raise ValueError(f"a digest of {len(digest)} bytes")
            self.found(place, <const uint8_t *><const char *><bytes>digest)
        self.places.clear()
        self.keys.clear()
        return 0

    cdef void found(self, int64_t place, const uint8_t *digest):
        pass

    cdef void learn(self, const Source *source) noexcept nogil:
        """Note a digest to be told. Where memory ends it is not: that costs only time, later."""
        cdef Learnt *grown
        cdef int64_t room
        pthread_mutex_lock(&self.mutex)
        if self.learnt_count == self.learnt_room:
            room = self.learnt_room * 2 if self.learnt_room else 64
            grown = <Learnt *>realloc(self.learnt, room * sizeof(Learnt))
            if grown != NULL:
                self.learnt = grown
                self.learnt_room = room
        if self.learnt_count < self.learnt_room:
            self.learnt[self.learnt_count].key = source.key
            self.learnt[self.learnt_count].read_ns = source.read_ns
            memcpy(self.learnt[self.learnt_count].digest, source.digest, DIGEST_BYTES)
            self.learnt_count += 1
        pthread_mutex_unlock(&self.mutex)

    def tell(self) -> None:
        """Hand over what was learnt since the last time."""
        cdef Learnt *learnt
        cdef int64_t i, count
        pthread_mutex_lock(&self.mutex)
        learnt = self.learnt
        count = self.learnt_count
        self.learnt = NULL
        self.learnt_count = self.learnt_room = 0
        pthread_mutex_unlock(&self.mutex)
        try:
            facts = [
                (
                    key_tuple(&learnt[i].key),
                    PyBytes_FromStringAndSize(<char *>learnt[i].digest, DIGEST_BYTES),
                    learnt[i].read_ns,
                )
                for i in range(count)
            ]
        finally:
            free(learnt)
        if facts:
            self.known.learn(facts)

    # --- the job ---

    def cancel(self) -> None:
        with nogil:
            self.halt()

    cdef void halt(self) noexcept nogil:
        store_int(&self.stop, 1)
        wake(&self.relays)

    def start(self, threads, progress) -> None:
        """Do the job in `threads` threads, telling `progress` of it, and raise what failed."""
        if self.count == 0:
            return

        def tick() -> None:
            if self.known is not None:
                self.tell()
            if progress is not None:
                progress(min(load_long(&self.taken), self.count), self.count, load_long(&self.bytes))

        crew, late = crew_of(threads)
        if not self.long_ones:
            crew = min(self.count, crew)
        run_threads(
            lambda number: self.work(number < crew),
            crew,
            self.cancel,
            None if self.known is None and progress is None else tick,
            max(0, min(self.count - crew, late)),
        )
        if self.known is not None:
            self.tell()
        if not self.stop and self.taken < self.count:
            blame(&self.fault, ENOMEM, b"read", b"", 0)
        raise_fault(&self.fault)
        if progress is not None:
            progress(self.count, self.count, self.bytes)

    def work(self, bint help) -> None:
        """What a thread does until no file is left; then it helps with what others read, or not:
        further threads are for waiting, and a large file is read ahead of them anyway. One for
        which there is no memory leaves the work to the others."""
        cdef Desk desk
        cdef bint able
        with nogil:
            join_relays(&self.relays)
            if not help:
                store_int(&self.waits, 1)
            able = furnish(&desk) == 0
            if able:
                self.run(&desk)
            help_relays(&self.relays, help and able, &desk)
            clear(&desk)

    cdef void fail(self, int error, const char *action, const Source *source) noexcept nogil:
        if self.problems is not None and is_of_one(error):
            with gil:
                if len(self.problems) < MOST_PROBLEMS:
                    self.problems.append((source.path[: source.path_size], error))
                    return
        pthread_mutex_lock(&self.mutex)
        blame(&self.fault, error, action, source.path, source.path_size)
        pthread_mutex_unlock(&self.mutex)
        self.halt()

    cdef void run(self, Desk *desk) noexcept nogil:
        cdef int64_t at, end, share
        while not load_int(&self.stop):
            # Several of many, since threads wait for one another at the counter. Of those that have
            # to be waited for, and of the last ones, each one: nobody shall be left with several.
            share = 1 if load_int(&self.waits) or load_long(&self.taken) + MANY > self.count else SHARE
            at = fetch_add(&self.taken, share)
            if at >= self.count:
                break
            end = min(at + share, self.count)
            while at < end and not load_int(&self.stop):
                if load_int(&self.waits) and at + AHEAD < self.count:
                    self.ahead(at + AHEAD)
                self.one(at, desk)
                at += 1
        # Already now: it may yet help with what others read.
        leave_all(desk.directories, 2)

    cdef void one(self, int64_t at, Desk *desk) noexcept nogil:
        pass

    cdef void ahead(self, int64_t at) noexcept nogil:
        pass

    cdef void announce(self, const Source *source) noexcept nogil:
        """Have the disk begin with a file that is read soon. What fails here fails again then.

        Opening a file of FUSE may make the kernel forget what it has of it, so none is.
        """
        cdef int fd
        if of_fuse(source.root):
            return
        fd = open_to_read(source.root, source.path, source.path_size, 0)
        if fd >= 0:
            posix_fadvise(fd, 0, PIECE, POSIX_FADV_WILLNEED)
            close(fd)

    # --- one file ---

    cdef int open_file(self, const Source *source, Directory *here) noexcept nogil:
        """Open a file to be read; a descriptor or -errno.

        Threads that wait for a disk keep no directories open: that would gain nothing, and they are
        many.
        """
        if not load_int(&self.waits):
            return open_beside(here, source.root, source.path, source.path_size)
        leave(here)
        return open_to_read(source.root, source.path, source.path_size, 0)

    cdef int begin(self, Source *source, Directory *here) noexcept nogil:
        """Open a file to be read; a descriptor, or -1 after having failed.

        Its digest is told only if nobody can write to it without its times moving on. A mapped
        page takes many writes and moves them at the first, or, of a filesystem in memory, never; a
        long write moves them when it starts.
        """
        cdef int fd = self.open_file(source, here)
        if fd < 0:
            self.fail(-fd, b"open", source)
            return -1
        if source.keep:
            source.read_ns = now_ns()
            source.keep = (
                not in_memory(fd)
                and (not source.live or unwritten(fd))
                and identify(fd, &source.key)
            )
        return fd

    cdef void end(self, Source *source, int fd) noexcept nogil:
        """The whole file was read into `digest`: tell of it, if it stayed what it was."""
        cdef Key after
        source.known = True
        if source.keep and identify(fd, &after) and memcmp(&after, &source.key, sizeof(Key)) == 0:
            self.learn(source)

    cdef int hash_zeros(self, int64_t size, void *state, Desk *desk) noexcept nogil:
        cdef int64_t step
        while size > 0 and not load_int(&self.stop):
            step = size if size < PIECE else PIECE
            stream_update(state, desk.zeros, step)
            size -= step
            fetch_add(&self.bytes, step)
        return 0

    cdef int64_t hash_rest(
        self, int fd, Source *source, int64_t at, void *state, Desk *desk
    ) noexcept nogil:
        """Take a file from `at` on into a stream; where it ended, or -errno.

        What goes on beyond its size is not what was looked at, and a device may have no end.
        """
        cdef int64_t data
        cdef ssize_t got
        cdef Relay relay
        cdef Row row
        cdef statx_t s
        if not source.sparse and source.size - at >= LONG:
            if statx(fd, b"", AT_EMPTY_PATH, STATX_BASIC_STATS, &s) < 0:
                return -errno
            row_from_stat(&row, &s)
            if row.kind != FILE:
                return source.size + 1
            run_relay(&self.relays, &relay, fd, -1, at, state, desk)
            return -relay.error if relay.error else relay.end
        while at <= source.size and not load_int(&self.stop):
            if source.sparse:
                data = next_data(fd, at)
                if data < 0:
                    return data
                self.hash_zeros(data - at, state, desk)
                at = data
            got = fill(fd, desk.piece, PIECE, at)
            if got < 0:
                return got
            stream_update(state, desk.piece, got)
            fetch_add(&self.bytes, got)
            at += got
            if got < PIECE:
                break
        return at

    cdef int64_t hash_file(self, int fd, Source *source, Desk *desk) noexcept nogil:
        """Digest an open file from its start; bytes hashed, or -errno."""
        cdef int64_t total = 0
        cdef ssize_t got = 0
        if not source.sparse:
            got = fill(fd, desk.piece, PIECE, 0, source.size)
            if got < 0:
                return got
            fetch_add(&self.bytes, got)
            if got < PIECE:
                digest_buffer(desk.piece, got, source.digest)
                return got
        stream_reset(desk.state)
        stream_update(desk.state, desk.piece, got)
        total = self.hash_rest(fd, source, got, desk.state, desk)
        stream_digest(desk.state, source.digest)
        return total


cdef tuple key_tuple(const Key *key):
    return key.dev, key.ino, key.size, key.mtime_ns, key.ctime_ns

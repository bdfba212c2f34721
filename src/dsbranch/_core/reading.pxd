"""Reading what files hold: one file as a stream of pieces, many files as a job of threads."""

from libc.stdint cimport int64_t, uint8_t, uint64_t

from dsbranch._core.files cimport Directory
from dsbranch._core.linux cimport pthread_mutex_t
from dsbranch._core.pieces cimport Desk, Relays
from dsbranch._core.table cimport DIGEST_BYTES, Fault, Table

cdef enum:
    # Below this, reading a file again is as cheap as looking its digest up.
    LEAST = 1 << 16

cdef struct Key:
    uint64_t dev
    uint64_t ino         # 0: it is not known
    int64_t size
    int64_t mtime_ns
    int64_t ctime_ns

cdef struct Source:
    # A file that may have to be read.
    int root
    const char *path
    size_t path_size
    int64_t size
    bint sparse          # it has holes worth skipping
    bint live            # of an open layer: somebody may be writing to it
    bint keep            # its digest is worth asking for, and telling
    bint known           # `digest` is its content's
    Key key
    int64_t read_ns      # when reading it began
    uint8_t digest[DIGEST_BYTES]

cdef struct Learnt:
    Key key
    int64_t read_ns
    uint8_t digest[DIGEST_BYTES]

cdef void describe(Source *source, Table table, int64_t i, bint base, bint keep) noexcept nogil

cdef bint identify(int fd, Key *key) noexcept nogil

cdef class Reading:
    cdef int64_t count
    cdef int64_t taken
    cdef int64_t bytes
    cdef int stop
    cdef int waits       # for a disk, which has been seen to keep its processors idle
    cdef Fault fault
    cdef pthread_mutex_t mutex
    cdef Relays relays
    cdef bint long_ones  # there are files that several threads share
    cdef object known
    cdef list problems   # what was passed over; None: the first failure ends the job
    cdef list places
    cdef list keys
    cdef Learnt *learnt
    cdef int64_t learnt_count
    cdef int64_t learnt_room

    cdef int ask(self, int64_t place, Source *source) except -1
    cdef int asked(self) except -1
    cdef void found(self, int64_t place, const uint8_t *digest)
    cdef void one(self, int64_t at, Desk *desk) noexcept nogil
    cdef void ahead(self, int64_t at) noexcept nogil
    cdef void announce(self, const Source *source) noexcept nogil
    cdef void run(self, Desk *desk) noexcept nogil
    cdef void halt(self) noexcept nogil
    cdef void fail(self, int error, const char *action, const Source *source) noexcept nogil
    cdef int open_file(self, const Source *source, Directory *here) noexcept nogil
    cdef int begin(self, Source *source, Directory *here) noexcept nogil
    cdef void end(self, Source *source, int fd) noexcept nogil
    cdef void learn(self, const Source *source) noexcept nogil
    cdef int hash_zeros(self, int64_t size, void *state, Desk *desk) noexcept nogil
    cdef int64_t hash_rest(
        self, int fd, Source *source, int64_t at, void *state, Desk *desk
    ) noexcept nogil
    cdef int64_t hash_file(self, int fd, Source *source, Desk *desk) noexcept nogil

"""Reading files piece by piece: alone, or one large file by several threads in turns."""

from libc.stdint cimport int64_t

from dsbranch._core.files cimport Directory
from dsbranch._core.linux cimport pthread_cond_t, pthread_mutex_t

cdef enum:
    # Twice this stays in the second-level cache, which is where hashing is nearly free.
    PIECE = 1 << 18
    # From here on a file is worth several threads.
    LONG = 1 << 22

cdef struct Desk:
    # One thread's memory, and where it was last.
    Directory[2] directories     # of each of two files that are compared; the first, of one
    char *piece
    char *other
    char *zeros
    void *state
    void *fork

cdef struct Relay:
    # One file, or two that are compared, being read.
    int fd
    int other            # -1: there is one
    void *state          # the stream that takes in what is read; NULL: none
    int64_t given        # where the next piece begins that nobody reads yet
    int64_t turn         # where the next piece begins that is to be taken in
    int64_t end          # how far it was taken in
    bint ended
    bint differ          # the two files do, in the piece at `end`
    int error            # of reading, and of which file
    int blamed
    int readers
    Relay *next

cdef struct Relays:
    # What the threads of one job share.
    pthread_mutex_t mutex
    pthread_cond_t changed
    Relay *first
    int working          # threads that may yet begin a relay
    int *stop
    int64_t *bytes

cdef int furnish(Desk *desk) noexcept nogil
cdef void clear(Desk *desk) noexcept nogil
cdef ssize_t fill(int fd, char *piece, size_t room, int64_t at, int64_t size=*) noexcept nogil
cdef int64_t next_data(int fd, int64_t at) noexcept nogil
cdef void run_relay(
    Relays *relays, Relay *relay, int fd, int other, int64_t at, void *state, Desk *desk
) noexcept nogil
cdef void join_relays(Relays *relays) noexcept nogil
cdef void help_relays(Relays *relays, bint help, Desk *desk) noexcept nogil
cdef void wake(Relays *relays) noexcept nogil

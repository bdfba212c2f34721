"""Reading files piece by piece: alone, or one large file by several threads in turns.

A stream hash takes a file in from its start to its end, but most of the time goes into copying
from the page cache. So each thread of a relay reads a piece of its own into its own cache, waits
for its turn, takes the piece in and passes the turn on: what comes out is what one thread would
have read, up to the first piece that is not full, and no byte goes from one core to another.
"""

from libc.errno cimport EINTR, ENXIO, errno
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memset

from dsbranch._core.digest cimport STATE_SIZE, stream_update
from dsbranch._core.files cimport prepare
from dsbranch._core.linux cimport *


cdef int furnish(Desk *desk) noexcept nogil:
    memset(desk, 0, sizeof(Desk))
    prepare(desk.directories, 2)
    if (
        posix_memalign(<void **>&desk.piece, 4096, PIECE)
        or posix_memalign(<void **>&desk.other, 4096, PIECE)
        or posix_memalign(&desk.state, 64, STATE_SIZE)
        or posix_memalign(&desk.fork, 64, STATE_SIZE)
    ):
        return -1
    desk.zeros = <char *>calloc(1, PIECE)
    return 0 if desk.zeros != NULL else -1


cdef void clear(Desk *desk) noexcept nogil:
    free(desk.piece)
    free(desk.other)
    free(desk.zeros)
    free(desk.state)
    free(desk.fork)


cdef ssize_t fill(int fd, char *piece, size_t room, int64_t at, int64_t size=-1) noexcept nogil:
    """Read from `at` until `room` is full or the file ends; bytes read, or -errno.

    A read that was offered more and ends at `size`, where the file did when it was looked at, need
    not be followed by another one to know that.
    """
    cdef size_t used = 0
    cdef ssize_t got
    while used < room:
        got = pread(fd, piece + used, room - used, at + <int64_t>used)
        if got == 0:
            break
        if got < 0:
            if errno == EINTR:
                continue
            return -errno
        used += got
        if at + <int64_t>used == size:
            break
    return used


cdef int64_t next_data(int fd, int64_t at) noexcept nogil:
    """Where the hole at `at` ends: `at` itself if there is none; or -errno."""
    cdef int64_t data = lseek(fd, at, SEEK_DATA)
    if data < 0 and errno == ENXIO:
        data = lseek(fd, 0, SEEK_END)  # only a hole is left
    if data < 0:
        return -errno
    return data if data > at else at


cdef void run_relay(
    Relays *relays, Relay *relay, int fd, int other, int64_t at, void *state, Desk *desk
) noexcept nogil:
    """Take a file in from `at` on, with whoever has nothing else to do.

    With two files, up to the first piece in which they differ.
    """
    cdef Relay **place
    memset(relay, 0, sizeof(Relay))
    relay.fd = fd
    relay.other = other
    relay.state = state
    relay.given = relay.turn = relay.end = at
    relay.readers = 1
    pthread_mutex_lock(&relays.mutex)
    relay.next = relays.first
    relays.first = relay
    pthread_cond_broadcast(&relays.changed)
    read_in_turns(relays, relay, desk)
    place = &relays.first
    while place[0] != relay:
        place = &place[0].next
    place[0] = relay.next
    # The others have the descriptors and the stream until they leave.
    while relay.readers:
        pthread_cond_wait(&relays.changed, &relays.mutex)
    pthread_mutex_unlock(&relays.mutex)


cdef void join_relays(Relays *relays) noexcept nogil:
    """A thread that may begin a relay, until it helps. Who has not begun yet has no file that the
    others would have to wait for."""
    pthread_mutex_lock(&relays.mutex)
    relays.working += 1
    pthread_mutex_unlock(&relays.mutex)


cdef void help_relays(Relays *relays, bint help, Desk *desk) noexcept nogil:
    """What a thread does that has no file of its own left: take part until no relay can come."""
    cdef Relay *relay
    pthread_mutex_lock(&relays.mutex)
    relays.working -= 1
    if relays.working == 0:
        pthread_cond_broadcast(&relays.changed)
    while help and not load_int(relays.stop):
        relay = relays.first
        while relay != NULL and relay.ended:
            relay = relay.next
        if relay != NULL:
            relay.readers += 1
            read_in_turns(relays, relay, desk)
        elif relays.working:
            pthread_cond_wait(&relays.changed, &relays.mutex)
        else:
            break
    pthread_mutex_unlock(&relays.mutex)


cdef void wake(Relays *relays) noexcept nogil:
    """The job stops: nobody is to wait for a turn any longer."""
    pthread_mutex_lock(&relays.mutex)
    pthread_cond_broadcast(&relays.changed)
    pthread_mutex_unlock(&relays.mutex)


cdef void read_in_turns(Relays *relays, Relay *relay, Desk *desk) noexcept nogil:
    """One thread's share of a relay. The lock is held before and after."""
    cdef int64_t at
    cdef ssize_t got, more
    cdef bint same
    while not relay.ended and not load_int(relays.stop):
        at = relay.given
        relay.given += PIECE
        pthread_mutex_unlock(&relays.mutex)
        more = got = fill(relay.fd, desk.piece, PIECE, at)
        same = True
        if relay.other >= 0:
            more = fill(relay.other, desk.other, PIECE, at)
            same = got == more and (got <= 0 or memcmp(desk.piece, desk.other, got) == 0)
        pthread_mutex_lock(&relays.mutex)
        while relay.turn != at and not relay.ended and not load_int(relays.stop):
            pthread_cond_wait(&relays.changed, &relays.mutex)
        if relay.ended or load_int(relays.stop):
            break
        if got < 0 or more < 0:
            relay.error = <int>-(got if got < 0 else more)
            relay.blamed = relay.fd if got < 0 else relay.other
        elif not same:
            relay.differ = True
        else:
            pthread_mutex_unlock(&relays.mutex)
            if relay.state != NULL:
                stream_update(relay.state, desk.piece, got)
            fetch_add(relays.bytes, got)
            pthread_mutex_lock(&relays.mutex)
            relay.end += got
        relay.turn += PIECE
        relay.ended = relay.error != 0 or relay.differ or got < PIECE
        pthread_cond_broadcast(&relays.changed)
    relay.readers -= 1
    pthread_cond_broadcast(&relays.changed)

"""Hard links into layers, made in threads: a filesystem makes those in different directories at once.

Those in one directory would wait for its lock, so each directory is one thread's.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EMFILE, ENFILE, errno
from libc.stddef cimport size_t
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp

from dsbranch._core.crew import crew_size, run_threads

from dsbranch._core.files cimport open_below
from dsbranch._core.linux cimport *
from dsbranch._core.squash cimport Step
from dsbranch._core.table cimport *

cdef enum:
    SHARE = 64           # links whose directories a thread takes at once
    PLACES = 4           # directories of layers that it keeps open

# From how many links on it is worth starting threads.
_LEAST = 512

cdef struct Opened:
    # A directory that stays open from one name to the next; `fd` is below 0 where there is none.
    Where where
    int fd

cdef struct Hand:
    Opened here
    Opened[PLACES] there


cdef bint is_beside(const Where *one, const Where *other) noexcept nogil:
    """Whether two names are in the same directory."""
    return one.root == other.root and one.size == other.size and (
        one.directory == other.directory or memcmp(one.directory, other.directory, one.size) == 0
    )


cdef int enter(Opened *place, const Where *where) noexcept nogil:
    """A descriptor of the directory of a name, good until the next call; or what went wrong."""
    if place.fd < 0 or not is_beside(&place.where, where):
        leave(place)
        place.where = where[0]
        place.fd = open_below(where.root, where.directory, where.size, O_RDONLY | O_DIRECTORY)
    return place.fd


cdef void leave(Opened *place) noexcept nogil:
    if place.fd >= 0:
        close(place.fd)
    place.fd = -1


cdef void empty(Hand *hand) noexcept nogil:
    cdef int i
    hand.here.fd = -1
    for i in range(PLACES):
        hand.there[i].fd = -1


cdef void let_go(Hand *hand) noexcept nogil:
    cdef int i
    leave(&hand.here)
    for i in range(PLACES):
        leave(&hand.there[i])


cdef void make_link(Link *link, Hand *hand) noexcept nogil:
    cdef int new = enter(&hand.here, &link.new)
    cdef int old = enter(&hand.there[link.old.root % PLACES], &link.old)
    if new < 0 or old < 0:
        link.error = -(new if new < 0 else old)
    else:
        link.error = 0 if linkat(old, link.old.name, new, link.new.name, 0) == 0 else errno


cdef class Links:
    """Links below the directory `target`, a descriptor, for `steps` that have sources in layers."""

    def __init__(self, int target, list steps):
        self.target = target
        self.steps = steps
        self.directories = []

    def __dealloc__(self):
        # Not before: after a second Ctrl-C threads may be at them still.
        free(self.links)

    cdef int make(self) except -1:
        """Make them, in `links`; one that could not be made has an error."""
        self.plan()
        if self.count < <int64_t>_LEAST:
            self.run()
        else:
            run_threads(self.work, crew_size(None), self.cancel)
            self.run_again()
        return 0

    def cancel(self) -> None:
        store_int(&self.stop, 1)

    def work(self, number: int) -> None:
        with nogil:
            self.run()

    cdef int plan(self) except -1:
        cdef Step step
        cdef Table table
        cdef Text path
        cdef int64_t row
        cdef Link *link
        cdef Link *last = NULL
        self.links = <Link *>malloc((len(self.steps) + 1) * sizeof(Link))
        if self.links == NULL:
            raise MemoryError
        for step in self.steps:
            table, row = step.source
            path = table.rows[row].path
            link = self.links + self.count
            self.locate(
                &link.old, NULL if last == NULL else &last.old,
                table.root_fd, table.heap + path.at, path.size,
            )
            self.locate(
                &link.new, NULL if last == NULL else &last.new,
                self.target, PyBytes_AS_STRING(step.path), PyBytes_GET_SIZE(step.path),
            )
            link.first = last == NULL or link.new.directory != last.new.directory
            link.error = 0
            last = link
            self.count += 1
        return 0

    cdef int locate(
        self, Where *where, const Where *last, int root, const char *path, size_t size
    ) except -1:
        """Say where a path below `root` is; `last` is where the one before is."""
        cdef size_t start = name_start(path, size)
        where.root = root
        where.directory = path
        where.size = start - 1 if start else 0
        where.name = path + start
        if last != NULL and is_beside(where, last):
            where.directory = last.directory
        else:
            directory = PyBytes_FromStringAndSize(path, where.size)
            self.directories.append(directory)
            where.directory = PyBytes_AS_STRING(directory)
        return 0

    cdef void run(self) noexcept nogil:
        cdef Hand hand
        cdef int64_t at, end
        empty(&hand)
        while not load_int(&self.stop):
            at = fetch_add(&self.taken, SHARE)
            if at >= self.count:
                break
            end = min(at + SHARE, self.count)
            while at < end and not self.links[at].first:
                at += 1
            if at == end:
                continue
            # The last directory may go on beyond.
            while at < self.count and (at < end or not self.links[at].first):
                if load_int(&self.stop):
                    break
                make_link(self.links + at, &hand)
                at += 1
        let_go(&hand)

    cdef void run_again(self) noexcept nogil:
        """Descriptors that were too few for several threads may be enough for one."""
        cdef Hand hand
        cdef int64_t i
        empty(&hand)
        for i in range(self.count):
            if self.links[i].error == EMFILE or self.links[i].error == ENFILE:
                make_link(self.links + i, &hand)
        let_go(&hand)

"""Hard links into layers, made in threads: a filesystem makes those in different directories at once.

Those in one directory would wait for its lock, so each directory is one thread's.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.errno cimport EMFILE, ENFILE, errno
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp

from dsbranch._core.crew import crew_size, run_threads

from dsbranch._core.files cimport Directory, above, enter, leave_all, prepare
from dsbranch._core.linux cimport *
from dsbranch._core.squash cimport Step
from dsbranch._core.table cimport *

cdef enum:
    SHARE = 64           # links whose directories a thread takes at once
    PLACES = 5           # directories that it keeps open: the first of the target, others of layers

# From how many links on it is worth starting threads.
_LEAST = 512


cdef void make_link(Link *link, Directory *near) noexcept nogil:
    cdef const Name *old = &link.old
    cdef const Name *new = &link.new
    cdef int here = enter(near, new.root, new.path, above(new.start))
    cdef int there = enter(near + 1 + link.layer % (PLACES - 1), old.root, old.path, above(old.start))
    if here < 0 or there < 0:
        link.error = -(here if here < 0 else there)
    elif linkat(there, old.path + old.start, here, new.path + new.start, 0) < 0:
        link.error = errno
    else:
        link.error = 0


cdef class Links:
    """Links below the directory `target`, a descriptor of `owner`'s, for `steps` that have sources
    in layers."""

    def __init__(self, int target, object owner, list steps):
        self.owner = owner
        self.steps = steps
        self.plan(target)

    def __dealloc__(self):
        # Not before: after a second Ctrl-C threads may be at them still.
        free(self.links)

    cdef int plan(self, int target) except -1:
        cdef Step step
        cdef Table table
        cdef Text path
        cdef int64_t row
        cdef Link *link
        cdef Link *last = NULL
        cdef dict layers = {}
        self.links = <Link *>malloc((len(self.steps) + 1) * sizeof(Link))
        if self.links == NULL:
            raise MemoryError
        for step in self.steps:
            table, row = step.source
            path = table.rows[row].path
            link = self.links + self.count
            link.layer = layers.setdefault(table.root_fd, len(layers))
            link.old.root = table.root_fd
            link.old.path = table.heap + path.at
            link.old.start = name_start(link.old.path, path.size)
            link.new.root = target
            link.new.path = PyBytes_AS_STRING(step.path)
            link.new.start = name_start(link.new.path, PyBytes_GET_SIZE(step.path))
            link.first = (
                last == NULL
                or link.new.start != last.new.start
                or memcmp(link.new.path, last.new.path, link.new.start) != 0
            )
            link.error = 0
            last = link
            self.count += 1
        return 0

    cdef int make(self) except -1:
        """Make them, in `links`; one that could not be made has an error."""
        if self.count < <int64_t>_LEAST:
            with nogil:
                self.run()
            return 0
        run_threads(self.work, crew_size(None), self.cancel)
        with nogil:
            self.run_again()
        return 0

    def cancel(self) -> None:
        store_int(&self.stop, 1)

    def work(self, number: int) -> None:
        with nogil:
            self.run()

    cdef void run(self) noexcept nogil:
        cdef Directory[PLACES] near
        cdef int64_t at, end
        prepare(near, PLACES)
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
                make_link(self.links + at, near)
                at += 1
        leave_all(near, PLACES)

    cdef void run_again(self) noexcept nogil:
        """Descriptors that were too few for several threads may be enough for one."""
        cdef Directory[PLACES] near
        cdef int64_t i
        prepare(near, PLACES)
        for i in range(self.count):
            if self.links[i].error == EMFILE or self.links[i].error == ENFILE:
                make_link(self.links + i, near)
        leave_all(near, PLACES)

"""Memory that grows: in RAM while it is small, in an unlinked file once it is not.

The kernel writes the pages of such a file back when memory is short, and nobody else can see
it. Its blocks are allocated before they are mapped, so that a full disk is an errno here and not
a signal later; a region for which there is no room on the disk stays in RAM, or goes back there. What
is in a region moves when it grows: keep offsets, not pointers.

Memory of others is held where it is: typed memoryviews would do, too, but take 0.2 ms to be made ready
in each module that has one.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.errno cimport EDQUOT, EINTR, ENOSPC, errno
from libc.stdint cimport int64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from dsbranch._core.linux cimport O_CLOEXEC, close, openat

cdef enum:
    IN_RAM = 64 << 20    # bytes of a region that may lie in RAM where there is a place for a file
    STEP = 64 << 20


cdef class Held:
    def __cinit__(self, thing, int64_t least=0):
        PyObject_GetBuffer(thing, &self.buffer, PyBUF_SIMPLE)
        self.at = <const unsigned char *>self.buffer.buf
        self.size = self.buffer.len
        if self.size < least:
            raise ValueError(f"{self.size} bytes where {least} are due")

    def __dealloc__(self):
        PyBuffer_Release(&self.buffer)


cdef class Numbers(Held):
    # By their width: what else has eight bytes is seldom the number of a row.
    def __cinit__(self, thing):
        if self.buffer.itemsize != sizeof(int64_t):
            raise ValueError(f"numbers of {self.buffer.itemsize} bytes, not {sizeof(int64_t)}")
        self.numbers = <const int64_t *>self.at
        self.count = self.size // sizeof(int64_t)


cdef void region_init(Region *region) noexcept nogil:
    region.at = NULL
    region.room = 0
    region.fd = MALLOC


cdef void region_free(Region *region) noexcept nogil:
    if region.fd == MALLOC:
        free(region.at)
    elif region.fd >= 0:
        munmap(region.at, region.room)
        close(region.fd)
    region_init(region)


cdef int region_grow(Region *region, int64_t used, int64_t need, int directory) noexcept nogil:
    """Make room for `need` bytes, of which the first `used` are kept; 0 or an errno.

    `directory` is a descriptor of the directory in whose filesystem a large region goes, or -1:
    then it stays in RAM.
    """
    cdef int64_t room = region.room
    if need <= room:
        return 0
    if directory >= 0 and need > IN_RAM:
        room += STEP if room < 4 * STEP else room >> 2
        room = (max(room, need) + STEP - 1) // STEP * STEP
        return grow_file(region, used, room, directory)
    room = max(room * 2, need, 4096)
    return grow_ram(region, used, room)


cdef int grow_ram(Region *region, int64_t used, int64_t room) noexcept nogil:
    cdef bint owned = region.fd == MALLOC
    cdef char *grown = <char *>realloc(region.at if owned else NULL, room)
    if grown == NULL:
        return errno
    if not owned:
        memcpy(grown, region.at, used)
        region_free(region)
    region.at = grown
    region.room = room
    return 0


cdef int grow_file(Region *region, int64_t used, int64_t room, int directory) noexcept nogil:
    cdef int fd = region.fd, error
    cdef void *grown
    if fd < 0:
        fd = openat(directory, b".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)
        if fd < 0:
            # A filesystem without unlinked files, or a directory that may not be written to.
            return grow_ram(region, used, room)
    error = posix_fallocate(fd, 0, room)
    while error == EINTR:
        error = posix_fallocate(fd, 0, room)
    if error == 0:
        if region.fd >= 0:
            grown = mremap(region.at, region.room, room, MREMAP_MAYMOVE)
        else:
            grown = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
        if grown == MAP_FAILED:
            error = errno
    if error:
        if region.fd < 0:
            close(fd)
        # Who only looks is to go on where the disk is full, as long as memory lasts.
        return grow_ram(region, used, room) if error in (ENOSPC, EDQUOT) else error
    if region.fd < 0:
        memcpy(grown, region.at, used)
        region_free(region)
        region.fd = fd
    region.at = <char *>grown
    region.room = room
    return 0

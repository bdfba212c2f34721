"""Directories that stay open from one name to the next, as siblings follow each other.

A path is followed from its root each time it is opened, and threads that do that for each name wait
for one another. Paths belong to tables or steps, and stay where they are as long as a place does.
"""

from libc.errno cimport EPERM, errno
from libc.stddef cimport size_t
from libc.string cimport memcmp

from dsbranch._core.files cimport open_below, open_to_read
from dsbranch._core.linux cimport *
from dsbranch._core.table cimport name_start


cdef void clear_directory(Directory *here) noexcept nogil:
    here.fd = -1
    here.path = NULL


cdef bint is_at(const Directory *here, int root, const char *path, size_t size) noexcept nogil:
    """Whether it is the one that the first `size` bytes of a path below `root` name."""
    return (
        here.path != NULL
        and here.root == root
        and here.size == size
        and (here.path == path or memcmp(here.path, path, size) == 0)
    )


cdef void aim(Directory *here, int root, const char *path, size_t size) noexcept nogil:
    """Have it be that one, not open yet."""
    leave(here)
    here.root = root
    here.path = path
    here.size = size


cdef int enter(Directory *here, int root, const char *path, size_t size) noexcept nogil:
    """A descriptor of that directory, good until the next call; or what went wrong, as -errno."""
    if here.fd < 0 or not is_at(here, root, path, size):
        aim(here, root, path, size)
        here.fd = open_below(root, path, size, O_RDONLY | O_DIRECTORY)
    return here.fd


cdef void leave(Directory *here) noexcept nogil:
    if here.fd >= 0:
        close(here.fd)
    clear_directory(here)


cdef int open_beside(Directory *here, int root, const char *path, size_t size) noexcept nogil:
    """As `open_to_read`, through its directory if the last one was in that, too."""
    cdef size_t start = name_start(path, size)
    cdef int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC
    cdef int fd
    if not is_at(here, root, path, above(start)):
        aim(here, root, path, above(start))
    elif enter(here, root, path, above(start)) >= 0:
        fd = openat(here.fd, path + start, flags | O_NOATIME)
        if fd < 0 and errno == EPERM:
            fd = openat(here.fd, path + start, flags)
        if fd >= 0:
            return fd
        # The whole path tells what it is, and it may have been for want of a descriptor.
        leave(here)
    return open_to_read(root, path, size, 0)

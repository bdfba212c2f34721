"""Directories that stay open from one name to the next."""

from libc.stddef cimport size_t

cdef struct Directory:
    int fd               # below 0: it is not open
    int root
    const char *path     # of which the first `size` bytes are the directory's; NULL: there is none
    size_t size

cdef inline size_t above(size_t start) noexcept nogil:
    """How long the path of a directory is in which a name begins at `start`."""
    return start - 1 if start else 0

cdef void clear_directory(Directory *here) noexcept nogil
cdef int enter(Directory *here, int root, const char *path, size_t size) noexcept nogil
cdef void leave(Directory *here) noexcept nogil
cdef int open_beside(Directory *here, int root, const char *path, size_t size) noexcept nogil

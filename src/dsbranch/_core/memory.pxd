"""Memory that grows, in RAM or in an unlinked file; and others' memory, held where it is."""

from libc.stdint cimport int64_t

cdef struct Region:
    char *at
    int64_t room         # bytes that may be used
    int fd               # of the unlinked file it is mapped from; MALLOC or BORROWED otherwise

cdef class Held:
    """The bytes of any object that has some, in one piece, for as long as this lives.

    :raises ValueError: they are fewer than `least`
    """
    cdef Py_buffer buffer
    cdef const unsigned char *at
    cdef int64_t size            # in bytes, whatever the items are

cdef class Numbers(Held):
    """An array of int64, held."""
    cdef const int64_t *numbers
    cdef int64_t count

cdef enum:
    MALLOC = -1          # from malloc, or nothing yet
    BORROWED = -2        # another's memory, to be read and written but neither grown nor given back

cdef void region_init(Region *region) noexcept nogil
cdef int region_grow(Region *region, int64_t used, int64_t need, int directory) noexcept nogil
cdef void region_free(Region *region) noexcept nogil

cdef extern from *:
    """
    #include <errno.h>
    #include <fcntl.h>
    #include <sys/mman.h>
    #include <sys/stat.h>
    #include <unistd.h>
    """
    void *mmap(void *at, size_t size, int protection, int flags, int fd, int64_t offset) nogil
    void *mremap(void *at, size_t old_size, size_t new_size, int flags, ...) nogil
    int munmap(void *at, size_t size) nogil
    int posix_fallocate(int fd, int64_t offset, int64_t size) nogil
    void *MAP_FAILED
    int MAP_ANONYMOUS
    int MAP_FIXED
    int MAP_NORESERVE
    int MAP_PRIVATE
    int MAP_SHARED
    int MREMAP_MAYMOVE
    int PROT_READ
    int PROT_WRITE
    int O_RDWR
    int O_TMPFILE

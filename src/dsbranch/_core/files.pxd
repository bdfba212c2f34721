"""Reading facts about files, relative to directory descriptors."""

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t

from dsbranch._core.linux cimport statx_t
from dsbranch._core.table cimport Fault, Row, Table

cdef struct Scratch:
    char *names          # an xattr name list
    size_t names_room
    char *value          # xattr values, packed for the digest
    size_t value_room
    size_t value_used
    char *link           # a path below /proc/self/fd
    size_t link_room
    bint had             # the last entry had xattrs

cdef extern from *:
    """
    /* What fuse-overlayfs marks its upper directories with where it is not root: an opaque one has
       this xattr, and in it two files for readers who know of no xattrs. */
    #define FUSE_PREFIX "user.fuseoverlayfs."
    #define FUSE_OPAQUE FUSE_PREFIX "opaque"
    #define FUSE_ORIGIN FUSE_PREFIX "origin"
    #define FUSE_OPAQUE_FILE ".wh..wh..opq"
    #define FUSE_OPAQUE_WHITEOUT ".wh..opq"
    """
    const char *FUSE_PREFIX
    const char *FUSE_OPAQUE
    const char *FUSE_ORIGIN
    const char *FUSE_OPAQUE_FILE
    const char *FUSE_OPAQUE_WHITEOUT

cdef enum Marks:
    ROOTS = 0            # trusted.overlay.*
    USERS = 1            # user.overlay.*
    SERVERS = 2          # these, and what fuse-overlayfs says to itself

cdef enum:
    MOST_PROBLEMS = 10000    # entries that a job passes over before it gives up

cdef struct Directory:
    # One that stays open.
    int fd               # below 0: it is not
    int root
    const char *path     # of which the first `size` bytes are the directory's; NULL: there is none
    size_t size

cdef inline size_t above(size_t start) noexcept nogil:
    """How long the path of a directory is in which a name begins at `start`."""
    return start - 1 if start else 0

cdef bint is_of_one(int error) noexcept nogil
cdef int by_name(const void *a, const void *b) noexcept nogil
cdef int reserve(char **buffer, size_t *room, size_t size) noexcept nogil
cdef void scratch_free(Scratch *scratch) noexcept nogil
cdef int open_to_read(int root, const char *path, size_t size, int flags) noexcept nogil
cdef int open_below(int root, const char *path, size_t size, int flags) noexcept nogil
cdef void prepare(Directory *some, int count) noexcept nogil
cdef int enter(Directory *here, int root, const char *path, size_t size) noexcept nogil
cdef void leave(Directory *here) noexcept nogil
cdef void leave_all(Directory *some, int count) noexcept nogil
cdef int open_beside(Directory *here, int root, const char *path, size_t size) noexcept nogil
cdef void row_from_stat(Row *row, const statx_t *s) noexcept nogil
cdef int read_link(Table table, Row *row, int dir, const char *name) noexcept nogil
cdef bint is_kept(const char *name) noexcept nogil
cdef bint is_fuse_mark(int dir, const char *name) noexcept nogil
cdef int read_xattrs(
    Table table, Row *row, int dir, const char *name, Marks marks, Scratch *scratch
) noexcept nogil

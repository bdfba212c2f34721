"""Rows, and the sorted table of them: what the core's other modules work on."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from dsbranch._core.digest cimport DIGEST_BYTES
from dsbranch._core.memory cimport Region

cdef enum:
    FILE = 0
    DIRECTORY = 1
    SYMLINK = 2
    FIFO = 3
    SOCKET = 4
    CHAR = 5
    BLOCK = 6
    WHITEOUT = 7

cdef enum:
    F_WHITEOUT = 1
    F_OPAQUE = 2
    F_REDIRECT = 4
    F_METACOPY = 8
    F_ON_DISK = 15       # the bits that the manifest stores
    F_TARGET = 16
    F_ORIGIN = 32
    F_XATTRS = 64        # the entry has xattrs of its own, digested in `xattrs`
    F_DIGEST = 128       # the content's digest is known

cdef extern from *:
    """
    typedef struct { uint64_t at : 40; uint64_t size : 24; } dsb_text;
    """
    ctypedef struct Text "dsb_text":
        int64_t at       # offset into the table's heap
        uint32_t size

cdef enum:
    TEXTS = 4            # path, target, redirect, origin
    LONGEST_TEXT = (1 << 24) - 1

cdef int64_t MOST_HEAP   # bytes that a Text can reach
cdef uint8_t[TEXTS] TEXT_FLAG    # by which a row has its path, target, redirect and origin

cdef struct Row:
    Text path
    Text target
    Text redirect
    Text origin
    int64_t size
    int64_t mtime_ns
    int64_t ctime_ns     # 0 unless read from a file system
    uint64_t rdev        # major << 32 | minor
    uint64_t ino
    uint64_t dev
    uint64_t blocks
    uint32_t uid
    uint32_t gid
    uint32_t nlink
    uint32_t group
    uint32_t first       # children are [first, end): every row of the subtree in a sorted
    uint32_t end         # table, the direct children only in a Base
    uint16_t mode
    uint8_t kind
    uint8_t flags
    uint8_t loaded       # Base only: its FACTS and CHILDREN
    uint8_t xattrs[DIGEST_BYTES]
    uint8_t digest[DIGEST_BYTES]
    uint8_t spare[3]     # up to a multiple of 8 bytes

cdef struct Fault:
    int error
    const char *action
    char *path
    size_t size

cdef class Table:
    cdef Row *rows
    cdef int64_t count
    cdef char *heap
    cdef int64_t heap_used
    cdef Region row_memory
    cdef Region heap_memory
    cdef void *image     # the mapping that both lie in, of a table that was stored
    cdef int64_t image_size
    cdef int spill_fd
    cdef readonly int root_fd
    cdef Fault fault

    cdef int put(self, const void *data, size_t size, Text *out) noexcept nogil
    cdef int64_t append(self, const Row *row) noexcept nogil
    cdef int put_texts(self, Row *row, const char *heap, int first) noexcept nogil
    cdef int finish(self) noexcept nogil
    cdef int64_t child(self, int64_t parent, const char *name, size_t size) noexcept nogil
    cdef int load(self, int64_t parent) noexcept nogil
    cdef int complete(self, int64_t i) noexcept nogil    # rows stay where they are
    cdef int64_t next_child(self, int64_t child) noexcept nogil
    cdef Row *row_of(self, int64_t number) except NULL
    cdef bytes text(self, Text where)
    cdef int take(self, Table other, Row row) except -1
    cdef inline const char *path_at(self, int64_t row) noexcept nogil:
        return self.heap + self.rows[row].path.at

cdef Text *row_text(Row *row, int which) noexcept nogil
cdef bint has_text(const Row *row, int which) noexcept nogil
cdef int order(const char *a, size_t na, const char *b, size_t nb) noexcept nogil
cdef size_t name_start(const char *path, size_t size) noexcept nogil
cdef size_t name_end(const char *path, size_t size, size_t at) noexcept nogil
cdef int blame(Fault *fault, int error, const char *action, const char *path, size_t size) noexcept nogil
cdef void raise_fault(Fault *fault) except *

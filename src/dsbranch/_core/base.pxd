"""The adopted directory as a table that fills itself."""

from libc.stdint cimport int64_t

from dsbranch._core.files cimport Scratch
from dsbranch._core.table cimport Table

cdef extern from *:
    """
    #ifndef OPEN_TREE_CLONE
    #define OPEN_TREE_CLONE 1
    #endif
    static int dsb_clone_tree(const char *path) {
        return (int)syscall(428 /* open_tree */, AT_FDCWD, path, OPEN_TREE_CLONE | O_CLOEXEC);
    }
    """
    int clone_tree "dsb_clone_tree"(const char *path)

cdef class Base(Table):
    cdef Scratch scratch
    cdef char *listing
    cdef bint user
    cdef int dir_fd
    cdef int64_t dir_row
    cdef int copy_prefix(self, int64_t parent) noexcept nogil
    cdef int enter(self, int64_t parent) noexcept nogil
    cdef int64_t look(self, int64_t parent, const char *name, size_t size) noexcept nogil
    cdef int fail(self, int error, const char *action, int64_t parent, const char *name) noexcept nogil

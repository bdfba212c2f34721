"""The work of a walk: what is still to be read, and what was read but is not yet written down."""

from libc.stdint cimport int64_t

from dsbranch._core.table cimport Row

cdef enum:
    # How many names of one directory are one task; a larger one is shared out.
    PART = 1 << 14

cdef struct Item:
    Row row              # its path is not filled in; its other texts are offsets into the task's
    const char *name     # in the folder's names
    Task *inner          # of a directory

cdef struct Folder:
    # A directory that was listed: its names, sorted.
    char *names
    const char **order
    int64_t count
    int64_t users        # tasks whose items have their names in it

cdef struct Task:
    # A directory, or some of the names of a large one.
    Task *outer          # whose item the directory is; NULL: it is the root
    const char *name     # the directory's, in the outer folder's names
    Folder *folder       # NULL: not listed yet
    int64_t first        # its first name in the folder's order
    Item *items
    int64_t count
    int64_t at           # how many of the items are written down
    char *texts
    bint taken
    bint done
    Task *more           # the next part of the same directory
    Task *before         # in the agenda
    Task *after

cdef struct Agenda:
    # The tasks that are not done, in the order of the tree.
    Task *first

cdef Task *new_task(Task *outer, const char *name) noexcept nogil
cdef int share_out(Task *task) noexcept nogil
cdef Folder *new_folder(const char *names, size_t size, int64_t count) noexcept nogil
cdef void replace(Agenda *agenda, Task *task) noexcept nogil
cdef Task *leave(Task *task) noexcept nogil
cdef void free_rest(Task *front) noexcept nogil
cdef int64_t task_path(
    const Task *task, const char *name, char **path, size_t *room
) noexcept nogil

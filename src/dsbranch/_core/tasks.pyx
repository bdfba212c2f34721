"""The work of a walk: what is still to be read, and what was read but is not yet written down.

A task knows its directory's name and the task around it, never its path, so a million directories
that wait cost little. Both ways through the tasks are in the order of the tree: the agenda, from
which the walk takes what is to be read, and the way from an item into its directory and back out,
on which the table is written. Nothing here locks; `scan` does.
"""

from libc.errno cimport ENOMEM
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free, malloc, qsort
from libc.string cimport memcpy, strlen

from dsbranch._core.files cimport by_name, reserve


cdef Task *new_task(Task *outer, const char *name) noexcept nogil:
    cdef Task *task = <Task *>calloc(1, sizeof(Task))
    if task != NULL:
        task.outer = outer
        task.name = name
    return task


cdef Folder *new_folder(const char *names, size_t size, int64_t count) noexcept nogil:
    """Take in `count` names, each ending in a NUL, and sort them; NULL when memory ends.

    No name holds a '/', so plain byte order is the table's order.
    """
    cdef Folder *folder = <Folder *>calloc(1, sizeof(Folder))
    cdef const char *name
    cdef int64_t i
    if folder == NULL:
        return NULL
    folder.names = <char *>malloc(size + 1)
    folder.order = <const char **>malloc((count + 1) * sizeof(char *))
    if folder.names == NULL or folder.order == NULL:
        free_folder(folder)
        return NULL
    memcpy(folder.names, names, size)
    name = folder.names
    for i in range(count):
        folder.order[i] = name
        name += strlen(name) + 1
    folder.count = count
    qsort(folder.order, count, sizeof(char *), by_name)
    return folder


cdef void free_folder(Folder *folder) noexcept nogil:
    free(folder.names)
    free(folder.order)
    free(folder)


cdef int share_out(Task *task) noexcept nogil:
    """Give the names of the task's folder beyond its own PART to further tasks; -1: no memory."""
    cdef Task *last = task
    cdef Task *part
    cdef int64_t first = PART
    while first < task.folder.count:
        part = new_task(task.outer, task.name)
        if part == NULL:
            return -1
        part.folder = task.folder
        part.folder.users += 1
        part.first = first
        last.more = part
        last = part
        first += PART
    return 0


cdef void replace(Agenda *agenda, Task *task) noexcept nogil:
    """A task is done: what it led to takes its place. Only a first part leads to other parts."""
    cdef Task *last = task.before
    cdef Task *after = task.after
    cdef Task *more
    cdef int64_t i
    for i in range(task.count):
        if task.items[i].inner != NULL:
            last = put_after(agenda, last, task.items[i].inner)
    if task.first == 0:
        more = task.more
        while more != NULL:
            last = put_after(agenda, last, more)
            more = more.more
    if last == NULL:
        agenda.first = after
    else:
        last.after = after
    if after != NULL:
        after.before = last


cdef Task *put_after(Agenda *agenda, Task *last, Task *task) noexcept nogil:
    task.before = last
    if last == NULL:
        agenda.first = task
    else:
        last.after = task
    return task


cdef Task *leave(Task *task) noexcept nogil:
    """Free a task whose items are all written down; the one to go on with, NULL after the root."""
    cdef Task *next = task.more if task.more != NULL else task.outer
    if task.folder != NULL:
        task.folder.users -= 1
        if task.folder.users == 0:
            free_folder(task.folder)
    free(task.items)
    free(task.texts)
    free(task)
    return next


cdef void free_rest(Task *front) noexcept nogil:
    """Free all that is left from `front` on, without recursion: as if it were written down."""
    cdef Task *inner
    while front != NULL:
        inner = NULL
        while front.at < front.count and inner == NULL:
            inner = front.items[front.at].inner
            front.at += 1
        front = inner if inner != NULL else leave(front)


cdef int64_t task_path(
    const Task *task, const char *name, char **path, size_t *room
) noexcept nogil:
    """Put the path of `name` in the task's directory, or of the directory itself if it is empty,
    into a buffer, ending in a NUL; its size, or -ENOMEM."""
    cdef const Task *above = task
    cdef size_t size = strlen(name), used
    cdef size_t end
    while above.outer != NULL:
        size += strlen(above.name) + (size > 0)
        above = above.outer
    if reserve(path, room, size + 1) < 0:
        return -ENOMEM
    end = size
    path[0][end] = 0
    above = task
    while True:
        used = strlen(name)
        end -= used
        memcpy(path[0] + end, name, used)
        if end == 0:
            return size
        if used:
            end -= 1
            path[0][end] = c'/'
        name = above.name
        above = above.outer

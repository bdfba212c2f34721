"""Walk one directory tree into a sorted table, with several threads and without following links.

Each directory is one task: open it below the root, list it, stat each name relative to its
descriptor, read xattrs, sort the names. At the end the directories are strung together in
tree order, which is the order of the table. No descriptor outlives its task, so depth costs
none, and a path is opened in pieces where it is too long for the kernel.
"""

from libc.errno cimport ELOOP, ENOENT, ENOMEM, ENOTDIR, ESTALE, errno
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport calloc, free, malloc, qsort, realloc
from libc.string cimport memcmp, memcpy, memset, strlen

from dsbranch._core.crew import crew_size, run_threads

from dsbranch._core.files cimport *
from dsbranch._core.linux cimport *
from dsbranch._core.table cimport *

cdef enum:
    LISTING = 1 << 16

cdef struct Item:
    Row row              # its texts are offsets into the task's own table
    Text name
    const char *start    # where the name lies, while names are sorted
    Task *inner          # of a directory

cdef struct Task:
    char *path
    size_t size
    Item *items
    int64_t count
    int64_t room
    int64_t at           # how far the assembly has come
    int worker           # whose heap the texts are in
    Task *next


cdef int item_order(const void *a, const void *b) noexcept nogil:
    """Names of one directory hold no '/', so plain byte order is the table's order."""
    cdef const char *one = (<Item *>a).start
    cdef const char *two = (<Item *>b).start
    cdef size_t na = (<Item *>a).name.size, nb = (<Item *>b).name.size
    cdef int sign = memcmp(one, two, na if na < nb else nb)
    return sign if sign else <int>(na > nb) - <int>(na < nb)


cdef class Worker:
    """One thread's share: its heap of texts and its scratch memory."""
    cdef Table texts
    cdef Scratch scratch
    cdef char *listing

    def __cinit__(self):
        self.texts = Table()
        memset(&self.scratch, 0, sizeof(Scratch))
        self.listing = <char *>malloc(LISTING)
        if self.listing == NULL:
            raise MemoryError

    def __dealloc__(self):
        scratch_free(&self.scratch)
        free(self.listing)


cdef class Walk:
    """The shared state of one scan. `entries` may be read while it runs."""
    cdef Table table
    cdef Task *stack
    cdef Task *top
    cdef int active
    cdef int stop
    cdef bint live
    cdef bint user
    cdef bint xattrs
    cdef int64_t entries
    cdef Fault fault
    cdef pthread_mutex_t mutex
    cdef pthread_cond_t more
    cdef list workers
    cdef const char **heaps

    def __cinit__(self, Table table, bint user, bint live, bint xattrs):
        pthread_mutex_init(&self.mutex, NULL)
        pthread_cond_init(&self.more, NULL)
        memset(&self.fault, 0, sizeof(Fault))
        self.table = table
        self.user = user
        self.live = live
        self.xattrs = xattrs
        self.workers = []
        self.top = new_task(b"", 0)
        if self.top == NULL:
            raise MemoryError
        self.stack = self.top

    def __dealloc__(self):
        free_tasks(self.top)
        free(self.fault.path)
        free(self.heaps)
        pthread_mutex_destroy(&self.mutex)
        pthread_cond_destroy(&self.more)

    def work(self, Worker worker, int number) -> None:
        """What a thread does until no directory is left or something failed."""
        with nogil:
            self.run(worker, number)

    def done(self) -> int:
        """How many entries have been read so far."""
        return load_long(&self.entries)

    def cancel(self) -> None:
        with nogil:
            pthread_mutex_lock(&self.mutex)
            store_int(&self.stop, 1)
            pthread_cond_broadcast(&self.more)
            pthread_mutex_unlock(&self.mutex)

    cdef void run(self, Worker worker, int number) noexcept nogil:
        cdef Task *task
        cdef Task *found
        cdef Task *last
        cdef int failed
        cdef int64_t i
        pthread_mutex_lock(&self.mutex)
        while True:
            while self.stack == NULL and self.active > 0 and not self.stop:
                pthread_cond_wait(&self.more, &self.mutex)
            if self.stack == NULL or self.stop:
                break
            task = self.stack
            self.stack = task.next
            self.active += 1
            pthread_mutex_unlock(&self.mutex)
            task.worker = number
            failed = self.list_one(task, worker)
            # Chain the directories found, in order, before taking the lock.
            found = NULL
            last = NULL
            for i in range(task.count):
                if task.items[i].inner != NULL:
                    task.items[i].inner.next = NULL
                    if last == NULL:
                        found = task.items[i].inner
                    else:
                        last.next = task.items[i].inner
                    last = task.items[i].inner
            pthread_mutex_lock(&self.mutex)
            self.active -= 1
            self.entries += task.count
            if failed:
                store_int(&self.stop, 1)
            if found != NULL:
                last.next = self.stack
                self.stack = found
            if found != NULL or self.stop or self.active == 0:
                pthread_cond_broadcast(&self.more)
        pthread_cond_broadcast(&self.more)
        pthread_mutex_unlock(&self.mutex)

    cdef int fail(self, int error, const char *action, Task *task, const char *name) noexcept nogil:
        """Blame a path below the root; the first failure of any thread wins."""
        cdef size_t size = strlen(name)
        cdef char *path = <char *>malloc(task.size + size + 2)
        cdef size_t used = task.size
        if path == NULL:
            used = 0
        else:
            memcpy(path, task.path, task.size)
            if task.size and size:
                path[used] = c'/'
                used += 1
            memcpy(path + used, name, size)
            used += size
        pthread_mutex_lock(&self.mutex)
        blame(&self.fault, error, action, path, used)
        pthread_mutex_unlock(&self.mutex)
        free(path)
        return -1

    cdef int list_one(self, Task *task, Worker worker) noexcept nogil:
        cdef int fd = open_to_read(
            self.table.root_fd, task.path, task.size, O_DIRECTORY
        )
        cdef int result
        if fd < 0:
            if self.live and task.size and gone(-fd):
                return 0
            return self.fail(-fd, b"open directory", task, b"")
        result = self.list_open(task, worker, fd)
        close(fd)
        return result

    cdef int list_open(self, Task *task, Worker worker, int fd) noexcept nogil:
        cdef long got, at
        cdef dirent64 *entry
        cdef char *name
        cdef int64_t i
        while True:
            got = getdents(fd, worker.listing, LISTING)
            if got < 0:
                if self.live and gone(errno):
                    break
                return self.fail(errno, b"list directory", task, b"")
            if got == 0:
                break
            if load_int(&self.stop):
                return 0
            at = 0
            while at < got:
                entry = <dirent64 *>(worker.listing + at)
                at += entry.d_reclen
                name = entry.d_name
                if name[0] == c'.' and (name[1] == 0 or (name[1] == c'.' and name[2] == 0)):
                    continue
                if self.take(task, worker, fd, name) < 0:
                    return -1
        for i in range(task.count):
            task.items[i].start = worker.texts.heap + task.items[i].name.at
        if task.count > 1:
            qsort(task.items, task.count, sizeof(Item), item_order)
        if self.live:
            drop_repeated(task)
        return 0

    cdef int take(self, Task *task, Worker worker, int fd, const char *name) noexcept nogil:
        """Take in one name of a directory."""
        cdef statx_t s
        cdef Item *item
        cdef Item *grown
        cdef int64_t room
        cdef int result
        cdef size_t size = strlen(name)
        if statx(fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &s) < 0:
            if self.live and gone(errno):
                return 0
            return self.fail(errno, b"stat", task, name)
        if task.count == task.room:
            room = task.room * 2 if task.room else 8
            grown = <Item *>realloc(task.items, room * sizeof(Item))
            if grown == NULL:
                return self.fail(ENOMEM, b"hold", task, name)
            task.items = grown
            task.room = room
        item = task.items + task.count
        memset(item, 0, sizeof(Item))
        row_from_stat(&item.row, &s)
        if worker.texts.put(name, size, &item.name) < 0:
            return self.fail(ENOMEM, b"hold", task, name)
        if item.row.kind == SYMLINK:
            result = read_link(worker.texts, &item.row, fd, name)
            if result < 0:
                if self.live and gone(-result):
                    return 0
                return self.fail(-result, b"read link", task, name)
        if self.xattrs and item.row.kind != WHITEOUT:
            result = read_xattrs(worker.texts, &item.row, fd, name, self.user, &worker.scratch)
            if result < 0:
                if self.live and gone(-result):
                    return 0
                return self.fail(-result, b"read extended attributes of", task, name)
        if item.row.kind == DIRECTORY:
            item.inner = new_task(task.path, task.size + size + 1)
            if item.inner == NULL:
                return self.fail(ENOMEM, b"hold", task, name)
            join(item.inner, task, name, size)
        task.count += 1
        return 0

    cdef int assemble(self, Task *root, Row *root_row) noexcept nogil:
        """Append the directories in tree order; the depth is kept on a list, not on the C stack."""
        cdef Task *task = root
        cdef Item *item
        cdef Row row
        if self.table.put(b"", 0, &root_row.path) < 0:
            return -1
        # root_row's own texts were read straight into the table.
        if self.table.append(root_row) < 0:
            return -1
        root.next = NULL
        while task != NULL:
            if task.at == task.count:
                task = task.next
                continue
            item = task.items + task.at
            task.at += 1
            row = item.row
            if self.put_path(task, item, &row.path) < 0:
                return -1
            if self.move_texts(self.heaps[task.worker], item, &row) < 0:
                return -1
            if self.table.append(&row) < 0:
                return -1
            if item.inner != NULL:
                item.inner.next = task
                task = item.inner
        return 0

    cdef int put_path(self, Task *task, Item *item, Text *out) noexcept nogil:
        cdef const char *name = self.heaps[task.worker] + item.name.at
        cdef Text rest
        if item.inner != NULL:
            return self.table.put(item.inner.path, item.inner.size, out)
        if self.table.put(task.path, task.size, out) < 0:
            return -1
        # Overwrite the NUL and go on: the parts are one text.
        self.table.heap_used -= 1
        if task.size:
            if self.table.put(b"/", 1, &rest) < 0:
                return -1
            self.table.heap_used -= 1
        if self.table.put(name, item.name.size, &rest) < 0:
            return -1
        out.size = <uint32_t>(rest.at + rest.size - out.at)
        return 0

    cdef int move_texts(self, const char *heap, Item *item, Row *row) noexcept nogil:
        if row.flags & F_TARGET:
            if self.table.put(heap + item.row.target.at, item.row.target.size, &row.target) < 0:
                return -1
        if row.flags & F_REDIRECT:
            if self.table.put(heap + item.row.redirect.at, item.row.redirect.size, &row.redirect) < 0:
                return -1
        if row.flags & F_ORIGIN:
            if self.table.put(heap + item.row.origin.at, item.row.origin.size, &row.origin) < 0:
                return -1
        return 0


cdef void drop_repeated(Task *task) noexcept nogil:
    """A name that is removed and made again while a directory is read can be listed twice."""
    cdef int64_t i, kept = 0
    for i in range(task.count):
        if kept and item_order(task.items + kept - 1, task.items + i) == 0:
            free_tasks(task.items[i].inner)
            continue
        task.items[kept] = task.items[i]
        kept += 1
    task.count = kept


cdef bint gone(int error) noexcept nogil:
    """What a live tree may answer for a name that was there a moment ago."""
    return error == ENOENT or error == ESTALE or error == ENOTDIR or error == ELOOP


cdef Task *new_task(const char *path, size_t size) noexcept nogil:
    cdef Task *task = <Task *>calloc(1, sizeof(Task))
    if task == NULL:
        return NULL
    task.path = <char *>malloc(size + 1)
    if task.path == NULL:
        free(task)
        return NULL
    task.path[0] = 0
    return task


cdef void join(Task *inner, Task *outer, const char *name, size_t size) noexcept nogil:
    cdef size_t used = outer.size
    memcpy(inner.path, outer.path, used)
    if used:
        inner.path[used] = c'/'
        used += 1
    memcpy(inner.path + used, name, size)
    inner.path[used + size] = 0
    inner.size = used + size


cdef void free_tasks(Task *top) noexcept nogil:
    """Free a tree of tasks without recursion: inner tasks are chained before their parent goes."""
    cdef Task *task = top
    cdef Task *rest
    cdef int64_t i
    if top == NULL:
        return
    top.next = NULL
    while task != NULL:
        rest = task.next
        for i in range(task.count):
            if task.items[i].inner != NULL:
                task.items[i].inner.next = rest
                rest = task.items[i].inner
        free(task.items)
        free(task.path)
        free(task)
        task = rest


def scan(
    root: bytes,
    *,
    dialect: str = "trusted",
    threads: int | None = None,
    live: bool = False,
    xattrs: bool = True,
    progress=None,
) -> Table:
    """Read the tree below `root` into a Table (without content digests).

    `live` tolerates names that vanish while the walk runs; a sealed tree must not change.
    `progress(done, total, bytes)` is told how many entries were read; nobody knows the total.
    `xattrs` False skips extended attributes: for plain walks, never for layers.

    :raises OSError: the first failure, with errno and the path relative to `root`
    """
    cdef Table table = Table()
    cdef Row row
    cdef statx_t s
    cdef Walk walk
    cdef Worker first
    cdef int result, crew = crew_size(threads)
    cdef int64_t i
    table.open(root)
    walk = Walk(table, dialect == "user", live, xattrs)
    for i in range(crew):
        walk.workers.append(Worker())
    memset(&row, 0, sizeof(Row))
    if statx(table.root_fd, b"", AT_EMPTY_PATH, STATX_BASIC_STATS, &s) < 0:
        raise OSError(errno, "cannot stat the root", root)
    row_from_stat(&row, &s)
    if xattrs:
        first = walk.workers[0]
        # A descriptor opened with O_PATH cannot list xattrs, so the root is opened once more.
        result = root_xattrs(table, &row, walk.user, &first.scratch)
        if result < 0:
            raise OSError(-result, "cannot read extended attributes of the root", root)
    run_threads(
        lambda number: walk.work(walk.workers[number], number),
        crew,
        walk.cancel,
        None if progress is None else lambda: progress(walk.done(), None, 0),
    )
    raise_fault(&walk.fault)
    if progress is not None:
        progress(walk.done(), walk.done(), 0)
    walk.heaps = <const char **>malloc(crew * sizeof(char *))
    if walk.heaps == NULL:
        raise MemoryError
    for i in range(crew):
        walk.heaps[i] = (<Worker>walk.workers[i]).texts.heap
    with nogil:
        result = walk.assemble(walk.top, &row)
        if result == 0:
            result = table.finish()
    raise_fault(&table.fault)
    if result < 0:
        raise RuntimeError("the walk produced a broken table")
    group_links(table)
    return table


cdef int root_xattrs(Table table, Row *row, bint user, Scratch *scratch) noexcept nogil:
    cdef int fd = open_below(table.root_fd, b"", 0, O_RDONLY | O_DIRECTORY)
    cdef int result
    if fd < 0:
        return fd
    result = read_xattrs(table, row, fd, b".", user, scratch)
    close(fd)
    return result


cdef group_links(Table table):
    """Number the inodes that have several names within the tree. Whiteouts share one and mean nothing."""
    cdef int64_t i
    cdef Row *row
    first = {}
    cdef uint32_t groups = 0
    for i in range(table.count):
        row = table.rows + i
        if row.nlink < 2 or row.kind == DIRECTORY or row.kind == WHITEOUT:
            continue
        key = (row.dev, row.ino)
        other = first.setdefault(key, i)
        if other != i:
            if table.rows[<int64_t>other].group == 0:
                groups += 1
                table.rows[<int64_t>other].group = groups
            row.group = table.rows[<int64_t>other].group

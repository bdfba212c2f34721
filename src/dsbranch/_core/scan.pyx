"""Walk one directory tree into a sorted table, with several threads and without following links.

Each directory is one task, or several if it is large: open it below the root, list it, stat each
name relative to it, read xattrs. Whoever has read what comes next in the order of the tree writes it
down into the table, and frees it, while the others go on: so what is held beside the table is
bounded. No descriptor outlives its task, so depth costs none, and a path is opened in pieces where
it is too long for the kernel.
"""

from libc.errno cimport ELOOP, ENOENT, ENOMEM, ENOTDIR, ESTALE, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memmove, memset, strcmp, strlen

from dsbranch._core.crew import crew_of, run_threads

from dsbranch._core.files cimport *
from dsbranch._core.linux cimport *
from dsbranch._core.table cimport *
from dsbranch._core.tasks cimport *

cdef enum:
    LISTING = 1 << 16
    # How many entries may have been read before those ahead of them in the tree.
    WINDOW = 1 << 16
    # How many rows are handed over at a time, where somebody takes them.
    HANDED = 1 << 13


cdef class Worker:
    """One thread's scratch memory."""
    cdef Table texts     # of the task at hand
    cdef Scratch scratch
    cdef char *names     # of the directory at hand
    cdef size_t names_room
    cdef char *path
    cdef size_t path_room
    cdef bint moves      # its working directory is its own, so that it can go where it reads

    def __cinit__(self):
        self.texts = Table()
        memset(&self.scratch, 0, sizeof(Scratch))

    def __dealloc__(self):
        scratch_free(&self.scratch)
        free(self.names)
        free(self.path)


cdef class Walk:
    """The shared state of one scan. `entries` may be read while it runs."""
    cdef Table table
    cdef Agenda agenda
    cdef Task *front     # the first task that is not written down
    cdef bint writing    # somebody is at it
    cdef int64_t ahead   # how many entries are read and not written down
    cdef int idle        # how many threads wait
    cdef char *prefix    # the path of the front's directory
    cdef size_t prefix_size
    cdef size_t prefix_room
    cdef int stop
    cdef bint live
    cdef Marks marks
    cdef bint xattrs
    cdef object take         # who gets the rows, part by part; None: all stay in the table
    cdef object failure      # what it raised
    cdef int64_t entries
    cdef Fault fault
    cdef pthread_mutex_t mutex
    cdef pthread_cond_t more
    cdef list workers
    cdef list problems   # what was passed over; None: the first failure ends the walk

    def __cinit__(self, Table table, Marks marks, bint live, bint xattrs, list problems):
        pthread_mutex_init(&self.mutex, NULL)
        pthread_cond_init(&self.more, NULL)
        memset(&self.fault, 0, sizeof(Fault))
        self.table = table
        self.marks = marks
        self.live = live
        self.xattrs = xattrs
        self.problems = problems
        self.workers = []
        self.front = new_task(NULL, b"")
        if self.front == NULL:
            raise MemoryError
        self.agenda.first = self.front

    def __dealloc__(self):
        free_rest(self.front)
        free(self.prefix)
        free(self.fault.path)
        pthread_mutex_destroy(&self.mutex)
        pthread_cond_destroy(&self.more)

    def work(self, Worker worker) -> None:
        """What a thread does until nothing is left to be read or something failed."""
        with nogil:
            worker.moves = unshare(CLONE_FS) == 0
            self.run(worker)

    def done(self) -> int:
        """How many entries have been read so far."""
        return load_long(&self.entries)

    def cancel(self) -> None:
        with nogil:
            pthread_mutex_lock(&self.mutex)
            self.halt()
            pthread_mutex_unlock(&self.mutex)

    cdef void halt(self) noexcept nogil:
        store_int(&self.stop, 1)
        pthread_cond_broadcast(&self.more)

    # --- the order of the work; the lock is held ---

    cdef void run(self, Worker worker) noexcept nogil:
        cdef Task *task
        cdef int failed
        pthread_mutex_lock(&self.mutex)
        while True:
            task = self.take_task()
            if task == NULL:
                break
            pthread_mutex_unlock(&self.mutex)
            failed = self.read(task, worker)
            pthread_mutex_lock(&self.mutex)
            if failed:
                self.halt()
                break
            task.done = True
            fetch_add(&self.entries, task.count)  # `done` reads it without the lock
            self.ahead += task.count
            replace(&self.agenda, task)
            self.write_down()
            if self.idle:
                pthread_cond_broadcast(&self.more)
        pthread_mutex_unlock(&self.mutex)

    cdef Task *take_task(self) noexcept nogil:
        """The next task; NULL when there is none left. Waits while there may be one, later.

        The first task of the agenda is what comes next in the table: nobody waits before it.
        """
        cdef Task *task
        while not self.stop and self.agenda.first != NULL:
            task = self.agenda.first
            while task != NULL and task.taken:
                task = task.after
            if task != NULL and (self.ahead < WINDOW or task == self.agenda.first):
                task.taken = True
                return task
            self.idle += 1
            pthread_cond_wait(&self.more, &self.mutex)
            self.idle -= 1
        return NULL

    cdef void write_down(self) noexcept nogil:
        """Append to the table what was read up to here, unless another thread is at it."""
        cdef Task *task
        cdef int64_t before
        cdef bint failed
        if self.writing:
            return
        self.writing = True
        while self.front != NULL and self.front.done and not self.stop:
            task = self.front
            before = self.table.count
            pthread_mutex_unlock(&self.mutex)
            task = self.write(task)
            before = self.table.count - before
            failed = task == self.front or self.hand_over(task == NULL) < 0
            pthread_mutex_lock(&self.mutex)
            self.ahead -= before
            if failed and task != NULL:
                self.halt()
            self.front = task
        self.writing = False

    cdef int hand_over(self, bint last) noexcept nogil:
        """Let whoever takes the rows part by part have them; -1: it failed."""
        if self.take is None or not (last or self.table.count >= HANDED):
            return 0
        with gil:
            try:
                self.take(self.table)
            except BaseException as error:
                self.failure = error
                return -1
        self.table.count = self.table.heap_used = 0
        return 0

    # --- one task ---

    cdef Task *write(self, Task *task) noexcept nogil:
        """Append a task's items up to the next directory; the task to go on with.

        The same task: it failed, and the table knows why.
        """
        cdef Item *item
        cdef size_t size = strlen(task.name)
        while task.at < task.count:
            item = task.items + task.at
            if self.write_item(task, item) < 0:
                return task
            task.at += 1
            if item.inner != NULL:
                return item.inner
        if task.more == NULL:
            self.prefix_size -= size
            if self.prefix_size:
                self.prefix_size -= 1
        return leave(task)

    cdef int write_item(self, Task *task, Item *item) noexcept nogil:
        cdef Row *row = &item.row
        cdef size_t size = strlen(item.name), used = self.prefix_size
        if reserve(&self.prefix, &self.prefix_room, used + size + 1) < 0:
            return blame(&self.table.fault, ENOMEM, "hold the table", "", 0)
        if used:
            self.prefix[used] = c'/'
            used += 1
        memcpy(self.prefix + used, item.name, size)
        used += size
        if self.table.put(self.prefix, used, &row.path) < 0:
            return -1
        if self.table.put_texts(row, task.texts, 1) < 0 or self.table.append(row) < 0:
            return -1
        if item.inner != NULL:
            self.prefix_size = used
        return 0

    cdef int fail(
        self, int error, const char *action, Task *task, const char *name, Worker worker
    ) noexcept nogil:
        """Blame a path below the root; the first failure of any thread wins.

        Returns 0 where it is only noted, and the walk goes on.
        """
        cdef int64_t size = task_path(task, name, &worker.path, &worker.path_room)
        if self.problems is not None and size > 0 and is_of_one(error):
            with gil:
                if len(self.problems) < MOST_PROBLEMS:
                    self.problems.append((worker.path[:size], error))
                    return 0
        pthread_mutex_lock(&self.mutex)
        blame(&self.fault, error, action, worker.path, size if size > 0 else 0)
        pthread_mutex_unlock(&self.mutex)
        return -1

    cdef int read(self, Task *task, Worker worker) noexcept nogil:
        """List a task's directory, if nobody has, and stat what is the task's in it."""
        cdef int64_t size = task_path(task, b"", &worker.path, &worker.path_room)
        cdef int fd, result
        if size < 0:
            return self.fail(ENOMEM, b"hold", task, b"", worker)
        fd = open_to_read(self.table.root_fd, worker.path, size, O_DIRECTORY)
        if fd < 0:
            if self.live and size and gone(-fd):
                return 0
            return self.fail(-fd, b"open directory", task, b"", worker)
        result = 0
        if task.folder == NULL:
            result = self.list_names(task, worker, fd)
        if result == 0:
            result = self.stat_names(task, worker, fd)
        close(fd)
        return result

    cdef int list_names(self, Task *task, Worker worker, int fd) noexcept nogil:
        cdef long got, at
        cdef dirent64 *entry
        cdef char *listing
        cdef size_t used = 0, start, size
        cdef int64_t count = 0
        while not load_int(&self.stop):
            # The kernel's entries are aligned to where they are told.
            start = (used + 7) & ~<size_t>7
            if reserve(&worker.names, &worker.names_room, start + LISTING) < 0:
                return self.fail(ENOMEM, b"hold", task, b"", worker)
            listing = worker.names + start
            got = getdents(fd, listing, LISTING)
            if got < 0:
                if self.live and gone(errno):
                    break
                if self.fail(errno, b"list directory", task, b"", worker) < 0:
                    return -1
                break
            if got == 0:
                break
            # The names move to the front of what they were told in.
            at = 0
            while at < got:
                entry = <dirent64 *>(listing + at)
                at += entry.d_reclen
                if strcmp(entry.d_name, b".") == 0 or strcmp(entry.d_name, b"..") == 0:
                    continue
                if self.marks == SERVERS and is_fuse_mark(fd, entry.d_name):
                    continue
                size = strlen(entry.d_name) + 1
                memmove(worker.names + used, entry.d_name, size)
                used += size
                count += 1
        task.folder = new_folder(worker.names, used, count)
        if task.folder == NULL:
            return self.fail(ENOMEM, b"hold", task, b"", worker)
        task.folder.users = 1
        if share_out(task) < 0:
            return self.fail(ENOMEM, b"hold", task, b"", worker)
        return 0

    cdef int stat_names(self, Task *task, Worker worker, int fd) noexcept nogil:
        cdef Folder *folder = task.folder
        cdef int64_t i, count = min(folder.count - task.first, <int64_t>PART)
        cdef const char **names = folder.order + task.first
        cdef int dir = fd
        if count == 0:
            return 0
        task.items = <Item *>malloc(count * sizeof(Item))
        if task.items == NULL:
            return self.fail(ENOMEM, b"hold", task, b"", worker)
        if worker.moves and fchdir(fd) == 0:
            dir = AT_FDCWD
        worker.texts.heap_used = 0
        for i in range(count):
            if load_int(&self.stop):
                return 0
            # A name that is removed and made again while a directory is read can be listed twice.
            if (self.live or self.problems is not None) and task.first + i and strcmp(names[i], names[i - 1]) == 0:
                continue
            if self.stat_one(task, worker, dir, names[i]) < 0:
                return -1
        if worker.texts.heap_used:
            task.texts = <char *>malloc(worker.texts.heap_used)
            if task.texts == NULL:
                return self.fail(ENOMEM, b"hold", task, b"", worker)
            memcpy(task.texts, worker.texts.heap, worker.texts.heap_used)
        return 0

    cdef int stat_one(self, Task *task, Worker worker, int dir, const char *name) noexcept nogil:
        cdef statx_t s
        cdef Item *item = task.items + task.count
        cdef int result
        if statx(dir, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &s) < 0:
            if self.live and gone(errno):
                return 0
            return self.fail(errno, b"stat", task, name, worker)
        memset(item, 0, sizeof(Item))
        item.name = name
        row_from_stat(&item.row, &s)
        if item.row.kind == SYMLINK:
            result = read_link(worker.texts, &item.row, dir, name)
            if result < 0:
                if self.live and gone(-result):
                    return 0
                return self.fail(-result, b"read link", task, name, worker)
        if self.xattrs and item.row.kind != WHITEOUT:
            result = read_xattrs(worker.texts, &item.row, dir, name, self.marks, &worker.scratch)
            if result < 0:
                if self.live and gone(-result):
                    return 0
                if self.fail(-result, b"read extended attributes of", task, name, worker) < 0:
                    return -1
        if item.row.kind == DIRECTORY:
            item.inner = new_task(task, name)
            if item.inner == NULL:
                return self.fail(ENOMEM, b"hold", task, name, worker)
        task.count += 1
        return 0


cdef bint gone(int error) noexcept nogil:
    """What a live tree may answer for a name that was there a moment ago."""
    return error == ENOENT or error == ESTALE or error == ENOTDIR or error == ELOOP


def scan(
    root: bytes,
    *,
    dialect: str = "trusted",
    served: bool = False,
    threads: int | None = None,
    live: bool = False,
    xattrs: bool = True,
    spill: bytes | None = None,
    list problems=None,
    progress=None,
) -> Table:
    """Read the tree below `root` into a Table (without content digests).

    `served`, in the dialect ``user``, heeds also what fuse-overlayfs says to itself.
    `live` tolerates names that vanish while the walk runs; a sealed tree must not change.
    `progress(done, total, bytes)` is told how many entries were read; nobody knows the total.
    `spill` is a directory to whose filesystem a table goes that is too large for memory.
    `xattrs` False skips extended attributes: for plain walks, never for layers.
    `problems` takes ``(path, errno)`` of what cannot be read, up to 10,000, and the walk goes on
    without it: a directory has no entries then, an entry no xattrs, or it is not there.
    `threads` None: as many as there are processors, and more if it takes long, since a disk and a
    network have many answers on the way.

    :raises OSError: the first failure, with errno and the path relative to `root`
    """
    cdef Table table = Table()
    cdef int result
    cdef Marks marks = ROOTS if dialect == "trusted" else SERVERS if served else USERS
    if spill is not None:
        table.spill_into(spill)
    walk_into(table, root, marks, threads, live, xattrs, problems, None, progress)
    with nogil:
        result = table.finish()
    if result < 0:
        raise RuntimeError("the walk produced a broken table")
    with nogil:
        result = group_links(table)
    if result < 0:
        raise MemoryError
    return table


def scan_in_parts(root: bytes, take, *, threads: int | None = None, live: bool = False) -> None:
    """Call `take(table)` with what stat says of the tree below `root`, some rows at a time.

    They are in the order of the tree, without xattrs and bounds of subtrees, and gone when `take`
    returns: nothing is held, however large the tree is.

    :raises OSError: as `scan`
    """
    walk_into(Table(), root, ROOTS, threads, live, False, None, take, None)


cdef int walk_into(
    Table table,
    bytes root,
    Marks marks,
    threads,
    bint live,
    bint xattrs,
    list problems,
    take,
    progress,
) except -1:
    """Read the tree below `root` into a table, which `take` empties now and then."""
    cdef Row row
    cdef statx_t s
    cdef Walk walk
    cdef Worker first
    cdef int result
    table.open(root)
    walk = Walk(table, marks, live, xattrs, problems)
    walk.take = take
    crew, late = crew_of(threads)
    walk.workers = [Worker() for _ in range(crew + late)]
    memset(&row, 0, sizeof(Row))
    if statx(table.root_fd, b"", AT_EMPTY_PATH, STATX_BASIC_STATS, &s) < 0:
        raise OSError(errno, "cannot stat the root", root)
    row_from_stat(&row, &s)
    if xattrs:
        first = walk.workers[0]
        # A descriptor opened with O_PATH cannot list xattrs, so the root is opened once more.
        result = root_xattrs(table, &row, walk.marks, &first.scratch)
        if result < 0:
            raise OSError(-result, "cannot read extended attributes of the root", root)
    if table.put(b"", 0, &row.path) < 0 or table.append(&row) < 0:
        raise_fault(&table.fault)
    run_threads(
        lambda number: walk.work(walk.workers[number]),
        crew,
        walk.cancel,
        None if progress is None else lambda: progress(walk.done(), None, 0),
        late,
    )
    raise_fault(&walk.fault)
    raise_fault(&table.fault)
    if walk.failure is not None:
        raise walk.failure
    if progress is not None:
        progress(walk.done(), walk.done(), 0)
    return 0


cdef int root_xattrs(Table table, Row *row, Marks marks, Scratch *scratch) noexcept nogil:
    cdef int fd = open_below(table.root_fd, b"", 0, O_RDONLY | O_DIRECTORY)
    cdef int result
    if fd < 0:
        return fd
    result = read_xattrs(table, row, fd, b".", marks, scratch)
    close(fd)
    return result


cdef bint may_be_linked(const Row *row) noexcept nogil:
    """Whether the inode has further names, in the tree or not. Whiteouts share one and mean nothing."""
    return row.nlink > 1 and row.kind != DIRECTORY and row.kind != WHITEOUT


cdef int group_links(Table table) noexcept nogil:
    """Number the inodes that have several names within the tree; -1 when memory ends.

    Of a squashed layer that is every file, so an inode takes no more than a place for the number of
    the first row that has it, with bits of its hash: a row that may not be in memory is looked at
    only for another name.
    """
    cdef int64_t i, count = 0
    cdef uint64_t room = 16, hash, at
    cdef uint32_t groups = 0
    cdef uint64_t *firsts    # bits of the hash, and the row plus 1; 0: the place is free
    cdef Row *row
    cdef Row *first
    for i in range(table.count):
        count += may_be_linked(table.rows + i)
    while <int64_t>room < count + count // 2:
        room *= 2
    firsts = <uint64_t *>calloc(room, sizeof(uint64_t))
    if firsts == NULL:
        return -1
    for i in range(table.count):
        row = table.rows + i
        if not may_be_linked(row):
            continue
        hash = (row.ino * 0x9E3779B97F4A7C15ULL ^ row.dev) * 0xC2B2AE3D27D4EB4FULL
        at = (hash >> 20) & (room - 1)
        while firsts[at]:
            if firsts[at] >> 32 == hash >> 32:
                first = table.rows + <uint32_t>firsts[at] - 1
                if first.ino == row.ino and first.dev == row.dev:
                    if first.group == 0:
                        groups += 1
                        first.group = groups
                    row.group = first.group
                    break
            at = (at + 1) & (room - 1)
        else:
            firsts[at] = (hash >> 32 << 32) + <uint64_t>(i + 1)
    free(firsts)
    return 0

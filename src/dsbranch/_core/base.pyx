"""The adopted directory as a table that fills itself: a name is looked up when it is asked for.

So the cost follows the questions, never the size of the dataset. Rows are appended as they
are found and are not sorted; a directory's children are contiguous once it is listed. Marks of
other overlays in the base mean nothing below the last layer and are not read.
"""

from libc.errno cimport ENOENT, ENOMEM, ENOTDIR, errno
from libc.stdint cimport int64_t, uint32_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free, malloc, qsort
from libc.string cimport memcmp, memcpy, memset, strlen

from dsbranch._core.syscalls import open_tree_clone

from dsbranch._core.files cimport *
from dsbranch._core.linux cimport *
from dsbranch._core.table cimport *

cdef enum:
    LISTING = 1 << 16
    MOST = 1 << 16       # how many answers are kept; comparing views comes by a name two to four times
    NEAR = 8             # how many places one of them may have
    FACTS = 1            # bits of Row.loaded: xattrs are known
    CHILDREN = 2         # the children are listed


cdef class Base(Table):
    """The directory at `path`, without what other filesystems mount inside it.

    An overlay does not show those mounts either: it clones the lower directory's own mount.
    """

    def __cinit__(self, *args, **kwargs):
        self.here.fd = self.before.fd = -1

    def __init__(self, path: bytes, *, dialect: str = "trusted"):
        cdef Row row
        cdef statx_t s
        cdef Text where
        self.user = dialect == "user"
        memset(&self.scratch, 0, sizeof(Scratch))
        self.listing = <char *>malloc(LISTING)
        self.places = <uint32_t *>calloc(MOST, sizeof(uint32_t))
        self.answers = <Answer *>malloc((MOST + 1) * sizeof(Answer))
        if self.listing == NULL or self.places == NULL or self.answers == NULL:
            raise MemoryError
        self.open(path)
        try:
            fd = open_tree_clone(path)
        except PermissionError:
            # Without the right to mount, what is mounted inside is seen; so it is by nobody else.
            pass
        else:
            close(self.root_fd)
            self.root_fd = fd
        memset(&row, 0, sizeof(Row))
        if statx(self.root_fd, b"", AT_EMPTY_PATH, STATX_BASIC_STATS, &s) < 0:
            raise OSError(errno, "cannot stat the base", path)
        row_from_stat(&row, &s)
        if self.put(b"", 0, &row.path) < 0 or self.append(&row) < 0:
            raise MemoryError

    def __dealloc__(self):
        scratch_free(&self.scratch)
        free(self.listing)
        free(self.places)
        free(self.answers)
        if self.here.fd >= 0:
            close(self.here.fd)
        if self.before.fd >= 0:
            close(self.before.fd)

    cdef int fail(self, int error, const char *action, int64_t parent, const char *name) noexcept nogil:
        cdef Row *up = self.rows + parent
        cdef size_t size = strlen(name)
        cdef char *path = <char *>malloc(up.path.size + size + 2)
        if path == NULL:
            blame(&self.fault, ENOMEM, action, b"", 0)
            return -2
        memcpy(path, self.heap + up.path.at, up.path.size)
        path[up.path.size] = c'/'
        memcpy(path + up.path.size + 1, name, size)
        blame(&self.fault, error, action, path, up.path.size + 1 + size if size else up.path.size)
        free(path)
        return -2

    cdef int enter(self, int64_t at, size_t size) noexcept nogil:
        """Have `here` be the directory of the path there on the heap, where it does not move.

        Returns 0, or -1 with the fault told. Questions come grouped by directory, and while one is
        gone through its parent is asked of it now and then.
        """
        cdef Opened last = self.here
        cdef char *path
        if self.is_at(&self.here, at, size):
            return 0
        self.here = self.before
        self.before = last
        if self.is_at(&self.here, at, size):
            return 0
        if self.here.fd >= 0:
            close(self.here.fd)
            self.here.fd = -1
        path = <char *>malloc(size + 1)
        if path == NULL:
            return blame(&self.fault, ENOMEM, b"hold the table", b"", 0)
        memcpy(path, self.heap + at, size)
        path[size] = 0
        self.here.fd = open_to_read(self.root_fd, path, size, O_DIRECTORY)
        self.here.at = at
        self.here.size = size
        if self.here.fd < 0:
            blame(&self.fault, -self.here.fd, b"open directory", path, size)
            self.here.fd = -1
        free(path)
        return 0 if self.here.fd >= 0 else -1

    cdef bint is_at(self, const Opened *opened, int64_t at, size_t size) noexcept nogil:
        return opened.fd >= 0 and opened.size == size and memcmp(
            self.heap + opened.at, self.heap + at, size
        ) == 0

    cdef int64_t look(self, int64_t parent, const char *name, size_t size) noexcept nogil:
        """Stat one name of the entered directory into a new row; -1 if it is not there."""
        cdef Row row
        cdef statx_t s
        cdef int result
        if statx(self.here.fd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &s) < 0:
            if errno == ENOENT or errno == ENOTDIR:
                return -1
            return self.fail(errno, b"stat", parent, name)
        memset(&row, 0, sizeof(Row))
        row_from_stat(&row, &s)
        if row.kind == WHITEOUT or (row.kind == FILE and row.size == 0 and self.is_marked(name)):
            return -1
        if row.kind == SYMLINK:
            result = read_link(self, &row, self.here.fd, name)
            if result < 0:
                return self.fail(-result, b"read link", parent, name)
        return self.add(parent, name, size, &row)

    cdef int64_t add(self, int64_t parent, const char *name, size_t size, Row *row) noexcept nogil:
        """Append a row for a name of a directory; its index, or -2."""
        cdef Text rest
        cdef int64_t here = self.heap_used
        if self.rows[parent].path.size and self.copy_prefix(parent) < 0:
            return -2
        if self.put(name, size, &rest) < 0:
            return -2
        row.path.at = here
        row.path.size = <uint32_t>(self.heap_used - 1 - here)
        here = self.append(row)
        return here if here >= 0 else -2

    cdef bint is_marked(self, const char *name) noexcept nogil:
        """Whether an empty file of the entered directory is a whiteout by its xattr."""
        cdef char link[320]
        snprintf(link, sizeof(link), b"/proc/self/fd/%d/%s", self.here.fd, name)
        if self.user:
            return lgetxattr(link, b"user.overlay.whiteout", NULL, 0) >= 0
        return lgetxattr(link, b"trusted.overlay.whiteout", NULL, 0) >= 0

    cdef int copy_prefix(self, int64_t parent) noexcept nogil:
        """Put the parent's path and a '/' on the heap, without a NUL behind.

        By way of a copy: put() may move the heap, and the parent's path lies on it.
        """
        cdef size_t size = self.rows[parent].path.size
        cdef char *copy = <char *>malloc(size + 1)
        cdef Text out
        cdef int result
        if copy == NULL:
            return blame(&self.fault, ENOMEM, b"hold the table", b"", 0)
        memcpy(copy, self.heap + self.rows[parent].path.at, size)
        copy[size] = c'/'
        result = self.put(copy, size + 1, &out)
        self.heap_used -= 1
        free(copy)
        return result

    cdef int64_t child(self, int64_t parent, const char *name, size_t size) noexcept nogil:
        cdef Row *up = self.rows + parent
        cdef size_t skip = up.path.size + (1 if up.path.size else 0)
        cdef int64_t low = up.first, high = up.end, middle
        cdef int sign
        if up.kind != DIRECTORY:
            return -1
        if not up.loaded & CHILDREN:
            return self.ask(parent, name, size)
        while low < high:
            middle = (low + high) >> 1
            sign = order(
                self.path_at(middle) + skip, self.rows[middle].path.size - skip, name, size
            )
            if sign == 0:
                return middle
            if sign < 0:
                low = middle + 1
            else:
                high = middle
        return -1

    cdef int64_t ask(self, int64_t parent, const char *name, size_t size) noexcept nogil:
        """Look up one name of a directory that is not listed, or recall what was said of it."""
        cdef uint32_t *number = self.place_of(parent, name, size)
        cdef int64_t row = self.said(number[0], parent, name, size)
        if row != NOT_ASKED:
            return row
        if self.enter(self.rows[parent].path.at, self.rows[parent].path.size) < 0:
            return -2
        row = self.look(parent, name, size)
        if row == -2 or self.keep(number, parent, name, size, row) < 0:
            return -2
        return row

    cdef uint32_t *place_of(self, int64_t parent, const char *name, size_t size) noexcept nogil:
        """Where the number of an answer is, or is to be kept: in another's place only if all near it
        are taken.

        Then in that of the oldest that is no directory's. A directory's answer that is lost takes
        those of what is in it along, since it gets a new row.
        """
        cdef uint32_t place = <uint32_t>parent * <uint32_t>0x9E3779B1
        cdef uint32_t *number
        cdef uint32_t *oldest = NULL
        cdef Answer *answer
        cdef size_t i
        for i in range(size):
            place = (place ^ <unsigned char>name[i]) * <uint32_t>0x01000193
        place ^= place >> 16
        for i in range(NEAR):
            number = self.places + (place + i) % MOST
            answer = self.answers + number[0]
            if number[0] == 0 or self.answers_to(answer, parent, name, size):
                return number
            # The heap only grows, so where a name lies on it tells how old its answer is.
            if (answer.row < 0 or self.rows[answer.row].kind != DIRECTORY) and (
                oldest == NULL or answer.at < self.answers[oldest[0]].at
            ):
                oldest = number
        return self.places + place % MOST if oldest == NULL else oldest

    cdef bint answers_to(
        self, const Answer *answer, int64_t parent, const char *name, size_t size
    ) noexcept nogil:
        return answer.size == size and answer.parent == parent and memcmp(
            self.heap + answer.at, name, size
        ) == 0

    cdef int64_t said(
        self, uint32_t number, int64_t parent, const char *name, size_t size
    ) noexcept nogil:
        """What the answer of a number says, if it is of this name; or NOT_ASKED."""
        cdef Answer *answer = self.answers + number
        return answer.row if number and self.answers_to(answer, parent, name, size) else NOT_ASKED

    cdef int keep(
        self, uint32_t *number, int64_t parent, const char *name, size_t size, int64_t row
    ) noexcept nogil:
        """Keep an answer, a row or -1, by the number at its place; returns 0, or -2."""
        cdef Answer *answer
        cdef Text text
        if row >= 0:
            text = self.rows[row].path
            text.at += text.size - size
        elif self.put(name, size, &text) < 0:
            return -2
        if number[0] == 0:
            self.kept += 1
            number[0] = self.kept
        answer = self.answers + number[0]
        answer.row = row
        answer.at = text.at
        answer.size = <uint32_t>size
        answer.parent = <uint32_t>parent
        return 0

    # --- for those who look names up themselves ---

    cdef int64_t recall(self, int64_t parent, const char *name, size_t size) noexcept nogil:
        """What was said of a name: a row, -1 if there is none, or NOT_ASKED."""
        if self.rows[parent].kind != DIRECTORY or self.rows[parent].loaded & CHILDREN:
            return self.child(parent, name, size)
        return self.said(self.place_of(parent, name, size)[0], parent, name, size)

    cdef int64_t recall_path(self, const char *path, size_t size) noexcept nogil:
        """As `recall`, of a path."""
        cdef int64_t row = 0
        cdef size_t at = 0, end
        while at < size and row >= 0:
            end = name_end(path, size, at)
            row = self.recall(row, path + at, end - at)
            at = end + 1
        return row

    cdef int remember(self, int64_t parent, const char *name, size_t size, Row *row) noexcept nogil:
        """Take a row that was found under a name nobody has asked for, NULL: nothing was; 0, or -2."""
        cdef int64_t found = -1
        if row != NULL:
            found = self.add(parent, name, size, row)
            if found < 0:
                return -2
        return self.keep(self.place_of(parent, name, size), parent, name, size, found)

    cdef void set_bare(self, int64_t row) noexcept nogil:
        """A row has no xattrs, and needs not be asked."""
        self.rows[row].loaded |= FACTS

    cdef int load(self, int64_t parent) noexcept nogil:
        """List a directory: its children become the rows [first, end), sorted by name."""
        cdef long got, at
        cdef dirent64 *entry
        cdef char *name
        cdef char *names = NULL
        cdef size_t used = 0, room = 0, size, i, count = 0
        cdef const char **sorted_names
        cdef int64_t found, first
        if self.rows[parent].loaded & CHILDREN or self.rows[parent].kind != DIRECTORY:
            return 0
        if self.enter(self.rows[parent].path.at, self.rows[parent].path.size) < 0:
            return -2
        if lseek(self.here.fd, 0, SEEK_SET) < 0:
            return self.fail(errno, b"list directory", parent, b"")
        while True:
            got = getdents(self.here.fd, self.listing, LISTING)
            if got < 0:
                free(names)
                return self.fail(errno, b"list directory", parent, b"")
            if got == 0:
                break
            at = 0
            while at < got:
                entry = <dirent64 *>(self.listing + at)
                at += entry.d_reclen
                name = entry.d_name
                if name[0] == c'.' and (name[1] == 0 or (name[1] == c'.' and name[2] == 0)):
                    continue
                size = strlen(name) + 1
                if reserve(&names, &room, used + size) < 0:
                    free(names)
                    return self.fail(ENOMEM, b"list directory", parent, b"")
                memcpy(names + used, name, size)
                used += size
                count += 1
        sorted_names = <const char **>malloc((count + 1) * sizeof(char *))
        if sorted_names == NULL:
            free(names)
            return self.fail(ENOMEM, b"list directory", parent, b"")
        at = 0
        for i in range(count):
            sorted_names[i] = names + at
            at += strlen(names + at) + 1
        qsort(sorted_names, count, sizeof(char *), <int (*)(const void *, const void *) noexcept nogil>by_name)
        first = self.count
        for i in range(count):
            found = self.look(parent, sorted_names[i], strlen(sorted_names[i]))
            if found == -2:
                free(names)
                free(sorted_names)
                return -2
        free(names)
        free(sorted_names)
        self.rows[parent].first = <uint32_t>first
        self.rows[parent].end = <uint32_t>self.count
        self.rows[parent].loaded |= CHILDREN
        return 0

    cdef int64_t next_child(self, int64_t child) noexcept nogil:
        return child + 1

    cdef int complete(self, int64_t i) noexcept nogil:
        """Read the xattrs of row `i`: only what is compared needs them."""
        cdef Text path = self.rows[i].path
        cdef const char *name = b"."
        cdef size_t start
        cdef int result
        if self.rows[i].loaded & FACTS:
            return 0
        start = name_start(self.heap + path.at, path.size)
        if self.enter(path.at, start - 1 if start else 0) < 0:
            return -2
        if path.size:
            name = self.heap + path.at + start
        result = read_xattrs(
            self, self.rows + i, self.here.fd, name, USERS if self.user else ROOTS, &self.scratch
        )
        if result < 0:
            return blame(&self.fault, -result, b"read extended attributes of", self.path_at(i), path.size) - 1
        self.rows[i].flags &= ~(F_OPAQUE | F_REDIRECT | F_METACOPY | F_WHITEOUT | F_ORIGIN)
        self.rows[i].loaded |= FACTS
        return 0

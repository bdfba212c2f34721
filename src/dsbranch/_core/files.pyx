"""Opening, stating and reading xattrs below a directory descriptor, without following links.

Functions return 0 (or a descriptor) and -errno; the caller knows the path and the blame.
"""

from libc.errno cimport EINTR, EMFILE, ENFILE, ENOMEM, EPERM, ERANGE, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport free, qsort, realloc
from libc.string cimport memcmp, memcpy, memset, strcmp, strlen, strncmp

from dsbranch._core.digest cimport digest_buffer
from dsbranch._core.linux cimport *
from dsbranch._core.table cimport *

# A path handed to the kernel is kept below PATH_MAX, its NUL included.
cdef enum:
    PATH_CHUNK = 4000


cdef void scratch_free(Scratch *scratch) noexcept nogil:
    free(scratch.names)
    free(scratch.value)
    free(scratch.link)
    memset(scratch, 0, sizeof(Scratch))


cdef int reserve(char **buffer, size_t *room, size_t size) noexcept nogil:
    cdef char *grown
    if size <= room[0]:
        return 0
    grown = <char *>realloc(buffer[0], size + size // 2 + 256)
    if grown == NULL:
        return -ENOMEM
    buffer[0] = grown
    room[0] = size + size // 2 + 256
    return 0


cdef bint is_of_one(int error) noexcept nogil:
    """Whether an error concerns one file and says nothing of the others."""
    return error != ENOMEM and error != EMFILE and error != ENFILE and error != EINTR


cdef int open_one(int root, const char *path, int flags) noexcept nogil:
    """openat2 that crosses neither a symlink nor the root."""
    cdef int fd = openat2(root, path, flags | O_CLOEXEC)
    return fd if fd >= 0 else -errno


cdef int open_to_read(int root, const char *path, size_t size, int flags) noexcept nogil:
    """Open for reading, without touching the access time where that is ours to decide."""
    cdef int fd
    flags |= O_RDONLY | O_NOFOLLOW | O_NONBLOCK
    fd = open_below(root, path, size, flags | O_NOATIME)
    if fd == -EPERM:
        fd = open_below(root, path, size, flags)
    return fd


cdef int open_below(int root, const char *path, size_t size, int flags) noexcept nogil:
    """Open a relative path of any length; the empty path is the root itself."""
    cdef char part[PATH_CHUNK + 1]
    cdef size_t at = 0, cut
    cdef int fd = root, following
    if size == 0:
        return open_one(root, b".", flags)
    while size - at > PATH_CHUNK:
        cut = PATH_CHUNK
        while path[at + cut] != c'/':
            cut -= 1
        memcpy(part, path + at, cut)
        part[cut] = 0
        following = open_one(fd, part, O_PATH | O_DIRECTORY)
        if fd != root:
            close(fd)
        if following < 0:
            return following
        fd = following
        at += cut + 1
    memcpy(part, path + at, size - at)
    part[size - at] = 0
    following = open_one(fd, part, flags)
    if fd != root:
        close(fd)
    return following


# Directories that stay open from one name to the next, as siblings follow each other: a path is
# followed from its root each time it is opened, and threads that do that for each name wait for one
# another. Paths belong to tables or steps, and stay where they are meanwhile.


cdef void prepare(Directory *some, int count) noexcept nogil:
    """Have none of them be one yet."""
    cdef int i
    for i in range(count):
        some[i].fd = -1
        some[i].path = NULL


cdef bint is_at(const Directory *here, int root, const char *path, size_t size) noexcept nogil:
    """Whether it is the one that the first `size` bytes of a path below `root` name."""
    return (
        here.path != NULL
        and here.root == root
        and here.size == size
        and (here.path == path or memcmp(here.path, path, size) == 0)
    )


cdef void aim(Directory *here, int root, const char *path, size_t size) noexcept nogil:
    """Have it be that one, not open yet."""
    leave(here)
    here.root = root
    here.path = path
    here.size = size


cdef int enter(Directory *here, int root, const char *path, size_t size) noexcept nogil:
    """A descriptor of that directory, good until the next call; or what went wrong, as -errno."""
    if here.fd < 0 or not is_at(here, root, path, size):
        aim(here, root, path, size)
        here.fd = open_below(root, path, size, O_RDONLY | O_DIRECTORY)
    return here.fd


cdef void leave(Directory *here) noexcept nogil:
    if here.fd >= 0:
        close(here.fd)
    here.fd = -1
    here.path = NULL


cdef void leave_all(Directory *some, int count) noexcept nogil:
    cdef int i
    for i in range(count):
        leave(some + i)


cdef int open_beside(Directory *here, int root, const char *path, size_t size) noexcept nogil:
    """As `open_to_read`, through its directory if the last one was in that, too."""
    cdef size_t start = name_start(path, size)
    cdef int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC
    cdef int fd
    if not is_at(here, root, path, above(start)):
        aim(here, root, path, above(start))
    elif enter(here, root, path, above(start)) >= 0:
        fd = openat(here.fd, path + start, flags | O_NOATIME)
        if fd < 0 and errno == EPERM:
            fd = openat(here.fd, path + start, flags)
        if fd >= 0:
            return fd
        # The whole path tells what it is, and it may have been for want of a descriptor.
        leave(here)
    return open_to_read(root, path, size, 0)


cdef void row_from_stat(Row *row, const statx_t *s) noexcept nogil:
    """Fill a zeroed row from statx; texts and xattrs are the caller's."""
    cdef uint32_t type = s.stx_mode & S_IFMT
    row.mode = s.stx_mode & 0o7777
    row.uid = s.stx_uid
    row.gid = s.stx_gid
    row.mtime_ns = mtime_ns(s)
    row.ctime_ns = ctime_ns(s)
    row.ino = s.stx_ino
    row.dev = <uint64_t>s.stx_dev_major << 32 | s.stx_dev_minor
    row.nlink = s.stx_nlink
    row.blocks = s.stx_blocks
    if type == S_IFREG:
        row.kind = FILE
        row.size = s.stx_size
    elif type == S_IFDIR:
        row.kind = DIRECTORY
    elif type == S_IFLNK:
        row.kind = SYMLINK
        row.size = s.stx_size
    elif type == S_IFIFO:
        row.kind = FIFO
    elif type == S_IFSOCK:
        row.kind = SOCKET
    else:
        row.kind = CHAR if type == S_IFCHR else BLOCK
        row.rdev = <uint64_t>s.stx_rdev_major << 32 | s.stx_rdev_minor
        if row.kind == CHAR and row.rdev == 0:
            row.kind = WHITEOUT
            row.flags |= F_WHITEOUT


cdef int read_link(Table table, Row *row, int dir, const char *name) noexcept nogil:
    """Read a symlink's target into the table's heap. The kernel bounds targets at PATH_MAX."""
    cdef char target[4097]
    cdef ssize_t size = readlinkat(dir, name, target, 4097)
    if size < 0:
        return -errno
    if table.put(target, size, &row.target) < 0:
        return -ENOMEM
    row.flags |= F_TARGET
    row.size = size
    return 0


cdef int by_name(const void *a, const void *b) noexcept nogil:
    return strcmp((<const char **>a)[0], (<const char **>b)[0])


cdef ssize_t fetch(Scratch *s, const char *name) noexcept nogil:
    """Append one xattr's value to the packed values; its size, or -errno."""
    cdef ssize_t size
    if reserve(&s.value, &s.value_room, s.value_used + 4096) < 0:
        return -ENOMEM
    while True:
        size = lgetxattr(s.link, name, s.value + s.value_used, s.value_room - s.value_used)
        if size >= 0:
            return size
        if errno != ERANGE:
            return -errno
        size = lgetxattr(s.link, name, NULL, 0)
        if size < 0:
            return -errno
        if reserve(&s.value, &s.value_room, s.value_used + size + 64) < 0:
            return -ENOMEM


cdef int marker(Table table, Row *row, Scratch *s, const char *name, const char *tail) noexcept nogil:
    """Take in one overlay.* xattr."""
    cdef ssize_t size
    if strcmp(tail, b"whiteout") == 0:
        # Lookup heeds it wherever it is; `x` on the directory only tells readdir to look.
        if row.kind == FILE and row.size == 0:
            row.kind = WHITEOUT
            row.flags = F_WHITEOUT
        return 0
    if strcmp(tail, b"metacopy") == 0:
        if row.kind == FILE:
            row.flags |= F_METACOPY
        return 0
    if strcmp(tail, b"origin") == 0:
        # Nobody asks where a directory came from: a redirect says it of those that moved.
        if row.kind == DIRECTORY:
            return 0
    elif strcmp(tail, b"opaque") != 0 and strcmp(tail, b"redirect") != 0:
        return 0
    size = fetch(s, name)
    if size < 0:
        return <int>size
    if tail[0] == c'o' and tail[1] == c'p':
        if row.kind == DIRECTORY and size == 1 and s.value[s.value_used] == c'y':
            row.flags |= F_OPAQUE
        return 0
    if tail[0] == c'r':
        if table.put(s.value + s.value_used, size, &row.redirect) < 0:
            return -ENOMEM
        row.flags |= F_REDIRECT
        return 0
    if table.put(s.value + s.value_used, size, &row.origin) < 0:
        return -ENOMEM
    row.flags |= F_ORIGIN
    return 0


cdef bint is_kept(const char *name) noexcept nogil:
    """Whether an xattr is of a kind that any filesystem can hold for its user. The others are about
    where a file lies, as btrfs.compression or NFS's ACLs; security.evm is computed by the kernel,
    and what XFS calls trusted.SGI_ACL_… are the ACLs once more.
    """
    if strncmp(name, b"security.", 9) == 0:
        return strcmp(name, b"security.evm") != 0
    if strncmp(name, b"trusted.", 8) == 0:
        return strncmp(name, b"trusted.SGI_ACL_", 16) != 0
    return strncmp(name, b"user.", 5) == 0 or strncmp(name, b"system.posix_acl_", 17) == 0


cdef bint is_fuse_mark(int dir, const char *name) noexcept nogil:
    """Whether a name in a directory stands for its being opaque. Without the xattr it is a file of
    that name, as it is of no meaning to the kernel."""
    return (
        (strcmp(name, FUSE_OPAQUE_FILE) == 0 or strcmp(name, FUSE_OPAQUE_WHITEOUT) == 0)
        and fgetxattr(dir, FUSE_OPAQUE, NULL, 0) >= 0
    )


cdef int read_xattrs(
    Table table, Row *row, int dir, const char *name, Marks marks, Scratch *s
) noexcept nogil:
    """Read overlay markers and digest the entry's own xattrs.

    `name` is relative to `dir` and is not followed. Before Linux 6.13 no call takes a
    directory and a name; looking through /proc costs four times what AT_FDCWD does.
    """
    cdef ssize_t size, got
    cdef size_t count = 0, i, at, room
    cdef const char *prefix = b"trusted.overlay." if marks == ROOTS else b"user.overlay."
    cdef size_t skip = strlen(prefix), length
    cdef char *one
    cdef const char **names
    cdef uint64_t packed
    cdef int result
    if reserve(&s.link, &s.link_room, strlen(name) + 40) < 0:
        return -ENOMEM
    if dir == AT_FDCWD:
        memcpy(s.link, name, strlen(name) + 1)
    else:
        snprintf(s.link, s.link_room, b"/proc/self/fd/%d/%s", dir, name)
    # Most have none, and the kernel allocates what it is to fill. Without room it tells the size.
    # The pointers to the names are kept behind the list; a name takes two bytes at least.
    room = s.names_room // 8 if s.had else 0
    while True:
        size = llistxattr(s.link, s.names, room)
        if size < 0 and errno == ERANGE:
            room = 0
            continue
        if size < 0:
            return 0 if errno == ENOTSUP else -errno
        s.had = size > 0
        if size == 0:
            return 0
        if room:
            break
        if reserve(&s.names, &s.names_room, (size + 64) * 8) < 0:
            return -ENOMEM
        room = s.names_room // 8
    s.value_used = 0
    names = <const char **>(s.names + ((size + 7) // 8) * 8)
    at = 0
    while at < <size_t>size:
        one = s.names + at
        at += strlen(one) + 1
        if strncmp(one, prefix, skip) == 0 and strncmp(one + skip, b"overlay.", 8) != 0:
            result = marker(table, row, s, one, one + skip)
            if result == -ENODATA:
                continue
            if result < 0:
                return result
        elif marks != ROOTS and strncmp(one, FUSE_PREFIX, strlen(FUSE_PREFIX)) == 0:
            # What fuse-overlayfs says that the kernel does not know by this name.
            if marks == SERVERS and row.kind == DIRECTORY and strcmp(one, FUSE_OPAQUE) == 0:
                row.flags |= F_OPAQUE
        elif is_kept(one):
            names[count] = one
            count += 1
    if count == 0:
        return 0
    if count > 1:
        qsort(names, count, sizeof(const char *), <int (*)(const void *, const void *) noexcept nogil>by_name)
    for i in range(count):
        length = strlen(names[i]) + 1
        if reserve(&s.value, &s.value_room, s.value_used + length + 8) < 0:
            return -ENOMEM
        memcpy(s.value + s.value_used, names[i], length)
        s.value_used += length + 8
        got = fetch(s, names[i])
        if got == -ENODATA:
            s.value_used -= length + 8
            continue
        if got < 0:
            return <int>got
        packed = got
        memcpy(s.value + s.value_used - 8, &packed, 8)
        s.value_used += got
    if s.value_used and row.kind != WHITEOUT:
        digest_buffer(s.value, s.value_used, row.xattrs)
        row.flags |= F_XATTRS
    return 0

"""Room _core: thin wrappers of the kernel's mount API.

Promises: the GIL is released around each call; every descriptor is close-on-exec; a failure
is an OSError with errno and the path, key or file system type concerned. Paths, keys and
values are bytes without NUL (ValueError). Knows nothing of overlays, stores or workspaces.
"""

from cpython.exc cimport PyErr_SetFromErrnoWithFilenameObject
from libc cimport errno


cdef long long answer(long long result, object subject) except -1:
    """The one place where a system call's failure becomes an exception."""
    if result < 0:
        errno.errno = <int>-result
        PyErr_SetFromErrnoWithFilenameObject(OSError, subject)
    return result


cdef const char *text(bytes value) except NULL:
    if b"\0" in value:
        raise ValueError(f"embedded NUL byte in {value!r}")
    return value


def fsopen(bytes fstype not None) -> int:
    """A new filesystem context, to be configured and created. ENODEV: no such type."""
    cdef const char *name = text(fstype)
    cdef long long result
    with nogil:
        result = dsb_fsopen(name)
    return answer(result, fstype)


def fspick(bytes path not None) -> int:
    """A context to reconfigure the superblock mounted at `path` (EINVAL: no mount point)."""
    cdef const char *name = text(path)
    cdef long long result
    with nogil:
        result = dsb_fspick(name)
    return answer(result, path)


def fsconfig_string(int fd, bytes key not None, bytes value not None) -> None:
    """Set one option. The kernel takes values of at most 255 bytes."""
    cdef const char *name = text(key)
    cdef const char *content = text(value)
    cdef long long result
    with nogil:
        result = dsb_fsconfig(fd, DSB_FSCONFIG_SET_STRING, name, content, 0)
    answer(result, key)


def fsconfig_flag(int fd, bytes key not None) -> None:
    """Set one option that has no value."""
    cdef const char *name = text(key)
    cdef long long result
    with nogil:
        result = dsb_fsconfig(fd, DSB_FSCONFIG_SET_FLAG, name, NULL, 0)
    answer(result, key)


def fsconfig_fd(int fd, bytes key not None, int value) -> None:
    """Set one option to what descriptor `value` names; it can be closed afterwards."""
    cdef const char *name = text(key)
    cdef long long result
    with nogil:
        result = dsb_fsconfig(fd, DSB_FSCONFIG_SET_FD, name, NULL, value)
    answer(result, key)


def fsconfig_create(int fd) -> None:
    """Make the superblock that the options describe."""
    cdef long long result
    with nogil:
        result = dsb_fsconfig(fd, DSB_FSCONFIG_CMD_CREATE, NULL, NULL, 0)
    answer(result, None)


def fsconfig_reconfigure(int fd) -> None:
    """Apply the options to a picked superblock. After a failure the context is dead."""
    cdef long long result
    with nogil:
        result = dsb_fsconfig(fd, DSB_FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0)
    answer(result, None)


def fsmount(int fd) -> int:
    """A descriptor (as of O_PATH) of the created superblock's root, mounted nowhere yet.

    Closing it before `move_mount` undoes the mount.
    """
    cdef long long result
    with nogil:
        result = dsb_fsmount(fd)
    return answer(result, None)


def move_mount(int fd, bytes target not None, bint beneath=False) -> None:
    """Attach the mount of `fd` on `target`; `beneath` (Linux 6.5): under the one there."""
    cdef const char *name = text(target)
    cdef long long result
    with nogil:
        result = dsb_move_mount(fd, name, beneath)
    answer(result, target)


def knows_beneath() -> bool:
    """Whether `move_mount` has the flag `beneath`. OSError (EPERM): may not mount at all."""
    cdef long long result
    with nogil:
        # The kernel looks at the flags first, at the descriptor after.
        result = dsb_move_mount(-1, b"/", True)
    if result == -DSB_EBADF:
        return True
    if result == -DSB_EINVAL:
        return False
    answer(result, None)
    raise AssertionError("the kernel attached descriptor -1")


def open_tree_clone(bytes path not None, bint whole=False) -> int:
    """A descriptor of a detached copy (a bind mount mounted nowhere) of the mount at `path`;
    `whole`: with the mounts inside it."""
    cdef const char *name = text(path)
    cdef long long result
    with nogil:
        result = dsb_open_tree_clone(name, whole)
    return answer(result, path)


def own_mounts(bint user) -> None:
    """Move this process, which must have one thread, into a mount namespace of its own; if `user`,
    into a user namespace, too, in which it may mount. What others mount later still arrives there.

    ENOSPC: there are too many namespaces, or none are allowed. EPERM: they are forbidden.
    """
    cdef long long result
    with nogil:
        result = dsb_own_mounts(user)
    answer(result, None)


def setns(int fd, bint user) -> None:
    """Move this process, which must have one thread, into the user or the mount namespace that `fd`
    names, a file of ``/proc/PID/ns``. For the latter, its directories become the root there."""
    cdef long long result
    with nogil:
        result = dsb_setns(fd, user)
    answer(result, None)


def own_proc() -> None:
    """Let /proc/self belong to this process again after it has changed its user."""
    answer(dsb_dumpable(), None)


def mount_setattr(int fd, unsigned long long attributes) -> None:
    """Set MOUNT_ATTR_* flags on the mount behind `fd`, besides those it has."""
    cdef long long result
    with nogil:
        result = dsb_mount_setattr(fd, attributes)
    answer(result, None)


def umount(bytes path not None, bint lazy=False) -> None:
    """Take off the topmost mount at `path`, never following a symlink. EBUSY unless `lazy`."""
    cdef const char *name = text(path)
    cdef long long result
    with nogil:
        result = dsb_umount(name, lazy)
    answer(result, path)


def last_words(bytes text not None, int code) -> None:
    """Should a page of a mapped file turn out not to be there, write `text` (512 bytes at most) to
    standard error and exit with `code`. Otherwise the process would die by SIGBUS without a word."""
    answer(dsb_last_words(text, len(text), code), None)


def syncfs(int fd) -> None:
    """Write everything of the filesystem that holds `fd` to its disk."""
    cdef long long result
    with nogil:
        result = dsb_syncfs(fd)
    answer(result, None)


def chmod_at(int fd, bytes name not None, unsigned int mode) -> None:
    """Set the mode of the entry `name` of the directory `fd`; EOPNOTSUPP: it is a symlink."""
    answer(dsb_chmod_at(fd, text(name), mode), name)


def mount_id(bytes path not None) -> int:
    """The id, as in mountinfo, of the mount `path` lies in (symlinks followed)."""
    cdef const char *name = text(path)
    cdef long long result
    with nogil:
        result = dsb_mount_id(DSB_AT_FDCWD, name)
    return answer(result, path)


def mount_id_of(int fd) -> int:
    """The id, as in mountinfo, of the mount `fd` was opened in."""
    cdef long long result
    with nogil:
        result = dsb_mount_id(fd, b"")
    return answer(result, None)


def context_messages(int fd) -> list:
    """Take the kernel's messages off a context, oldest first: ``e ``, ``w `` or ``i `` and text."""
    cdef char buffer[4096]
    cdef long long size
    cdef list messages = []
    while True:
        with nogil:
            size = dsb_read(fd, buffer, sizeof(buffer))
        if size == 0 or size == -DSB_ENODATA:
            return messages
        answer(size, None)
        messages.append(buffer[:size].decode("utf-8", "backslashreplace").rstrip("\n"))

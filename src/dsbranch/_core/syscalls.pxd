"""Room _core: the kernel's mount API as C functions that answer a result or minus errno.

The numbers are spelled out because C libraries older than the kernel lack them; the ones of
system calls 428 to 452 are the same on every architecture but alpha.
"""

cdef extern from *:
    """
    #include <errno.h>
    #include <fcntl.h>
    #include <sched.h>
    #include <signal.h>
    #include <string.h>
    #include <sys/mount.h>
    #include <sys/prctl.h>
    #include <sys/stat.h>
    #include <sys/syscall.h>
    #include <unistd.h>

    #ifndef SYS_open_tree
    #define SYS_open_tree 428
    #define SYS_move_mount 429
    #define SYS_fsopen 430
    #define SYS_fsconfig 431
    #define SYS_fsmount 432
    #define SYS_fspick 433
    #endif
    #ifndef AT_RECURSIVE
    #define AT_RECURSIVE 0x8000
    #endif
    #ifndef SYS_fchmodat2
    #define SYS_fchmodat2 452
    #endif

    /* include/uapi/linux/mount.h, stat.h */
    enum {
        DSB_FSOPEN_CLOEXEC = 1,
        DSB_FSMOUNT_CLOEXEC = 1,
        DSB_FSPICK_CLOEXEC = 1,
        DSB_FSPICK_NO_AUTOMOUNT = 4,
        DSB_FSCONFIG_SET_FLAG = 0,
        DSB_FSCONFIG_SET_STRING = 1,
        DSB_FSCONFIG_SET_FD = 5,
        DSB_FSCONFIG_CMD_CREATE = 6,
        DSB_FSCONFIG_CMD_RECONFIGURE = 7,
        DSB_MOVE_MOUNT_F_EMPTY_PATH = 4,
        DSB_MOVE_MOUNT_BENEATH = 0x200,
        DSB_OPEN_TREE_CLONE = 1,
        DSB_STATX_MNT_ID = 0x1000,
        DSB_UMOUNT_NOFOLLOW = 8,
    };

    static long long dsb_result(long long result) {
        return result < 0 ? -(long long)errno : result;
    }
    static long long dsb_fsopen(const char *fstype) {
        return dsb_result(syscall(SYS_fsopen, fstype, DSB_FSOPEN_CLOEXEC));
    }
    static long long dsb_fspick(const char *path) {
        return dsb_result(syscall(SYS_fspick, AT_FDCWD, path,
                                  DSB_FSPICK_CLOEXEC | DSB_FSPICK_NO_AUTOMOUNT));
    }
    static long long dsb_fsconfig(int fd, unsigned command, const char *key,
                                  const char *value, int aux) {
        return dsb_result(syscall(SYS_fsconfig, fd, command, key, value, aux));
    }
    static long long dsb_fsmount(int fd) {
        return dsb_result(syscall(SYS_fsmount, fd, DSB_FSMOUNT_CLOEXEC, 0));
    }
    static long long dsb_move_mount(int fd, const char *target, int beneath) {
        return dsb_result(syscall(SYS_move_mount, fd, "", AT_FDCWD, target,
                                  DSB_MOVE_MOUNT_F_EMPTY_PATH
                                  | (beneath ? DSB_MOVE_MOUNT_BENEATH : 0)));
    }
    #ifndef SYS_mount_setattr
    #define SYS_mount_setattr 442
    #endif
    static long long dsb_chmod_at(int fd, const char *name, unsigned mode) {
        return dsb_result(syscall(SYS_fchmodat2, fd, name, mode, AT_SYMLINK_NOFOLLOW));
    }
    static long long dsb_mount_setattr(int fd, unsigned long long attributes) {
        /* struct mount_attr: attr_set, attr_clr, propagation, userns_fd */
        unsigned long long request[4] = {attributes, 0, 0, 0};
        return dsb_result(syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH, request, sizeof request));
    }
    static long long dsb_open_tree_clone(const char *path, int whole) {
        return dsb_result(syscall(SYS_open_tree, AT_FDCWD, path,
                                  DSB_OPEN_TREE_CLONE | O_CLOEXEC
                                  | (whole ? AT_RECURSIVE : 0)));
    }
    static long long dsb_umount(const char *path, int lazy) {
        return dsb_result(umount2(path, DSB_UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)));
    }
    static long long dsb_own_mounts(int user) {
        /* Slaves: mounts that the rest of the machine makes arrive, ours stay here. */
        if (unshare(CLONE_NEWNS | (user ? CLONE_NEWUSER : 0)) < 0)
            return -(long long)errno;
        return dsb_result(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL));
    }
    static long long dsb_setns(int fd, int user) {
        return dsb_result(setns(fd, user ? CLONE_NEWUSER : CLONE_NEWNS));
    }
    static long long dsb_dumpable(void) {
        return dsb_result(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
    }
    static long long dsb_syncfs(int fd) {
        return dsb_result(syncfs(fd));
    }
    static long long dsb_mount_id(int fd, const char *path) {
        struct statx stx;
        int at = AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC | AT_EMPTY_PATH;
        if (statx(fd, path, at, DSB_STATX_MNT_ID, &stx) < 0)
            return -(long long)errno;
        if (!(stx.stx_mask & DSB_STATX_MNT_ID))
            return -EOPNOTSUPP;
        /* stx_mnt_id, at byte 144 of a structure that old headers end before. */
        return (long long)*(const unsigned long long *)((const char *)&stx + 144);
    }
    static struct { char text[512]; size_t size; int code; } dsb_words;
    static void dsb_say_and_end(int number) {
        (void)number;
        if (write(STDERR_FILENO, dsb_words.text, dsb_words.size) < 0)
            _exit(dsb_words.code);
        _exit(dsb_words.code);
    }
    static long long dsb_last_words(const char *text, size_t size, int code) {
        struct sigaction action = {.sa_handler = dsb_say_and_end};
        if (size > sizeof dsb_words.text)
            return -EINVAL;
        memcpy(dsb_words.text, text, size);
        dsb_words.size = size;
        dsb_words.code = code;
        return dsb_result(sigaction(SIGBUS, &action, NULL));
    }
    static long long dsb_read(int fd, char *buffer, size_t size) {
        return dsb_result(read(fd, buffer, size));
    }
    """
    const int DSB_FSCONFIG_SET_FLAG
    const int DSB_FSCONFIG_SET_STRING
    const int DSB_FSCONFIG_SET_FD
    const int DSB_FSCONFIG_CMD_CREATE
    const int DSB_FSCONFIG_CMD_RECONFIGURE
    const int DSB_AT_FDCWD "AT_FDCWD"
    const int DSB_EBADF "EBADF"
    const int DSB_EINVAL "EINVAL"
    const int DSB_ENODATA "ENODATA"

    long long dsb_fsopen(const char *fstype) noexcept nogil
    long long dsb_fspick(const char *path) noexcept nogil
    long long dsb_fsconfig(
        int fd, unsigned int command, const char *key, const char *value, int aux
    ) noexcept nogil
    long long dsb_fsmount(int fd) noexcept nogil
    long long dsb_move_mount(int fd, const char *target, int beneath) noexcept nogil
    long long dsb_mount_setattr(int fd, unsigned long long attributes) noexcept nogil
    long long dsb_open_tree_clone(const char *path, int whole) noexcept nogil
    long long dsb_own_mounts(int user) noexcept nogil
    long long dsb_setns(int fd, int user) noexcept nogil
    long long dsb_umount(const char *path, int lazy) noexcept nogil
    long long dsb_last_words(const char *text, size_t size, int code) noexcept nogil
    long long dsb_dumpable() noexcept nogil
    long long dsb_syncfs(int fd) noexcept nogil
    long long dsb_chmod_at(int fd, const char *name, unsigned int mode) noexcept nogil
    long long dsb_mount_id(int fd, const char *path) noexcept nogil
    long long dsb_read(int fd, char *buffer, size_t size) noexcept nogil

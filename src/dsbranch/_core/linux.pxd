"""What the core takes from libc and the kernel. Declarations only."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from *:
    """
    #include <dirent.h>
    #include <errno.h>
    #include <fcntl.h>
    #include <linux/fs.h>
    #include <linux/magic.h>
    #include <linux/openat2.h>
    #include <sched.h>
    #include <signal.h>
    #include <stdint.h>
    #include <string.h>
    #include <sys/ioctl.h>
    #include <sys/stat.h>
    #include <sys/statfs.h>
    #include <sys/syscall.h>
    #include <sys/xattr.h>
    #include <time.h>
    #include <unistd.h>

    static int dsb_openat2(int dir, const char *path, int flags) {
        struct open_how how = {
            .flags = (unsigned long long)flags,
            .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
        };
        return (int)syscall(SYS_openat2, dir, path, &how, sizeof how);
    }
    static long dsb_getdents(int fd, void *buffer, size_t size) {
        return syscall(SYS_getdents64, fd, buffer, size);
    }
    /* Saturated: 64 bits of nanoseconds end in 1677 and 2262, filesystems go further. */
    static long long dsb_ns(const struct statx_timestamp *t) {
        long long ns;
        if (__builtin_mul_overflow((long long)t->tv_sec, 1000000000LL, &ns) ||
            __builtin_add_overflow(ns, (long long)t->tv_nsec, &ns))
            return t->tv_sec < 0 ? INT64_MIN : INT64_MAX;
        return ns;
    }
    static long long dsb_mtime_ns(const struct statx *s) { return dsb_ns(&s->stx_mtime); }
    static long long dsb_ctime_ns(const struct statx *s) { return dsb_ns(&s->stx_ctime); }
    /* Where the headers are older than Linux 6.9. */
    struct dsb_fsuuid2 { unsigned char len, uuid[16]; };
    #define DSB_GETFSUUID _IOR(0x15, 0, struct dsb_fsuuid2)
    static int dsb_uuid(int fd, unsigned char *out) {
        struct dsb_fsuuid2 found;
        if (ioctl(fd, DSB_GETFSUUID, &found) < 0 || found.len != 16)
            return -1;
        memcpy(out, found.uuid, 16);
        return 0;
    }
    /* The bytes of the handle; `type` is what tells kinds of handles apart. */
    static int dsb_handle(int dir, const char *name, int *type, unsigned char *out) {
        struct { struct file_handle head; unsigned char room[MAX_HANDLE_SZ]; } found;
        int mount;
        found.head.handle_bytes = MAX_HANDLE_SZ;
        if (name_to_handle_at(dir, name, &found.head, &mount, 0) < 0)
            return -errno;
        *type = found.head.handle_type;
        memcpy(out, found.head.f_handle, found.head.handle_bytes);
        return (int)found.head.handle_bytes;
    }
    static int dsb_clone(int to, int from) { return ioctl(to, FICLONE, from); }
    static long long dsb_now_ns(void) {
        struct timespec t;
        clock_gettime(CLOCK_REALTIME, &t);
        return t.tv_sec * 1000000000LL + t.tv_nsec;
    }
    static int dsb_in_memory(int fd) {
        struct statfs s;
        return fstatfs(fd, &s) < 0 || s.f_type == TMPFS_MAGIC || s.f_type == RAMFS_MAGIC;
    }
    #ifndef FUSE_SUPER_MAGIC
    #define FUSE_SUPER_MAGIC 0x65735546
    #endif
    static int dsb_of_fuse(int fd) {
        struct statfs s;
        return fstatfs(fd, &s) == 0 && s.f_type == FUSE_SUPER_MAGIC;
    }
    /* The kernel grants a read lease only while nobody has the file open for writing or mapped to
       be written to. It is given back at once; should a writer ask in between, the signal is one
       that does nothing by default, where SIGIO would kill. */
    static int dsb_unwritten(int fd) {
        if (fcntl(fd, F_SETSIG, SIGURG) < 0 || fcntl(fd, F_SETLEASE, F_RDLCK) < 0)
            return 0;
        fcntl(fd, F_SETLEASE, F_UNLCK);
        return 1;
    }
    """
    int openat2 "dsb_openat2"(int dir, const char *path, int flags) nogil
    long getdents "dsb_getdents"(int fd, void *buffer, size_t size) nogil
    int uuid_of_fs "dsb_uuid"(int fd, unsigned char *out) nogil
    int handle_of "dsb_handle"(int dir, const char *name, int *type, unsigned char *out) nogil
    enum:
        MAX_HANDLE_SZ
    int clone_file "dsb_clone"(int to, int source) nogil
    bint in_memory "dsb_in_memory"(int fd) nogil
    bint of_fuse "dsb_of_fuse"(int fd) nogil
    int64_t now_ns "dsb_now_ns"() nogil
    bint unwritten "dsb_unwritten"(int fd) nogil

    struct statx_t "statx":
        uint32_t stx_nlink
        uint32_t stx_uid
        uint32_t stx_gid
        uint32_t stx_mode
        uint64_t stx_ino
        uint64_t stx_size
        uint64_t stx_blocks
        uint32_t stx_rdev_major
        uint32_t stx_rdev_minor
        uint32_t stx_dev_major
        uint32_t stx_dev_minor
    int statx(int dir, const char *path, int flags, unsigned int mask, statx_t *out) nogil
    int64_t mtime_ns "dsb_mtime_ns"(const statx_t *s) nogil
    int64_t ctime_ns "dsb_ctime_ns"(const statx_t *s) nogil
    unsigned int STATX_BASIC_STATS

    struct dirent64:
        unsigned short d_reclen
        unsigned char d_type
        char d_name[0]

    ssize_t fgetxattr(int fd, const char *name, void *value, size_t size) nogil
    ssize_t flistxattr(int fd, char *names, size_t size) nogil
    ssize_t llistxattr(const char *path, char *names, size_t size) nogil
    ssize_t lgetxattr(const char *path, const char *name, void *value, size_t size) nogil
    int lremovexattr(const char *path, const char *name) nogil
    int removexattr(const char *path, const char *name) nogil
    int mkdirat(int dir, const char *name, unsigned int mode) nogil
    int linkat(int from_dir, const char *path, int to_dir, const char *name, int flags) nogil
    ssize_t readlinkat(int dir, const char *path, char *buffer, size_t size) nogil

    int ENODATA
    int ENOTSUP
    int AT_EMPTY_PATH
    int AT_FDCWD
    int AT_NO_AUTOMOUNT
    int AT_SYMLINK_NOFOLLOW
    int O_CLOEXEC
    int O_DIRECTORY
    int O_NOATIME
    int POSIX_FADV_WILLNEED
    int O_NOFOLLOW
    int O_NONBLOCK
    int O_PATH
    int O_RDONLY
    int CLONE_FS
    int unshare(int flags) nogil
    int SEEK_DATA
    int SEEK_HOLE
    int SEEK_SET
    int SEEK_END
    int openat(int dir, const char *path, int flags, ...) nogil
    int close(int fd) nogil
    int fchdir(int fd) nogil
    int64_t lseek(int fd, int64_t offset, int whence) nogil
    ssize_t read(int fd, void *buffer, size_t size) nogil
    int posix_fadvise(int fd, int64_t at, int64_t size, int advice) nogil
    ssize_t pread(int fd, void *buffer, size_t size, int64_t offset) nogil

    unsigned int S_IFMT
    unsigned int S_IFREG
    unsigned int S_IFDIR
    unsigned int S_IFLNK
    unsigned int S_IFIFO
    unsigned int S_IFSOCK
    unsigned int S_IFCHR
    unsigned int S_IFBLK

cdef extern from "<stdlib.h>" nogil:
    int posix_memalign(void **out, size_t alignment, size_t size)
    void qsort_r(
        void *base, size_t count, size_t size,
        int (*compare)(const void *, const void *, void *) noexcept nogil, void *arg
    )

cdef extern from "<dlfcn.h>" nogil:
    void *dlopen(const char *path, int flags)
    void *dlsym(void *handle, const char *name)
    int RTLD_NOW

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *, void *)
    int pthread_mutex_destroy(pthread_mutex_t *)
    int pthread_mutex_lock(pthread_mutex_t *)
    int pthread_mutex_unlock(pthread_mutex_t *)
    int pthread_cond_init(pthread_cond_t *, void *)
    int pthread_cond_destroy(pthread_cond_t *)
    int pthread_cond_wait(pthread_cond_t *, pthread_mutex_t *)
    int pthread_cond_signal(pthread_cond_t *)
    int pthread_cond_broadcast(pthread_cond_t *)

cdef extern from *:
    """
    #define dsb_fetch_add(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)
    #define dsb_load(p) __atomic_load_n((p), __ATOMIC_RELAXED)
    #define dsb_store(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
    """
    int64_t fetch_add "dsb_fetch_add"(int64_t *where, int64_t value) nogil
    int load_int "dsb_load"(int *where) nogil
    int64_t load_long "dsb_load"(int64_t *where) nogil
    void store_int "dsb_store"(int *where, int value) nogil

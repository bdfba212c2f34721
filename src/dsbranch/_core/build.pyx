"""Carrying out a plan of steps below a directory: a squashed layer, or an export.

Hard links where a layer is made; a copy (by reflink where the filesystem can) only where the
metadata of one layer belong to the data of another, or where nothing may be shared, as with a
directory that others write to. Otherwise no byte is read.
"""

import os
import stat
from itertools import islice

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport ELOOP, EMLINK, ENOENT, ENOTDIR, ENXIO, EPERM, errno
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcpy

from dsbranch._core.entries import is_own, own_xattrs, value_of
from dsbranch._core.gather import expect
from dsbranch._core.syscalls import chmod_at

from dsbranch._core.base cimport Base
from dsbranch._core.files cimport open_below, open_to_read
from dsbranch._core.handles cimport Handles, ancestors
from dsbranch._core.links cimport Links
from dsbranch._core.linux cimport *
from dsbranch._core.squash cimport *
from dsbranch._core.table cimport *
from dsbranch._core.view cimport Spot, View

cdef enum:
    TOGETHER = 1024      # of whose content up to 256 MiB is read ahead

# Links that are made together.
_AT_ONCE = 1 << 13
# Names of an inode. With fewer it has at most twice as many when those that it has in a layer were
# linked into another: half of what ext4 allows.
_CROWDED = 16_000

MODES = {
    FIFO: stat.S_IFIFO, SOCKET: stat.S_IFSOCK, CHAR: stat.S_IFCHR, BLOCK: stat.S_IFBLK,
}


def missing(int error) -> Exception:
    """What to raise for a source that cannot be opened: a layer that lacks it is unsound."""
    if error == -ENOENT or error == -ENOTDIR or error == -ELOOP:
        return ValueError("it is missing from its layer")
    return OSError(-error, os.strerror(-error))


cdef tuple facts_of(Step step):
    """Mode, uid, gid and mtime_ns of what a step makes."""
    cdef Table table
    cdef int64_t row
    if step.facts is not None:
        return step.facts
    table, row = step.source
    return table.rows[row].mode, table.rows[row].uid, table.rows[row].gid, table.rows[row].mtime_ns


cdef object blamed(Step step, object error):
    """The error again, with the path of the step that failed."""
    if isinstance(error, OSError):
        return OSError(error.errno, error.strerror, os.fsdecode(step.path))
    return ValueError(f"{os.fsdecode(step.path)!r}: {error}")


cdef class Place:
    """As `files.Directory`, for paths that nobody else keeps."""

    cdef bytes path
    cdef int fd

    def __cinit__(self):
        self.fd = -1

    def __dealloc__(self):
        if self.fd >= 0:
            close(self.fd)

    cdef int enter(self, int root, bytes path) except -2:
        """A descriptor of the directory `path` below `root`, good until the next call."""
        if self.fd >= 0 and path == self.path:
            return self.fd
        cdef int fd = open_below(root, path, len(path), O_RDONLY | O_DIRECTORY)
        if fd < 0:
            raise OSError(-fd, os.strerror(-fd))
        if self.fd >= 0:
            close(self.fd)
        self.fd, self.path = fd, path
        return fd


cdef class Builder:
    """Carries a plan out below a directory."""

    cdef int target
    cdef Place here              # where the entry of a step is made
    cdef Place first             # that of the whiteout, or of the entry, that others link to
    cdef bytes prefix            # of overlay xattrs
    cdef str dialect
    cdef bint layer              # the target is a layer, not an export
    cdef bint share              # it may have inodes of the sources
    cdef dict crowded            # (table id, link group) -> whether it has too many names
    cdef dict names              # where it cannot: (table id, link group) -> the name made first
    cdef bytes whiteout          # the last one made, to link the next ones to
    cdef readonly int64_t linked
    cdef readonly int64_t copied
    cdef readonly int64_t copied_bytes

    def __init__(self, target: bytes, dialect: str, bint layer, bint share):
        self.target = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.here = Place()
        self.first = Place()
        self.dialect = dialect
        self.prefix = b"user.overlay." if dialect == "user" else b"trusted.overlay."
        self.layer = layer
        self.share = share
        self.crowded = {}
        self.names = {}

    def __dealloc__(self):
        if self.target > 0:
            close(self.target)

    def run(self, steps) -> None:
        cdef Step step
        cdef int64_t count = 0
        cdef list directories = []
        cdef list links = []
        for step in told_ahead(steps):
            if count & 255 == 0:
                PyErr_CheckSignals()
            count += 1
            if step.action == LINK and self.share and not self.is_crowded(step):
                links.append(step)
                if len(links) == <int64_t>_AT_ONCE:
                    self.link(links)
                    links = []
                continue
            if step.action == DIRECTORY_STEP:
                directories.append(step)
            try:
                self.one(step)
            except (OSError, ValueError) as error:
                # The first failure counts, and the links before it are still to be made.
                self.link(links)
                raise blamed(step, error) from error
        self.link(links)
        # A directory's times change with each entry made in it, and its mode may forbid that.
        for step in reversed(directories):
            try:
                self.finish(step)
            except OSError as error:
                raise blamed(step, error) from error

    cdef int link(self, list steps) except -1:
        """Link sealed files; copy those that the kernel refuses (too many links, immutable)."""
        cdef Step step
        cdef Table table
        cdef int64_t row
        cdef int64_t i
        cdef int error
        cdef Links links = Links(self.target, self, steps)
        links.make()
        for i in range(links.count):
            step = steps[i]
            error = links.links[i].error
            if not error:
                self.linked += 1
                continue
            PyErr_CheckSignals()
            table, row = step.source
            try:
                if error not in (EMLINK, EPERM) or table.rows[row].kind != FILE:
                    raise OSError(error, os.strerror(error))
                self.one(step)
            except (OSError, ValueError) as reason:
                raise blamed(step, reason) from reason
        return 0

    cdef bint is_crowded(self, Step step) except -1:
        """Whether some of an inode's names in a layer may find no more links: these would become names
        of a copy, and the others not, so all are to be.

        Told once for an inode that its own links could bring there. Not told of paths that are too
        long for the kernel.
        """
        cdef Table table
        cdef int64_t row
        cdef statx_t s
        table, row = step.source
        if not table.rows[row].group:
            return False
        key = (id(table), table.rows[row].group)
        if key not in self.crowded:
            if statx(
                table.root_fd, table.path_at(row), AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &s
            ) < 0 or 2 * s.stx_nlink < <uint32_t>_CROWDED:
                return False
            self.crowded[key] = s.stx_nlink >= <uint32_t>_CROWDED
        return self.crowded[key]

    cdef int unowned(self, int mode) except -1:
        """The mode of what only root could make as it was; raises what is being handled, but in an
        ordinary user's export: that is theirs, as a copy by cp, and nobody runs it as another."""
        if self.layer or os.geteuid() == 0:
            raise
        return mode & ~0o6000

    cdef bint is_of_root(self, str name):
        """Whether an xattr of a new layer's root was that of the root it is made like."""
        return self.layer and not name.startswith("security.") and is_own(os.fsencode(name), self.dialect)

    cdef bytes shown(self, bytes name):
        """The name an xattr has in the target."""
        if self.layer or not name.startswith(self.prefix + b"overlay."):
            return name
        return self.prefix + name[len(self.prefix) + len(b"overlay."):]

    cdef int one(self, Step step) except -1:
        cdef bytes directory, name
        cdef int here, there
        if not step.path:
            # As a directory is made: it may be like one that must not be written to.
            os.fchmod(self.target, 0o700)
            self.describe(step, self.target, 0o700)
            return 0
        directory, _, name = step.path.rpartition(b"/")
        here = self.here.enter(self.target, directory)
        if step.action == LINK:
            self.separate(step, here, name)
        elif step.action == DIRECTORY_STEP:
            there = make_directory(here, name)
            try:
                self.describe(step, there, 0o700)
            finally:
                close(there)
        elif step.action == WHITEOUT_STEP:
            self.make_whiteout(step.path, here, name)
        elif step.action == AGAIN:
            self.link_to_first(step.first, here, name)
        elif step.action == NODE:
            self.make_node(step, here, name)
        elif step.action == TOMB:
            os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=here))
        else:
            self.write(step, here, name)
        return 0

    cdef int link_to_first(self, bytes first, int here, bytes name) except -1:
        """Link an entry made before, `first`, under another name."""
        cdef bytes directory, old
        directory, _, old = first.rpartition(b"/")
        link_file(self.first.enter(self.target, directory), old, here, name)
        return 0

    cdef int make_node(self, Step step, int here, bytes name) except -1:
        cdef Table table
        cdef int64_t row
        cdef Row *entry
        table, row = step.source if step.data is None else step.data
        entry = table.rows + row
        if entry.kind == SYMLINK:
            os.symlink(table.text(entry.target), name, dir_fd=here)
        else:
            os.mknod(
                name,
                MODES[entry.kind] | 0o600,
                os.makedev(entry.rdev >> 32, entry.rdev & 0xFFFFFFFF),
                dir_fd=here,
            )
        mode, uid, gid, mtime_ns = facts_of(step)
        try:
            os.chown(name, uid, gid, dir_fd=here, follow_symlinks=False)
        except PermissionError:
            mode = self.unowned(mode)
        place = b"/proc/self/fd/%d/%s" % (here, name)
        table, row = step.source
        own = own_xattrs(table, row, dialect=self.dialect)
        for key in map(os.fsencode, os.listxattr(place, follow_symlinks=False)):
            if key.startswith(b"system.posix_acl_") and key not in own:
                os.removexattr(place, key, follow_symlinks=False)
        for key, value in own.items():
            try:
                os.setxattr(place, key, value, follow_symlinks=False)
            except PermissionError:
                self.unowned(mode)
        if entry.kind != SYMLINK:
            chmod_at(here, name, mode)
        os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=here, follow_symlinks=False)
        return 0

    cdef int make_whiteout(self, bytes path, int here, bytes name) except -1:
        if self.whiteout is not None:
            try:
                self.link_to_first(self.whiteout, here, name)
                return 0
            except OSError as error:
                if error.errno != EMLINK:
                    raise
        os.mknod(name, 0o020000, 0, dir_fd=here)
        self.whiteout = path
        return 0

    cdef int copy(self, Step step, int here, bytes name) except -1:
        """Make a regular file that was to be linked, with an inode of its own."""
        cdef Table table
        cdef int64_t row
        table, row = step.source
        step.data = None if table.rows[row].flags & F_METACOPY else step.source
        if step.data is None:
            step.action = STUB
            if table.rows[row].flags & F_REDIRECT:
                step.marker = table.text(table.rows[row].redirect)
        else:
            step.action = COPY
        return self.write(step, here, name)

    cdef int separate(self, Step step, int here, bytes name) except -1:
        """Make what is not to be linked anew; names of one inode are names of one inode again."""
        cdef Table table
        cdef int64_t row
        cdef tuple key
        table, row = step.source
        if table.rows[row].group:
            key = (id(table), table.rows[row].group)
            if self.names.setdefault(key, step.path) != step.path:
                return self.link_to_first(self.names[key], here, name)
        if table.rows[row].kind == FILE:
            return self.copy(step, here, name)
        return self.make_node(step, here, name)

    cdef int write(self, Step step, int here, bytes name) except -1:
        """Make a regular file with the metadata of `source` and the content of `data`, or a stub."""
        cdef Table table
        cdef int64_t row
        cdef int source
        cdef int out = os.open(
            name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=here
        )
        try:
            if step.action == STUB:
                table, row = step.source if step.data is None else step.data
                os.ftruncate(out, table.rows[row].size)
            else:
                table, row = step.data
                source = open_to_read(
                    table.root_fd, table.path_at(row), table.rows[row].path.size, 0
                )
                if source < 0:
                    raise missing(source)
                try:
                    self.copied_bytes += copy_data(source, out, table.rows[row].size)
                finally:
                    os.close(source)
                self.copied += 1
            self.describe(step, out, 0)
            os.utime(out, ns=self.times(step))
        finally:
            os.close(out)
        return 0

    cdef int describe(self, Step step, int out, int more) except -1:
        """Give an open entry the owner, mode and xattrs of its source, and its own marker.

        `more` are the permissions that it needs until `finish`.
        """
        cdef ssize_t size
        cdef int error
        mode, uid, gid, _ = facts_of(step)
        try:
            os.fchown(out, uid, gid)
        except PermissionError:
            # The root of a layer belongs to whoever makes it.
            if step.path:
                mode = self.unowned(mode)
        if step.marker is not None:
            os.setxattr(
                out, self.prefix + (b"opaque" if step.marker == b"y" else b"redirect"), step.marker
            )
        wanted = self.take_xattrs(step, out, mode) if self.may_have_xattrs(step) else []
        # A default ACL of the directory it was made in is not its own.
        size = flistxattr(out, NULL, 0)
        error = errno
        if size < 0 and error != ENOTSUP:
            raise OSError(error, os.strerror(error))
        if size > 0:
            for name in os.listxattr(out):
                if name not in wanted and (
                    name.startswith("system.posix_acl_") or not step.path and self.is_of_root(name)
                ):
                    os.removexattr(out, name)
        if step.action == STUB and os.fsdecode(self.prefix + b"metacopy") not in wanted:
            os.setxattr(out, self.prefix + b"metacopy", b"")
        # After the ACL, which changes mode bits.
        os.fchmod(out, mode | more)
        return 0

    cdef bint may_have_xattrs(self, Step step) except -1:
        """Whether what a step's source has by way of xattrs is worth a look, as most have none.

        It is not looked at otherwise: a directory that is missing from its layer is made as its
        manifest says.
        """
        cdef Table table
        cdef int64_t row
        table, row = step.source
        return step.action == STUB or isinstance(table, Base) or table.rows[row].flags & F_XATTRS

    cdef list take_xattrs(self, Step step, int out, int mode):
        """Give an open entry the xattrs of its source; the names that this has."""
        cdef Table table
        cdef int64_t row
        cdef int source
        table, row = step.source
        source = open_to_read(table.root_fd, table.path_at(row), table.rows[row].path.size, 0)
        if source < 0:
            raise missing(source)
        try:
            wanted = os.listxattr(source)
            # An ACL last: it may take the right to set the others.
            for name in sorted(wanted, key=lambda name: name.startswith("system.")):
                raw = os.fsencode(name)
                if is_own(raw, self.dialect) or (raw == self.prefix + b"metacopy" and step.action == STUB):
                    value = value_of(source, raw)
                    if value is None:
                        continue
                    try:
                        os.setxattr(out, self.shown(raw), value)
                    except PermissionError:
                        self.unowned(mode)
        finally:
            os.close(source)
        return wanted

    cdef tuple times(self, Step step):
        return (facts_of(step)[3],) * 2

    cdef int finish(self, Step step) except -1:
        """Give a directory in which nothing more is made its times and mode."""
        cdef bytes directory, name
        cdef int mode = facts_of(step)[0]
        if not step.path:
            if mode & 0o700 != 0o700:
                os.fchmod(self.target, mode)
            os.utime(self.target, ns=self.times(step))
            return 0
        directory, _, name = step.path.rpartition(b"/")
        here = self.here.enter(self.target, directory)
        if mode & 0o700 != 0o700:
            chmod_at(here, name, mode)
        os.utime(name, ns=self.times(step), dir_fd=here, follow_symlinks=False)
        return 0


def told_ahead(steps):
    """The steps; the disk is told of the files that some of them copy before the first is."""
    cdef Step step
    rest = iter(steps)
    while together := list(islice(rest, TOGETHER)):
        files = [step.data for step in together if step.action == COPY]
        if files:
            expect(files)
        yield from together


cdef int make_directory(int here, bytes name) except -1:
    """A descriptor of a new directory, which only its maker may enter."""
    cdef const char *called = name
    cdef int there = -1, error
    if mkdirat(here, called, 0o700) == 0:
        there = openat(here, called, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    if there < 0:
        error = errno
        raise OSError(error, os.strerror(error))
    return there


cdef int link_file(int there, bytes old, int here, bytes name) except -1:
    cdef const char *from_name = old
    cdef const char *to_name = name
    cdef int error = 0
    with nogil:
        if linkat(there, from_name, here, to_name, 0) < 0:
            error = errno
    if error:
        raise OSError(error, os.strerror(error))
    return 0


cdef int64_t copy_data(int source, int out, int64_t size) except -1:
    """Copy by reflink if the filesystem can, else the data between the holes; bytes copied."""
    cdef int64_t at = 0, data, hole, got, copied = 0
    if os.fstat(source).st_size != size:
        raise ValueError(f"a file of {os.fstat(source).st_size} bytes should have {size}")
    if clone_file(out, source) == 0:
        return 0
    os.ftruncate(out, size)
    while at < size:
        data = lseek(source, at, SEEK_DATA)
        if data < 0 and errno == ENXIO:
            break
        hole = lseek(source, data, SEEK_HOLE) if data >= 0 else -1
        if hole < 0:
            raise OSError(errno, os.strerror(errno))
        os.lseek(out, data, os.SEEK_SET)
        os.lseek(source, data, os.SEEK_SET)
        while data < hole:
            got = os.sendfile(out, source, None, min(hole - data, 1 << 24))
            if got == 0:
                raise ValueError("a file ended before its time")
            data += got
            copied += got
            PyErr_CheckSignals()
        at = hole
    return copied


def build(
    steps, target: bytes, *, dialect: str = "trusted", layer: bool = True, share: bool = True
) -> tuple:
    """Carry out `steps` in the empty directory `target`: ``(linked, copied, copied bytes)``.

    `layer` False makes an export: xattrs get the names that a mount shows. `share` False: the
    sources are not sealed, and nothing is linked that others may write to.

    :raises OSError: the first failure, with the path; what was made so far is left there
    """
    cdef Builder builder = Builder(target, dialect, layer, share)
    builder.run(steps)
    return builder.linked, builder.copied, builder.copied_bytes


def inherit(Table table, steps, parts=()) -> None:
    """Give the scanned new layer the digests and origins that the steps' sources had.

    What was copied up from one of `parts`, layers that the new one stands for, newest first, gets
    the origin that had: it is to be found below the new layer.

    :raises OSError: an entry of a part could not be looked at
    """
    cdef Step step
    cdef Table source
    cdef Handles handles = ancestors(parts)
    cdef Row *row
    cdef Row *known
    cdef Spot entry, data
    cdef View view = View([table])
    cdef int64_t at
    for step in steps:
        if step.action == WHITEOUT_STEP or step.action == DIRECTORY_STEP or not step.path:
            continue
        view.walk(step.path, 0, &entry, &data)
        if entry.layer < 0:
            raise ValueError(f"{step.path!r} is missing from the layer just built")
        row = table.rows + entry.row
        source, at = step.source
        if not source.rows[at].flags & F_ORIGIN and step.data is not None:
            source, at = step.data
        # Also where a link to what an open layer has still says it, which is its own one.
        if source.rows[at].flags & F_ORIGIN:
            source, at = handles.first(source, at)
            known = source.rows + at
            if table.put(source.heap + known.origin.at, known.origin.size, &row.origin) < 0:
                raise_fault(&table.fault)
            row.flags |= F_ORIGIN
        source, at = step.data or step.source
        known = source.rows + at
        if known.flags & F_DIGEST and row.kind == FILE and not row.flags & F_METACOPY:
            memcpy(row.digest, known.digest, DIGEST_BYTES)
            row.flags |= F_DIGEST

"""Room overlay: the driver on the kernel's own overlay, for those who may mount.

Promises: no descriptor and no mount outlives a failure, and every failure names what was
tried and carries the kernel's words. Knows no store and takes no lock.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from dsbranch._core import syscalls
from dsbranch.errors import MountInUse, UnsupportedError
from dsbranch.model.views import MountPlan
from dsbranch.overlay import namespaces
from dsbranch.overlay.log import KernelLog
from dsbranch.overlay.mountinfo import by_id
from dsbranch.overlay.patience import soon, take_off
from dsbranch.overlay.refusal import refusal

_STRING_LIMIT = 255
# fs/overlayfs/super.c, ovl_report_in_use: what is said of a mount that no mount table shows.
_IN_USE = "upperdir is in-use as upperdir/workdir of another mount"
# MOUNT_ATTR_* of linux/mount.h
_ATTRIBUTES = {b"ro": 1, b"nosuid": 2, b"nodev": 4, b"noexec": 8}


class KernelPrepared:
    """A detached overlay mount. `fd` is its root, usable with ``dir_fd=`` before `attach`."""

    def __init__(self, fd: int, plan: MountPlan, driver: KernelDriver) -> None:
        self.fd = fd
        self.plan = plan
        self._driver = driver

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self.fd)

    @property
    def mount_id(self) -> int:
        return syscalls.mount_id_of(self.fd)

    def attach(self, target: Path, *, beneath: bool = False, pid: int = 0) -> None:
        namespaces.within(pid, lambda: self._attach(target, beneath=beneath))

    def _attach(self, target: Path, *, beneath: bool) -> None:
        if beneath and not self._driver.can_mount_beneath:
            raise UnsupportedError(
                f"cannot mount beneath {target}: that needs Linux 6.5",
                hint=f"this is Linux {os.uname().release}; unmount first",
            )
        try:
            syscalls.move_mount(self.fd, os.fsencode(target), beneath)
        except OSError as error:
            where = "beneath" if beneath else "on"
            raise refusal(f"mount an overlay {where} {target}", error) from error


class KernelDriver:
    """`Driver` by fsopen, fsconfig, fsmount, move_mount. Needs Linux 6.8 and CAP_SYS_ADMIN."""

    @cached_property
    def can_mount_beneath(self) -> bool:
        try:
            return syscalls.knows_beneath()
        except OSError as error:
            raise refusal("mount anything", error) from error

    def prepare(self, plan: MountPlan, *, pid: int = 0) -> KernelPrepared:
        fd = namespaces.descriptor_from(pid, lambda: self._superblock(plan))
        return KernelPrepared(fd, plan, self)

    def _superblock(self, plan: MountPlan) -> int:
        doing = f"mount {plan.source}"
        with KernelLog() as log:
            # A volatile one can be made only once, of directories that are new, so nobody has them.
            if plan.upper is None or ("volatile", "") in plan.options:
                return _made(plan, doing, log)
            if log.heard:
                made = _made(plan, doing, log)
                if not any(_IN_USE in line for line in log.lines()):
                    return made
                # Or else it was said of somebody else's mount.
                os.close(made)

            def is_free() -> bool:
                taken = _is_in_use(plan)
                log.lines()  # which that attempt left there
                return not taken

            # A view taken off keeps its upper until the last who looks something up in it is done.
            if soon(is_free):
                return _made(plan, doing, log)
        raise _upper_in_use(doing)

    def bind(
        self,
        source: Path,
        target: Path,
        *,
        beneath: bool = False,
        options: bytes = b"",
        whole: bool = False,
        source_pid: int = 0,
        pid: int = 0,
    ) -> None:
        doing = f"mount {source} {'beneath' if beneath else 'on'} {target}"
        attributes = sum(_ATTRIBUTES.get(option, 0) for option in options.split(b","))

        def clone() -> int:
            return syscalls.open_tree_clone(os.fsencode(source), whole)

        def attach() -> None:
            if attributes:
                syscalls.mount_setattr(fd, attributes)
            syscalls.move_mount(fd, os.fsencode(target), beneath)

        try:
            fd = namespaces.descriptor_from(source_pid, clone)
            try:
                namespaces.within(pid, attach)
            finally:
                os.close(fd)
        except OSError as error:
            raise refusal(doing, error) from error

    def move(self, source: Path, target: Path) -> bool:
        fd = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syscalls.move_mount(fd, os.fsencode(target))
            return True
        except OSError as error:
            # No mount leaves a directory whose mounts other namespaces share, as most systems'
            # root is.
            if error.errno != errno.EINVAL or not _is_mount_point(source, fd):
                raise refusal(f"move the mount at {source} to {target}", error) from error
        finally:
            os.close(fd)
        self.bind(source, target)
        self.detach(source, lazy=True)
        return False

    def set_read_only(self, path: Path) -> bool:
        return _reconfigure(path, b"ro")

    def set_writable(self, path: Path) -> None:
        _reconfigure(path, b"rw")

    def detach(self, path: Path, *, lazy: bool) -> None:
        def unmount() -> bool:
            try:
                syscalls.umount(os.fsencode(path), lazy)
            except OSError as error:
                if error.errno == errno.EBUSY:
                    return False
                if error.errno == errno.EINVAL:
                    raise refusal(f"unmount {path}, it is no mount point", error) from error
                raise refusal(f"unmount {path}", error) from error
            return True

        take_off(path, unmount)


def _made(plan: MountPlan, doing: str, log: KernelLog) -> int:
    """A mount. Where the index is off, that its upper is in use is said in the log, not refused."""
    with _context(doing) as context:
        try:
            _configure(context, plan)
            syscalls.fsconfig_create(context)
            return syscalls.fsmount(context)
        except OSError as error:
            raise refusal(
                doing if error.filename is None else f"{doing} ({_subject(error)})",
                error,
                messages=syscalls.context_messages(context),
                logged=log.lines(),
                work=plan.work,
            ) from error


def _is_in_use(plan: MountPlan) -> bool:
    """Whether another mount, one that no table shows perhaps, writes to the upper directory.

    Where the index is off the kernel says so in its log alone, which not everybody may read. With
    it, it refuses; should nobody have the upper, the impossible workdir keeps this from becoming a
    mount. Root reads the log instead, as each such attempt leaves a line there.
    """
    assert plan.upper is not None
    with _context(f"mount {plan.source}") as context:
        try:
            if ("userxattr", "") in plan.options:
                syscalls.fsconfig_flag(context, b"userxattr")
            syscalls.fsconfig_string(context, b"index", b"on")
            _set_directory(context, b"lowerdir+", plan.lowers[-1])
            for key in (b"upperdir", b"workdir"):
                _set_directory(context, key, plan.upper)
            syscalls.fsconfig_create(context)
        except OSError as error:
            # What else is wrong, mounting it will say.
            return error.errno == errno.EBUSY
    raise AssertionError("the kernel took one directory for both upper and work")


def _upper_in_use(doing: str) -> MountInUse:
    return MountInUse(
        f"cannot {doing}: its upper directory is in use by another mount, a detached one perhaps",
        hint="end the processes that still stand in the old view, then try again",
    )


@contextmanager
def _context(doing: str) -> Iterator[int]:
    try:
        context = syscalls.fsopen(b"overlay")
    except OSError as error:
        raise refusal(doing, error) from error
    try:
        yield context
    finally:
        os.close(context)


def _configure(context: int, plan: MountPlan) -> None:
    syscalls.fsconfig_string(context, b"source", plan.source.encode())
    for key, value in plan.options:
        if value:
            syscalls.fsconfig_string(context, key.encode(), value.encode())
        else:
            syscalls.fsconfig_flag(context, key.encode())
    for lower in plan.lowers:
        _set_directory(context, b"lowerdir+", lower)
    if plan.upper is not None and plan.work is not None:
        _set_directory(context, b"upperdir", plan.upper)
        _set_directory(context, b"workdir", plan.work)


def _set_directory(context: int, key: bytes, path: Path) -> None:
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syscalls.fsconfig_fd(context, key, fd)
    except OSError as error:
        if error.errno != errno.EINVAL:
            error.filename = os.fspath(path)
            raise
        # Linux 6.8 to 6.12 take strings only; what they complained of is no news then.
        syscalls.context_messages(context)
        try:
            syscalls.fsconfig_string(context, key, _as_string(path, fd))
        except OSError as second:
            second.filename = os.fspath(path)
            raise
    finally:
        os.close(fd)


def _as_string(path: Path, fd: int) -> bytes:
    """The path itself where the kernel takes it literally, since mount tables will show it."""
    name = os.fsencode(path)
    if len(name) <= _STRING_LIMIT and b"\\" not in name:
        return name
    return b"/proc/self/fd/%d" % fd


def _subject(error: OSError) -> str:
    return os.fsdecode(error.filename)


def _reconfigure(path: Path, flag: bytes) -> bool:
    """False: EBUSY. A failure kills the context, so each call picks its own."""
    doing = f"make {path} {'read-only' if flag == b'ro' else 'writable'}"
    try:
        context = syscalls.fspick(os.fsencode(path))
    except OSError as error:
        raise refusal(doing, error) from error
    with KernelLog() as log:
        try:
            syscalls.fsconfig_flag(context, flag)
            syscalls.fsconfig_reconfigure(context)
        except OSError as error:
            if error.errno == errno.EBUSY:
                return False
            raise refusal(
                doing, error, messages=syscalls.context_messages(context), logged=log.lines()
            ) from error
        finally:
            os.close(context)
    return True


def _is_mount_point(path: Path, fd: int) -> bool:
    entry = by_id(syscalls.mount_id_of(fd))
    return entry is not None and entry.path == os.fsencode(path)

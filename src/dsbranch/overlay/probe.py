"""Room overlay: can this directory hold branches of that dataset? Proved by doing.

A detached mount over a scratch directory does what branches do; nothing of it stays and no
path ever shows it. What fails becomes one sentence that says what is missing.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import NamedTuple

from dsbranch._core import syscalls
from dsbranch.errors import (
    BadPath,
    DsbranchError,
    MountRefused,
    NoPrivilege,
    StorageError,
    UnsupportedError,
)
from dsbranch.model import Dialect, MountPlan
from dsbranch.overlay.kernel import KernelDriver
from dsbranch.overlay.locate import mount_at
from dsbranch.overlay.markers import prefix
from dsbranch.overlay.plan import plan
from dsbranch.overlay.refusal import kernel_reason, refusal

_ELSEWHERE = (
    "put the workspace on ext4, xfs, btrfs or tmpfs: `dsbranch init DATASET /other/disk/ws`"
)
PROBE_PREFIX = ".dsbranch-probe-"
"""What the scratch directory's name begins with; a killed probe leaves one."""


class _Scratch(NamedTuple):
    """A directory in the store. `name` is unique, so it meets no entry of the base's root."""

    store: Path
    base: Path
    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def lower(self) -> Path:
        return self.path / "lower"

    @property
    def upper(self) -> Path:
        return self.path / "upper"

    @property
    def work(self) -> Path:
        return self.path / "work"

    def plan(self, dialect: Dialect, *, with_base: bool) -> MountPlan:
        made = plan(
            lowers=[self.lower, self.base] if with_base else [self.lower],
            upper=self.upper,
            work=self.work,
            source="dsbranch-probe",
            dialect=dialect,
        )
        # Unmounting would else write the whole disk's dirty data out first, for nothing.
        return made._replace(options=(*made.options, ("volatile", "")))


def probe_store(directory: Path, base: Path) -> Dialect:
    """The dialect in which layers under `directory` work on top of `base`.

    A scratch directory inside `directory` is made and removed. Takes some milliseconds.

    :raises BadPath: `directory` does not exist
    :raises NoPrivilege: the caller may not mount, or may not write to `directory`
    :raises UnsupportedError: a filesystem or the kernel lacks something; the sentence says what
    :raises StorageError: the disk is full or failing
    """
    directory, base = directory.absolute(), base.absolute()
    _check_privilege(directory)
    try:
        path = Path(tempfile.mkdtemp(prefix=PROBE_PREFIX, dir=directory))
    except OSError as error:
        raise _unwritable(directory, error) from error
    try:
        scratch = _Scratch(directory, base, path)
        dialect = _dialect(scratch)
        _fill(scratch)
        _mount_and_use(scratch, dialect)
        return dialect
    finally:
        shutil.rmtree(path)


def _check_privilege(directory: Path) -> None:
    try:
        os.close(syscalls.fsopen(b"overlay"))
    except OSError as error:
        raise refusal(f"hold branches in {directory}", error) from error


def _dialect(scratch: _Scratch) -> Dialect:
    """Whose xattrs the caller may write there: a user namespace allows only ``user.``."""
    dialects: tuple[Dialect, ...] = ("trusted", "user")
    for dialect in dialects:
        try:
            os.setxattr(scratch.path, prefix(dialect) + b"opaque", b"y")
        except OSError as error:
            if error.errno == errno.EPERM and dialect == "trusted":
                continue
            if error.errno == errno.ENOTSUP:
                raise _unsupported(scratch, "it has no extended attributes") from error
            raise _unwritable(scratch.store, error) from error
        return dialect
    raise AssertionError("unreachable: the last dialect returns or raises")


def _fill(scratch: _Scratch) -> None:
    try:
        inner = scratch.lower / scratch.name / "directory"
        inner.mkdir(parents=True)
        (inner / "inside").touch()
        (inner.parent / "deleted").touch()
        (inner.parent / "file").write_bytes(b"x" * 4096)
        scratch.upper.mkdir()
        scratch.work.mkdir()
    except OSError as error:
        raise _unwritable(scratch.store, error) from error


def _mount_and_use(scratch: _Scratch, dialect: Dialect) -> None:
    driver = KernelDriver()
    try:
        mounted = driver.prepare(scratch.plan(dialect, with_base=True))
    except MountRefused as error:
        # A refused volatile mount leaves its mark in the workdir, and that refuses the next.
        shutil.rmtree(scratch.work)
        scratch.work.mkdir()
        try:
            with driver.prepare(scratch.plan(dialect, with_base=False)):
                raise _base_refused(scratch, error) from error
        except MountRefused:
            raise _unsupported(scratch, _reason(error)) from error
    with mounted:
        _delete(scratch, mounted.fd)
        if dialect == "trusted":
            _change_mode(scratch, mounted.fd)
            _rename(scratch, mounted.fd)


def _delete(scratch: _Scratch, view: int) -> None:
    try:
        os.unlink(f"{scratch.name}/deleted", dir_fd=view)
        status = os.lstat(scratch.upper / scratch.name / "deleted")
    except OSError as error:
        raise _unsupported(scratch, f"deleting a file there fails ({error.strerror})") from error
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != 0:
        raise _unsupported(scratch, "deleting a file leaves no whiteout")


def _change_mode(scratch: _Scratch, view: int) -> None:
    try:
        os.chmod(f"{scratch.name}/file", 0o600, dir_fd=view)
        _marker(scratch, "file", b"metacopy")
    except OSError as error:
        raise _unsupported(
            scratch, f"changing a file's mode without copying it fails ({error.strerror})"
        ) from error


def _rename(scratch: _Scratch, view: int) -> None:
    old, new = f"{scratch.name}/directory", f"{scratch.name}/renamed"
    try:
        os.rename(old, new, src_dir_fd=view, dst_dir_fd=view)
        _marker(scratch, "renamed", b"redirect")
        os.stat(f"{new}/inside", dir_fd=view)
    except OSError as error:
        raise _unsupported(scratch, f"renaming a directory fails ({error.strerror})") from error


def _marker(scratch: _Scratch, name: str, marker: bytes) -> bytes:
    """ENODATA if the kernel did without the marker, and so copied."""
    return os.getxattr(scratch.upper / scratch.name / name, prefix("trusted") + marker)


def _filesystem(path: Path) -> str:
    entry = mount_at(path)
    return "an unknown filesystem" if entry is None else entry.fstype


def _reason(error: MountRefused) -> str:
    return kernel_reason(error.kernel) or os.strerror(error.errno)


def _unsupported(scratch: _Scratch, missing: str) -> UnsupportedError:
    filesystem = _filesystem(scratch.store)
    if filesystem == "overlay":
        said = f"{scratch.store} lies on an overlay itself and cannot hold an upper directory"
    else:
        said = f"{scratch.store} ({filesystem}) cannot hold an upper directory"
    return UnsupportedError(f"{said}: {missing}", hint=_ELSEWHERE)


def _base_refused(scratch: _Scratch, error: MountRefused) -> UnsupportedError:
    return UnsupportedError(
        f"{scratch.base} ({_filesystem(scratch.base)}) cannot lie below an overlay: "
        f"{_reason(error)}",
        hint="adopt a copy of it on an ordinary filesystem",
    )


def _unwritable(directory: Path, error: OSError) -> DsbranchError:
    if error.errno == errno.EROFS:
        return UnsupportedError(f"{directory} is on a read-only filesystem", hint=_ELSEWHERE)
    if error.errno in (errno.EACCES, errno.EPERM):
        return NoPrivilege(
            f"{directory} cannot be written to: {error.strerror}",
            hint="run the same command as root, or choose a directory of yours",
        )
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return BadPath(f"{directory} is no directory", hint=_ELSEWHERE)
    return StorageError(
        f"{directory} cannot be written to: {error.strerror}",
        errno=error.errno or 0,
        hint="`df -h` and the kernel log say more",
    )

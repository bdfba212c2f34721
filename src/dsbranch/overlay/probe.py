"""Room overlay: can this directory hold branches of that dataset? Proved by doing.

A detached mount over a scratch directory does what branches do; nothing of it stays and no
path ever shows it. What fails becomes one sentence that says what is missing.
"""

import errno
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from dsbranch.errors import (
    BadPath,
    DsbranchError,
    MountRefused,
    NoPrivilege,
    StorageError,
    UnsupportedError,
)
from dsbranch.model.facts import Dialect
from dsbranch.model.views import MountPlan
from dsbranch.overlay.kernel import KernelDriver
from dsbranch.overlay.locate import mount_at
from dsbranch.overlay.markers import prefix
from dsbranch.overlay.namespaces import within_own
from dsbranch.overlay.plan import plan
from dsbranch.overlay.privilege import may_mount
from dsbranch.overlay.refusal import kernel_reason

_ELSEWHERE = (
    "put the workspace on ext4, xfs, btrfs or tmpfs: `dsbranch init DATASET /other/disk/ws`"
)
PROBE_PREFIX = ".dsbranch-probe-"
"""What the scratch directory's name begins with; a killed probe leaves one."""
_OLD_SECONDS = 60.0


class Scratch(NamedTuple):
    """A directory in the store. `name` is unique, so it meets no entry of the base's root."""

    store: Path
    base: Path | None
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
            lowers=[self.lower, self.base] if with_base and self.base else [self.lower],
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
    An ordinary user's mount is made in a namespace of their own, as all of theirs are.

    :raises BadPath: `directory` does not exist
    :raises NoPrivilege: the caller may mount nowhere, or may not write to `directory`
    :raises UnsupportedError: a filesystem or the kernel lacks something; the sentence says what
    :raises StorageError: the disk is full or failing
    """
    if may_mount(f"hold branches in {directory}"):
        return _probe(directory, base)
    from dsbranch.overlay.served import chosen

    if chosen():
        return _probe_by_fuse(directory, base)
    return within_own(lambda: _probe(directory, base))


def _probe_by_fuse(directory: Path, base: Path) -> Dialect:
    with scratch_in(directory, base) as scratch:
        dialect = dialect_of(scratch, ["user"])
        with shown_by_fuse(scratch, dialect) as view:
            delete(scratch, view)
        return dialect


@contextmanager
def shown_by_fuse(scratch: Scratch, dialect: Dialect) -> Iterator[int]:
    """As `mounted`, by fuse-overlayfs."""
    from dsbranch.overlay import fuse

    _fill(scratch)
    driver, target = fuse.FuseDriver(), scratch.path / "view"
    target.mkdir()
    with driver.prepare(scratch.plan(dialect, with_base=True)) as prepared:
        prepared.attach(target)
    try:
        view = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield view
        finally:
            os.close(view)
    finally:
        driver.detach(target, lazy=False)


def _probe(directory: Path, base: Path) -> Dialect:
    with scratch_in(directory, base) as scratch:
        dialect = dialect_of(scratch)
        with mounted(scratch, dialect) as view:
            delete(scratch, view)
            if dialect == "trusted":
                change_mode(scratch, view)
                rename(scratch, view)
        return dialect


@contextmanager
def scratch_in(directory: Path, base: Path | None) -> Iterator[Scratch]:
    """A directory in `directory` that goes with all in it. Those of killed probes go, too.

    :raises DsbranchError: as `probe_store`
    """
    directory = directory.absolute()
    try:
        _sweep(directory)
        path = Path(tempfile.mkdtemp(prefix=PROBE_PREFIX, dir=directory))
    except OSError as error:
        raise _unwritable(directory, error) from error
    try:
        yield Scratch(directory, None if base is None else base.absolute(), path)
    finally:
        shutil.rmtree(path)


def _sweep(directory: Path) -> None:
    for leftover in directory.glob(PROBE_PREFIX + "*"):
        # A probe takes milliseconds; a young one may be that of another process here.
        with suppress(FileNotFoundError):
            if time.time() - leftover.lstat().st_mtime > _OLD_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)


def dialect_of(scratch: Scratch, dialects: Sequence[Dialect] = ("trusted", "user")) -> Dialect:
    """Whose xattrs the caller may write there: a user namespace allows only ``user.``."""
    for dialect in dialects:
        try:
            os.setxattr(scratch.path, prefix(dialect) + b"opaque", b"y")
        except OSError as error:
            if error.errno == errno.EPERM and dialect == "trusted":
                continue
            if error.errno == errno.ENOTSUP:
                raise unsupported(scratch, "it has no extended attributes") from error
            raise _unwritable(scratch.store, error) from error
        return dialect
    raise AssertionError("unreachable: the last dialect returns or raises")


def _fill(scratch: Scratch) -> None:
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


@contextmanager
def mounted(scratch: Scratch, dialect: Dialect) -> Iterator[int]:
    """The root of a detached overlay with some entries in it, as a descriptor."""
    _fill(scratch)
    driver = KernelDriver()
    try:
        prepared = driver.prepare(scratch.plan(dialect, with_base=True))
    except MountRefused as error:
        # A refused volatile mount leaves its mark in the workdir, and that refuses the next.
        shutil.rmtree(scratch.work)
        scratch.work.mkdir()
        try:
            with driver.prepare(scratch.plan(dialect, with_base=False)):
                raise _base_refused(scratch, error) from error
        except MountRefused:
            raise unsupported(scratch, _reason(error)) from error
    with prepared:
        yield prepared.fd


def delete(scratch: Scratch, view: int) -> None:
    try:
        os.unlink(f"{scratch.name}/deleted", dir_fd=view)
        status = os.lstat(scratch.upper / scratch.name / "deleted")
    except OSError as error:
        raise unsupported(scratch, f"deleting a file there fails ({error.strerror})") from error
    if not stat.S_ISCHR(status.st_mode) or status.st_rdev != 0:
        raise unsupported(scratch, "deleting a file leaves no whiteout")


def change_mode(scratch: Scratch, view: int) -> None:
    try:
        os.chmod(f"{scratch.name}/file", 0o600, dir_fd=view)
        _marker(scratch, "file", b"metacopy")
    except OSError as error:
        raise unsupported(
            scratch, f"changing a file's mode without copying it fails ({error.strerror})"
        ) from error


def rename(scratch: Scratch, view: int) -> None:
    old, new = f"{scratch.name}/directory", f"{scratch.name}/renamed"
    try:
        os.rename(old, new, src_dir_fd=view, dst_dir_fd=view)
        _marker(scratch, "renamed", b"redirect")
        os.stat(f"{new}/inside", dir_fd=view)
    except OSError as error:
        raise unsupported(scratch, f"renaming a directory fails ({error.strerror})") from error


def _marker(scratch: Scratch, name: str, marker: bytes) -> bytes:
    """ENODATA if the kernel did without the marker, and so copied."""
    return os.getxattr(scratch.upper / scratch.name / name, prefix("trusted") + marker)


def filesystem(path: Path) -> str:
    """Its type, as mount tables have it."""
    entry = mount_at(path)
    return "an unknown filesystem" if entry is None else entry.fstype


def _reason(error: MountRefused) -> str:
    return kernel_reason(error.kernel) or os.strerror(error.errno)


def unsupported(scratch: Scratch, missing: str) -> UnsupportedError:
    """What is said of a directory that cannot hold branches; `missing` is a clause."""
    kind = filesystem(scratch.store)
    if kind == "overlay":
        said = f"{scratch.store} lies on an overlay itself and cannot hold an upper directory"
    else:
        said = f"{scratch.store} ({kind}) cannot hold an upper directory"
    return UnsupportedError(f"{said}: {missing}", hint=_ELSEWHERE)


def _base_refused(scratch: Scratch, error: MountRefused) -> UnsupportedError:
    assert scratch.base is not None, "without one the mount is the same"
    return UnsupportedError(
        f"{scratch.base} ({filesystem(scratch.base)}) cannot lie below an overlay: "
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

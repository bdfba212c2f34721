"""Room overlay: what of OverlayFS works here, each thing found out by using it.

Everything happens in a scratch directory and in a mount namespace that ends with the probe, so
nothing of it stays, and no other process sees it. What does not work is a `Check`, no exception.
"""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from dsbranch._core import syscalls
from dsbranch.errors import DsbranchError
from dsbranch.model.facts import Dialect
from dsbranch.model.health import Check, State
from dsbranch.overlay.kernel import KernelDriver
from dsbranch.overlay.namespaces import enter_own, within_own
from dsbranch.overlay.privilege import may_mount
from dsbranch.overlay.probe import (
    Scratch,
    change_mode,
    delete,
    dialect_of,
    filesystem,
    mounted,
    rename,
    scratch_in,
    shown_by_fuse,
    unsupported,
)
from dsbranch.overlay.refusal import refusal
from dsbranch.overlay.served import PROGRAM, chosen

DATASET, REFLINK = "dataset", "reflink"
"""Two checks that ops completes, which knows whether both filesystems are one."""
ON_ONE = "put dataset and workspace on one XFS or btrfs, if files are large"

_NOBODY = 65534
_FICLONE = 0x40049409  # linux/fs.h
_NO_REFLINK = (errno.EOPNOTSUPP, errno.ENOTTY, errno.ENOSYS, errno.EXDEV, errno.EINVAL)


def mounting() -> Check:
    """Whether this process may mount as it is."""
    name = "mounting"
    way = "`dsbranch run` and `dsbranch shell` show a branch to what they run; `mount` takes root"
    try:
        if may_mount("mount overlays"):
            return Check(name, "ok", "this process may mount overlays")
        if chosen():
            way = f"`dsbranch mount` has {PROGRAM} make them"
    except DsbranchError as error:
        return Check(name, "fail", str(error), error.hint)
    return Check(name, "warn", "this process may not mount overlays for all to see", way)


def user_namespaces() -> Check:
    """Whether an ordinary user may make a user namespace, and mount an overlay in it."""
    name, root = "user namespaces", os.geteuid() == 0
    try:
        within_own(_as_ordinary_user if root else _mount_in_memory)
    except DsbranchError as error:
        return Check(name, "warn", str(error), error.hint)
    except OSError as error:
        return Check(name, "warn", f"they could not be tried: {error.strerror}")
    return Check(name, "ok", "ordinary users may make them, and mount overlays in them")


def _as_ordinary_user() -> None:
    os.setgroups([])
    os.setgid(_NOBODY)
    os.setuid(_NOBODY)
    syscalls.own_proc()
    enter_own()
    _mount_in_memory()


def _mount_in_memory() -> None:
    """An overlay on a tmpfs, which belongs to whoever is the user here."""
    place = Path(tempfile.gettempdir())
    try:
        context = syscalls.fsopen(b"tmpfs")
        syscalls.fsconfig_create(context)
        syscalls.move_mount(syscalls.fsmount(context), os.fsencode(place))
    except OSError as error:
        raise refusal("mount a tmpfs in a user namespace", error) from error
    with scratch_in(place, None) as scratch, mounted(scratch, "user") as view:
        delete(scratch, view)


def store_features(directory: Path, base: Path | None) -> list[Check]:
    """What an overlay can do whose layers lie in `directory`, and the dataset at `base`.

    Where this process may not mount, what it could do in a user namespace.
    """
    try:
        if chosen():
            return _served_features(directory, base)
        return within_own(lambda: _features(directory, base))
    except DsbranchError as error:
        return [Check("store", "fail", str(error), error.hint)]


def _features(directory: Path, base: Path | None) -> list[Check]:
    with scratch_in(directory, base) as scratch:
        dialect = dialect_of(scratch)
        kind = filesystem(directory)
        with mounted(scratch, dialect) as view:
            found = [Check("store", "ok", f"{kind} can hold the layers")]
            if base is not None:
                found.append(Check(DATASET, "ok", f"{filesystem(base)} can lie below them"))
            found += _uses(scratch, view, dialect)
        found += [_user_dialect(directory), _by_descriptor(scratch), _reflink(scratch, kind)]
        return found


def _served_features(directory: Path, base: Path | None) -> list[Check]:
    with scratch_in(directory, base) as scratch:
        dialect = dialect_of(scratch, ["user"])
        kind = filesystem(directory)
        with shown_by_fuse(scratch, dialect) as view:
            found = [Check("store", "ok", f"{kind} can hold the layers")]
            if base is not None:
                found.append(Check(DATASET, "ok", f"{filesystem(base)} can lie below them"))
            found.append(_whiteouts(scratch, view))
        way = "let root allow user namespaces: the kernel does better"
        return [
            *found,
            Check("metacopy", "warn", f"{PROGRAM} copies all data for a chmod", way),
            Check("redirect_dir", "warn", f"{PROGRAM} copies a directory for a `mv`", way),
            Check("live commit", "warn", "all files of a branch have to be closed for it", way),
            _reflink(scratch, kind),
        ]


def _whiteouts(scratch: Scratch, view: int) -> Check:
    return _tried("whiteouts", "a deleted file leaves one", lambda: delete(scratch, view))


def _uses(scratch: Scratch, view: int, dialect: Dialect) -> list[Check]:
    found = [_whiteouts(scratch, view)]
    if dialect == "trusted":
        found += [
            _tried("metacopy", "chmod and chown copy no data", lambda: change_mode(scratch, view)),
            _tried("redirect_dir", "directories are renamed", lambda: rename(scratch, view)),
        ]
    else:
        why = "a user namespace cannot"
        found += [
            Check("metacopy", "warn", f"{why}: chmod and chown copy all data", "run it as root"),
            Check(
                "redirect_dir", "warn", f"{why}: `mv` copies a whole directory", "run it as root"
            ),
        ]
    return [
        *found,
        _tried(
            "read-only switch",
            "refused while a file is open for writing",
            lambda: _switch(scratch, view),
        ),
        _tried(
            "mount beneath",
            "a commit changes a view without a gap",
            lambda: _mount_beneath(scratch, view),
        ),
    ]


def _tried(name: str, found: str, attempt: Callable[[], None], state: State = "fail") -> Check:
    try:
        attempt()
    except DsbranchError as error:
        return Check(name, state, str(error), error.hint)
    except OSError as error:
        return Check(name, state, f"trying it fails: {error}")
    return Check(name, "ok", found)


def _switch(scratch: Scratch, view: int) -> None:
    """What a commit does to find out whether anything writes."""
    driver, place = KernelDriver(), Path(f"/proc/self/fd/{view}")
    writer = os.open(f"{scratch.name}/file", os.O_WRONLY | os.O_CLOEXEC, dir_fd=view)
    try:
        if driver.set_read_only(place):
            raise unsupported(scratch, "it becomes read-only while a file is open for writing")
    finally:
        os.close(writer)
    if not driver.set_read_only(place):
        raise unsupported(scratch, "it stays writable though nothing is open for writing")


def _mount_beneath(scratch: Scratch, view: int) -> None:
    """What a commit does so that no path ever disappears."""
    driver, target = KernelDriver(), scratch.path / "view"
    target.mkdir()
    syscalls.move_mount(view, os.fsencode(target))
    try:
        driver.bind(scratch.lower / scratch.name / "directory", target, beneath=True)
        driver.detach(target, lazy=True)
        if not (target / "inside").exists():
            raise unsupported(scratch, "what was mounted beneath does not come to light")
    finally:
        driver.detach(target, lazy=True)


def _user_dialect(directory: Path) -> Check:
    def use() -> None:
        with (
            scratch_in(directory, None) as scratch,
            mounted(scratch, dialect_of(scratch, ["user"])) as view,
        ):
            delete(scratch, view)

    return _tried("userxattr", "layers of ordinary users work", use, "warn")


def _by_descriptor(scratch: Scratch) -> Check:
    context = syscalls.fsopen(b"overlay")
    lower = os.open(scratch.lower, os.O_PATH | os.O_CLOEXEC)
    try:
        syscalls.fsconfig_fd(context, b"lowerdir+", lower)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return Check("lowerdir+", "ok", "by path (by descriptor from Linux 6.13 on)")
    finally:
        os.close(lower)
        os.close(context)
    return Check("lowerdir+", "ok", "by descriptor, however long a path is")


def _reflink(scratch: Scratch, kind: str) -> Check:
    with (
        open(scratch.lower / scratch.name / "file", "rb") as source,
        open(scratch.path / "clone", "wb") as clone,
    ):
        try:
            fcntl.ioctl(clone, _FICLONE, source.fileno())
        except OSError as error:
            if error.errno not in _NO_REFLINK:
                raise
            return Check(REFLINK, "warn", f"{kind} shares no data between files", ON_ONE)
    return Check(REFLINK, "ok", f"{kind} shares data between files")

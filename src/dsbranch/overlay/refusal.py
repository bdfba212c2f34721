"""Room overlay: a failed system call becomes a domain error. The one place for these words."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from dsbranch.errors import MountInUse, MountRefused, NoPrivilege

_AS_ROOT = (
    "in a workspace of your own, `dsbranch shell BRANCH` shows one without, and with"
    " DSBRANCH_DRIVER=fuse-overlayfs in the environment that mounts it; in root's, run the same"
    " command as root, for example with sudo"
)


def no_privilege(doing: str) -> NoPrivilege:
    """`doing` is what was tried, as in "mount /data/ws/main"."""
    if os.geteuid() == 0:
        return NoPrivilege(
            f"cannot {doing}: root may not mount here (CAP_SYS_ADMIN is missing or confined)",
            hint="run it outside of the container, or give the container CAP_SYS_ADMIN",
        )
    return NoPrivilege(f"cannot {doing}: only root may mount overlays", hint=_AS_ROOT)


def refusal(
    doing: str,
    error: OSError,
    *,
    messages: Sequence[str] = (),
    logged: Sequence[str] = (),
    work: Path | None = None,
) -> MountRefused | NoPrivilege:
    """The error for a refused mount call; `work` is the overlay's workdir, if it has one.

    `messages` come from the filesystem context, `logged` from the kernel log in the same form;
    the log counts only where the context is silent.
    """
    code = error.errno or 0
    kernel = tuple(messages) or tuple(logged)
    if code == errno.EPERM and not kernel:
        return no_privilege(doing)
    reason = kernel_reason(kernel)
    return MountRefused(
        f"cannot {doing}: {reason or os.strerror(code)}",
        errno=code,
        kernel=kernel,
        hint=_hint(code, reason, work),
    )


def in_use(path: Path) -> MountInUse:
    """The error for a mount that something keeps from being taken off."""
    from dsbranch.overlay.mountinfo import children
    from dsbranch.overlay.writers import find_users

    inner = children(path)
    if inner:
        return MountInUse(
            f"{path} is in use: {os.fsdecode(inner[0].path)} is mounted inside",
            hint=f"unmount {os.fsdecode(inner[0].path)} first",
        )
    users = find_users(path)
    names = ", ".join(f"{user.command} ({user.pid})" for user in users[:3])
    return MountInUse(
        f"{path} is in use" + (f" by {names}" if names else "") + (", …" if users[3:] else ""),
        processes=users,
        hint="close these files and leave the directory, or unmount lazily",
    )


def kernel_reason(kernel: Sequence[str]) -> str:
    """The errors among the kernel's lines in one phrase, or all of them where none is an error."""
    errors = [line for line in kernel if line.startswith("e ")] or kernel
    return "; ".join(line[2:].removeprefix("overlay: ") for line in errors)


def _hint(code: int, reason: str, work: Path | None) -> str:
    if "volatile" in reason and work is not None:
        return (
            "it was mounted with `volatile` and never unmounted, so what was written last may be"
            f" missing; to use it as it is: `rm -r {work / 'work/incompat/volatile'}`"
        )
    if work is not None and (missing := _used_up(work)):
        # The kernel tries out the upper by making files, and tells what it takes that for.
        return f"the filesystem of {work} has no {missing} left: remove something there"
    if "lowerdir+" in reason:
        return "dsbranch needs Linux 6.8 or newer; this is " + os.uname().release
    if code == errno.ENODEV:
        return "this kernel has no OverlayFS; `modprobe overlay` loads it where it is a module"
    if code == errno.ENOSYS:
        return "dsbranch needs the mount API of Linux 6.8 or newer; this is " + os.uname().release
    if code == errno.ENOSPC:
        return "its disk is full, see `df`, or there are as many mounts as /proc/sys/fs/mount-max"
    return "the kernel's log may say more: `dmesg | tail`"


def _used_up(path: Path) -> str | None:
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    if found.f_files and not found.f_ffree:
        return "inode"
    return None if found.f_bfree else "block"

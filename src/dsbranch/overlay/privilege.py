"""Room overlay: what this process may do, and what the kernel shows to it."""

from __future__ import annotations

import errno
import os

from dsbranch._core import syscalls
from dsbranch.overlay.processes import read
from dsbranch.overlay.refusal import refusal

_SYS_ADMIN = 21  # linux/capability.h
_EVERYBODY = [b"0", b"0", b"4294967295"]


def sees_trusted() -> bool:
    """Whether ``trusted.`` xattrs are shown to this process, which takes CAP_SYS_ADMIN outside of
    any user namespace (xattr(7)); whoever has it not is told that there are none."""
    mask = read("/proc/self/status").partition(b"\nCapEff:")[2].split(None, 1)[0]
    capable = int(mask, 16) >> _SYS_ADMIN & 1
    return bool(capable) and read("/proc/self/uid_map").split() == _EVERYBODY


def may_mount(doing: str) -> bool:
    """Whether mounts can be made for all to see; False: an ordinary user makes them in a user
    namespace.

    `doing` is what was tried, as in "mount /data/ws/main".

    :raises NoPrivilege: this is root, who is kept from it and gains nothing by a namespace
    :raises MountRefused: there are no overlays here at all
    """
    try:
        os.close(syscalls.fsopen(b"overlay"))
    except OSError as error:
        if error.errno == errno.EPERM and os.geteuid() != 0:
            return False
        raise refusal(doing, error) from error
    return True

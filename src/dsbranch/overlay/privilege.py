"""Room overlay: what the kernel shows to whom."""

from __future__ import annotations

import re

from dsbranch.overlay.processes import read

_SYS_ADMIN = 21  # linux/capability.h
_EVERYBODY = [b"0", b"0", b"4294967295"]


def sees_trusted() -> bool:
    """Whether ``trusted.`` xattrs are shown to this process, which takes CAP_SYS_ADMIN outside of
    any user namespace (xattr(7)); whoever has it not is told that there are none."""
    found = re.search(rb"^CapEff:\s*([0-9a-f]+)$", read("/proc/self/status"), re.MULTILINE)
    assert found is not None, "proc_pid_status(5)"
    capable = int(found[1], 16) >> _SYS_ADMIN & 1
    return bool(capable) and read("/proc/self/uid_map").split() == _EVERYBODY

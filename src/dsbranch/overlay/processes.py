"""Room overlay: the processes of this machine, as /proc tells them. Read only."""

from __future__ import annotations

import os

VANISHED = (FileNotFoundError, ProcessLookupError, PermissionError)
"""What reading /proc/PID raises when the process ended meanwhile or belongs to another user."""

_SHOWN = 80


def pids() -> list[int]:
    """All process ids, ascending."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def read(path: str) -> bytes:
    """The whole of a file of /proc. A process that is just ending reads as vanished."""
    with open(path, "rb", buffering=0) as file:
        return file.readall() or b""


def is_of_container(pid: int, container: str) -> bool:
    """Whether a process is in a control group that has the id of a container in its name."""
    try:
        return container.encode() in read(f"/proc/{pid}/cgroup")
    except VANISHED:
        return False


def command(pid: int) -> str:
    """The command line, on one line and cut at 80 characters; kernel threads by their name.

    :raises OSError: one of VANISHED
    """
    words = read(f"/proc/{pid}/cmdline").replace(b"\0", b" ") or read(f"/proc/{pid}/comm")
    text = " ".join(words.decode("utf-8", "replace").split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"

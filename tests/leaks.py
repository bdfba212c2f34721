"""Test foundation: what a test must not leave behind, and how it is removed.

Everything a run makes lies below one temporary directory of its own, and every process it
starts has MARK in its environment, so what is ours is told apart from the machine's.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

MARK = "DSBRANCH_TEST_RUN"


def mounts(below: Path) -> list[str]:
    """Mount points at or below a directory, innermost first."""
    prefix = os.fsencode(below)
    found = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        point = _unescape(line.split(b" ")[4])
        if point == prefix or point.startswith(prefix + b"/"):
            found.append(os.fsdecode(point))
    return list(reversed(found))


def loop_devices(below: Path) -> list[str]:
    """Loop devices whose file lies, or lay, below a directory."""
    found = []
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            file = backing.read_text().strip()
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                raise
            continue  # another run's, detached since it was listed
        if file.startswith(f"{below}/"):
            found.append(f"/dev/{backing.parts[3]}")
    return found


def processes(mark: str) -> list[tuple[int, str]]:
    """Living processes that this run started, orphans included, with their commands."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                found.append((int(entry.name), command.decode(errors="backslashreplace")))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it has ended, or is not ours to look at
    return found


def unreaped() -> list[int]:
    """Children of this process that ended and were never waited for."""
    me = str(os.getpid())
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if fields[0] == "Z" and fields[1] == me:
                found.append(int(entry.name))
    return found


def all_leaks(temporary: Path, mark: str, *, known: tuple[str, ...] = ()) -> Iterator[str]:
    """One line for each thing left behind; `known` are names that may stay in `temporary`."""
    for point in mounts(temporary):
        yield f"mount {point}"
    for device in loop_devices(temporary):
        yield f"loop device {device}"
    for pid, command in processes(mark):
        yield f"process {pid}: {command}"
    for pid in unreaped():
        yield f"zombie {pid}"
    for entry in sorted(temporary.iterdir()):
        if entry.name not in known:
            yield f"stray {entry}"


def sweep(temporary: Path, mark: str) -> None:
    """Remove all of it, processes first. `temporary` itself goes too."""
    for pid, _ in processes(mark):
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            continue
    for point in mounts(temporary):
        subprocess.run(["umount", "-l", point], check=True)
    for device in loop_devices(temporary):
        subprocess.run(["losetup", "-d", device], check=True)
    shutil.rmtree(temporary)


def _unescape(field: bytes) -> bytes:
    for code, char in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        field = field.replace(code, char)
    return field

"""One command, timed as a whole process, with its peak memory and what it added to the disk.

What the numbers mean: `seconds` is from spawn to exit; `sync_seconds` is a syncfs of the
filesystem right after, shown apart because tools differ in whether they wait for the disk;
`peak_mb` is the largest single process, `anonymous_mb` the most of the command's own memory that
the kernel can neither drop nor write back to a file, looked at every 10 ms where it runs in a
group. Linux carries the peak of the process that spawns across exec, so nothing reads below
`floor_mb`: this process stays small, and what is large runs in others.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

DSBRANCH = str(Path(sys.executable).with_name("dsbranch"))
"""As users call it: ``python -m dsbranch`` takes 3 ms more."""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Taken:
    """What a command took. Megabytes are 10^6 bytes; a negative `code` is a signal."""

    seconds: float
    sync_seconds: float
    peak_mb: float
    added_mb: float
    code: int
    errors: str
    anonymous_mb: float | None = None


def run(
    command: str | Sequence[str],
    place: Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 900,
    group: Path | None = None,
) -> Taken:
    """Run `command`, a bash script if it is one string; `place` is on the filesystem it writes to.

    Beyond `timeout` seconds it is killed with all its session. `group` is the control group it
    enters.
    """
    words = ["bash", "-euo", "pipefail", "-c", command] if isinstance(command, str) else command
    if group is not None:
        words = ["sh", "-c", 'echo $$ >"$0"; exec "$@"', str(group / "cgroup.procs"), *words]

    syncfs(place)
    with (place / ".stderr").open("w+b") as errors:
        before, started = used(place), time.perf_counter()
        child = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            cwd=cwd or place,
            env=env,
            start_new_session=True,
        )
        alarm = threading.Timer(timeout, os.killpg, (child.pid, signal.SIGKILL))
        alarm.start()
        with _watching(child.pid, watch=group is not None) as most:
            _, status, spent = os.wait4(child.pid, 0)
            ended = time.perf_counter()
        alarm.cancel()
        child.returncode = os.waitstatus_to_exitcode(status)
        syncfs(place)
        synced = time.perf_counter()
        errors.seek(0)
        said = errors.read().decode(errors="replace")
    return Taken(
        seconds=ended - started,
        sync_seconds=synced - ended,
        peak_mb=spent.ru_maxrss * 1024 / 1e6,
        added_mb=(used(place) - before) / 1e6,
        code=child.returncode,
        errors=said[-400:],
        anonymous_mb=max(most, default=None),
    )


def untimed(
    script: str, env: Mapping[str, str], *, cwd: Path | None = None, check: bool = True
) -> None:
    """Run a bash script beside what is measured; one that may fail says nothing."""
    quiet = subprocess.DEVNULL
    subprocess.run(
        ["bash", "-euo" if check else "-uo", "pipefail", "-c", script],
        cwd=cwd,
        env=env,
        check=check,
        stdin=quiet,
        stdout=quiet,
        stderr=None if check else quiet,
    )


@contextmanager
def _watching(pid: int, *, watch: bool) -> Iterator[list[float]]:
    """Collect the megabytes of anonymous memory that a process has during the body."""
    found: list[float] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.01):
            with suppress(OSError):
                _, _, rest = Path(f"/proc/{pid}/status").read_text().partition("RssAnon:")
                if rest:  # a process that has ended has no memory
                    found.append(int(rest.split()[0]) * 1024 / 1e6)

    watcher = threading.Thread(target=look)
    if watch:
        watcher.start()
    try:
        yield found
    finally:
        over.set()
        if watch:
            watcher.join()


def summed_calls(
    words: Sequence[str], column: str, calls: str, *options: str, cwd: Path | None = None
) -> float:
    """The sum of a column of strace's summary over the system calls named by `calls`, of a command
    with all its threads and child processes."""
    strace = ["strace", "-qq", "--follow-forks", "--seccomp-bpf", "--summary-only", *options]
    done = subprocess.run(
        [*strace, f"--summary-columns={column},name", f"--trace={calls}", *words],
        cwd=cwd,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    return sum(map(float, re.findall(r"^ *([\d.]+) (?!total)", done.stderr, re.MULTILINE)))


def floor_mb() -> float:
    """Below this no `Taken.peak_mb` can be."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def syncfs(path: Path) -> None:
    """Wait until all that was written to the filesystem of `path` is on its disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        if _libc.syncfs(fd):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(path))
    finally:
        os.close(fd)


def used(path: Path) -> int:
    """Bytes in use on the filesystem of `path`."""
    found = os.statvfs(path)
    return (found.f_blocks - found.f_bfree) * found.f_frsize

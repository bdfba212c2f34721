"""A control group of the memory controller, of either version, for as long as a benchmark runs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Memory:
    """What a group is charged with, in megabytes of 10^6 bytes. A page of a file counts where it
    was read first.
    """

    file: float
    anonymous: float
    kernel: float


@dataclass(frozen=True)
class Group:
    path: Path
    first: bool
    """Of version 1."""

    @property
    def procs(self) -> Path:
        """Where a process writes its number, or 0, to enter."""
        return self.path / "cgroup.procs"

    def limit(self, megabytes: int) -> None:
        name = "memory.limit_in_bytes" if self.first else "memory.max"
        (self.path / name).write_text(str(megabytes << 20))

    def memory(self) -> Memory:
        lines = (self.path / "memory.stat").read_text().splitlines()
        found = {name: int(value) / 1e6 for name, value in map(str.split, lines)}
        if not self.first:
            return Memory(found["file"], found["anon"], found["kernel"])
        kernel = int((self.path / "memory.kmem.usage_in_bytes").read_text()) / 1e6
        return Memory(found["cache"], found["rss"], kernel)

    def end(self) -> None:
        """Kill all that is in it, and wait until nothing is."""
        while inside := self.procs.read_text().split():
            for pid in map(int, inside):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                with suppress(ChildProcessError):  # our own would stay, as zombies do
                    os.waitpid(pid, 0)
            time.sleep(0.01)


@contextmanager
def group() -> Iterator[Group]:
    """A new one, in which nothing lives at the end.

    :raises OSError: this machine does not let us
    """
    first = (CGROUPS / "memory" / "cgroup.procs").exists()
    made = Group(CGROUPS / ("memory" if first else "") / f"dsb-bench-{os.getpid()}", first)
    made.path.mkdir()
    try:
        yield made
    finally:
        made.end()
        made.path.rmdir()

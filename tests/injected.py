"""Test foundation: a program whose n-th system call of some kind is its last, or fails.

strace does it, from outside: what is tried is what a user runs. The program gets one processor
and so one thread of each kind; a number then means the same call on every run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests import children

CHANGING = (
    "write,pwrite64,writev,pwritev,ftruncate,fallocate,copy_file_range,mkdir,mkdirat,rmdir,"
    "unlink,unlinkat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,mknod,mknodat,"
    "fsync,fdatasync,syncfs,setxattr,lsetxattr,fsetxattr,removexattr,lremovexattr,"
    "fremovexattr,chmod,fchmod,fchmodat,chown,lchown,fchown,fchownat,utimensat,mount,"
    "umount2,move_mount,fsmount,mount_setattr"
)
"""The calls that change a disk or a mount table, or make it last."""


class Call(NamedTuple):
    """The `count`-th of the system calls of one name that a thread makes."""

    name: str
    count: int


class Ended(NamedTuple):
    """How a program ended, and the calls in question that it made."""

    code: int
    stdout: str
    stderr: str
    calls: Sequence[Call]


def dsbranch(
    arguments: Sequence[str],
    *,
    cwd: Path,
    report: Path,
    calls: str = CHANGING,
    effect: str = "",
    at: Call | None = None,
) -> Ended:
    """Run the program; `effect` befalls it `at` a call, by any of its threads.

    The effect is as strace has it: ``error=EIO``, or ``signal=KILL``, which comes before the call
    is made. `report` is a file for strace, gone afterwards.
    """
    fault = () if at is None else ("-e", f"inject={at.name}:{effect}:when={at.count}")
    done = subprocess.run(
        [
            *("strace", "-f", "-qq", "-o", str(report), "-e", "signal=none"),
            *("-e", f"trace={calls}", *fault),
            *("taskset", "-c", str(min(os.sched_getaffinity(0)))),
            *(sys.executable, "-P", "-m", "dsbranch", *arguments),
        ],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=children.environment() | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert report.exists(), (fault, done.stderr)
    lines = report.read_text(errors="replace").splitlines()
    report.unlink()
    return Ended(done.returncode, done.stdout, done.stderr, list(_numbered(lines)))


def _numbered(lines: Sequence[str]) -> Iterator[Call]:
    seen: Counter[tuple[str, str]] = Counter()
    for line in lines:
        thread, _, call = line.partition(" ")
        # Into a call that it has no name for strace injects nothing.
        if " resumed>" not in call and "(" in call and not call.startswith("syscall_0x"):
            name = call.strip().partition("(")[0]
            seen[thread, name] += 1
            yield Call(name, seen[thread, name])

"""Where benchmarks work: a directory on a real filesystem, of which nothing is left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import leaks

MKFS = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"),
    "xfs": ("mkfs.xfs", "-q", "-f", "-m", "reflink=1"),
    "btrfs": ("mkfs.btrfs", "-q", "-f"),
}
_NAMESPACE = "DSBRANCH_BENCHMARK_NAMESPACE"


def in_own_namespace(*words: str) -> None:
    """Go on in a mount namespace of our own, as ``python WORDS``: its mounts end with us."""
    if _NAMESPACE not in os.environ:
        os.environ[_NAMESPACE] = "1"
        python = [sys.executable, *words]
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", *python])


@contextmanager
def scratch() -> Iterator[Path]:
    """A new directory, removed with all its mounts at the end, also when we are terminated.

    TMPDIR chooses where; an overlay or a tmpfs there is passed over for ``/var/tmp`` and the
    current directory.
    """
    chosen = [tempfile.gettempdir(), "/var/tmp", os.getcwd()]
    parent = next((p for p in chosen if filesystem(p) not in ("overlayfs", "tmpfs")), chosen[0])
    path = Path(tempfile.mkdtemp(prefix="dsb-bench-", dir=parent)).resolve()
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield path
    finally:
        for point in leaks.mounts(path):
            subprocess.run(["umount", "-l", point], check=True)
        shutil.rmtree(path)
        signal.signal(signal.SIGTERM, before)


@contextmanager
def disk(place: Path, kind: str, gigabytes: int, *options: str) -> Iterator[Path]:
    """A new filesystem in a sparse file, mounted by a loop device with direct I/O.

    `options` are for its mkfs.
    """
    image, point = place / f"{kind}.img", place / kind
    point.mkdir()
    with image.open("wb") as file:
        file.truncate(gigabytes << 30)
    subprocess.run([*MKFS[kind], *options, image], check=True)
    made = subprocess.run(
        ["losetup", "--find", "--show", "--direct-io=on", image],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    device = made.stdout.strip()
    try:
        subprocess.run(["mount", device, point], check=True)
    finally:
        # Busy while mounted: it then goes by itself with the mount.
        subprocess.run(["losetup", "--detach", device], check=True)
    try:
        yield point
    finally:
        for inner in leaks.mounts(point):
            subprocess.run(["umount", "-l", inner], check=True)
        point.rmdir()
        image.unlink()


def new_files(root: Path, count: int, per_directory: int) -> Iterator[int]:
    """Make files ``NNNNNN/NNN`` below `root`, and give each, open for writing, once."""
    for number in range(count):
        directory = root / f"{number // per_directory:06}"
        if number % per_directory == 0:
            directory.mkdir(parents=True)
        fd = os.open(directory / f"{number % per_directory:03}", os.O_CREAT | os.O_WRONLY, 0o644)
        yield fd
        os.close(fd)


def filesystem(path: str | Path) -> str:
    done = subprocess.run(
        ["findmnt", "-n", "-o", "FSTYPE", "-T", path], capture_output=True, text=True, check=False
    )
    return done.stdout.strip().replace("overlay", "overlayfs") or "unknown filesystem"


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return os.uname().machine


def machine(place: Path) -> str:
    """One sentence about where a run happened, and how busy it was then."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return (
        f"{processor()}, {os.cpu_count()} cores, {memory:.0f} GB of memory,"
        f" {filesystem(place)}, Linux {os.uname().release}, Python {sys.version.split()[0]};"
        f" load average {os.getloadavg()[0]:.1f}"
    )

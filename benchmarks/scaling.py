"""Walking and hashing by the number of threads, against the system's own tools, in paired rounds.

    python -m benchmarks.scaling [--files N] [--rounds N] [--threads 1,2,8] [--cold]

Each round runs every contestant once, in turn, so that a busy minute is one for all; the table has
the fastest round of each. `--cold` empties the page cache before each run, which needs root and is
felt by everything else on the machine. The data lie below TMPDIR and are removed at the end.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.conftest import command, markdown, shown
from benchmarks.scratch import filesystem, scratch
from dsbranch._core.content import digest_files
from dsbranch._core.scan import scan

DIRECTORIES = 200
LARGE = 4
LARGE_MB = 128


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling")
    parser.add_argument("--files", type=int, default=20_000, help="small files (20000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each comparison (5)")
    parser.add_argument("--threads", default="1,2,4,8,16,32", help="which numbers of them to try")
    parser.add_argument("--cold", action="store_true", help="empty the page cache before each run")
    asked = parser.parse_args()
    threads: list[int | None] = [*map(int, asked.threads.split(",")), None]
    with scratch() as root:
        make(root, asked.files)
        state = "cold" if asked.cold else "warm"
        print(f"{filesystem(root)}, {os.cpu_count()} cores, {state}, {asked.files:,} small files")
        contests = {
            "walk": walk(root / "small", threads),
            "walk with xattrs": walk(root / "small", threads, xattrs=True),
            "hash small files": hashing(root / "small", threads),
            f"hash {LARGE} files of {LARGE_MB} MB": hashing(root / "large", threads),
            f"hash one file of {LARGE * LARGE_MB} MB": hashing(root / "one", threads),
        }
        for name, contest in contests.items():
            print()
            for line in table(name, contest, asked.rounds, cold=asked.cold):
                print(line, flush=True)


def make(root: Path, files: int) -> None:
    chance = random.Random(1)
    pool = chance.randbytes(1 << 20)
    for number in range(DIRECTORIES):
        (root / f"small/{number:03}").mkdir(parents=True)
    for number in range(files):
        size = chance.randint(1024, 16 * 1024)
        start = chance.randrange(len(pool) - size)
        path = root / f"small/{number % DIRECTORIES:03}/{number:07}.jpg"
        path.write_bytes(pool[start : start + size])
    (root / "large").mkdir()
    (root / "one").mkdir()
    with (root / "one/all").open("wb") as one:
        for number in range(LARGE):
            data = b"".join(bytes([number, at]) + pool[2:] for at in range(LARGE_MB))
            (root / f"large/{number}").write_bytes(data)
            one.write(data)
    os.sync()


Contest = dict[str, Callable[[], object]]


def ours(number: int | None) -> str:
    return "dsbranch" if number is None else f"dsbranch, threads={number}"


def walk(root: Path, threads: list[int | None], *, xattrs: bool = False) -> Contest:
    path = os.fsencode(root)
    contest: Contest = {
        ours(n): lambda n=n: scan(path, threads=n, xattrs=xattrs)  # type: ignore[misc]
        for n in threads
    }
    contest["find -printf"] = command("find", root, "-printf", "%s %T@ %m %i\n")
    contest["du"] = command("du", "-s", root)
    if fd := shutil.which("fdfind") or shutil.which("fd"):
        contest["fd, with stat"] = command(fd, "-u", "-t", "f", "-S", "+0b", ".", root)
    return contest


def hashing(root: Path, threads: list[int | None]) -> Contest:
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    names = root.with_suffix(".names")
    names.write_bytes(b"".join(os.fsencode(path) + b"\0" for path in paths))
    at_once = str(max(1, min(500, len(paths) // 8)))
    xargs: list[str | Path] = ["xargs", "-0", "-n", at_once, "-a", names, f"-P{os.cpu_count()}"]
    # A table that has its digests is not read again, so each run gets a fresh one.
    contest: Contest = {
        ours(n): lambda n=n: digest_files(scan(os.fsencode(root)), threads=n)  # type: ignore[misc]
        for n in threads
    }
    contest[f"xargs -P{os.cpu_count()} cat"] = command(*xargs, "cat")
    if shutil.which("xxhsum"):
        contest[f"xargs -P{os.cpu_count()} xxhsum -H2"] = command(*xargs, "xxhsum", "-H2")
    if shutil.which("b3sum"):
        contest["b3sum"] = command("xargs", "-0", "-a", names, "b3sum")
    return contest


def table(name: str, contest: Contest, rounds: int, *, cold: bool) -> list[str]:
    taken: dict[str, list[float]] = {who: [] for who in contest}
    for number in range(rounds + 1):
        for who, run in contest.items():
            if cold:
                empty_the_cache()
            started = time.perf_counter()
            run()
            if number:  # the first round warms up
                taken[who].append(time.perf_counter() - started)
    best = {who: min(times) for who, times in taken.items()}
    cells: list[tuple[str, ...]] = [(name, "time", "dsbranch takes")]
    for who, seconds in best.items():
        cells.append((who, shown(seconds), f"{best[ours(None)] / seconds:.2f}"))
    return list(markdown(cells))


def empty_the_cache() -> None:
    subprocess.run(["sync"], check=True)
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError as error:
        sys.exit(f"--cold: {error}")


if __name__ == "__main__":
    main()

"""The core by itself: walking, hashing and comparing, beside the system's own tools.

Walks collect kind, size, times, mode and inode of many small files and sort them; hashing reads
files of 1 to 16 KB, some large ones, and one as large as these together. Each round runs every
contestant once, in turn, so that a busy minute is one for all; the fastest of the rounds counts.
*Cold* empties the page cache before each run. The algebra compares and merges tables in memory, of
sizes that grow by four: a fourth of the time would be linear.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import struct
import time
from array import array
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import page
from benchmarks.conftest import command
from benchmarks.scratch import machine, new_files
from dsbranch._core.algebra import changes
from dsbranch._core.columnar import from_batches
from dsbranch._core.columns import DIGEST_BYTES, Columns
from dsbranch._core.content import digest_files
from dsbranch._core.scan import scan
from dsbranch._core.table import KINDS, Table
from dsbranch._core.view import View

OURS = "**dsbranch**"
PER_DIRECTORY = 100
LARGE = 8
LARGE_MB = 128
IN_A_TABLE = 1000  # files in a directory of a table
SMALLEST = 10_000
STEP = 4
DEEP = 100
DIFFERS = 100  # one in so many

Result = dict[str, Any]
Contest = dict[str, Callable[[], object]]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--walked", type=int, default=1_000_000, help="files to walk (1000000)")
    parser.add_argument("--files", type=int, default=200_000, help="small files to hash (200000)")
    parser.add_argument("--entries", type=int, default=10_000_000, help="of a table (10000000)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each comparison (3)")
    parser.add_argument("--threads", default="1,2,4,8,16,32", help="which numbers of them to try")


def measure(place: Path, options: argparse.Namespace) -> Result:
    threads = [int(number) for number in options.threads.split(",")]
    taken: dict[str, dict[str, dict[str, float]]] = {}

    def compare(kind: str, contests: dict[str, Contest]) -> None:
        for what, contest in contests.items():
            for state in ("warm", "cold"):
                found = _fastest(contest, options.rounds, cold=state == "cold")
                for who, seconds in found.items():
                    taken.setdefault(kind, {}).setdefault(who, {})[f"{what}, {state}"] = seconds
                print(kind, what, state, found, flush=True)

    walked = place / "walked"
    _make_empty(walked, options.walked)
    compare("walk", {f"{options.walked:,} files": _walk(walked, threads)})
    shutil.rmtree(walked)
    _make(place, options.files)
    names = {
        f"{options.files:,} files of 1 to 16 KB": "small",
        f"{LARGE} of {LARGE_MB} MB": "large",
        f"one of {LARGE * LARGE_MB / 1024:g} GB": "one",
    }
    compare("hash", {what: _hash(place / name, threads) for what, name in names.items()})
    return {
        "machine": machine(place),
        "date": datetime.now(UTC).date().isoformat(),
        "rounds": options.rounds,
        "taken": taken,
        "algebra": _algebra(options.entries, options.rounds),
        "resolve": _resolve(options.rounds),
    }


def _fastest(contest: Contest, rounds: int, *, cold: bool) -> dict[str, float]:
    taken: dict[str, list[float]] = {who: [] for who in contest}
    for number in range(rounds + (0 if cold else 1)):
        for who, run in contest.items():
            if cold:
                _empty_the_cache()
            started = time.perf_counter()
            run()
            if cold or number:  # the first round warms up
                taken[who].append(time.perf_counter() - started)
    return {who: min(times) for who, times in taken.items()}


def _empty_the_cache() -> None:
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


# Walking and hashing


def _make_empty(root: Path, files: int) -> None:
    """Half of the files are empty, the others hold 100 bytes."""
    for number, fd in enumerate(new_files(root, files, PER_DIRECTORY)):
        if number % 2:
            os.write(fd, b"x" * 100)
    os.sync()


def _make(place: Path, files: int) -> None:
    chance = random.Random(1)
    pool = chance.randbytes(1 << 20)
    for number in range(files):
        directory = place / f"small/{number // PER_DIRECTORY:06}"
        if number % PER_DIRECTORY == 0:
            directory.mkdir(parents=True)
        size = chance.randint(1024, 16 * 1024)
        start = chance.randrange(len(pool) - size)
        (directory / f"{number:07}").write_bytes(pool[start : start + size])
    (place / "large").mkdir()
    (place / "one").mkdir()
    with (place / "one/all").open("wb") as one:
        for number in range(LARGE):
            data = b"".join(bytes([number, at]) + pool[2:] for at in range(LARGE_MB))
            (place / f"large/{number}").write_bytes(data)
            one.write(data)
    os.sync()


def _numbered(threads: list[int], run: Callable[[int | None], object]) -> Contest:
    contest: Contest = {OURS: lambda: run(None)}
    for number in threads:
        words = "1 thread" if number == 1 else f"{number} threads"
        contest[f"dsbranch, {words}"] = lambda number=number: run(number)  # type: ignore[misc]
    return contest


def _walk(root: Path, threads: list[int]) -> Contest:
    path = os.fsencode(root)
    contest = _numbered(threads, lambda number: scan(path, threads=number, xattrs=False))
    contest["find -printf"] = command("find", root, "-printf", "%s %T@ %m %i\n")
    contest["du"] = command("du", "-s", root)
    if fd := shutil.which("fdfind") or shutil.which("fd"):
        contest["fd, with stat"] = command(fd, "-u", "-t", "f", "-S", "+0b", ".", root)
    return contest


def _hash(root: Path, threads: list[int]) -> Contest:
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    names = root.with_suffix(".names")
    names.write_bytes(b"".join(os.fsencode(path) + b"\0" for path in paths))
    # As many at a time as give each processor its share of the last.
    at_once = str(max(1, min(500, len(paths) // 8)))
    processors = f"-P{os.cpu_count()}"
    xargs: list[str | Path] = ["xargs", "-0", "-n", at_once, "-a", names, processors]
    # A table that has its digests is not read again, so each run gets a fresh one.
    path = os.fsencode(root)
    contest = _numbered(threads, lambda number: digest_files(scan(path), threads=number))
    contest[f"xargs {processors} cat"] = command(*xargs, "cat")
    if shutil.which("xxhsum"):
        contest[f"xargs {processors} xxhsum -H2"] = command(*xargs, "xxhsum", "-H2")
    if shutil.which("b3sum"):
        contest["b3sum"] = command("xargs", "-0", "-a", names, "b3sum")
    return contest


# The algebra


def table(files: int, *, edition: int = 0, at: int = 0, of: int = 1) -> Table:
    """A layer of so many files with digests; every hundredth is of an `edition`.

    The tables `at` different places `of` several have no name in common.
    """
    paths, digests, rows = [b""], [bytes(DIGEST_BYTES)], b""
    directory, file = (KINDS.index(kind) for kind in ("directory", "file"))
    for first in range(0, files, IN_A_TABLE):
        numbers = range(first, min(files, first + IN_A_TABLE))
        inside = b"d%06d" % (first // IN_A_TABLE)
        paths.append(inside)
        paths += [b"%s/%08d" % (inside, number * of + at) for number in numbers]
        digests.append(bytes(DIGEST_BYTES))
        digests += [
            (number * 64 + (edition if number % DIFFERS == 0 else 0)).to_bytes(16, "little")
            for number in numbers
        ]
    rows = bytes(directory if b"/" not in path else file for path in paths)
    length = len(paths)
    offsets = array("q", [0])
    for path in paths:
        offsets.append(offsets[-1] + len(path))
    none, zeros = bytes(length), bytes(8 * (length + 1))
    texts = {
        f"{name}_{part}": value
        for name in ("target", "redirect", "origin")
        for part, value in (("offsets", zeros), ("data", b""), ("valid", none))
    }
    columns = Columns(
        length=length,
        path_offsets=offsets.tobytes(),
        path_data=b"".join(paths),
        kind=rows,
        flags=none,
        mode=struct.pack("<H", 0o644) * length,
        uid=zeros,
        gid=zeros,
        nlink_group=zeros,
        rdev=zeros,
        size=struct.pack("<q", 4096) * length,
        mtime_ns=zeros,
        **texts,
        xattrs=bytes(DIGEST_BYTES * length),
        xattrs_valid=none,
        digest=b"".join(digests),
        digest_valid=bytes(kind == file for kind in rows),
    )
    return from_batches([columns])


def _algebra(most: int, rounds: int) -> list[Result]:
    rows = []
    entries = SMALLEST
    while entries <= most * 1.1:
        # Looked up once more by each comparison: a view remembers nothing.
        old, new = View([table(entries)]), View([table(entries, edition=1)])
        found = _fastest({"": lambda: len(changes(old, new))}, rounds, cold=False)[""]  # noqa: B023
        rows.append({"entries": entries, "seconds": found})
        print(f"changes of {entries:,}: {found:.3f} s", flush=True)
        entries *= STEP
    return rows


def _resolve(rounds: int) -> dict[str, float]:
    found = {}
    for names, of in (("all different", DEEP), ("the same in each", 1)):
        view = View([table(10_000, at=at % of, of=of) for at in range(DEEP)])
        contest: Contest = {"": lambda: sum(1 for _ in view.tree(b""))}  # noqa: B023
        found[names] = _fastest(contest, rounds, cold=False)[""]
        print(f"{DEEP} layers, names {names}: {found[names]:.3f} s", flush=True)
    return found


# What the page shows


def sections(result: Result) -> dict[str, str]:
    facts = (
        f"The fastest of {result['rounds']} rounds; {result['date']}; {result['machine']}. Before"
        " the bar seconds, after it dsbranch's share of them."
    )
    parts = [facts]
    for kind, taken in result["taken"].items():
        ours = taken[OURS]
        cells = [(f"{kind}, s", *ours)]
        for who, seconds in taken.items():
            share = [
                page.digits(seconds[what])
                + (f" / {ours[what] / seconds[what]:.2f}" if who != OURS else "")
                for what in ours
            ]
            cells.append((who, *share))
        parts.append(page.table(cells))
    rows = result["algebra"]
    cells = [("changes of two tables, one file in 100 differs", "seconds", "times a fourth's")]
    for number, row in enumerate(rows):
        ratio = f"{row['seconds'] / rows[number - 1]['seconds']:.1f}" if number else ""
        cells.append((f"{row['entries']:,} files each", page.digits(row["seconds"]), ratio))
    parts.append(page.table(cells))
    cells = [(f"the tree of {DEEP} layers of 10,000 files", "seconds")]
    cells += [(f"names {names}", page.digits(took)) for names, took in result["resolve"].items()]
    parts.append(page.table(cells))
    return {"core": "\n\n".join(parts)}

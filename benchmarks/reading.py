"""Reading through a branch, beside the same reads in the dataset itself and in fuse-overlayfs.

Random reads of 4 KB and sequential reads of one large file (fio), and opening 10,000 small ones
(``opens.c``), on one thread and out of the page cache: a disk would only hide what a mount adds.
Branches stand on 1, 10 and 100 commits, each of which wrote in all directories, as dsbranch mounts
them and without its checkpoints. Targets take turns; ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks import page
from benchmarks.scratch import disk, machine

if TYPE_CHECKING:
    import dsbranch

DEPTHS = (1, 10, 100)
DIRECTORIES = 20
PER_COMMIT = 40
LARGE = "large.bin"
PASSES = 5
BASE = "dataset"
KINDS = {
    "random": "random 4 KB, µs",
    "sequential": "sequential, GB/s",
    "first": "first open, µs",
    "open": "open, µs",
    "read": "open and read 4 KB, µs",
}

Result = dict[str, Any]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--files", type=int, default=10_000, help="small files (10000)")
    parser.add_argument("--megabytes", type=int, default=512, help="size of the large file (512)")
    parser.add_argument("--seconds", type=float, default=1, help="of each run of fio (1)")
    parser.add_argument("--rounds", type=int, default=5)


def measure(place: Path, options: argparse.Namespace) -> Result:
    opens = place / "opens"
    source = Path(__file__).with_name("opens.c")
    subprocess.run(["cc", "-O2", "-Wall", "-o", opens, source], check=True)
    with disk(place, "ext4", 16) as filesystem, ExitStack() as stack:
        base = filesystem / "base"
        names = _dataset(base, options)
        targets: dict[str, tuple[Path, Callable[[], object]]] = {BASE: (base, lambda: None)}
        lowers: dict[str, int] = {}
        for checkpoints in (True, False):
            ws = stack.enter_context(_workspace(filesystem, base, names, checkpoints=checkpoints))
            for depth in DEPTHS if checkpoints else DEPTHS[1:]:
                name = _name(depth, checkpoints=checkpoints)
                targets[name] = (ws.root / f"d{depth}", _remounting(ws, f"d{depth}"))
                lowers[name] = len(_lowers(ws, f"d{depth}"))
        for depth in DEPTHS:
            name = f"fuse-overlayfs, {_commits(depth)}"
            targets[name] = _fuse(filesystem / f"fuse-{depth}", ws, base, depth, stack)
        rounds = []
        for at in range(options.rounds):
            order = list(targets)[at % len(targets) :] + list(targets)[: at % len(targets)]
            taken = {}
            for name in order:
                path, remount = targets[name]
                remount()
                taken[name] = _read(path, names, opens, options)
            rounds.append(taken)
            print(f"round {at + 1} of {options.rounds}", flush=True)
    return {
        "machine": machine(place),
        "date": datetime.now(UTC).date().isoformat(),
        "files": options.files,
        "megabytes": options.megabytes,
        "targets": list(targets),
        "lowers": lowers,
        "rounds": rounds,
    }


def _commits(number: int) -> str:
    return "1 commit" if number == 1 else f"{number} commits"


def _name(depth: int, *, checkpoints: bool) -> str:
    return f"branch, {_commits(depth)}" + ("" if checkpoints else ", no checkpoints")


def _dataset(base: Path, options: argparse.Namespace) -> list[str]:
    chance = random.Random(1)
    names = [f"{number % DIRECTORIES:02}/{number:05}" for number in range(options.files)]
    for number in range(DIRECTORIES):
        (base / f"{number:02}").mkdir(parents=True)
    for name in names:
        (base / name).write_bytes(chance.randbytes(4096))
    with (base / LARGE).open("wb") as file:
        for _ in range(options.megabytes):
            file.write(chance.randbytes(1 << 20))
    return names


@contextmanager
def _workspace(
    filesystem: Path, base: Path, names: list[str], *, checkpoints: bool
) -> Iterator[dsbranch.Workspace]:
    """One with a branch ``dN`` at each of DEPTHS."""
    import dsbranch
    from dsbranch.ops.ladder import Ladder

    chance = random.Random(1)
    with dsbranch.init(base, filesystem / ("ws" if checkpoints else "ws-bare")) as ws:
        if not checkpoints:
            ws._context.ladder = Ladder(batch=0)
        for number in range(1, max(DEPTHS) + 1):
            for name in chance.sample(names, PER_COMMIT):
                (ws.root / "main" / name).write_bytes(chance.randbytes(4096))
            ws.commit("main", str(number))
            if number in DEPTHS:
                ws.create(f"d{number}")
        yield ws


def _remounting(ws: dsbranch.Workspace, branch: str) -> Callable[[], object]:
    """What makes the kernel forget all names it knows in a branch."""

    def remount() -> None:
        ws.umount(branch)
        ws.mount(branch)

    return remount


def _lowers(ws: dsbranch.Workspace, branch: str) -> list[str]:
    from dsbranch.ops.lowers import lowers_of

    return lowers_of(ws._context, ws.branch(branch).head)


def _fuse(
    place: Path, ws: dsbranch.Workspace, base: Path, depth: int, stack: ExitStack
) -> tuple[Path, Callable[[], object]]:
    """A mount by fuse-overlayfs of the layers of a branch without checkpoints."""
    layers = ws.root / ".dsbranch" / "layers"
    stacked = ":".join([*(f"{id}/fs" for id in _lowers(ws, f"d{depth}")), str(base)])
    upper, work, point = place / "upper", place / "work", place / "mount"
    for path in (upper, work, point):
        path.mkdir(parents=True)
    words = [
        "fuse-overlayfs",
        *("-o", f"lowerdir={stacked},upperdir={upper},workdir={work}"),
        point,
    ]

    def unmount() -> None:
        subprocess.run(["umount", point], check=True)

    def mount() -> None:
        subprocess.run(words, cwd=layers, check=True, stderr=subprocess.DEVNULL)

    def remount() -> None:
        unmount()
        mount()

    mount()
    stack.callback(unmount)
    return point, remount


def _read(tree: Path, names: list[str], opens: Path, options: argparse.Namespace) -> Result:
    first, *again = _opens(tree, names, opens, PASSES)
    _, *reads = _opens(tree, names, opens, PASSES, "read")
    large = tree / LARGE
    subprocess.run(["cat", large], stdout=subprocess.DEVNULL, check=True)  # into the page cache
    random_reads = _fio(large, "randread", "4k", options.seconds)
    sequential = _fio(large, "read", "1M", options.seconds)
    return {
        "random": 1e6 / random_reads["iops"],
        "sequential": sequential["bw_bytes"] / 1e9,
        "first": first,
        "open": min(again),
        "read": min(reads),
    }


def _opens(tree: Path, names: list[str], opens: Path, passes: int, *words: str) -> list[float]:
    done = subprocess.run(
        [opens, str(passes), *words],
        input="".join(f"{name}\n" for name in names).encode(),
        cwd=tree,
        stdout=subprocess.PIPE,
        check=True,
    )
    return [int(line) / 1e3 / len(names) for line in done.stdout.split()]


def _fio(file: Path, pattern: str, block: str, seconds: float) -> Result:
    words = {
        "name": "read",
        "filename": file,
        "rw": pattern,
        "bs": block,
        "ioengine": "psync",
        "runtime": f"{seconds * 1000:.0f}ms",
        "invalidate": 0,
        "norandommap": 1,
        "output-format": "json",
    }
    options = [f"--{name}={value}" for name, value in words.items()]
    done = subprocess.run(
        ["fio", "--readonly", "--time_based", *options], stdout=subprocess.PIPE, check=True
    )
    found: Result = json.loads(done.stdout)["jobs"][0]["read"]
    return found


# What the page shows


def sections(result: Result) -> dict[str, str]:
    cells = [("read in", *KINDS.values())]
    for name in result["targets"]:
        row = []
        for kind in KINDS:
            value = median(taken[name][kind] for taken in result["rounds"])
            ratio = median(taken[name][kind] / taken[BASE][kind] for taken in result["rounds"])
            compared = kind != "first" and name != BASE
            row.append(f"{value:.2f} ({ratio:.2f})" if compared else f"{value:.2f}")
        lowers = result["lowers"].get(name)
        layers = "" if lowers is None else f" ({lowers + 1} lowers)"
        cells.append((name + layers, *row))
    facts = (
        f"{result['files']:,} files of 4 KB, one of {result['megabytes']} MB; median of"
        f" {len(result['rounds'])} rounds, in brackets against the dataset; {result['date']};"
        f" {result['machine']}."
    )
    return {"reading": f"{facts}\n\n{page.table(cells)}"}

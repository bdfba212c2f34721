"""Many clients of one dataset at once, each with a branch of its own that it changes.

For each way to give them one, on a new filesystem of its own (a loop device with direct I/O) and
for each number of clients: the branches are made one after another, as whole processes; then,
with caches dropped, all clients read the whole dataset, and after that each changes its own part,
as processes of their own, eight at a time. All of it happens in a control group whose memory is
read when all have read: page cache, which overlays share since the pages belong to the dataset's
inodes, and what processes (FUSE's) and the kernel (inodes, names, mounts) hold besides. A way
stops at the number for which it would need more disk or time than it is given.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import page, process
from benchmarks.client import ADDED
from benchmarks.group import Group, group
from benchmarks.scratch import disk, machine

PER_DIRECTORY = 100
AT_ONCE = 8
CLIENT = Path(__file__).with_name("client.py")

Result = dict[str, Any]


@dataclass(frozen=True)
class Way:
    """Shell scripts that find $W, the filesystem, $C, the name of a client, and $DSBRANCH.

    `create` makes the branch of $C, at `tree`; with `held` its process goes on, says "ready"
    when the branch is, and is {pid}.
    """

    name: str
    create: str
    note: str
    tree: str = "{W}/{C}"
    filesystem: str = "ext4"
    needs: str = "mount"
    base: str = "mkdir $W/base"
    prepare: str = ""
    held: bool = False


_DSBRANCH = "$DSBRANCH -C $W/ws"
_INIT = "$DSBRANCH init $W/base $W/ws"
_DIRECTORIES = "mkdir $W/$C $W/$C.upper $W/$C.work; exec "
_LAYERS = "-o lowerdir=$W/base,upperdir=$W/$C.upper,workdir=$W/$C.work"

WAYS = (
    Way(
        name="dsbranch",
        create=f"exec {_DSBRANCH} create $C",
        note="`create`",
        tree="{W}/ws/{C}",
        prepare=_INIT,
    ),
    Way(
        name="dsbranch run",
        create=f"{_DSBRANCH} create --no-mount $C >&2;"
        f" exec {_DSBRANCH} run $C -- sh -c 'echo ready; exec sleep infinity'",
        note="`create --no-mount` and `run` of a command that sleeps, which is in *other memory*",
        tree="/proc/{pid}/root{W}/base",
        prepare=_INIT,
        held=True,
    ),
    Way(
        name="raw overlay",
        create=f"{_DIRECTORIES} mount -t overlay overlay {_LAYERS} $W/$C",
        note="the floor: mounts alone",
    ),
    Way(
        name="fuse-overlayfs",
        create=f"{_DIRECTORIES} fuse-overlayfs {_LAYERS} $W/$C",
        note="a process for each mount",
        needs="fuse-overlayfs",
    ),
    Way(
        name="btrfs snapshots",
        create="exec btrfs -q subvolume snapshot $W/base $W/$C",
        note="of a subvolume that has the dataset; each has inodes, so pages, of its own",
        filesystem="btrfs",
        needs="btrfs",
        base="btrfs -q subvolume create $W/base",
    ),
    Way(
        name="cp --reflink (xfs)",
        create="exec cp -a --reflink=always $W/base $W/$C",
        note="shared blocks, but inodes and pages of its own",
        filesystem="xfs",
        needs="mkfs.xfs",
    ),
    Way(name="cp -a", create="exec cp -a $W/base $W/$C", note="a copy each"),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--clients",
        type=lambda text: [int(number) for number in text.split(",")],
        default=[1, 10, 100, 500],
        metavar="N,N,…",
        help="how many at once, ascending (1,10,100,500)",
    )
    parser.add_argument("--files", type=int, default=2000, help="in the dataset (2000)")
    parser.add_argument("--mb", type=int, default=500, help="size of the dataset (500)")
    parser.add_argument("--gigabytes", type=float, default=30, help="most disk for a way (30)")
    parser.add_argument(
        "--seconds", type=float, default=120, help="most time to create, or to read (120)"
    )


def measure(place: Path, options: argparse.Namespace) -> Result:
    result: Result = {
        "machine": machine(place),
        "date": datetime.now(UTC).date().isoformat(),
        "files": options.files,
        "mb": options.mb,
        "clients": options.clients,
        "ways": [],
    }
    for way in WAYS:
        if shutil.which(way.needs) is None:
            print(f"{way.name}: not installed: {way.needs}", flush=True)
            continue
        found: Result = {"name": way.name, "note": way.note, "runs": [], "stopped": ""}
        result["ways"].append(found)
        for number in options.clients:
            if found["runs"]:
                found["stopped"] = beyond(
                    found["runs"][-1], number, options.gigabytes, options.seconds
                )
            if found["stopped"]:
                break
            size = int(options.gigabytes + options.mb / 1000) + 4
            try:
                with disk(place, way.filesystem, size) as filesystem, group() as inside:
                    run = _Run(way, filesystem, inside, options).measure(number)
            except (RuntimeError, subprocess.CalledProcessError) as error:
                found["stopped"] = "failed"  # the page says so; the other ways are measured
                print(f"{way.name}: {error}", flush=True)
                break
            print(way.name, {name: round(value, 3) for name, value in run.items()}, flush=True)
            found["runs"].append(run)
        if not options.dry:
            page.save("clients", result)  # the rest takes long, and may not come to its end
    return result


def beyond(run: Result, number: int, gigabytes: float, seconds: float) -> str:
    """Which limit that many clients would pass if each needs what it did in `run`; or nothing."""
    more = number / run["clients"]
    if (run["created_mb"] + run["changed_mb"]) * more > gigabytes * 1000:
        return f"> {gigabytes:g} GB"
    if max(run["create_seconds"], run["read_seconds"]) * more > seconds:
        return f"> {seconds:g} s"
    return ""


class _Run:
    """One way, for one number of clients."""

    def __init__(
        self, way: Way, filesystem: Path, inside: Group, options: argparse.Namespace
    ) -> None:
        self.way, self.filesystem, self.inside = way, filesystem, inside
        self.environment = {
            **os.environ,
            "W": str(filesystem),
            "DSBRANCH": process.DSBRANCH,
            "PROCS": str(inside.procs),
        }
        self._shell(way.base)
        self.bytes = _dataset(filesystem / "base", options)
        self._shell(way.prepare)

    def measure(self, number: int) -> Result:
        at_first = self._used()
        created = [self._create(f"c{at}") for at in range(number)]
        with_branches = self._used()
        trees = [
            self.way.tree.format(W=self.filesystem, C=f"c{at}", pid=pid)
            for at, (_, pid) in enumerate(created)
        ]
        Path("/proc/sys/vm/drop_caches").write_text("3")
        before = self.inside.memory()
        reading = self._all(trees, self._read)
        after = self.inside.memory()
        changing = self._all(trees, self._change)
        changed = self._used()
        self._check(trees)
        return {
            "clients": number,
            "create_seconds": sum(seconds for seconds, _ in created),
            "created_mb": (with_branches - at_first) / 1e6,
            "read_seconds": reading,
            "change_seconds": changing,
            "changed_mb": (changed - with_branches) / 1e6,
            "file_mb": after.file - before.file,
            "anonymous_mb": after.anonymous,
            "kernel_mb": after.kernel,
        }

    def _used(self) -> int:
        process.syncfs(self.filesystem)
        return process.used(self.filesystem)

    def _shell(self, script: str) -> None:
        words = ["sh", "-ec", script]
        subprocess.run(words, env=self.environment, check=True, stdout=subprocess.DEVNULL)

    def _create(self, name: str) -> tuple[float, int]:
        """The seconds until the branch is ready, and the process that made it."""
        words = ["sh", "-ec", f'echo $$ >"$PROCS"; {self.way.create}']
        with tempfile.TemporaryFile() as errors:
            started = time.perf_counter()
            child = subprocess.Popen(
                words,
                env={**self.environment, "C": name},
                cwd=self.filesystem,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if self.way.held else subprocess.DEVNULL,
                stderr=errors,
            )
            if child.stdout is None:
                ready = child.wait() == 0
            else:
                with child.stdout as said:
                    ready = said.readline() == b"ready\n"
            seconds = time.perf_counter() - started
            if not ready:
                errors.seek(0)
                raise RuntimeError(f"{self.way.name}, {name}: {errors.read().decode()}")
        if self.way.held:
            child.returncode = 0  # it goes on, and the group ends it
        return seconds, child.pid

    def _all(self, trees: list[str], work: Callable[[int, str], None]) -> float:
        """The seconds that it takes for all clients."""
        started = time.perf_counter()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(work, range(len(trees)), trees))
        return time.perf_counter() - started

    def _read(self, number: int, tree: str) -> None:
        found = int(self._client("read", tree))
        if found != self.bytes:
            raise RuntimeError(f"{self.way.name}: client {number} read {found} of {self.bytes}")

    def _change(self, number: int, tree: str) -> None:
        self._client("change", tree, str(number))

    def _check(self, trees: list[str]) -> None:
        """Each client has its own change, no other's, and the dataset none."""
        sizes = {f"{self.filesystem}/base": self.bytes}
        sizes |= dict.fromkeys(trees, self.bytes + ADDED)
        for tree, wanted in sizes.items():
            found = sum(file.stat().st_size for file in Path(tree).glob("*/*"))
            if found != wanted:
                raise RuntimeError(f"{self.way.name}: {tree} has {found} bytes, not {wanted}")

    def _client(self, *words: str) -> bytes:
        command = [sys.executable, "-IS", CLIENT, self.inside.procs, *words]
        return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout


def _dataset(base: Path, options: argparse.Namespace) -> int:
    """Fill it; how many bytes there are."""
    chance = random.Random(1)
    each = options.mb * 1_000_000 // options.files
    for number in range(options.files):
        place = base / f"{number // PER_DIRECTORY:03}"
        place.mkdir(exist_ok=True)
        (place / f"{number:06}").write_bytes(chance.randbytes(each))
    return each * options.files


# What the page shows


def sections(result: Result) -> dict[str, str]:
    def each(name: str, run: Result, scale: float = 1) -> str:
        return page.digits(run[name] * scale / run["clients"])

    def both(first: str, second: str) -> Callable[[Result], str]:
        return lambda run: f"{each(first, run)} / {each(second, run)}"

    shown: dict[str, Callable[[Result], str]] = {
        "ms to create each": lambda run: each("create_seconds", run, 1000),
        "s for each to read all / to change": both("read_seconds", "change_seconds"),
        "MB of disk for each: new / its change": both("created_mb", "changed_mb"),
        "MB of page cache once all have read": lambda run: page.digits(run["file_mb"]),
        "MB of other memory for each: processes / kernel": both("anonymous_mb", "kernel_mb"),
    }
    head = [f"{number:,} clients".removesuffix("s" * (number == 1)) for number in result["clients"]]
    tables = []
    for title, cell in shown.items():
        cells = [(title, *head)]
        for way in result["ways"]:
            row = [cell(run) for run in way["runs"]]
            row += [way["stopped"]] * (len(head) - len(row))
            ours = way["name"].startswith("dsbranch")
            cells.append((f"**{way['name']}**" if ours else way["name"], *row))
        tables.append(page.table(cells))
    facts = (
        f"{result['files']:,} files, {result['mb']:,} MB; {result['date']}; {result['machine']}."
    )
    notes = "\n".join(f"- {way['name']}: {way['note']}" for way in result["ways"])
    return {"clients": "\n\n".join([facts, *tables, notes])}

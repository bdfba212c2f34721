"""What a verb spends its time on, beside the same without dsbranch: the mounts of a bare overlay.

One number per part of a whole process: the start of Python (``python -c pass``), imports
(``-X importtime``), waiting for the disk and mounting (``strace -c -w`` of these system calls
alone), and the rest: finding, reading, hashing, comparing, SQLite, printing. Each is the least of
some runs of its own, so the parts add up to the whole only nearly.

And how far squash is from hard links alone, by the number of files: one layer of two commits, each
half of the files, beside `cp -al` of their layers.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks import page, trees
from benchmarks.process import summed_calls
from benchmarks.scratch import disk, machine, new_files
from tests.overlays import Overlay

EDITS = 1000
SYNCS = ("fsync", "fdatasync", "sync_file_range", "syncfs", "sync", "msync")
MOUNTS = (
    *("fsopen", "fsconfig", "fsmount", "move_mount", "open_tree", "mount_setattr"),
    *("mount", "umount2"),
)

SQUASHED = (2_000, 10_000, 50_000, 250_000)

Result = dict[str, Any]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--files", type=int, default=20_000, help="files in the dataset (20000)")
    parser.add_argument("--rounds", type=int, default=5, help="runs, of which the fastest counts")


def measure(place: Path, options: argparse.Namespace) -> Result:
    rounds = options.rounds
    bare = min(_imports(["-c", "pass"]) for _ in range(rounds))
    python = min(_seconds(["-c", "pass"]) for _ in range(rounds))
    rows = {}
    with disk(place, "ext4", 16) as filesystem:
        trees.make(filesystem / "base", options.files)
        for verb in _Bench(filesystem).verbs():

            def least(time_of: Callable[[list[str]], float], verb: Verb = verb) -> float:
                return min(time_of(["-m", "dsbranch", *verb.prepare()]) for _ in range(rounds))

            row = {
                "floor": min(verb.floor() for _ in range(rounds)),
                "whole": least(_seconds),
                "Python": python,
                "imports": least(_imports) - bare,
                "syncs": least(lambda words: _in_calls(SYNCS, words)),
                "mounts": least(lambda words: _in_calls(MOUNTS, words)),
            }
            print(verb.name, {part: round(value * 1e3, 1) for part, value in row.items()})
            rows[verb.name] = row
    squashes = []
    for files in SQUASHED:
        with disk(place, "ext4", 16) as filesystem:
            squashes.append({"files": files} | _squash(filesystem, files, rounds))
        print(squashes[-1])
    return {
        "machine": machine(place),
        "date": datetime.now(UTC).date().isoformat(),
        "files": options.files,
        "rounds": rounds,
        "rows": rows,
        "squashes": squashes,
    }


@dataclass(frozen=True)
class Verb:
    """`prepare` gives the words of a run that has not been made yet; `floor` the seconds of what
    a bare overlay needs instead.
    """

    name: str
    prepare: Callable[[], list[str]]
    floor: Callable[[], float]


class _Bench:
    def __init__(self, place: Path) -> None:
        import dsbranch

        self.root = place / "ws"
        self.files = [path.relative_to(place / "base") for path in (place / "base").glob("*/*/*")]
        self._numbers = count()
        with dsbranch.init(place / "base", self.root):
            pass
        self.overlay = Overlay(place, None)
        with self.overlay:
            self._edit(self.overlay.mountpoint)
        self.looked_at = self._branch(0)
        self.done = self._branch(1, edited=False)

    def verbs(self) -> list[Verb]:
        look = ["find", self.overlay.upper, "-printf", "%s %T@ %P\n"]
        listed = [*self._on("diff"), "--name-status"]
        return [
            Verb("create", self._create, self._mount),
            Verb("status", lambda: [*self._on("status"), self.looked_at], _command(look)),
            Verb("diff", lambda: [*listed, self.looked_at], _command(look)),
            Verb(
                "commit",
                lambda: [*self._on("commit"), self._branch(0), "-m", "timed"],
                self._remount,
            ),
            Verb("diff of two commits", lambda: [*listed, "main", self.done], _command(look)),
            Verb("rollback", lambda: [*self._on("rollback"), self._branch(0)], self._remount),
            Verb(
                "squash", lambda: [*self._on("squash"), self._branch(2, edited=False)], self._link
            ),
        ]

    def _on(self, verb: str) -> list[str]:
        return ["-C", str(self.root), verb]

    def _name(self) -> str:
        return f"b{next(self._numbers)}"

    def _create(self) -> list[str]:
        return [*self._on("create"), self._name()]

    def _branch(self, commits: int, *, edited: bool = True) -> str:
        """A new branch with so many commits and, if `edited`, uncommitted changes on top."""
        import dsbranch

        name = self._name()
        with dsbranch.open(self.root) as ws:
            ws.create(name)
            for number in range(commits):
                self._edit(self.root / name)
                ws.commit(name, str(number))
        if edited:
            self._edit(self.root / name)
        return name

    def _edit(self, tree: Path) -> None:
        for path in self.files[:: len(self.files) // EDITS][:EDITS]:
            with (tree / path).open("ab") as file:
                file.write(b"more")

    def _mount(self) -> float:
        started = time.perf_counter()
        self.overlay.mount()
        taken = time.perf_counter() - started
        self.overlay.unmount()
        return taken

    def _remount(self) -> float:
        self.overlay.mount()
        started = time.perf_counter()
        self.overlay.unmount()
        self.overlay.mount()
        taken = time.perf_counter() - started
        self.overlay.unmount()
        return taken

    def _link(self) -> float:
        copy = self.root.parent / self._name()
        return _command(["cp", "-al", self.overlay.upper, copy])()


def _squash(place: Path, files: int, rounds: int) -> dict[str, float]:
    """Seconds to squash two commits of new files, half of them in each, and to link them."""
    import dsbranch

    (place / "base").mkdir()
    with dsbranch.init(place / "base", place / "ws") as ws:
        halves = []
        for number in ("0", "1"):
            for fd in new_files(ws.root / "main" / number, files // 2, trees.PER_DIRECTORY):
                os.write(fd, b"new")
            layer = ws.commit("main", number).commit.layer
            halves.append(f"{ws.root}/.dsbranch/layers/{layer}/fs/{number}")
        squash = _command(
            [sys.executable, "-m", "dsbranch", "-C", ws.root, "squash", "main", "--since", "main~2"]
        )
        copy = place / "copy"
        link = _command(["cp", "-al", *halves, copy])
        ours, floor = [], []
        for _ in range(rounds):
            os.sync()
            ours.append(squash())
            ws.undo()
            copy.mkdir()
            os.sync()
            floor.append(link())
            shutil.rmtree(copy)
    return {"squash": min(ours), "link": min(floor)}


def _command(words: list[str | Path]) -> Callable[[], float]:
    def run() -> float:
        started = time.perf_counter()
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started

    return run


def _seconds(words: list[str]) -> float:
    return _command([sys.executable, *words])()


def _imports(words: list[str]) -> float:
    """Seconds in imports, by the interpreter's own account: `self | cumulative | name`, in µs."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *words],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    own = re.findall(r"^import time: +(\d+) \|", done.stderr, re.MULTILINE)
    return sum(map(int, own)) / 1e6


def _in_calls(calls: tuple[str, ...], words: list[str]) -> float:
    """Seconds spent in system calls, of all threads and child processes."""
    command = [sys.executable, *words]
    return summed_calls(command, "time-total", ",".join(calls), "--summary-wall-clock")


# What the page shows


def sections(result: Result) -> dict[str, str]:
    cells = [("ms", "bare overlay", "dsbranch", "Python", "imports", "syncs", "mounts", "the rest")]
    for name, row in result["rows"].items():
        parts = [row[part] for part in ("Python", "imports", "syncs", "mounts")]
        rest = max(0.0, row["whole"] - sum(parts))
        shown = [row["floor"], row["whole"], *parts, rest]
        cells.append((f"`{name}`", *(f"{value * 1e3:.1f}" for value in shown)))
    facts = (
        f"{EDITS:,} changes on {result['files']:,} files; fastest of {result['rounds']};"
        f" {result['date']}; {result['machine']}."
    )
    squashes = [("files", "squash, ms", "`cp -al`, ms", "ratio")]
    for row in result["squashes"]:
        ours, floor = row["squash"], row["link"]
        shown = f"{ours * 1e3:,.0f}", f"{floor * 1e3:,.0f}", f"{ours / floor:.2f}"
        squashes.append((f"{row['files']:,}", *shown))
    return {
        "spent": f"{facts}\n\n{page.table(cells)}",
        "spent-squash": page.table(squashes),
    }

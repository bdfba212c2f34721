"""Whether the same change costs the same on larger datasets, with more branches, more commits.

A thousand changes in a hundred directories, on bases of 10^4, 10^5 and 10^6 files, with 10 and
10,000 branches, and after 10 and 1,000 commits. Each verb is timed as a whole process and, apart,
as a call of the library, where no start of Python hides a growth. The cases take turns. System
calls are counted, too, as a machine that others use does not change their number.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import page
from benchmarks.process import DSBRANCH, summed_calls
from benchmarks.scratch import disk, machine, new_files

if TYPE_CHECKING:
    import dsbranch

VERBS = ("status", "diff", "rollback", "commit", "create")
TIMED = {"process": "whole process, ms", "library": "library, ms"}
CALLS = "calls"
HOW = TIMED | {CALLS: "system calls"}
PER_DIRECTORY = 100
SIZE = 4096
CHANGES = 1000
TOUCHED = 100
PER_COMMIT = 10
WORK = "work"
START = "start"

Result = dict[str, Any]


@dataclass(frozen=True)
class Case:
    files: int
    branches: int
    commits: int


def add_options(parser: argparse.ArgumentParser) -> None:
    whole = partial(parser.add_argument, type=int, nargs="+", metavar="N")
    whole("--files", default=[10_000, 100_000, 1_000_000], help="sizes of the dataset")
    whole("--branches", default=[10, 10_000], help="numbers of branches")
    whole("--commits", default=[10, 1_000], help="numbers of commits before")
    parser.add_argument("--rounds", type=int, default=9, help="rounds, of which the fastest counts")


def cases(options: argparse.Namespace) -> list[Case]:
    """One number varies at a time; the others are the middle size and the least of each."""
    files = sorted(options.files)
    middle, branches, commits = files[len(files) // 2], min(options.branches), min(options.commits)
    return [
        *(Case(number, branches, commits) for number in files),
        *(Case(middle, number, commits) for number in sorted(options.branches)[1:]),
        *(Case(middle, branches, number) for number in sorted(options.commits)[1:]),
    ]


def measure(place: Path, options: argparse.Namespace) -> Result:
    with disk(place, "ext4", 64) as filesystem:
        numbers = sorted(set(options.files))
        bases = {files: _base(filesystem / f"base-{files}", files) for files in numbers}
        subjects = []
        for number, case in enumerate(cases(options)):
            started = time.perf_counter()
            subjects.append(_Subject(filesystem / f"ws-{number}", bases[case.files], case))
            print(f"{case}: made in {time.perf_counter() - started:.0f} s", flush=True)
        for at in range(options.rounds + 1):
            turn = at % len(subjects)
            for subject in subjects[turn:] + subjects[:turn]:
                for how in TIMED:
                    subject.round(how, keep=at > 0)  # the first round only warms up
            print(f"round {at} of {options.rounds}", flush=True)
        for subject in subjects:
            subject.round(CALLS, keep=True)
        return {
            "machine": machine(place),
            "date": datetime.now(UTC).date().isoformat(),
            "rounds": options.rounds,
            "cases": [asdict(subject.case) | {"taken": subject.taken} for subject in subjects],
        }


def _base(path: Path, files: int) -> Path:
    """Files of 4 KB that are all hole: as long to look up as any, and no bytes on the disk."""
    for fd in new_files(path, files, PER_DIRECTORY):
        os.ftruncate(fd, SIZE)
    return path


class _Subject:
    """A workspace of one case, and what its verbs took, by `HOW` and verb: seconds, or calls."""

    def __init__(self, root: Path, base: Path, case: Case) -> None:
        import dsbranch

        self.root, self.case = root, case
        self.taken: dict[str, dict[str, list[float]]] = {
            how: {verb: [] for verb in VERBS} for how in HOW
        }
        self._numbers = count()
        self._chance = random.Random(1)
        with dsbranch.init(base, root) as ws:
            for number in range(case.branches - 1):
                ws.create(f"other-{number}", mount=False)
            ws.create(WORK)
            for number in range(case.commits):
                for at in range(PER_COMMIT):
                    directory = f"{(number * PER_COMMIT + at) % TOUCHED:06}"
                    self._write(f"{directory}/{number % PER_DIRECTORY:03}")
                ws.commit(WORK, f"commit {number}")
            ws.tag(START, WORK)

    def round(self, how: str, *, keep: bool) -> None:
        """Every verb once; afterwards all is as before."""
        new = f"new-{next(self._numbers)}"
        self._change()
        self._time(how, "status", [], lambda ws: ws.status(WORK), keep)
        self._time(how, "diff", [], _read_diff, keep)
        self._time(how, "rollback", [WORK], lambda ws: ws.rollback(WORK), keep)
        self._change()
        message = ["-m", "timed"]
        self._time(how, "commit", [WORK, *message], lambda ws: ws.commit(WORK, "timed"), keep)
        self._time(how, "create", [new], lambda ws: ws.create(new), keep)
        self._untimed(lambda ws: (ws.rollback(WORK, START), ws.delete(new, force=True)))

    def _time(
        self,
        how: str,
        verb: str,
        words: list[str],
        call: Callable[[dsbranch.Workspace], object],
        keep: bool,
    ) -> None:
        command = [DSBRANCH, verb, *words]
        cwd = self.root if words else self.root / WORK
        if how == CALLS:
            # But for those by which threads wait for each other.
            found = summed_calls(command, "calls", "!futex", cwd=cwd)
        else:
            started = time.perf_counter()
            if how == "process":
                subprocess.run(command, cwd=cwd, stdout=subprocess.DEVNULL, check=True)
            else:
                self._untimed(call)
            found = time.perf_counter() - started
        if keep:
            self.taken[how][verb].append(found)

    def _untimed(self, call: Callable[[dsbranch.Workspace], object]) -> None:
        import dsbranch

        with dsbranch.open(self.root) as ws:
            call(ws)

    def _change(self) -> None:
        """Of ten changes 4 are other bytes, 2 appends, 2 new files, a deletion and a chmod."""
        for number in range(CHANGES):
            directory, at = f"{number % TOUCHED:06}", number // TOUCHED
            name = f"{directory}/{at:03}"
            match at:
                case 0 | 1 | 2 | 3:
                    self._write(name)
                case 4 | 5:
                    with (self.root / WORK / name).open("ab") as file:
                        file.write(b"more")
                case 6 | 7:
                    self._write(f"{name}.new")
                case 8:
                    (self.root / WORK / name).unlink()
                case _:
                    (self.root / WORK / name).chmod(0o600)

    def _write(self, name: str) -> None:
        (self.root / WORK / name).write_bytes(self._chance.randbytes(SIZE))


def _read_diff(ws: dsbranch.Workspace) -> None:
    found = sum(1 for _ in ws.diff(branch=WORK))
    if found != CHANGES:
        raise AssertionError(f"{found} changes where {CHANGES} were made")


# What the page shows


def _least(case: Result, how: str, verb: str) -> float:
    """Milliseconds, or calls."""
    least: float = min(case["taken"][how][verb])
    return least * 1e3 if how in TIMED else least


def _ratio(result: Result, how: str, verb: str) -> float:
    times = [_least(case, how, verb) for case in result["cases"]]
    return max(times) / min(times)


def sections(result: Result) -> dict[str, str]:
    facts = (
        f"{CHANGES:,} changes in {TOUCHED} directories; the fastest of {result['rounds']} rounds;"
        f" {result['date']}; {result['machine']}."
    )
    parts = [facts]
    for how, words in HOW.items():
        cells = [(words, *VERBS)]
        for case in result["cases"]:
            name = "{files:,} files, {branches:,} branches, {commits:,} commits".format(**case)
            cells.append((name, *(f"{_least(case, how, verb):,.0f}" for verb in VERBS)))
        cells.append(
            ("**largest / smallest**", *(f"{_ratio(result, how, verb):.2f}" for verb in VERBS))
        )
        parts.append(page.table(cells))
    return {"independence": "\n\n".join(parts)}


def draw(result: Result, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    grid = figure.subplots(len(TIMED), 3, sharey="row", sharex="col")
    for row, (how, words) in zip(grid, TIMED.items(), strict=True):
        for axes, axis in zip(row, ("files", "branches", "commits"), strict=True):
            others = {"files", "branches", "commits"} - {axis}
            common = result["cases"][len({case["files"] for case in result["cases"]}) // 2]
            shown = [c for c in result["cases"] if all(c[o] == common[o] for o in others)]
            for verb in VERBS:
                times = [_least(case, how, verb) for case in shown]
                axes.plot([case[axis] for case in shown], times, marker="o", label=verb)
            axes.set_xscale("log")
            axes.set_ylim(bottom=0)
            axes.grid(visible=True, alpha=0.3)
            if how == list(TIMED)[-1]:
                axes.set_xlabel(axis)
        row[0].set_ylabel(words)
    grid[0][-1].legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
    page.save_plot(figure, path)

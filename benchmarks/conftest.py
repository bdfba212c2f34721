"""The benchmarks' foundation: the data sets, floors timed in turn with what is measured, a table.

Everything lies below one temporary directory on a real filesystem, which is removed at the end
with all its mounts. TMPDIR chooses where; an overlay or a tmpfs there is passed over.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.page import markdown
from benchmarks.scratch import filesystem, processor, scratch
from tests import edits
from tests.overlays import Overlay
from tests.trees import Dir

DIRECTORIES = 200
LARGE_FILES = 8
LARGE_BYTES = 64 << 20
ROUNDS = 7
LEAST_FILES = 200

# Nobody reads these, but they decide how tools sort, compare and format.
os.environ["LC_ALL"] = "C"

table_key = pytest.StashKey[list["Row"]]()
facts_key = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--files",
        type=int,
        default=20_000,
        metavar="N",
        help="small files in the benchmarks' data set (default: 20000)",
    )
    parser.addoption(
        "--depth",
        type=int,
        default=200,
        metavar="N",
        help="commits of the long history (default: 200)",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--files") < LEAST_FILES:
        raise pytest.UsageError(f"--files: {LEAST_FILES} at least, or edits would meet each other")
    config.stash[table_key] = []
    config.stash[facts_key] = []


# The data sets


@dataclass(frozen=True)
class Data:
    """A dataset at ``place/base``: `small` and `large` in two directories, paths relative to it.

    `edits` is how many edits one round makes: 1,000 in a set of the default size. An `Overlay`
    with its root at `place` is one on this dataset, with nothing of dsbranch in it.
    """

    place: Path
    small: tuple[str, ...]
    large: tuple[str, ...]
    small_bytes: int
    large_bytes: int

    @property
    def base(self) -> Path:
        return self.place / "base"

    @property
    def edits(self) -> int:
        return max(10, len(self.small) // 20)


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    with scratch() as path:
        yield path


@pytest.fixture(scope="session")
def data(place: Path, request: pytest.FixtureRequest) -> Data:
    """Files of 1 to 16 KB in 200 directories, and 8 files of 64 MB; all of it incompressible."""
    count = request.config.getoption("--files")
    chance = random.Random(1)
    base = place / "base"
    pool = chance.randbytes(1 << 20)
    small, large, small_bytes = [], [], 0
    for number in range(DIRECTORIES):
        (base / f"small/{number:03}").mkdir(parents=True)
    for number in range(count):
        size = chance.randint(1024, 16 * 1024)
        start = chance.randrange(len(pool) - size)
        small.append(f"small/{number % DIRECTORIES:03}/{number:07}.jpg")
        (base / small[-1]).write_bytes(pool[start : start + size])
        small_bytes += size
    (base / "large").mkdir()
    for number in range(LARGE_FILES):
        large.append(f"large/{number}.bin")
        with (base / large[-1]).open("wb") as file:
            for piece in range(LARGE_BYTES >> 20):
                file.write(bytes([number, piece]) + pool[2:])
    subprocess.run(["sync", "-f", base], check=True)
    large_mb = LARGE_BYTES >> 20
    request.config.stash[facts_key] += [
        f"Linux {os.uname().release}, {os.cpu_count()} cores ({processor()}), {filesystem(base)}",
        f"{count:,} files of 1 to 16 KB ({small_bytes / 1e6:.0f} MB) in {DIRECTORIES} directories",
        f"{LARGE_FILES} files of {large_mb} MB",
        f"Python {sys.version.split()[0]}",
    ]
    return Data(place, tuple(small), tuple(large), small_bytes, LARGE_FILES * LARGE_BYTES)


@pytest.fixture(scope="session")
def needs_mounts(place: Path) -> None:
    """Skips, with the kernel's own words, where overlays cannot be mounted."""
    if os.geteuid() != 0:
        pytest.skip("mounting overlays needs root")
    probe = place / "probe"
    probe.mkdir()
    try:
        with Overlay(probe, Dir({})):
            pass
    except AssertionError as error:
        pytest.skip(str(error).strip())


def edit(view: Path, data: Data, number: int, count: int) -> None:
    """Make `count` edits: of ten, 4 new contents of the old size, 2 appends, 2 new files,
    a deletion and a chmod. Those of another `number` below 20 touch other files.
    """
    step = max(1, len(data.small) // count)
    mine = data.small[number % step :: step][:count]
    for at, path in enumerate(mine):
        match at % 10:
            case 0 | 1 | 2 | 3:
                edits.write(path, os.urandom((data.base / path).stat().st_size))(view)
            case 4 | 5:
                edits.append(path, b"more")(view)
            case 6 | 7:
                edits.write(f"{path}.{number}", os.urandom(8192))(view)
            case 8:
                edits.unlink(path)(view)
            case 9:
                edits.chmod(path, 0o600)(view)


# What is compared


def command(*words: str | Path, cwd: Path | None = None) -> Callable[[], None]:
    """A whole process as something to time. Its output goes nowhere; it must not fail."""

    def run() -> None:
        done = subprocess.run(
            words, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
        )
        if done.returncode != 0:
            raise AssertionError(f"{words}: {done.stderr.decode(errors='replace')}")

    return run


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, or with `floor` what it is compared with."""

    what: str
    seconds: float
    rate: str
    floor: str | None = None
    ratio: float = 0.0


@dataclass(frozen=True)
class Comparison:
    benchmark: Any
    table: list[Row]

    def __call__(
        self,
        what: str,
        run: Callable[..., object],
        floors: Mapping[str, Callable[[], object]],
        *,
        prepare: Callable[[], Sequence[object]] | None = None,
        amount: float = 0,
        unit: str = "",
    ) -> None:
        """Time `run` against its floors, which take turns with it: a machine that is busy for a
        while is so for all of them. `prepare` is not timed and gives the arguments of `run`.

        The table has the fastest round of each, since other work on the machine can only add.
        `amount` is how many of `unit` one run handles.
        """
        taken: dict[str, list[float]] = {name: [] for name in floors}

        def turn() -> tuple[tuple[object, ...], dict[str, object]]:
            for name, floor in floors.items():
                started = time.perf_counter()
                floor()
                taken[name].append(time.perf_counter() - started)
            return () if prepare is None else tuple(prepare()), {}

        self.benchmark.pedantic(run, setup=turn, rounds=ROUNDS, warmup_rounds=1)
        if self.benchmark.stats is None:
            return  # --benchmark-disable: it ran once, to see that it works
        best = self.benchmark.stats.stats.min
        self.table.append(Row(what, best, rate(amount, best, unit)))
        for name, times in taken.items():
            floor = min(times[1:])  # the first was the warm-up's
            self.benchmark.extra_info[name] = {
                "min_seconds": floor,
                "median_seconds": statistics.median(times[1:]),
                "ratio": best / floor,
            }
            self.table.append(Row(what, floor, rate(amount, floor, unit), name, best / floor))


def rate(amount: float, seconds: float, unit: str) -> str:
    if not amount:
        return ""
    number = amount / seconds
    return f"{number:,.0f} {unit}/s" if number >= 100 else f"{number:.3g} {unit}/s"


@pytest.fixture
def compare(benchmark: Any, request: pytest.FixtureRequest) -> Comparison:
    return Comparison(benchmark, request.config.stash[table_key])


# The table


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    rows = config.stash[table_key]
    if not rows:
        return
    terminalreporter.section(f"dsbranch against its floors: fastest of {ROUNDS} rounds")
    terminalreporter.write_line("; ".join(config.stash[facts_key]))
    terminalreporter.write_line("")
    cells = [("what", "time", "rate", "ratio")]
    for row in rows:
        if row.floor is None:
            cells.append((f"**{row.what}**", shown(row.seconds), row.rate, ""))
        else:
            against = (f"against {row.floor}", shown(row.seconds), row.rate, f"{row.ratio:.2f}")
            cells.append(against)
    for line in markdown(cells):
        terminalreporter.write_line(line)


def shown(seconds: float) -> str:
    return f"{seconds * 1e3:,.1f} ms" if seconds < 1 else f"{seconds:,.2f} s"

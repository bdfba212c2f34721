"""Every verb as its user meets it: one whole process, from exec to exit."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

import dsbranch
from benchmarks.conftest import Comparison, Data, command, edit
from tests.overlays import Overlay

FEW = 10

Floors = dict[str, Callable[[], None]]


def python(code: str) -> Callable[[], None]:
    return command(sys.executable, "-c", code)


class Bench:
    """A workspace of the dataset, and what a benchmark prepares in it."""

    def __init__(self, data: Data) -> None:
        self.data = data
        self.root = data.place / "ws"
        self.ws = dsbranch.init(data.base, self.root)
        self._numbers = count()

    def verb(self, *words: str) -> Callable[[], None]:
        return command(sys.executable, "-m", "dsbranch", "-C", self.root, *words)

    def run(self, *words: str) -> None:
        self.verb(*words)()

    def next(self) -> str:
        return f"b{next(self._numbers)}"

    def branch(self, commits: int, edits: int) -> str:
        """A new branch with that many commits and uncommitted edits on top, `edits` in each."""
        name = self.next()
        self.ws.create(name)
        for number in range(commits):
            edit(self.root / name, self.data, number, edits)
            self.ws.commit(name, f"edits {number}")
        edit(self.root / name, self.data, commits, edits)
        return name


@pytest.fixture(scope="module")
def bench(data: Data, needs_mounts: None) -> Bench:  # noqa: ARG001 - asked for its effect
    return Bench(data)


@pytest.fixture(scope="module")
def start() -> Floors:
    return {"`dsbranch --version`": command(sys.executable, "-m", "dsbranch", "--version")}


@pytest.fixture(scope="module")
def mount(data: Data, needs_mounts: None) -> Floors:  # noqa: ARG001 - asked for its effect
    """mount(8) and umount(8) of an overlay on the same dataset."""
    overlay = Overlay(data.place, None)

    def run() -> None:
        overlay.mount()
        overlay.unmount()

    return {"`mount`, `umount`": run}


def test_version(compare: Comparison) -> None:
    compare(
        "`--version`",
        command(sys.executable, "-m", "dsbranch", "--version"),
        {"`python -c pass`": python("pass"), "`python -c 'import typer'`": python("import typer")},
    )


def test_init(data: Data, start: Floors, mount: Floors, compare: Comparison) -> None:
    numbers = count()

    def init(workspace: Path) -> None:
        command(sys.executable, "-m", "dsbranch", "init", data.base, workspace)()

    def elsewhere() -> list[Path]:
        return [data.place / f"init-{next(numbers)}"]

    compare("`init`", init, start | mount, prepare=elsewhere)


def test_create(bench: Bench, start: Floors, mount: Floors, compare: Comparison) -> None:
    compare(
        "`create`",
        lambda name: bench.run("create", name),
        start | mount,
        prepare=lambda: [bench.next()],
    )


@pytest.mark.parametrize("edits", [FEW, None], ids=["few", "many"])
@pytest.mark.parametrize("verb", ["status", "diff"])
def test_look(
    bench: Bench, start: Floors, compare: Comparison, verb: str, edits: int | None
) -> None:
    edits = edits or bench.data.edits
    name = bench.branch(0, edits)
    words = ["status", name] if verb == "status" else ["diff", name]
    compare(f"`{verb}`, {edits:,} edits", bench.verb(*words), start)


@pytest.mark.parametrize("edits", [FEW, None], ids=["few", "many"])
def test_commit(
    bench: Bench, start: Floors, mount: Floors, compare: Comparison, edits: int | None
) -> None:
    edits = edits or bench.data.edits
    compare(
        f"`commit`, {edits:,} edits",
        lambda name: bench.run("commit", name, "-m", "edits"),
        start | mount,
        prepare=lambda: [bench.branch(0, edits)],
    )


def test_diff_of_commits(bench: Bench, start: Floors, compare: Comparison) -> None:
    edits = bench.data.edits
    name = bench.branch(2, edits)
    compare(
        f"`diff` of two commits, {edits:,} edits between",
        bench.verb("diff", f"{name}~1", f"{name}~0"),
        start,
    )


def test_rollback(bench: Bench, start: Floors, mount: Floors, compare: Comparison) -> None:
    edits = bench.data.edits
    compare(
        f"`rollback`, {edits:,} edits",
        lambda name: bench.run("rollback", name),
        start | mount,
        prepare=lambda: [bench.branch(0, edits)],
    )


def test_squash(bench: Bench, start: Floors, mount: Floors, compare: Comparison) -> None:
    edits = bench.data.edits // 2

    def committed() -> list[str]:
        name = bench.branch(1, edits)
        bench.ws.commit(name, "edits on top")
        return [name]

    compare(
        f"`squash`, 2 commits of {edits:,}",
        lambda name: bench.run("squash", name),
        start | mount,
        prepare=committed,
    )

"""Each verb killed, and refused by the kernel, at calls that change something.

After it the workspace shows what it did before the command or what it does after it, never a
third; the next command heals what is half done without being asked; nothing that was not
committed is missing; `verify` is content; and the command, given once more, does its work.

By default a few calls of each verb are tried, the same each time. DSBRANCH_TEST_FAULTS=all tries
every one, DSBRANCH_TEST_FAULTS=N every N-th.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import leaks
from tests.injected import Call, Ended, dsbranch
from tests.ops.conftest import KILLED, Bench, said
from tests.trees import Snapshot, differences, snapshot

from .scenarios import BASE, SCENARIOS, Scenario

pytestmark = pytest.mark.root

ERRORS = "ENOSPC", "EIO", "EDQUOT", "ENOMEM", "EMFILE"
CODES = 0, 3, 4, 5, 6
FEW = 2


class State(NamedTuple):
    """What a user sees of a workspace, wherever it lies and whenever it was made."""

    branches: dict[str, tuple[list[str], list[str]]]  # messages, uncommitted changes
    views: dict[str, Snapshot]
    tags: dict[str, str]
    files: list[str]

    def differences(self, other: State, *, times: bool) -> list[str]:
        """`times`: whether both are of one workspace, so that times of writing are comparable."""
        facts, others = ((one.branches, one.tags, one.files) for one in (self, other))
        found = [] if facts == others else [f"{facts!r} != {others!r}"]
        for name in self.views.keys() & other.views.keys():
            ignore = () if times else ("mtime_ns",)
            found += differences(self.views[name], other.views[name], ignore=ignore)
        return found


def state(bench: Bench) -> State:
    """As any next commands would find it. Branches that are not mounted are, for the looking."""
    ws = bench.ws
    branches, views = {}, {}
    messages = {commit.id: commit.message for info in ws.list() for commit in ws.log(info.name)}
    for info in ws.list():
        name = info.name
        status = ws.status(name)
        if not status.mounted:
            ws.mount(name)
        views[name] = snapshot(bench.path(name))
        changes = said(ws.diff(branch=name))
        if not status.mounted:
            ws.umount(name)
        log = [message(commit.message, bench) for commit in ws.log(name)]
        branches[name] = log, changes
    tags = {tag.name: message(messages[tag.commit], bench) for tag in ws.tags()}
    return State(branches, views, tags, sorted(_files(bench.root)))


def _files(root: Path) -> list[str]:
    """Without what a killed export leaves behind, which tells by its name what it is."""
    return [name for name in os.listdir(root) if not name.startswith(".dsbranch-export-")]


def message(text: str, bench: Bench) -> str:
    return text.replace(str(bench.root), "")


class Trial:
    """One scenario: what it comes to, and how many calls it takes to get there."""

    def __init__(self, scenario: Scenario, root: Path) -> None:
        self.scenario, self.root = scenario, root
        self.made = 0
        with self.bench() as bench:
            ended = self.run(bench)
            assert ended.code == 0, ended
            self.calls = ended.calls
            self.after = state(bench)

    @contextmanager
    def bench(self) -> Iterator[Bench]:
        """A workspace in which the command has something to do."""
        self.made += 1
        place = self.root / str(self.made)
        place.mkdir()
        bench = Bench(place, BASE)
        try:
            self.scenario.prepare(bench)
            yield bench
        finally:
            bench.close()
            shutil.rmtree(place)

    def run(self, bench: Bench, effect: str = "", at: Call | None = None) -> Ended:
        bench.ws.close()
        report = self.root / "strace"
        ended = dsbranch(self.scenario.words, cwd=bench.place, report=report, effect=effect, at=at)
        bench.reopen()
        return ended

    def chosen(self) -> Sequence[Call]:
        """Which calls to try."""
        wanted = os.environ.get("DSBRANCH_TEST_FAULTS", "")
        if wanted:
            return self.calls[:: 1 if wanted == "all" else int(wanted)]
        return random.Random(self.scenario.name).sample(self.calls, FEW)

    def survive(self, effect: str, at: Call) -> Ended:
        """Let it happen, and judge what is there then."""
        with self.bench() as bench:
            base, before = snapshot(bench.data), state(bench)
            ended = self.run(bench, effect, at)
            told = effect, at, ended[:3]
            now = state(bench)
            old = now.differences(before, times=True)
            assert not old or not now.differences(self.after, times=False), (told, old)
            assert snapshot(bench.data) == base, told
            assert not bench.ws.verify(full=True).findings, told
            if not old and ended.code and self.scenario.repeats:
                again = self.run(bench)
                assert again.code == 0, (told, again[:3])
                new = state(bench).differences(self.after, times=False)
                assert not new, (told, again[:3], new)
                assert not bench.ws.verify(full=True).findings, told
        return ended


@pytest.fixture(params=SCENARIOS, ids=str, scope="module")
def trial(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trial]:
    root = tmp_path_factory.mktemp("trial")
    try:
        yield Trial(request.param, root)
    finally:
        for point in leaks.mounts(root):
            subprocess.run(["umount", "-l", point], check=True)


def test_killed(trial: Trial) -> None:
    chosen = trial.chosen()
    for call in chosen:
        ended = trial.survive("signal=KILL", call)
        assert ended.code == KILLED, (call, ended[:3])
    print(f"\n{trial.scenario}: killed at {len(chosen)} of {len(trial.calls)} calls", end="")


def test_refused(trial: Trial) -> None:
    chosen = trial.chosen()
    for number, call in enumerate(chosen):
        error = ERRORS[number % len(ERRORS)]
        ended = trial.survive(f"error={error}", call)
        told = error, call, ended[:3]
        assert ended.code in CODES, told
        assert "Traceback" not in ended.stderr, told
        if ended.code:
            assert ended.stderr.startswith("error: "), told
            assert "\nhint: " in ended.stderr, told
    print(f"\n{trial.scenario}: refused {len(chosen)} of {len(trial.calls)} calls", end="")

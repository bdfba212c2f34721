"""Any history that there could be: edits and verbs in any order, held against plain directories.

How to run it for hours, and how a failure is replayed: docs/internals/testing.md.
"""

from __future__ import annotations

import os
import random
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests import leaks
from tests.machine import Machine
from tests.operations import Step
from tests.steps import OPERATIONS, START
from tests.trees import CAPABILITY, Device, Dir, Fifo, File, Link, Socket, Symlink, acl

pytestmark = pytest.mark.root

LINKED = Dir(
    {
        "a": Dir({"a": File(b"one"), "b": Link("a/a"), "c": Dir({"d": Link("a/a")})}),
        "b": Link("a/a"),
        "c": File(b"2", sparse=1 << 20),
        "d": Dir({"a": Fifo(), "b": Socket(), "c": Device("char", 1, 5), "d": Symlink("../b")}),
        "a-b": Dir({"a": File(b"x", xattrs={"security.capability": CAPABILITY}), "b": File()}),
        "-r": File(b"listed", xattrs={"system.posix_acl_access": acl(1000, 5)}, mode=0o674),
        b"\xff\xfe": Dir({"d": File(b"same"), "c": File(b"same")}),
    },
    xattrs={"user.root": b"r"},
    mode=0o750,
    gid=3,
)
BASES = {"start": START, "linked": LINKED, "empty": Dir({})}
MAX_BRANCHES = 4
TOTALS: Counter[str] = Counter()

_SEED = os.environ.get("DSBRANCH_TEST_SEED", "0")
SEED = random.SystemRandom().getrandbits(32) if _SEED == "random" else int(_SEED)

numbers = st.integers(0, 999)


def steps(*words: str) -> st.SearchStrategy[list[Step]]:
    """A few steps of those operations that have one of these words in their name, or of all."""
    chosen = [op for op in OPERATIONS if not words or any(word in op for word in words)]
    step = st.builds(Step, st.sampled_from(chosen), numbers, numbers, st.integers(0, 1049))
    return st.lists(step, min_size=1, max_size=4)


class Histories(RuleBasedStateMachine):
    """Draws what to do; `tests.machine` does it and judges."""

    @initialize(base=st.sampled_from(sorted(BASES)), dialect=st.sampled_from(["trusted", "user"]))
    def adopt(self, base: str, dialect: str) -> None:
        # In memory, which is fast; to take it off takes everything off at once.
        self.root = Path(tempfile.mkdtemp(prefix="h-"))
        if os.environ.get("DSBRANCH_TEST_ON_DISK") != "1":
            subprocess.run(["mount", "-t", "tmpfs", "none", self.root], check=True)
        self.broken = True
        self.machine = Machine(self.root, BASES[base], dialect)
        self.broken = False

    def do(self, verb: str, *arguments: object, **keywords: object) -> None:
        self.broken = True
        getattr(self.machine, verb)(*arguments, **keywords)
        self.machine.counts[verb] += 1
        self.broken = False

    # Editing, several times, so that it is drawn more often than the verbs

    @rule(branch=numbers, steps=steps())
    def edit(self, branch: int, steps: list[Step]) -> None:
        self.do("edit", self.machine.branch(branch), steps)

    @rule(branch=numbers, steps=steps("rename", "swap", "exchange", "replace", "recreate", "add"))
    def move(self, branch: int, steps: list[Step]) -> None:
        self.do("edit", self.machine.branch(branch), steps)

    @rule(branch=numbers, steps=steps("link", "open", "append", "rewrite", "ch", "utime", "rename"))
    def touch(self, branch: int, steps: list[Step]) -> None:
        self.do("edit", self.machine.branch(branch), steps)

    @rule(branch=numbers, hash=st.booleans())
    def commit(self, branch: int, hash: bool) -> None:
        self.do("commit", self.machine.branch(branch), hash=hash)

    @rule(branch=numbers, steps=steps())
    def edit_and_commit(self, branch: int, steps: list[Step]) -> None:
        name = self.machine.branch(branch)
        self.do("edit", name, steps)
        self.do("commit", name, allow_empty=True)

    @rule(branch=numbers)
    def commit_unmounted(self, branch: int) -> None:
        name = self.machine.branch(branch)
        if self.machine.branches[name].mounted:
            self.do("umount", name)
        self.do("commit", name)

    @rule(branch=numbers, since=st.none() | st.integers(0, 12))
    def squash(self, branch: int, since: int | None) -> None:
        self.do("squash", self.machine.branch(branch), since)

    @rule(branch=numbers, to=numbers)
    def rollback(self, branch: int, to: int) -> None:
        self.do("rollback", self.machine.branch(branch), self.machine.any_commit(to))

    @precondition(lambda self: len(self.machine.branches) < MAX_BRANCHES)
    @rule(start=numbers, mounted=st.booleans())
    def create(self, start: int, mounted: bool) -> None:
        machine = self.machine
        places = [*sorted(machine.branches), *machine.kept]
        name = f"b{machine.number}"
        self.do("create", name, places[start % len(places)], mounted=mounted)

    @precondition(lambda self: len(self.machine.branches) == MAX_BRANCHES)
    @rule(branch=numbers)
    def delete(self, branch: int) -> None:
        self.do("delete", self.machine.branch(branch))

    @rule()
    def undo(self) -> None:
        self.do("undo")

    @rule(times=st.integers(2, 3))
    def undo_and_redo(self, times: int) -> None:
        for _ in range(times):
            self.do("undo")

    @rule(
        branch=numbers,
        other=numbers,
        strategy=st.sampled_from(["fail", "ours", "theirs"]),
        commit=st.booleans(),
    )
    def merge(self, branch: int, other: int, strategy: str, commit: bool) -> None:
        name = self.machine.branch(branch)
        if commit:
            self.do("commit", name)
        self.do("merge", name, self.machine.any_commit(other), strategy)

    @rule(
        branch=numbers,
        start=st.none() | numbers,
        places=st.lists(numbers, min_size=1, max_size=2),
    )
    def restore(self, branch: int, start: int | None, places: list[int]) -> None:
        """Paths that are there, or were, or never; and sometimes all there is."""
        machine = self.machine
        name = machine.branch(branch)
        commit = None if start is None else machine.any_commit(start)
        paths = [machine.any_path(name, commit, place) for place in places]
        self.do("restore", name, sorted(set(paths)), commit)

    @rule(name=st.sampled_from(["t", "u"]), commit=numbers, delete=st.booleans())
    def tag(self, name: str, commit: int, delete: bool) -> None:
        if delete and name in self.machine.tags:
            self.do("untag", name)
        else:
            self.do("tag", name, self.machine.any_commit(commit))

    @rule(branch=numbers)
    def rename(self, branch: int) -> None:
        self.do("rename", self.machine.branch(branch))

    @rule()
    def collect(self) -> None:
        self.do("collect")

    @rule(branch=numbers)
    def remount(self, branch: int) -> None:
        self.do("remount", self.machine.branch(branch))

    @rule(commit=numbers, suffix=st.sampled_from(["", ".tar", ".tar.zst"]))
    def export(self, commit: int, suffix: str) -> None:
        self.do("export", self.machine.any_commit(commit), suffix)

    @rule(one=numbers, two=numbers, suffix=st.sampled_from(["", ".tar"]))
    def export_range(self, one: int, two: int, suffix: str) -> None:
        machine = self.machine
        self.do("export_range", machine.any_commit(one), machine.any_commit(two), suffix)

    @rule(one=numbers, two=numbers)
    def diff(self, one: int, two: int) -> None:
        self.do("ask_between", self.machine.any_commit(one), self.machine.any_commit(two))

    @rule(commit=numbers)
    def look_back(self, commit: int) -> None:
        self.do("look_back", self.machine.any_commit(commit))

    def teardown(self) -> None:
        if not hasattr(self, "root"):
            return
        try:
            if not self.broken:
                self.machine.everything()
                TOTALS.update(self.machine.counts, histories=1)
        finally:
            if hasattr(self, "machine"):
                self.machine.ws.close()
            for point in leaks.mounts(self.root):
                subprocess.run(["umount", "-l", point], check=True)
            subprocess.run(["rm", "-r", self.root], check=True)


def test_histories() -> None:
    """Prints the seed, and what was done; a failure prints the calls that lead to it."""
    print(f"DSBRANCH_TEST_SEED={SEED}")
    steps = int(os.environ.get("DSBRANCH_TEST_STEPS", "40"))
    phases = [Phase.generate, Phase.shrink]
    examples = 4 * settings.default.max_examples
    run_state_machine_as_test(
        seed(SEED)(Histories),
        settings=settings(
            derandomize=False,
            max_examples=examples,
            stateful_step_count=steps,
            phases=phases,
        ),
    )
    print(", ".join(f"{count} {verb}" for verb, count in TOTALS.most_common()))

"""What a long history costs: the same things after one commit and after many.

Every commit writes files in the same directories, which is what costs an overlay the most.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

import dsbranch
from benchmarks.conftest import Comparison, command, facts_key
from dsbranch.ops.lowers import lowers_of

DIRECTORIES = 20
FILES = 100
EDITS = 40
OPENS = 1000


class History:
    """A workspace of a small dataset, with `depth` commits on main."""

    def __init__(self, root: Path, depth: int) -> None:
        self.root = root
        self.chance = random.Random(depth)
        self.names = [f"{d:02}/{f:03}" for d in range(DIRECTORIES) for f in range(FILES)]
        base = root / "base"
        for number in range(DIRECTORIES):
            (base / f"{number:02}").mkdir(parents=True)
        for name in self.names:
            (base / name).write_bytes(self.chance.randbytes(200))
        self.ws = dsbranch.init(base, root / "ws")
        self.view = root / "ws" / "main"
        for number in range(depth):
            self.edit()
            self.ws.commit("main", str(number))

    def edit(self) -> None:
        for at in range(EDITS):
            file = self.chance.randrange(FILES)
            name = self.view / f"{at % DIRECTORIES:02}/{file:03}"
            name.write_bytes(self.chance.randbytes(200))

    def commit(self) -> None:
        self.ws.commit("main", "more")

    def look(self) -> None:
        self.ws.status("main")

    def compare(self) -> None:
        self.ws._context.tables.clear()
        assert len(self.ws.diff("main~1", "main")) > 0

    def open(self) -> None:
        for name in random.Random(1).choices(self.names, k=OPENS):
            fd = os.open(self.view / name, os.O_RDONLY)
            os.read(fd, 200)
            os.close(fd)

    def remount(self) -> None:
        self.ws.umount("main")
        self.ws.mount("main")

    def find(self) -> None:
        command("find", self.view, "-printf", "%s %T@\n")()

    def first_find(self) -> None:
        self.remount()
        self.find()

    def facts(self) -> str:
        store = self.ws._context.store
        own = store.stack(self.ws.branch("main").head)
        top = self.root / "ws" / ".dsbranch" / "layers"
        made = [id for id in os.listdir(top) if id not in own]
        inodes = sum(len(inner) + 1 for id in made for _, inner, _ in os.walk(top / id / "fs"))
        lowers = lowers_of(self.ws._context, self.ws.branch("main").head)
        return (
            f"{len(own):,} commits: {len(lowers)} lowers;"
            f" {len(made):,} checkpoints with {inodes:,} directories,"
            f" beside {len(own) * (DIRECTORIES + 1):,} of the commits"
        )


@pytest.fixture(scope="module")
def depth(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--depth"))


@pytest.fixture(scope="module")
def one(place: Path, needs_mounts: None) -> History:  # noqa: ARG001 - asked for its effect
    return History(place / "one", 1)


@pytest.fixture(scope="module")
def many(
    place: Path,
    depth: int,
    needs_mounts: None,  # noqa: ARG001 - asked for its effect
    request: pytest.FixtureRequest,
) -> History:
    made = History(place / "many", depth)
    request.config.stash[facts_key].append(made.facts())
    made.remount()
    return made


@pytest.mark.parametrize(
    ("what", "act"),
    [
        ("`find`", History.find),
        ("mount, first `find`", History.first_find),
        (f"{OPENS:,} opens", History.open),
        ("`status`", History.look),
        ("`diff` of the last commit", History.compare),
    ],
)
def test_after_many_commits(
    one: History,
    many: History,
    depth: int,
    compare: Comparison,
    what: str,
    act: Callable[[History], None],
) -> None:
    compare(
        f"{what} after {depth:,} commits",
        lambda: act(many),
        {"the same after one commit": lambda: act(one)},
    )


def test_commit_after_many(one: History, many: History, depth: int, compare: Comparison) -> None:
    def both(history: History) -> None:
        history.edit()
        history.commit()

    compare(
        f"{EDITS} edits and their commit after {depth:,}",
        lambda: both(many),
        {"the same after a few": lambda: both(one)},
    )

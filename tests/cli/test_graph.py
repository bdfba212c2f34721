"""The drawing of a history; git's own is the judge where git is at hand."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from dsbranch.cli.graph import draw

History = list[tuple[str, list[str]]]


def drawn(history: History, *more: str) -> str:
    return "".join(f"{line}\n" for line in draw((id, up, [id, *more]) for id, up in history))


def history(text: str) -> History:
    """``c:b,a b:a a`` is c with the parents b and a, and so on, newest first."""
    pairs = [item.partition(":") for item in text.split()]
    return [(id, up.split(",") if up else []) for id, _, up in pairs]


@pytest.mark.parametrize(
    ("commits", "drawing"),
    [
        ("", ""),
        ("a", "* a\n"),
        ("c:b b:a a", "* c\n* b\n* a\n"),
        (
            "m:o,t t:b o:b b",
            """\
*   m
|\\
| * t
* | o
|/
* b
""",
        ),
        (
            "g:d,f f:e e:c,b c:d,b d:b b:a a",
            """\
*   g
|\\
| * f
| *   e
| |\\
| * | c
|/| |
| |/
* / d
|/
* b
* a
""",
        ),
    ],
)
def test_drawings(commits: str, drawing: str) -> None:
    assert drawn(history(commits)) == drawing


def test_text_of_several_lines() -> None:
    assert (
        drawn(history("m:o,t t:b o:b b"), "second", "third")
        == """\
*   m
|\\  second
| | third
| * t
| | second
| | third
* | o
|/  second
|   third
* b
  second
  third
"""
    )


def test_parents_that_are_not_shown_are_lines_that_go_on() -> None:
    assert drawn(history("m:o,t o:b")) == "*   m\n|\\\n* | o\n"


def git(place: Path, *arguments: str, when: int = 0) -> str:
    date = f"{1_000_000_000 + when} +0000"
    names = {
        f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    dates = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
    return subprocess.run(
        ["git", "-C", place, *arguments],
        check=True,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **names, **dates},
    ).stdout


def random_history(seed: int) -> History:
    """Newest first; every commit is an ancestor of the first."""
    rng = random.Random(seed)
    parents: list[list[int]] = [[]]
    for number in range(1, rng.randrange(3, 16)):
        near = range(max(0, number - rng.randrange(1, 8)), number)
        merge = len(near) > 1 and rng.random() < 0.35
        parents.append(rng.sample(near, 2 if merge else 1))
    reached = {len(parents) - 1}
    for number in range(len(parents) - 1, -1, -1):
        if number in reached:
            reached.update(parents[number])
    return [(f"c{n}", [f"c{up}" for up in parents[n]]) for n in sorted(reached, reverse=True)]


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@pytest.mark.parametrize("seed", range(12))
def test_as_git_draws_it(tmp_path: Path, seed: int) -> None:
    commits = random_history(seed)
    git(tmp_path, "init", "-q")
    tree = git(tmp_path, "mktree").strip()
    ids: dict[str, str] = {}
    for when, (id, up) in enumerate(reversed(commits)):
        arguments = [part for parent in up for part in ("-p", ids[parent])]
        ids[id] = git(tmp_path, "commit-tree", tree, *arguments, "-m", id, when=when).strip()
    for more in ((), ("second", "third")):
        form = "%n".join(("%s", *more))
        tip = ids[commits[0][0]]
        text = git(tmp_path, "log", "--graph", "--date-order", f"--format={form}", tip)
        assert drawn(commits, *more) == "".join(f"{line.rstrip()}\n" for line in text.splitlines())

"""Names that are looked up in the dataset ahead of a comparison."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dsbranch._core import scout, sides
from dsbranch._core.base import Base
from dsbranch._core.view import View
from tests import children, core, reference, trees
from tests.trees import Dir, File

NEVER = 1 << 60
WINDOW = 1 << 14


def compared(
    root: Path, least: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[str], list[reference.Entry]]:
    """What the layer changes, and what the base was asked for, with scouts from `least` rows on."""
    monkeypatch.setattr(sides, "_LEAST", least)
    base = Base(os.fsencode(root / "base"))
    found = core.changes(View([], base), View([core.scan(root / "layer")], base))
    return reference.lines(found), core.entries(base)


def both_ways(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[str], list[reference.Entry]]:
    """The same, with and without scouts: neither asks for more, or twice."""
    plain, asked = compared(root, NEVER, monkeypatch)
    found, ahead = compared(root, 1, monkeypatch)
    assert found == plain
    assert {entry.path for entry in ahead} == {entry.path for entry in asked}
    assert len(ahead) == len(asked)
    return found, ahead


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One for each time that threads are started to look ahead."""
    started: list[int] = []
    real = scout.run_threads

    def run_threads(work: object, *arguments: object) -> None:
        started.append(1)
        real(work, *arguments)

    monkeypatch.setattr(scout, "run_threads", run_threads)
    return started


def test_everything_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: list[int]
) -> None:
    def tree(first: int, text: bytes) -> Dir:
        return Dir(
            {f"{n}": Dir({f"{i}": File(text) for i in range(first, first + 20)}) for n in range(30)}
        )

    trees.make(tree(0, b"old"), tmp_path / "base")
    trees.make(tree(10, b"new one"), tmp_path / "layer")
    found, asked = both_ways(tmp_path, monkeypatch)
    assert len(found) == 30 * 20
    assert len(asked) == 1 + 30 + 30 * 10
    assert len(jobs) == 1


def test_what_a_layer_hides_is_not_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: list[int]
) -> None:
    """A directory that was removed and made again, and one that came from elsewhere."""
    inner = Dir({f"{i}": File(b"x") for i in range(9)})
    trees.make(Dir({name: Dir({"d": inner}) for name in "abc"}), tmp_path / "base")
    trees.make(Dir({name: Dir({"d": inner}) for name in "ab"}), tmp_path / "layer")
    os.setxattr(tmp_path / "layer/a", "trusted.overlay.opaque", b"y")
    os.setxattr(tmp_path / "layer/b", "trusted.overlay.redirect", b"c")
    both_ways(tmp_path, monkeypatch)
    assert jobs


@pytest.mark.parametrize("renamed", [False, True])
def test_more_than_a_window(
    renamed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: list[int]
) -> None:
    """With a directory that was renamed, directories are gone through from the last one, too."""
    for place in ("base", "layer"):
        for n in range(100):
            directory = tmp_path / place / f"{n // 10}" / f"{n}"
            directory.mkdir(parents=True)
            for i in range(2 * WINDOW // 100):
                (directory / f"{i}").touch()
    if renamed:
        (tmp_path / "layer/new").mkdir()
        os.setxattr(tmp_path / "layer/new", "trusted.overlay.redirect", b"3")
    plain, asked = compared(tmp_path, NEVER, monkeypatch)
    found, ahead = compared(tmp_path, 512, monkeypatch)
    assert found == plain
    assert {entry.path for entry in ahead} == {entry.path for entry in asked}
    assert len(jobs) >= 2
    if not renamed:
        assert len(ahead) == len(asked)
    # The window's answers are kept, but not those of all that is gone through twice.
    assert len(ahead) < 2 * len(asked)


INTERRUPTED = """
import os, signal, sys
from dsbranch._core import scout, sides
from dsbranch._core.algebra import changes
from dsbranch._core.base import Base
from dsbranch._core.scan import scan
from dsbranch._core.view import View
sides._LEAST = 1
real = scout.run_threads
def run_threads(work, crew, cancel, *rest):
    def press(number):
        if number == 0:
            signal.raise_signal(signal.SIGINT)
        work(number)
    real(press, crew, cancel, *rest)
scout.run_threads = run_threads
base = Base(b"base")
layer = scan(b"layer")
try:
    changes(View([], base), View([layer], base))
except KeyboardInterrupt:
    scout.run_threads = real
    print(len(changes(View([], base), View([layer], base))))
"""


def test_interrupted(tmp_path: Path) -> None:
    for place in ("base", "layer"):
        trees.make(Dir({f"{i}": File(place.encode()) for i in range(2000)}), tmp_path / place)
    done = subprocess.run(
        [sys.executable, "-P", "-c", INTERRUPTED],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=children.environment(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (done.stdout, done.stderr) == ("2000\n", "")

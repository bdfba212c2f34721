"""Test foundation: a small dataset, and a command of ``dsbranch run`` that goes on and does what it
is told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.trees import Dir, File, make

PROGRAM = [sys.executable, "-P", "-m", "dsbranch"]


def dataset(root: Path) -> Path:
    data = root / "data"
    make(Dir({"labels": File(b"cat\n"), "inner": Dir({"image": File(b"pixels")})}), data)
    return data


def called(
    ws: Path, *words: object, code: int, **keywords: object
) -> subprocess.CompletedProcess[str]:
    """The program called on a workspace, which ends with `code` and without a traceback."""
    done = subprocess.run(
        [*PROGRAM, "-C", ws, *map(str, words)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
        **keywords,
    )
    assert done.returncode == code, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    return done


class View:
    """A command of `run` that goes on, and does what it is told line by line."""

    def __init__(self, ws: Path, words: tuple[str, ...]) -> None:
        self.process = subprocess.Popen(
            [*PROGRAM, "-C", ws, "run", *words, "--", "sh"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
        )

    def does(self, line: str) -> list[str]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{line}\necho\necho .$?\n")
        self.process.stdin.flush()
        lines = []
        while not (line := self.process.stdout.readline()).startswith("."):
            assert line, "the view has ended"
            lines.append(line.rstrip("\n"))
        return [line for line in lines if line]


@contextmanager
def view(ws: Path, *words: str) -> Iterator[View]:
    made = View(ws, words)
    try:
        made.does("true")
        yield made
    finally:
        made.process.communicate()

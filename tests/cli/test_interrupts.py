"""Ctrl-C and SIGTERM at any moment of a command: no traceback, and the branch is whole.

By hand with as many moments as one likes: ``DSBRANCH_TEST_KILLS=100``.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import dsbranch
from dsbranch.cli import _terminate
from tests import children, leaks

pytestmark = pytest.mark.root

KILLS = int(os.environ.get("DSBRANCH_TEST_KILLS", "4"))
PROGRAM = [sys.executable, "-P", "-m", "dsbranch"]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    data = tmp_path / "data"
    data.mkdir()
    for number in range(200):
        (data / f"f{number}").write_text("".join(f"{line}\n" for line in range(number, 400)))
    with dsbranch.init(data, tmp_path / "ws") as ws:
        for round in range(3):
            _edit(tmp_path / "ws", str(round))
            ws.commit("main", f"round {round}")
    yield tmp_path / "ws"
    for point in leaks.mounts(tmp_path):
        subprocess.run(["umount", "-l", point], check=True)


def _edit(place: Path, text: str) -> None:
    for number in range(50):
        with (place / "main" / f"f{number}").open("a") as file:
            file.write(text)


def _run(place: Path, verb: list[str], number: signal.Signals, seconds: float) -> tuple[int, str]:
    process = subprocess.Popen(
        [*PROGRAM, "-C", place, *verb],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(seconds)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    return process.returncode, told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("verb", ["status", "commit", "squash", "export"])
def test_at_any_moment(place: Path, verb: str, number: signal.Signals) -> None:
    words = {
        "status": ["status", "main"],
        "commit": ["commit", "main", "-m", "x", "--allow-empty"],
        "squash": ["squash", "main", "--since", "main~3"],
        "export": ["export", "main", "-o", str(place.parent / "out.tar.zst")],
    }[verb]
    began = time.monotonic()
    subprocess.run([*PROGRAM, "-C", place, "status", "main"], check=True, capture_output=True)
    whole = time.monotonic() - began
    rng = random.Random(f"{verb} {number}")
    for moment in [rng.uniform(0, 1.5 * whole) for _ in range(KILLS)]:
        _edit(place, "more")
        code, told = _run(place, words, number, moment)
        assert "terminate called" not in told
        if "Traceback" in told:
            # Python's own start, before it knows what to run.
            assert "dsbranch/cli" not in told, told
            continue
        # A signal of which the process dies is what a shell calls 128 + number.
        assert code in (0, 1, 2, 130, -number), (code, told)
        assert code not in (1, 2) or told.startswith("error: "), told
        with dsbranch.open(place) as ws:
            assert not ws.verify().findings
            assert ws.status("main").mounted
    assert not list(place.parent.glob(".dsbranch-export-*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_seal_says_what_it_kept(place: Path, number: signal.Signals) -> None:
    """A file that takes longer to hash than anybody waits, and small ones that do not."""
    with (place.parent / "data" / "huge").open("wb") as file:
        file.truncate(8 << 40)
    process = subprocess.Popen(
        [*PROGRAM, "-C", place, "seal", "--hash"], stderr=subprocess.PIPE, text=True
    )
    while not list((place / ".dsbranch").glob("base/*.digests")):
        time.sleep(0.05)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told.startswith("error: interrupted: all is recorded, and ")
    assert " of 201 files are hashed\n" in told
    assert "\nhint: " in told
    with dsbranch.open(place) as ws:
        assert not ws.verify().findings
        assert ws.seal().seal.digested < 201


STOPPING = """
import sys
def stop():
    raise KeyboardInterrupt
class Finder:
    @staticmethod
    def find_spec(name, path, target=None):
        if name == "dsbranch.ops.status":
            eval("stop()", {"stop": stop})
sys.meta_path.insert(0, Finder)
"""


def test_where_python_makes_code_of_text(place: Path, tmp_path: Path) -> None:
    """As where a named tuple is made: Python takes that for an interrupt that nobody caught."""
    (tmp_path / "sitecustomize.py").write_text(STOPPING)
    environment = children.environment()
    environment["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{environment['PYTHONPATH']}"
    done = subprocess.run(
        [*PROGRAM, "-C", place, "status", "main"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.splitlines()[0]) == (130, "error: interrupted")


def test_one_that_comes_where_python_would_forget_it() -> None:
    """What a callback of the import system raises is printed and nothing else."""
    source = "def cb(signal):\n    signal.raise_signal(signal.SIGINT)\n    heard.append(1)\n"
    names: dict[str, list[int]] = {"heard": []}
    exec(compile(source, "<frozen importlib._bootstrap>", "exec"), names)

    def interrupted() -> None:
        names["cb"](signal)  # type: ignore[operator]
        time.sleep(1)

    former = signal.signal(signal.SIGINT, _terminate)
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    finally:
        signal.signal(signal.SIGINT, former)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    assert names["heard"] == [1]


def test_one_while_typer_reads_the_call(place: Path) -> None:
    code = (
        "import signal, sys; from dsbranch import cli; import typer.main;"
        " typer.main.get_command = lambda *_: signal.raise_signal(signal.SIGINT);"
        " sys.argv[1:] = ['list', '--what']; sys.exit(cli.main())"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=place, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")


def test_one_while_the_disk_takes_what_was_written(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(_fd: int) -> None:
        time.sleep(2)

    def interrupt(*_args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dsbranch.ops.layers._unwritten", lambda: 1 << 40)
    monkeypatch.setattr("dsbranch._core.syscalls.syncfs", slow)
    with dsbranch.open(place) as ws:
        former = signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        began = time.monotonic()
        try:
            with pytest.raises(KeyboardInterrupt):
                ws.commit("main", "x", allow_empty=True)
            assert time.monotonic() - began < 1.5
        finally:
            signal.signal(signal.SIGALRM, former)
            os.wait()
        monkeypatch.undo()
        assert ws.commit("main", "x", allow_empty=True)

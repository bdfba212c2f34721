"""The demo tells the whole story, in time, and leaves nothing behind, however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsbranch.cli.demo import _mounts_below
from dsbranch.cli.demo_data import IMAGES, write_dataset
from dsbranch.cli.demo_story import CHECKSUM, STORY
from tests import leaks, users

DEMO = [sys.executable, "-P", "-m", "dsbranch", "demo"]

VERBS = ["init", "create", "list", "status", "diff", "commit", "log", "squash", "rollback"]
VERBS += ["export", "mount", "umount"]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory with a blank in its name, as TMPDIR may be; nothing may stay in it."""
    place = tmp_path / "a place"
    place.mkdir()
    yield place
    left = leaks.mounts(place)
    for point in left:
        subprocess.run(["umount", "-l", point], check=True)
    assert left == []
    assert list(place.iterdir()) == []


def environment(place: Path) -> dict[str, str]:
    return os.environ | {"TMPDIR": str(place)}


@pytest.mark.root
def test_the_whole_story(place: Path) -> None:
    done = subprocess.run(DEMO, env=environment(place), capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert done.stderr == ""
    for verb in VERBS:
        assert re.search(rf"^(\$ |  ).*dsbranch {verb}\b", done.stdout, re.MULTILINE), verb
    shown = rf"^\$ {re.escape(CHECKSUM)}\n([0-9a-f]{{64}})  -$"
    checksums = re.findall(shown, done.stdout, re.MULTILINE)
    assert len(checksums) == 2
    assert len(set(checksums)) == 1
    for told in (
        "exp1 changed",
        "exp2 changed",
        "the same",
        "R  images/ → pictures/",
        "m  weights.bin",
        "commits became one",
        ".wh.",
        "The dataset is as it was",
    ):
        assert told in done.stdout, told


@pytest.mark.root
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("told", ["$ dsbranch list", "# Its checksum"])
def test_an_interrupted_demo_leaves_nothing(place: Path, number: signal.Signals, told: str) -> None:
    # Whoever runs the tests under nohup has SIGHUP ignored, and children inherit that.
    process = subprocess.Popen(
        ["env", "--default-signal=HUP", *DEMO],
        env=environment(place),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(told):
            break
    process.send_signal(number)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == "error: the demo was interrupted; its mounts and files are removed\n"
    assert "Traceback" not in err


@pytest.mark.root
def test_a_step_that_fails_ends_the_demo_and_leaves_nothing(place: Path) -> None:
    # One of the commands of the story is missing.
    tools = place.parent / "tools"
    tools.mkdir()
    for directory in ("/usr/bin", "/bin"):
        for tool in Path(directory).iterdir():
            if tool.name != "du" and not (tools / tool.name).exists():
                (tools / tool.name).symlink_to(tool)
    done = subprocess.run(
        DEMO,
        env=environment(place) | {"PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "error: the demo stopped: `du -sh .dsbranch` failed" in done.stderr


@pytest.mark.root
@pytest.mark.parametrize(
    "less",
    [
        ["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"],
        ["--reuid=4242", "--regid=4242", "--clear-groups"],
    ],
)
def test_without_privilege_the_demo_says_so(place: Path, less: list[str]) -> None:
    users.require_sight(4242)
    place.chmod(0o1777)
    for parent in place.parents:
        if parent.stat().st_mode & 0o001 == 0:
            parent.chmod(0o755)
    done = subprocess.run(
        ["setpriv", *less, *DEMO],
        env=environment(place),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (6, "")
    assert re.fullmatch(
        r"error: the demo mounts branches, which needs root\nhint: run `sudo .* demo`\n",
        done.stderr,
    )


def test_the_dataset_is_the_same_every_time(tmp_path: Path) -> None:
    sums = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_dataset(tmp_path / name)
        sum_all = "find . -type f | sort | xargs cat | sha256sum"
        sums.add(
            subprocess.run(
                ["sh", "-c", sum_all], cwd=tmp_path / name, check=True, capture_output=True
            ).stdout
        )
    assert len(sums) == 1
    assert len(list((tmp_path / "a" / "images").rglob("*.jpg"))) == IMAGES


def test_the_story_is_told_in_lines_that_fit_a_terminal() -> None:
    for step in STORY:
        assert all(len(line) <= 80 for line in step.command.splitlines()), step


@pytest.mark.root
def test_mounts_are_found_whatever_their_names(tmp_path: Path) -> None:
    point = tmp_path / "a\nb\\c d"
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "x", point], check=True)
    try:
        assert _mounts_below(tmp_path) == [os.fsencode(point)]
    finally:
        subprocess.run(["umount", point], check=True)

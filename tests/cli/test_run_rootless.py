"""`run` as an ordinary user: private views in user namespaces."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dsbranch.errors import NoPrivilege
from dsbranch.overlay import namespaces
from tests.views import PROGRAM, called, dataset, view

Run = Callable[..., str]


def _why_not() -> str | None:
    if os.geteuid() == 0:
        return "root needs no user namespace"
    try:
        namespaces.within_own(lambda: None)
    except NoPrivilege as error:
        return str(error)
    return None


pytestmark = pytest.mark.skipif(_why_not() is not None, reason=str(_why_not()))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return dataset(tmp_path)


@pytest.fixture
def ws(tmp_path: Path, data: Path) -> Iterator[Path]:
    place = tmp_path / "ws"
    subprocess.run([*PROGRAM, "init", data, place], check=True, capture_output=True)
    yield place
    for work in place.glob(".dsbranch/layers/*/work/work"):
        work.chmod(0o700)  # the kernel makes it for itself alone


@pytest.fixture
def run(ws: Path) -> Run:
    def call(*words: object, code: int = 0, **keywords: object) -> str:
        done = called(ws, *words, code=code, **keywords)
        return done.stderr if code else done.stdout

    return call


def test_the_command_is_the_same_user_without_rights(run: Run, data: Path) -> None:
    done = run("run", "main", "--", "sh", "-c", "id -u; id -g; grep CapEff /proc/self/status")
    uid, gid, _, capabilities = done.split()
    assert (int(uid), int(gid), int(capabilities, 16)) == (os.getuid(), os.getgid(), 0)
    script = f"rm -r {data}/inner; mkdir {data}/inner; echo dog > {data}/labels; ls {data}/inner"
    assert run("run", "main", "--", "sh", "-c", script) == ""
    assert run("diff", "main") == "D  inner/image\nM  labels\n"
    assert (data / "labels").read_text() == "cat\n"
    assert run("run", "main", "--", "ls", data / "inner") == ""


def test_commits_from_outside_while_it_runs(run: Run, ws: Path, data: Path) -> None:
    with view(ws, "main") as seen:
        seen.does(f"echo one > {data}/one")
        assert "1 added" in run("commit", "main", "-m", "one")
        seen.does(f"echo two > {data}/two; rm {data}/labels")
        assert seen.does(f"ls {data}") == ["inner", "one", "two"]
        assert run("run", "main", "--", "ls", data) == "inner\none\ntwo\n"
        run("commit", "main", "-m", "two")
        assert seen.does(f"ls {data}") == ["inner", "one", "two"]
        seen.does(f"exec 3> {data}/open")
        assert f"{data}/open (open for writing)" in run(
            "rollback", "main", "--to", "main~1", code=4
        )
        seen.does("exec 3>&-")
        run("rollback", "main", "--to", "main~1")
        assert seen.does(f"ls {data}") == ["inner", "labels", "one"]
        run("undo")
        assert seen.does(f"ls {data}") == ["inner", "one", "open", "two"]
    assert "as recorded" in run("verify")


def test_a_squash_while_it_runs(run: Run, ws: Path, data: Path) -> None:
    with view(ws, "main") as seen:
        for name in ("one", "two"):
            seen.does(f"echo {name} > {data}/{name}")
            run("commit", "main", "-m", name)
        run("squash", "main", "--since", "main~2")
        seen.does(f"echo three > {data}/three")
        assert seen.does(f"ls {data}") == ["inner", "labels", "one", "three", "two"]
    assert "1 uncommitted change: 1 added" in run("status", "main")


def test_inside_one_can_look_but_not_commit(run: Run, ws: Path, data: Path) -> None:
    inside = f"{' '.join(PROGRAM)} -C {ws}"
    run("create", "other")
    with view(ws, "main") as seen, view(ws, "other"):
        seen.does(f"rm {data}/labels")
        assert seen.does(f"{inside} diff main") == ["D  labels"]
        refused = "".join(seen.does(f"{inside} commit main -m m"))
        assert "cannot be frozen from inside a private view" in refused
        # Nor can it see the view of another branch, but the kernel knows of it.
        assert "in use by another mount" in "".join(
            seen.does(f"{inside} commit other -m m --allow-empty")
        )
        assert "in another mount namespace" in run("mount", "other", code=4)
    run("commit", "main", "-m", "m")


def test_fan_out(run: Run, data: Path) -> None:
    words = ["run", "try", "--fan-out", "3", "--commit-on-success", "--"]
    run(*words, "sh", "-c", f"echo $DSBRANCH_INDEX > {data}/labels")
    for number in range(3):
        assert run("run", f"try-{number}", "--", "cat", data / "labels") == f"{number}\n"
    run("merge", "try-1", "--into", "main")
    assert run("run", "main", "--", "cat", data / "labels") == "1\n"
    assert "cannot mount" in run("mount", "main", code=6)

"""`run` and `shell`: a branch where the dataset lies, for one command, on a real kernel."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dsbranch.overlay import mountinfo, namespaces
from dsbranch.overlay.kernel import KernelDriver
from tests import leaks
from tests.views import PROGRAM, called, dataset, view

pytestmark = pytest.mark.root

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return dataset(tmp_path)


@pytest.fixture
def ws(tmp_path: Path, data: Path) -> Iterator[Path]:
    place = tmp_path / "ws"
    subprocess.run([*PROGRAM, "init", data, place], check=True, capture_output=True)
    yield place
    for point in leaks.mounts(tmp_path):
        subprocess.run(["umount", "-l", point], check=True)


@pytest.fixture
def run(ws: Path) -> Run:
    def call(*words: object, code: int = 0, **keywords: object) -> subprocess.CompletedProcess[str]:
        return called(ws, *words, code=code, **{"cwd": ws, **keywords})

    return call


def test_the_branch_lies_where_the_dataset_does(run: Run, ws: Path, data: Path) -> None:
    before = leaks.mounts(ws.parent)
    run("create", "exp", "--no-mount")
    done = run(
        "run", "exp", "--", "sh", "-c", f"echo dog > {data}/labels; cat {data}/labels; ls {data}"
    )
    assert done.stdout.split() == ["dog", "inner", "labels"]
    assert (data / "labels").read_text() == "cat\n"
    assert run("diff", "exp").stdout == "M  labels\n"
    assert leaks.mounts(ws.parent) == before


def test_all_else_is_as_it_was(run: Run, ws: Path, data: Path, tmp_path: Path) -> None:
    script = "pwd; id -u; echo $MARK $DSBRANCH_BRANCH; ulimit -Sn; readlink /proc/self/ns/user; cat"

    def said(*before: str | Path) -> tuple[list[str], str]:
        done = subprocess.run(
            [*before, "sh", "-c", script],
            cwd=tmp_path,
            env=os.environ | {"MARK": "m"},
            capture_output=True,
            text=True,
            check=True,
            input="typed",
        )
        return done.stdout.split("\n"), done.stderr

    expected, _ = said()
    expected[2] = "m main"
    assert said(*PROGRAM, "-C", ws, "run", "main", "--") == (expected, "")


def test_the_current_directory_is_the_one_of_the_branch(run: Run, ws: Path, data: Path) -> None:
    (ws / "main/inner/new").write_text("")
    assert run("run", "main", "--", "ls", cwd=data / "inner").stdout == "image\nnew\n"
    (ws / "main/inner/image").unlink()
    (ws / "main/inner/new").unlink()
    (ws / "main/inner").rmdir()
    refused = run("run", "main", "--", "ls", cwd=data / "inner", code=2)
    assert "has no directory" in refused.stderr


def test_the_exit_code_is_the_commands(run: Run) -> None:
    run("run", "main", "--", "sh", "-c", "exit 7", code=7)
    run("run", "main", "--", "sh", "-c", "kill -9 $$", code=-9)
    assert "cannot run `nosuch`" in run("run", "main", "--", "nosuch", code=127).stderr
    run("run", "main", "--", "/", code=126)
    run("run", "main", code=2)
    run("run", "nosuch", "--", "true", code=2)


def test_signals_arrive_and_have_their_default_effect(ws: Path) -> None:
    with view(ws, "main") as seen:
        # A shell in a pipe would hide it: `yes` must die of SIGPIPE.
        assert seen.does("yes | head -n 1; echo ${PIPESTATUS:-}") == ["y"]
    assert seen.process.returncode == 0
    process = subprocess.Popen([*PROGRAM, "-C", ws, "run", "main", "--", "sleep", "60"])
    while b"sleep" not in Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0"):
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == -signal.SIGTERM


def test_it_can_be_shown_elsewhere(run: Run, ws: Path, tmp_path: Path, data: Path) -> None:
    place = tmp_path / "elsewhere"
    assert "no directory" in run("run", "main", "--at", place, "--", "true", code=2).stderr
    place.mkdir()
    done = run("run", "main", "--at", "elsewhere", "--", "ls", place, cwd=tmp_path)
    assert done.stdout == "inner\nlabels\n"
    assert os.listdir(place) == []


@pytest.mark.parametrize("mounted", [True, False])
def test_a_second_run_sees_the_same_view(run: Run, ws: Path, data: Path, mounted: bool) -> None:
    run("create", "exp", *([] if mounted else ["--no-mount"]))
    with view(ws, "exp") as first:
        first.does(f"echo one > {data}/one")
        assert run("run", "exp", "--", "cat", data / "one").stdout == "one\n"
        run("run", "exp", "--", "sh", "-c", f"echo two > {data}/two")
        assert first.does(f"cat {data}/two") == ["two"]
        if mounted:
            assert (ws / "exp/two").read_text() == "two\n"
        else:
            assert "in another mount namespace" in run("mount", "exp", code=4).stderr
            assert "in another mount namespace" in run("delete", "--force", "exp", code=4).stderr
            elsewhere = ws.parent / "elsewhere"
            elsewhere.mkdir()
            run("run", "exp", "--at", elsewhere, "--", "true", code=4)
    run("delete", "--force", "exp")


@pytest.mark.parametrize("mounted", [True, False])
@pytest.mark.parametrize("inside", [True, False])
def test_a_commit_while_it_runs(
    run: Run, ws: Path, data: Path, mounted: bool, inside: bool
) -> None:
    run("create", "exp", *([] if mounted else ["--no-mount"]))
    with view(ws, "exp") as seen:

        def does(*words: str) -> str:
            if not inside:
                return run(*words).stdout
            line = " ".join([*PROGRAM, "-C", str(ws), *words])
            return "\n".join([*seen.does(line), ""])

        seen.does(f"echo one > {data}/one")
        assert "1 added" in does("commit", "exp", "-m", "one")
        seen.does(f"echo two > {data}/two")
        assert seen.does(f"ls {data}") == ["inner", "labels", "one", "two"]
        assert does("diff", "--name-status") if inside else run("diff", "exp").stdout
        assert run("status", "exp", "--json").stdout.count('"A": 1')
        if mounted:
            assert sorted(os.listdir(ws / "exp")) == ["inner", "labels", "one", "two"]
        does("rollback", "exp", "--to", "main")
        assert seen.does(f"ls {data}") == ["inner", "labels"]
        if mounted:
            assert sorted(os.listdir(ws / "exp")) == ["inner", "labels"]
            (ws / "exp/late").write_text("")
        else:
            seen.does(f"touch {data}/late")
        assert seen.does(f"ls {data}") == ["inner", "labels", "late"]
        does("undo")
        assert sorted(seen.does(f"ls {data}")) == ["inner", "labels", "one", "two"]
    assert "are as recorded" in run("verify").stdout
    assert sorted(os.listdir(data)) == ["inner", "labels"]


def test_a_writer_in_a_private_view_is_named(run: Run, ws: Path, data: Path) -> None:
    run("create", "exp", "--no-mount")
    with view(ws, "exp") as seen:
        seen.does(f"exec 3> {data}/open")
        refused = run("commit", "exp", "-m", "m", code=4)
        assert f"sh  {data}/open (open for writing)" in refused.stderr
        seen.does("exec 3>&-")
        seen.does(f"echo goes on > {data}/open")
        run("commit", "exp", "-m", "m")


def test_what_a_killed_commit_left_in_a_private_view_is_healed(
    run: Run, ws: Path, data: Path
) -> None:
    run("create", "exp", "--no-mount")
    code = (
        "import os, signal, dsbranch\n"
        "from dsbranch.ops import mounting\n"
        "mounting.settle = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"dsbranch.open({str(ws)!r}).commit('exp', 'm')\n"
    )
    with view(ws, "exp") as seen:
        seen.does(f"echo one > {data}/one")
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
        assert "Read-only" in "".join(seen.does(f"echo two > {data}/two"))
        run("tag", "t", "exp")
        run("commit", "exp", "-m", "m", code=1)
        assert seen.does(f"echo two > {data}/two; ls {data}") == ["inner", "labels", "one", "two"]
    assert run("diff", "exp").stdout == "A  one\nA  two\n"


def test_a_view_that_nobody_sees_is_not_mounted_twice(run: Run, ws: Path, data: Path) -> None:
    """A process in a user namespace of its own cannot look into those beside it."""
    run("create", "exp", "--no-mount")
    with view(ws, "exp"):
        code = (
            "import dsbranch\n"
            "from dsbranch.ops import mounting\n"
            "from dsbranch.overlay import mountinfo\n"
            "mountinfo._foreign = lambda: iter(())\n"
            f"ws = dsbranch.open({str(ws)!r})\n"
            "try: ws.commit('exp', 'm', allow_empty=True)\n"
            "except dsbranch.errors.MountInUse as error: print(error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True
        )
        assert "in use by another mount" in done.stdout


def test_a_dead_view_leaves_nothing(run: Run, ws: Path, data: Path) -> None:
    run("create", "exp", "--no-mount")
    before = run("list").stdout
    with view(ws, "exp") as seen:
        seen.does(f"echo one > {data}/one")
        seen.process.kill()
    assert run("list").stdout == before
    run("mount", "exp")
    assert (ws / "exp/one").read_text() == "one\n"
    assert run("verify").returncode == 0
    # Nor does `mount --all` after a reboot put it over the dataset.
    assert run("mount", "--all").stdout == "every branch is mounted already\n"


def test_the_program_works_inside(run: Run, ws: Path, data: Path) -> None:
    run("create", "exp", "--no-mount")
    inside = f"{' '.join(PROGRAM)} -C {ws}"
    with view(ws, "exp") as seen:
        seen.does(f"rm {data}/labels; cd {data}")
        assert seen.does(f"{inside} status")[0].startswith("On branch exp")
        assert seen.does(f"{inside} diff main exp 2> /dev/null") == []
        assert seen.does(f"{inside} diff exp") == ["D  labels"]
        assert "0 of 2 files hashed" in "".join(seen.does(f"{inside} seal"))
        assert "are as recorded" in "".join(seen.does(f"{inside} verify"))
        # The base is looked into, not the branch that hides it.
        seen.does(f"echo cat > {data}/labels")
        assert seen.does(f"{inside} diff exp") in ([], ["m  labels"])


def test_a_shell_with_the_branch_in_the_prompt(ws: Path, data: Path) -> None:
    script = f"echo $PS1 '|' $DSBRANCH_BRANCH; ls {data}; exit 3\n"
    for shell in ("/bin/bash", "/bin/sh"):
        done = subprocess.run(
            [*PROGRAM, "-C", ws, "shell", "main"],
            input=script,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"SHELL": shell, "HOME": str(ws)},
        )
        assert done.returncode == 3, done.stderr
        assert re.search(r"^\(main\) .*\| main$", done.stdout, re.MULTILINE), (shell, done.stdout)
        assert "labels" in done.stdout


# Branches for one command


def test_throw_away(run: Run, ws: Path, data: Path) -> None:
    touch = ["--", "touch", data / "new"]
    assert "note: tied: exit code 0" in run("run", "--new=tied", *touch).stderr
    note = run("run", "--new", *touch).stderr
    name = re.search(r"note: (run-[0-9a-f]{6}): exit code 0; 1 added, uncommitted", note)
    assert name is not None, note
    assert run("diff", name[1]).stdout == "A  new\n"
    assert "set aside" in run("run", "--new", "gone", "--discard", *touch).stderr
    assert "gone" not in run("list").stdout
    run("undo")
    assert run("diff", "gone").stdout == "A  new\n"
    fails = ["--", "sh", "-c", f"touch {data}/new; exit 3"]
    run("run", "--new", "bad", "--discard", "--keep-on-failure", *fails, code=3)
    assert run("diff", "bad").stdout == "A  new\n"
    run("run", "--new", "worse", "--commit-on-success", *fails, code=3)
    assert "worse" not in run("list").stdout
    run("run", "--new", "bad", *touch, code=2)


def test_what_a_run_did_is_in_its_commit(run: Run, ws: Path, data: Path, tmp_path: Path) -> None:
    place = tmp_path / "code"
    place.mkdir()
    git = ["git", "-C", place, "-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run(["git", "init", "-q", place], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "c"], check=True)
    sha = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    command = ["sh", "-c", f"echo 'a  b' > {data}/new"]
    words = ["run", "--new", "exp", "--commit-on-success", "-m", "first try"]
    run(*words, "--", *command, cwd=place)
    shown = run("show", "exp").stdout
    assert "    first try\n\n" in shown
    assert f"    Run-Command: sh -c 'echo '\"'\"'a  b'\"'\"' > {data}/new'\n" in shown
    assert f"    Run-Directory: {place}\n" in shown
    assert "    Run-Exit-Code: 0\n" in shown
    assert re.search(r"    Run-Started: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\n    Run-Seconds: ", shown)
    assert f"    Run-Git-Commit: {sha.stdout}" in shown
    assert shown.endswith("A  new\n")
    # A branch that was there before is not set aside for a failure.
    run("run", "exp", "--commit-on-success", "--", "false", code=1)
    assert "exp" in run("list").stdout
    run("run", "exp", "--commit-on-success", "--", "rm", data / "new")
    assert run("diff", "exp~1", "exp").stdout == "D  new\n"


def test_fan_out(run: Run, ws: Path, data: Path) -> None:
    script = f"echo $DSBRANCH_INDEX > {data}/of-$DSBRANCH_INDEX; [ $DSBRANCH_INDEX != 2 ] || exit 5"
    words = ["run", "try", "--fan-out", 4, "--commit-on-success", "--keep-on-failure"]
    done = run(*words, "--", "sh", "-c", script, code=5)
    head, *rows = [line.split() for line in done.stdout.splitlines()]
    assert head == ["BRANCH", "EXIT", "SECONDS", "SIZE", "COMMIT", "CHANGES"]
    assert [(row[0], row[1], row[-2:]) for row in rows] == [
        (f"try-{number}", "5" if number == 2 else "0", ["1", "added"]) for number in range(4)
    ]
    assert run("diff", "try-2").stdout == "A  of-2\n"
    for number in (0, 1, 3):
        run("merge", f"try-{number}", "--into", "main")
        assert f"Run-Index: {number}\n" in run("show", f"try-{number}").stdout
    assert sorted(os.listdir(ws / "main")) == ["inner", "labels", "of-0", "of-1", "of-3"]
    assert sorted(os.listdir(data)) == ["inner", "labels"]


def test_fan_out_makes_all_branches_or_none(run: Run, data: Path) -> None:
    run("create", "try-2", "--no-mount")
    before = run("list").stdout
    run("run", "try", "--fan-out", 4, "--", "true", code=2)
    assert run("list").stdout == before


def test_fan_out_in_json(run: Run, data: Path) -> None:
    words = [
        "run",
        "--fan-out",
        2,
        "--discard",
        "--json",
        "--",
        "sh",
        "-c",
        f"echo said; rm {data}/labels",
    ]
    done = run(*words)
    runs = json.loads(done.stdout)["runs"]
    assert [(item["exit_code"], item["counts"], item["kept"]) for item in runs] == [
        (0, {"D": 1}, False)
    ] * 2
    assert done.stderr.count("said\n") == 2


def test_signals_reach_the_runs(ws: Path, run: Run) -> None:
    words = ["run", "try", "--fan-out", "2", "--", "sleep", "60"]
    process = subprocess.Popen([*PROGRAM, "-C", ws, *words], stdout=subprocess.PIPE, text=True)
    while len(list(_named(b"sleep\x0060\0", process.pid))) < 2:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM
    assert out.count(" 143 ") == 2
    assert "try-1" in run("list").stdout


def _named(command: bytes, parent: int) -> Iterator[int]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                found = Path(f"/proc/{name}/cmdline").read_bytes()
                status = Path(f"/proc/{name}/stat").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if found == command and int(status.rpartition(b")")[2].split()[1]) == parent:
                yield int(name)


@pytest.mark.parametrize(
    "words",
    [
        ["main", "--discard"],
        ["main", "--from", "main"],
        ["--new", "-m", "x"],
        ["--new", "--keep-on-failure"],
        ["--new", "--discard", "--commit-on-success"],
        ["main", "--json"],
        ["--fan-out", "0"],
    ],
)
def test_what_makes_no_sense_is_refused(run: Run, words: list[str]) -> None:
    assert "hint: " in run("run", *words, "--", "true", code=2).stderr


def test_within_sends_back_what_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        namespaces.within_own(lambda: 1 // 0)
    assert namespaces.within_own(mountinfo.namespace) != mountinfo.namespace()


def test_a_view_does_not_keep_other_branches_busy(run: Run, ws: Path) -> None:
    run("create", "exp")
    before = ws.parent / "before"
    run("mount", "main", "--read-only", "--at", before)
    with view(ws, "main") as seen:
        assert seen.does(f"ls {before}") == ["inner", "labels"]
        (ws / "exp/new").write_text("")
        assert "container" not in run("commit", "exp", "-m", "m").stderr
        run("umount", "exp")
        run("mount", "exp")
        run("umount", "exp")
        run("delete", "--force", "exp")
        assert seen.does(f"ls {ws}") == ["main"]


def test_status_puts_right_what_a_killed_command_left_in_a_private_view(
    run: Run, ws: Path, data: Path
) -> None:
    run("create", "exp", "--no-mount")
    with view(ws, "exp") as seen:
        namespaces.within(seen.process.pid, lambda: KernelDriver().set_read_only(data))
        (refused,) = seen.does(f"echo dog > {data}/labels")
        assert "Read-only file system" in refused
        run("status", "exp")
        assert seen.does(f"echo dog > {data}/labels") == []


def test_status_tells_who_uses_it(run: Run, ws: Path, data: Path) -> None:
    run("create", "exp", "--no-mount")
    assert "Not mounted" in run("status", "exp").stdout
    with view(ws, "exp") as seen:
        used = f"In use at {data} by sh (pid {seen.process.pid})\n"
        assert used in run("status", "exp").stdout
        (process,) = json.loads(run("status", "exp", "--json").stdout)["running"]
        assert process["pid"] == seen.process.pid
    assert "Not mounted" in run("status", "exp").stdout

"""Every verb and option of the real program, on a small real dataset, on a real kernel."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from dsbranch import cli
from tests import leaks
from tests.users import in_child

pytestmark = pytest.mark.root

PROGRAM = [sys.executable, "-P", "-m", "dsbranch"]

Dsbranch = Callable[..., str]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    for number in range(3):
        image = data / "images" / f"{number}.jpg"
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(bytes([number]) * 1000)
    (data / "labels.csv").write_text("0,cat\n1,dog\n2,owl\n")
    return data


@pytest.fixture
def ws(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "ws"
    for point in leaks.mounts(tmp_path):
        subprocess.run(["umount", "-l", point], check=True)


def run(*arguments: object, cwd: Path, **keywords: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
        **keywords,
    )


@pytest.fixture
def dsbranch(ws: Path, data: Path) -> Dsbranch:
    """Run the program in the workspace, which has main mounted, and give its stdout.

    `code` is the exit code expected, `err` a pattern that stderr must match; without it
    stderr must be empty.
    """

    def call(*arguments: object, cwd: Path = ws, code: int = 0, err: str | None = None) -> str:
        done = run(*arguments, cwd=cwd)
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        if err is None:
            assert done.stderr == ""
        else:
            assert re.search(err, done.stderr), done.stderr
        return done.stdout

    call("init", data, ws, cwd=data.parent)
    return call


def head(dsbranch: Dsbranch, branch: str) -> str:
    commits = json.loads(dsbranch("log", branch, "-n", "1", "--json"))["commits"]
    return str(commits[0]["id"])


def test_init(data: Path, ws: Path) -> None:
    done = run("init", data, ws, cwd=data.parent)
    assert done.stdout == f"adopted {data} in {ws}; branch main mounted at {ws}/main\n"
    assert (done.returncode, done.stderr) == (0, "")
    assert (ws / "main" / "labels.csv").read_text() == (data / "labels.csv").read_text()


def test_init_beside_the_dataset_and_unmounted(data: Path, ws: Path) -> None:
    done = run("init", data.name, "--no-mount", cwd=data.parent)
    assert done.stdout == f"adopted {data} in {data}.ws; branch main not mounted\n"
    assert leaks.mounts(data.parent) == []
    done = run("-C", ws, "init", data, "--no-mount", cwd=data.parent)
    assert done.returncode == 0, done.stderr
    assert (ws / ".dsbranch").is_dir()


@pytest.mark.parametrize(
    ("dataset", "workspace"),
    [
        ("missing", "ws"),
        ("data/labels.csv", "ws"),
        ("data", "data/ws"),
        ("data", "."),
        ("data", "data"),
        ("data", "data/labels.csv"),
        ("data", "full"),
    ],
)
def test_init_of_what_cannot_serve(data: Path, dataset: str, workspace: str) -> None:
    place = data.parent
    (place / "full").mkdir()
    (place / "full" / "file").touch()
    before = sorted(place.rglob("*"))
    done = run("init", dataset, workspace, cwd=place)
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("hint: ")
    assert len(lines) == 2
    assert sorted(place.rglob("*")) == before


def test_create(dsbranch: Dsbranch, ws: Path) -> None:
    root = head(dsbranch, "main")
    out = dsbranch("create", "exp1")
    assert out == f"created exp1 at commit {root[:10]}, mounted at {ws}/exp1\n"
    (ws / "exp1" / "new").touch()
    dsbranch("create", "exp2", "--from", "exp1", err="^note: uncommitted changes of exp1 stay")
    assert not (ws / "exp2" / "new").exists()
    assert dsbranch("create", "exp3", "--no-mount") == f"created exp3 at commit {root[:10]}\n"
    assert json.loads(dsbranch("create", "exp4", "--from", root[:12], "--json")) == {
        "schema": 1,
        "branch": "exp4",
        "head": root,
        "mountpoint": f"{ws}/exp4",
        "dirty_source": None,
    }


@pytest.mark.parametrize("name", ["a/b", "new\nline", "", "main", ".dsbranch", "..", "HEAD~1"])
def test_create_of_a_name_that_cannot_be(dsbranch: Dsbranch, ws: Path, name: str) -> None:
    before = sorted(ws.iterdir())
    dsbranch("create", "--", name, code=2, err="^error: [^\n]+\n(hint: [^\n]+\n)?$")
    assert sorted(ws.iterdir()) == before


def test_list(dsbranch: Dsbranch, ws: Path) -> None:
    dsbranch("create", "exp1", "--no-mount")
    root = head(dsbranch, "main")[:10]
    lines = dsbranch("list", cwd=ws / "main").splitlines()
    assert lines[0].split() == ["BRANCH", "COMMIT", "DEPTH", "MOUNTED", "AT"]
    assert lines[1].split() == ["exp1", root, "1", "-"]
    assert lines[2].split() == ["*", "main", root, "1", f"{ws}/main"]
    names = [b["name"] for b in json.loads(dsbranch("list", "--json"))["branches"]]
    assert names == ["exp1", "main"]


def test_status(dsbranch: Dsbranch, ws: Path) -> None:
    assert "No uncommitted changes" in dsbranch("status", "main")
    (ws / "main" / "images" / "0.jpg").unlink()
    (ws / "main" / "new").touch()
    inside = ws / "main" / "images"
    assert "2 uncommitted changes: 1 added, 1 deleted" in dsbranch("status", cwd=inside)
    answer = json.loads(dsbranch("status", "--json", cwd=inside))
    assert answer["branch"] == "main"
    assert answer["clean"] is False
    assert {k: v for k, v in answer["counts"].items() if v} == {"A": 1, "D": 1}
    assert dsbranch("-C", inside, "status", cwd=Path("/")) == dsbranch("status", "main")


def test_diff(dsbranch: Dsbranch, ws: Path) -> None:
    dsbranch("create", "exp1")
    exp1 = ws / "exp1"
    (exp1 / "images").rename(exp1 / "pictures")
    (exp1 / "pictures" / "0.jpg").unlink()
    (exp1 / "labels.csv").write_text("0,dog\n1,dog\n2,owl\n")
    (exp1 / "odd\n").touch()
    assert dsbranch("diff", "main", "exp1", err="^note: uncommitted changes of exp1 ") == ""
    listing = dsbranch("diff", "exp1").splitlines()
    assert "R  images/ → pictures/" in listing
    assert "M  labels.csv" in listing
    assert 'A  "odd\\n"' in listing
    assert dsbranch("diff", cwd=exp1).splitlines() == listing
    assert dsbranch("diff", cwd=ws / "main") == ""
    assert "M\tlabels.csv" in dsbranch("diff", "exp1", "--name-status").splitlines()
    assert dsbranch("diff", "exp1", "-z", "--", "labels.csv") == "M\0labels.csv\0"
    assert dsbranch("diff", "--", "../labels.csv", cwd=exp1 / "pictures") == "M  labels.csv\n"
    assert dsbranch("diff", "exp1", "--", f"{exp1}/labels.csv") == "M  labels.csv\n"
    plain = dsbranch("diff", "exp1", "--no-renames", "--name-status").splitlines()
    assert "D\timages/1.jpg" in plain
    assert "A\tpictures/1.jpg" in plain
    answer = json.loads(dsbranch("diff", "exp1", "--json"))
    assert answer["from"] == head(dsbranch, "main")
    assert answer["to"] is None
    assert {"status", "path", "kind", "size", "old_size"} <= set(answer["changes"][0])
    assert "1 renamed" in dsbranch("diff", "exp1", "--stat").splitlines()[-1]
    dsbranch("diff", "exp1", "--exit-code", code=1)
    dsbranch("diff", "main", "--exit-code")


def test_diff_of_what_is_not_there(dsbranch: Dsbranch) -> None:
    dsbranch("diff", "mian", code=2, err="^error: .*mian.*\nhint: did you mean main")
    dsbranch("diff", "main", "nope", code=2, err="^error: .*nope")
    dsbranch("diff", code=2, err="hint: give a branch name, or run this inside a mounted branch")


def test_commit(dsbranch: Dsbranch, ws: Path) -> None:
    dsbranch("commit", "main", "-m", "x", code=1, err="^error: .*main")
    (ws / "main" / "new").write_text("1")
    out = dsbranch("commit", "-m", "first\n\nbody", cwd=ws / "main")
    new = head(dsbranch, "main")
    assert out == f"[main {new[:10]}] first (1 added)\n"
    assert "No uncommitted changes" in dsbranch("status", "main")
    assert (ws / "main" / "new").read_text() == "1"
    dsbranch("commit", "main", code=2, err="^error: a commit needs a message")
    dsbranch("commit", "main", "-m", "nothing", "--allow-empty")
    (ws / "main" / "new").write_text("2")
    answer = json.loads(dsbranch("commit", "main", "-m", "x", "--no-hash", "--json"))
    assert answer["commit"]["parents"] == [head(dsbranch, "main~1")]
    assert answer["counts"]["M"] == 1


def test_commit_while_a_process_writes(dsbranch: Dsbranch, ws: Path) -> None:
    before = head(dsbranch, "main")
    with (ws / "main" / "log").open("w"):
        path = re.escape(f"{ws}/main/log")
        dsbranch("commit", "main", "-m", "x", code=4, err=f"  {os.getpid()}  .*  {path} ")
        assert head(dsbranch, "main") == before
        dsbranch("commit", "main", "-m", "x", "--wait", "0.3", code=4, err="^error: ")
        (ws / "main" / "still").write_text("writable")
    dsbranch("commit", "main", "-m", "x")


def test_commit_waits_for_a_writer(dsbranch: Dsbranch, ws: Path) -> None:
    writer = subprocess.Popen(
        ["sh", "-c", "exec 3>log; echo ready; sleep 0.7"], cwd=ws / "main", stdout=subprocess.PIPE
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"ready\n"
    dsbranch("commit", "main", "-m", "x", "--wait", "30")
    assert writer.wait() == 0
    writer.stdout.close()


def test_commit_tells_who_stands_in_the_old_view(dsbranch: Dsbranch, ws: Path) -> None:
    (ws / "main" / "new").touch()
    reader = subprocess.Popen(["sleep", "60"], cwd=ws / "main")
    try:
        dsbranch("commit", "main", "-m", "x", err=rf"^note: 1 process .*\n  {reader.pid}  sleep")
    finally:
        reader.kill()
        reader.wait()


def test_a_shell_in_the_old_view_can_go_on(dsbranch: Dsbranch, ws: Path) -> None:
    program = " ".join(PROGRAM)
    script = f"echo 1 > new; {program} commit -m x; {program} status; cd .; echo 2 > newer"
    done = subprocess.run(
        ["sh", "-ec", script],
        cwd=ws / "main",
        env=os.environ | {"PWD": f"{ws}/main"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "On branch main" in done.stdout
    assert (ws / "main" / "newer").read_text() == "2\n"


def three_commits(dsbranch: Dsbranch, ws: Path) -> list[str]:
    dsbranch("create", "exp1")
    for number in range(3):
        (ws / "exp1" / f"file{number}").write_text(str(number))
        dsbranch("commit", "exp1", "-m", f"commit {number}")
    commits = json.loads(dsbranch("log", "exp1", "--json"))["commits"]
    return [commit["id"] for commit in commits]


def test_log_and_show(dsbranch: Dsbranch, ws: Path) -> None:
    ids = three_commits(dsbranch, ws)
    assert len(ids) == 4
    oneline = dsbranch("log", "exp1", "--oneline").splitlines()
    assert oneline[:3] == [f"{ids[i][:10]} commit {2 - i}" for i in range(3)]
    assert dsbranch("log", "exp1~1", "-n", "1", "--oneline") == f"{ids[1][:10]} commit 1\n"
    assert dsbranch("log", cwd=ws / "exp1").splitlines()[0] == f"commit {ids[0]}"
    shown = dsbranch("show", "exp1~1").splitlines()
    assert shown[0] == f"commit {ids[1]}"
    assert shown[-1] == "A  file1"
    assert dsbranch("show", ids[0][:8], "--name-status").splitlines()[-1] == "A\tfile2"
    assert dsbranch("show", "exp1", "-z") == "A\0file2\0"
    assert dsbranch("show", "exp1", "--stat").splitlines()[-1] == " 1 added; +1 B"
    answer = json.loads(dsbranch("show", "exp1", "--json", cwd=ws / "exp1"))
    assert answer["commit"]["id"] == ids[0]
    assert [change["path"] for change in answer["changes"]] == ["file2"]
    dsbranch("log", "exp1~9", code=2, err="^error: ")
    dsbranch("log", "", code=2, err="^error: ")


def test_log_of_paths_with_stat_and_graph(dsbranch: Dsbranch, ws: Path) -> None:
    ids = three_commits(dsbranch, ws)
    assert dsbranch("log", "exp1", "--oneline", "--", "file1") == f"{ids[1][:10]} commit 1\n"
    inside = dsbranch("log", "--oneline", "--", "../file1", cwd=ws / "exp1" / "images")
    assert inside == f"{ids[1][:10]} commit 1\n"
    assert dsbranch("log", "exp1", "--", "nothing") == ""
    lines = dsbranch("log", "exp1", "--graph", "--oneline", "--stat", "-n", 2).splitlines()
    assert lines == [
        f"* {ids[0][:10]} commit 2",
        "|  A  file2  +1 B",
        "|  1 added; +1 B",
        f"* {ids[1][:10]} commit 1",
        "|  A  file1  +1 B",
        "|  1 added; +1 B",
    ]
    full = dsbranch("log", "exp1", "--stat", "-n", 2).splitlines()
    assert full[:1] + full[4:9] == [
        f"commit {ids[0]}",
        "    commit 2",
        "",
        " A  file2  +1 B",
        " 1 added; +1 B",
        "",
    ]
    assert full[9] == f"commit {ids[1]}"
    assert dsbranch("log", "exp1", "--graph").splitlines()[-1] == f"      adopt {ws.parent}/data"
    commits = json.loads(dsbranch("log", "exp1", "--stat", "--json", "--", "file1"))["commits"]
    assert [(commit["id"], commit["counts"]) for commit in commits] == [(ids[1], {"A": 1})]
    assert commits[0]["added_bytes"] == 1
    dsbranch("log", "exp1", "--json", "--graph", code=2, err="^error: ")


def test_rollback(dsbranch: Dsbranch, ws: Path) -> None:
    ids = three_commits(dsbranch, ws)
    (ws / "exp1" / "file0").unlink()
    out = dsbranch("rollback", "exp1")
    assert out.startswith(f"exp1 is back at commit {ids[0][:10]}; 1 uncommitted change set aside")
    assert (ws / "exp1" / "file0").read_text() == "0"
    answer = json.loads(dsbranch("rollback", "exp1", "--to", "exp1~2", "--json"))
    assert answer["head"] == ids[2]
    assert not (ws / "exp1" / "file1").exists()
    with (ws / "exp1" / "busy").open("w"):
        dsbranch("rollback", "exp1", code=4, err=f"  {os.getpid()}  ")
        dsbranch("rollback", "exp1", "--wait", "0.2", code=4, err="^error: ")
    dsbranch("rollback", "--to", ids[0][:10], cwd=ws / "exp1")
    assert (ws / "exp1" / "file2").read_text() == "2"


def test_undo_and_op_log(dsbranch: Dsbranch, ws: Path) -> None:
    ids = three_commits(dsbranch, ws)
    (ws / "exp1" / "file0").unlink()
    told = dsbranch("undo", "--dry-run")
    changes = "with 2 uncommitted changes (1 added, 1 deleted)"
    assert told == f"would undo commit 2; exp1 would be at commit {ids[1][:10]} {changes}\n"
    out = dsbranch("undo")
    way = "`dsbranch undo` brings it back"
    assert out == f"undone: commit 2; exp1 is at commit {ids[1][:10]} {changes}; {way}\n"
    assert "2 uncommitted changes: 1 added, 1 deleted" in dsbranch("status", "exp1")
    out = dsbranch("undo")
    assert out.startswith(f"redone: commit 2; exp1 is at commit {ids[0][:10]} with 1 unc")
    dsbranch("rollback", "exp1")
    (ws / "exp1" / "new").touch()
    answer = json.loads(dsbranch("undo", "--json"))
    assert (answer["undone"]["verb"], answer["name"], answer["head"]) == (
        "rollback",
        "exp1",
        ids[0],
    )
    assert (answer["counts"], answer["set_aside"]) == ({"D": 1}, {"A": 1})
    assert answer["mountpoint"] == f"{ws}/exp1"
    assert not (ws / "exp1" / "file0").exists()
    dsbranch(
        "undo", answer["undone"]["id"], code=3, err="^error: .*undone already\\b.*\nhint: `dsb"
    )
    dsbranch("undo", 99, code=2, err="^error: there is no operation 99\nhint: .*op log")
    dsbranch("create", "exp2")
    assert (
        dsbranch("undo")
        == f"undone: create exp2 at {head(dsbranch, 'main')[:10]}; exp2 is gone; {way}\n"
    )
    dsbranch("undo", 1, code=3, err="^error: init cannot be undone")

    operations = json.loads(dsbranch("op", "log", "exp1", "--json"))["operations"]
    verbs = ["undo", "rollback", "redo", "undo", "commit", "commit", "commit", "create"]
    assert [item["verb"] for item in operations] == verbs
    assert operations[0]["undoes"] == operations[1]["id"]
    assert operations[1]["undone_by"] == operations[0]["id"]
    assert operations[4]["moves"] == [{"name": "exp1", "before": ids[1], "after": ids[0]}]
    lines = dsbranch("op", "log").splitlines()
    assert len(lines) == 11
    assert re.match(r"11  20\d\d-.*@.*  undo +create exp2 at \w+  \[undoes 10\]$", lines[0])
    assert lines[1].endswith("  [undone by 11]")
    two = [line.split() for line in dsbranch("op", "log", "-n", 2).splitlines()]
    assert two == [line.split() for line in lines[:2]]
    dsbranch("op", "log", "nope", code=2, err="^error: no operation moved .* nope")
    dsbranch("op", code=2, err="^error: ")
    dsbranch("gc", "--keep", "0")
    assert json.loads(dsbranch("op", "log", "main", "--json"))["operations"] == []


def test_undo_while_a_process_writes(dsbranch: Dsbranch, ws: Path) -> None:
    dsbranch("rollback", "main")
    with (ws / "main" / "log").open("w"):
        dsbranch("undo", code=4, err=f"  {os.getpid()}  .*/main/log")
        dsbranch("undo", "--wait", "0.2", code=4, err="^error: ")
    dsbranch("undo")


def test_squash(dsbranch: Dsbranch, ws: Path) -> None:
    ids = three_commits(dsbranch, ws)
    out = dsbranch("squash", "exp1", "--since", "exp1~2", "-m", "two in one")
    assert re.match(r"\[exp1 [0-9a-f]{10}\] 2 commits became one; \d+ files? linked", out)
    oneline = dsbranch("log", "exp1", "--oneline").splitlines()
    assert oneline[0].endswith(" two in one")
    assert oneline[1] == f"{ids[2][:10]} commit 0"
    assert dsbranch("diff", ids[0], "exp1") == ""
    answer = json.loads(dsbranch("squash", "--json", cwd=ws / "exp1"))
    assert answer["replaced"] == 2
    assert answer["copied"] == 0
    assert sorted(os.listdir(ws / "exp1"))[:3] == ["file0", "file1", "file2"]


def test_merge(dsbranch: Dsbranch, ws: Path) -> None:
    dsbranch("create", "exp1")
    (ws / "exp1" / "new").write_text("new")
    dsbranch("commit", "exp1", "-m", "new")
    assert dsbranch("merge", "exp1", "--into", "main", "--dry-run") == (
        "exp1 can be merged into main: 1 added\n"
    )
    out = dsbranch("merge", "exp1", cwd=ws / "main")
    assert re.fullmatch(
        r"\[main [0-9a-f]{10}\] merge exp1 into main \(1 added\); 1 file linked\n", out
    )
    assert (ws / "main" / "new").read_text() == "new"
    assert dsbranch("merge", "exp1", "--into", "main").startswith("already up to date")
    for branch in ("main", "exp1"):
        (ws / branch / "new").write_text(branch)
        dsbranch("commit", branch, "-m", branch)
    out = dsbranch("merge", "exp1", "--into", "main", code=3, err="nothing was changed")
    assert out == "new: modified / modified (base 3 B, ours 4 B, theirs 4 B)\n"
    dsbranch("merge", "exp1", "--into", "main", "--prefer", "n*=theirs")
    assert (ws / "main" / "new").read_text() == "exp1"


def test_export(dsbranch: Dsbranch, ws: Path, tmp_path: Path) -> None:
    dsbranch("create", "exp1")
    (ws / "exp1" / "new").write_text("new")
    (ws / "exp1" / "labels.csv").unlink()
    dsbranch("commit", "exp1", "-m", "x")
    out = dsbranch("export", "main..exp1", "-o", tmp_path / "change.tar")
    assert out.startswith(f"exported main..exp1 to {tmp_path}/change.tar: ")
    with tarfile.open(tmp_path / "change.tar") as tar:
        assert {".wh.labels.csv", "new"} <= {n.removeprefix("./") for n in tar.getnames()}
    answer = json.loads(dsbranch("export", "exp1", "-o", "whole.tar.zst", "--json"))
    assert answer["path"] == f"{ws}/whole.tar.zst"
    assert (ws / "whole.tar.zst").read_bytes()[:4] == b"\x28\xb5\x2f\xfd"
    dsbranch("export", "exp1", "--output", tmp_path / "tree")
    same = ["diff", "-r", tmp_path / "tree", ws / "exp1"]
    assert subprocess.run(same, check=False).returncode == 0
    dsbranch("export", "exp1", "-o", tmp_path / "tree", code=2, err="^error: ")
    dsbranch("export", "exp1", code=2, err="^error: missing option '-o'")


def test_apply(dsbranch: Dsbranch, ws: Path, tmp_path: Path) -> None:
    dsbranch("create", "exp1")
    (ws / "exp1/labels.csv").unlink()
    (ws / "exp1/new").write_text("n")
    dsbranch("commit", "exp1", "-m", "x")
    dsbranch("export", "main..exp1", "-o", tmp_path / "change.tar.zst")
    would = dsbranch("apply", tmp_path / "change.tar.zst", "main", "--dry-run")
    assert would == "main would change: 1 added, 1 deleted\n"
    out = dsbranch("apply", tmp_path / "change.tar.zst", "-m", "from afar", cwd=ws / "main")
    assert out == f"[main {head(dsbranch, 'main')[:10]}] from afar (1 added, 1 deleted)\n"
    assert (ws / "main/new").read_text() == "n"
    dsbranch("apply", tmp_path / "change.tar.zst", "main", code=3, err="is not what these changes")
    dsbranch(
        "apply", tmp_path / "change.tar.zst", "main", "--force", code=1, err="nothing to commit"
    )
    (tmp_path / "dir").mkdir()
    answer = json.loads(dsbranch("apply", tmp_path / "dir", "main", "--full", "--json"))
    assert (answer["schema"], answer["branch"], answer["counts"]) == (1, "main", {"D": 5})
    assert answer["commit"]["message"] == "apply dir"
    assert answer["mountpoint"] == str(ws / "main")
    with tarfile.open(tmp_path / "null.tar", "w") as tar:
        null = tarfile.TarInfo("null")
        null.type, null.devmajor, null.devminor = tarfile.CHRTYPE, 1, 3
        tar.addfile(null)
    dsbranch("apply", tmp_path / "null.tar", "main", code=5, err="hint: `--allow-devices`")
    dsbranch("apply", tmp_path / "null.tar", "main", "--allow-devices")
    (ws / "main/dirty").touch()
    dsbranch("apply", tmp_path / "null.tar", "main", code=3, err="uncommitted")


def test_mount_and_umount(dsbranch: Dsbranch, ws: Path, tmp_path: Path) -> None:
    ids = three_commits(dsbranch, ws)
    assert dsbranch("mount", "exp1") == f"exp1 was already mounted at {ws}/exp1\n"
    assert dsbranch("umount", "exp1") == f"unmounted {ws}/exp1\n"
    assert dsbranch("mount", "--all") == f"exp1 is mounted at {ws}/exp1\n"
    assert dsbranch("mount", "--all") == "every branch is mounted already\n"
    view = tmp_path / "view"
    out = dsbranch("mount", "exp1~1", "--at", view)
    assert out == f"exp1~1 is mounted at {view}, read-only\n"
    assert (view / "file1").exists()
    assert not (view / "file2").exists()
    with pytest.raises(OSError, match="Read-only"):
        (view / "x").touch()
    assert dsbranch("umount", "../view") == f"unmounted {view}\n"
    answer = json.loads(dsbranch("mount", ids[0], "--read-only", "--at", view, "--json"))
    assert answer["mounts"][0]["path"] == str(view)
    assert answer["mounts"][0]["read_only"] is True
    held = (view / "file0").open()
    dsbranch("umount", view, code=4, err=f"  {os.getpid()}  ")
    assert dsbranch("umount", view, "--lazy") == f"unmounted {view}\n"
    assert held.read() == "0"
    held.close()


def test_delete(dsbranch: Dsbranch, ws: Path) -> None:
    ids = three_commits(dsbranch, ws)
    dsbranch("delete", "exp1", code=3, err="^error: .*\nhint: .*--force")
    assert dsbranch("delete", "exp1", "--force").startswith(
        f"deleted exp1, which was at commit {ids[0][:10]}; kept by operation "
    )
    assert json.loads(dsbranch("list", "--json"))["branches"][0]["name"] == "main"
    assert [Path(point).name for point in leaks.mounts(ws)] == ["main"]
    dsbranch("delete", "exp1", code=2, err="^error: ")


def test_tag(dsbranch: Dsbranch, ws: Path) -> None:
    ids = three_commits(dsbranch, ws)
    assert dsbranch("tag") == ""
    assert dsbranch("tag", "v1", "exp1~1") == f"tagged commit {ids[1][:10]} as v1\n"
    (ws / "exp1" / "new").touch()
    note = "^note: uncommitted changes of exp1 are not in latest"
    dsbranch("tag", "latest", cwd=ws / "exp1", err=note)
    dsbranch("tag", "v1", "exp1~2", code=2, err="^error: .*v1 exists.*\nhint: .*--force")
    moved = dsbranch("tag", "v1", "exp1~2", "--force")
    assert moved == f"tagged commit {ids[2][:10]} as v1, moved from {ids[1][:10]}\n"
    lines = [line.split()[:2] for line in dsbranch("tag").splitlines()]
    assert lines == [["latest", ids[0][:10]], ["v1", ids[2][:10]]]
    answer = json.loads(dsbranch("tag", "--json"))
    assert [(tag["name"], tag["commit"]) for tag in answer["tags"]] == [
        ("latest", ids[0]),
        ("v1", ids[2]),
    ]
    made = json.loads(dsbranch("tag", "v2", "latest", "--json"))
    assert made["tag"]["commit"] == ids[0]
    assert made["replaced"] is None
    assert dsbranch("tag", "--delete", "v1").startswith(
        f"deleted tag v1, which was at {ids[2][:10]}"
    )
    assert json.loads(dsbranch("tag", "-d", "v2", "--json"))["deleted"]["name"] == "v2"
    dsbranch("tag", "-d", "v2", code=2, err="^error: there is no tag v2")
    dsbranch("tag", "x", "-d", "latest", code=2, err="^error: ")
    dsbranch("create", "latest", code=2, err="^error: a tag latest exists")
    assert completed(ws, "dsbranch tag --delete l") == ["latest"]


def test_rename(dsbranch: Dsbranch, ws: Path) -> None:
    three_commits(dsbranch, ws)
    out = dsbranch("rename", "exp1", "clean")
    assert out == f"renamed exp1 to clean, mounted at {ws}/clean\n"
    assert sorted(os.listdir(ws)) == [".dsbranch", "clean", "main"]
    answer = json.loads(dsbranch("rename", "cleaner", "--json", cwd=ws / "clean"))
    assert (answer["old"], answer["branch"]) == ("clean", "cleaner")
    assert answer["mountpoint"] == f"{ws}/cleaner"
    dsbranch("umount", "cleaner")
    assert dsbranch("rename", "cleaner", "exp1") == "renamed cleaner to exp1\n"
    dsbranch("rename", "exp1", "main", code=2, err="^error: a branch main exists")
    dsbranch("rename", "a", "b", "c", code=2, err="^error: ")
    dsbranch("rename", "new", code=2, err="^error: it is not clear which branch")


def test_outside_of_a_workspace(tmp_path: Path) -> None:
    done = run("list", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"error: [^\n]+\nhint: [^\n]+\n", done.stderr)


def test_a_closed_pipe_is_quiet(dsbranch: Dsbranch, ws: Path) -> None:
    for number in range(5000):
        (ws / "main" / f"a file with a long name, number {number:06}").touch()
    process = subprocess.Popen(
        [*PROGRAM, "diff", "main"], cwd=ws, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 141


@pytest.mark.parametrize("words", [["list"], ["--help"], ["diff", "--help"]])
def test_an_answer_that_cannot_be_written(dsbranch: Dsbranch, ws: Path, words: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*PROGRAM, *words], cwd=ws, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 5
    error, hint = done.stderr.splitlines()
    assert error == "error: standard output: No space left on device"
    assert hint.startswith("hint: only the answer is missing")


@pytest.mark.parametrize("words", [["list"], ["status", "main"], ["--version"], ["--help"]])
def test_an_output_that_was_opened_to_be_read(
    dsbranch: Dsbranch, ws: Path, words: list[str]
) -> None:
    with open("/dev/null", "rb") as null:
        done = subprocess.run(
            [*PROGRAM, *words], cwd=ws, stdout=null, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 5
    assert done.stderr.splitlines()[0] == "error: standard output: Bad file descriptor"


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["diff", "--help"]])
def test_a_pipe_that_is_closed_before_help_is_quiet(words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as pipe:
        done = subprocess.run(
            [*PROGRAM, *words], stdout=pipe, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("closed", [False, True])
def test_the_exit_code_is_that_of_what_was_done_where_nobody_can_be_told(
    dsbranch: Dsbranch, ws: Path, unbuffered: str, closed: bool
) -> None:
    def code(*words: str, full: bool = False) -> int:
        reader, writer = os.pipe()
        os.close(reader)
        with open("/dev/full", "wb") as disk, open(writer, "wb") as pipe:
            return subprocess.run(
                [*PROGRAM, *words],
                cwd=ws,
                stdout=disk if full else subprocess.DEVNULL,
                stderr=pipe if closed else disk,
                check=False,
                env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            ).returncode

    assert code() == code("nosuchverb") == code("status", "nosuch") == 2
    assert code("run", "main", "--", "nosuchprogram") == 127
    assert code("list", full=True) == 5
    before = head(dsbranch, "main")
    (ws / "main" / "new").touch()
    with subprocess.Popen(["sleep", "60"], cwd=ws / "main") as reader:
        try:
            # A note is told of who keeps the old view.
            assert code("commit", "main", "-m", "new") == 0
        finally:
            reader.kill()
    assert head(dsbranch, "main") != before


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_answer_of_which_only_a_part_can_be_written(
    dsbranch: Dsbranch, ws: Path, tmp_path: Path, unbuffered: str
) -> None:
    """Also where Python is told to write at once what it is given."""
    with (tmp_path / "answer").open("wb") as answer:
        done = subprocess.run(
            ["prlimit", "--fsize=10", *PROGRAM, "list", "--json"],
            cwd=ws,
            stdout=answer,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    assert done.returncode == 5
    assert done.stderr.splitlines()[0] == "error: standard output: File too large"


def make_long_names(ws: Path) -> list[str]:
    """More than a pipe holds."""
    names = [f"{number:03}{'n' * 200}" for number in range(700)]
    for name in names:
        (ws / "main" / name).touch()
    return names


def test_an_interrupt_while_nobody_reads(dsbranch: Dsbranch, ws: Path) -> None:
    make_long_names(ws)
    with subprocess.Popen(
        [*PROGRAM, "diff", "main"], cwd=ws, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130


@pytest.mark.parametrize("words", [["show", "main"], ["verify"], ["umount", "nope"]])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_nobody_reads_what_stderr_shares(
    dsbranch: Dsbranch, ws: Path, words: list[str], number: signal.Signals
) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    for size in (4096, 1):
        with suppress(BlockingIOError):
            while True:
                os.write(writer, bytes(size))
    os.set_blocking(writer, True)
    process = subprocess.Popen([*PROGRAM, *words], cwd=ws, stdout=writer, stderr=writer)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
        process.send_signal(number)
        assert process.wait(10) == 130
    finally:
        process.kill()
        process.wait()
        os.close(reader)
        os.close(writer)


def test_an_interrupt_while_a_class_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.11 calls it an error of the class."""

    def read(_words: list[str]) -> None:
        raise RuntimeError("Error calling __set_name__") from KeyboardInterrupt()

    monkeypatch.setattr(cli, "read", read)
    assert in_child(cli.main) == 130


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_slow_reader_of_a_pipe_that_does_not_block(
    dsbranch: Dsbranch, ws: Path, unbuffered: str
) -> None:
    """As some programs make theirs, which it shares."""
    names = make_long_names(ws)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with (
        open(reader, "rb") as told,
        subprocess.Popen(
            [*PROGRAM, "diff", "main"],
            cwd=ws,
            stdout=writer,
            stderr=writer,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        ) as process,
    ):
        os.close(writer)
        time.sleep(1)
        assert told.read().decode().split() == [word for name in names for word in ("A", name)]
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_waiting(dsbranch: Dsbranch, ws: Path, number: signal.Signals) -> None:
    before = head(dsbranch, "main")
    with (ws / "main" / "log").open("w"):
        process = subprocess.Popen(
            [*PROGRAM, "commit", "main", "-m", "x", "--wait", "60"],
            cwd=ws,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.5)
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
        (ws / "main" / "still").write_text("writable")
    assert (process.returncode, out) == (130, "")
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert head(dsbranch, "main") == before


def test_colour_only_on_a_terminal(dsbranch: Dsbranch, ws: Path) -> None:
    (ws / "main" / "new").touch()

    def on_a_terminal(**environment: str) -> str:
        command = " ".join([*PROGRAM, "diff", "main"])
        plain = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "TERM")}
        return subprocess.run(
            ["script", "-qec", command, "/dev/null"],
            cwd=ws,
            env=plain | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    assert dsbranch("diff", "main") == "A  new\n"
    assert on_a_terminal(TERM="xterm") == "\x1b[32mA\x1b[0m  new"
    assert on_a_terminal(TERM="xterm", NO_COLOR="1") == "A  new"
    assert on_a_terminal(TERM="dumb") == "A  new"


def completed(ws: Path, line: str) -> list[str]:
    environment = os.environ | {
        "_DSBRANCH_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
    }
    return run(cwd=ws, env=environment).stdout.split()


def test_completion_of_verbs_and_branch_names(dsbranch: Dsbranch, ws: Path) -> None:
    dsbranch("create", "exp1", "--no-mount")
    assert completed(ws, "dsbranch st") == ["status"]
    assert completed(ws, "dsbranch status ") == ["exp1", "main"]
    assert completed(ws, "dsbranch create x --from e") == ["exp1"]
    dsbranch("tag", "extra", "main")
    assert completed(ws, "dsbranch create x --from e") == ["exp1", "extra"]
    assert completed(ws, "dsbranch delete e") == ["exp1"]
    assert completed(Path("/"), f"dsbranch -C {ws} log m") == ["main"]
    assert completed(Path("/"), "dsbranch log m") == []


def test_init_with_full_paths_from_a_directory_that_is_gone(
    ws: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "gone").mkdir()
    done = subprocess.run(
        ["sh", "-c", 'rmdir "$PWD"; unset PWD; exec "$@"', "sh", *PROGRAM, "init", data, ws],
        cwd=tmp_path / "gone",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (ws / "main" / "labels.csv").exists()

"""What a command line asks of the workspace, and what is printed of its answers."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import dsbranch
from dsbranch import errors
from dsbranch.model.archives import Exported
from dsbranch.model.branches import Created, Deleted
from dsbranch.model.changes import Change, Status
from dsbranch.model.commits import Committed, RolledBack, Squashed
from dsbranch.model.facts import Branch, Commit
from dsbranch.model.merges import Conflict, Merged, Preference, Seen
from dsbranch.model.mounts import Mounted
from dsbranch.model.views import Process
from tests.cli.conftest import Program
from tests.cli.fake import FakeDiff, FakeWorkspace

HEAD = "0123456789abcdef" + "0" * 24
BRANCH = Branch(2, "exp2", HEAD, "layer00000", HEAD, 0)
ROOT = Commit(HEAD, (), None, "adopt", "ada", 0)
COMMIT = Commit("f" * 40, (HEAD,), "layer00000", "subject\n\nbody\x1b[31m", "ada", 10**18)
READER = Process(7, "less notes", "/ws/exp1", "working directory")


def usage_error(program: Program, *arguments: str) -> str:
    ran = program(*arguments)
    assert ran.code == 2
    assert ran.out == ""
    first, hint = ran.err.splitlines()
    assert hint.startswith("hint: ")
    return first.removeprefix("error: ")


def test_version(program: Program) -> None:
    ran = program("--version")
    assert (ran.code, ran.out, ran.err) == (0, f"dsbranch {dsbranch.__version__}\n", "")


def test_without_a_verb_the_help_is_a_usage_error(program: Program) -> None:
    ran = program()
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("Usage: dsbranch ")


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_of_a_verb_shows_an_example(program: Program, option: str) -> None:
    ran = program("commit", option)
    assert ran.code == 0
    assert "Example: dsbranch commit exp1 -m" in ran.out


def test_usage_errors(program: Program, fake: FakeWorkspace) -> None:
    assert usage_error(program, "--nope") == "no such option: --nope"
    assert usage_error(program, "comit").startswith("no such command 'comit'")
    assert usage_error(program, "create") == "missing argument 'NAME'"
    assert usage_error(program, "commit", "--wait", "-1").startswith("invalid value for '--wait'")
    assert usage_error(program, "status", "\udcff") == "invalid value for 'NAME': it is not UTF-8"
    assert usage_error(program, "commit", "-m", "\udcff").endswith("it is not UTF-8")
    assert fake.asked == []


def test_the_hint_of_a_usage_error_names_the_verb(program: Program) -> None:
    hint = "hint: `dsbranch{} --help` shows how it is called\n"
    assert program("create").err == "error: missing argument 'NAME'\n" + hint.format(" create")
    assert program("--nope").err == "error: no such option: --nope\n" + hint.format("")


def test_the_workspace_is_found_from_the_current_directory_or_named(
    program: Program, fake: FakeWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    program("list")
    assert fake.start == tmp_path
    program("-C", "sub", "list")
    assert fake.start == tmp_path / "sub"
    program("--workspace", "/elsewhere", "list")
    assert fake.start == Path("/elsewhere")


def test_a_replaced_current_directory_is_reached_by_its_name(
    program: Program, fake: FakeWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.setenv("PWD", str(gone))
    assert usage_error(program, "list") == "the current directory no longer exists"
    gone.mkdir()
    program("list")
    assert fake.start == gone


BRANCH_VERBS = [
    ["status"],
    ["diff"],
    ["log"],
    ["show"],
    ["commit", "-m", "x"],
    ["rollback"],
    ["squash"],
    ["mount"],
]


@pytest.mark.parametrize("arguments", BRANCH_VERBS, ids=lambda arguments: arguments[0])
def test_without_a_branch_the_call_is_wrong(
    program: Program, fake: FakeWorkspace, arguments: list[str]
) -> None:
    assert usage_error(program, *arguments) == "it is not clear which branch is meant"
    assert fake.asked == []


@pytest.mark.parametrize("arguments", BRANCH_VERBS, ids=lambda arguments: arguments[0])
def test_inside_a_branch_it_is_implied(
    program: Program, fake: FakeWorkspace, arguments: list[str]
) -> None:
    fake.answers["current_branch"] = "exp1"
    fake.answers[arguments[0]] = errors.Locked("stop here")
    assert program(*arguments).code == 4
    (call,) = fake.asked
    assert "exp1" in (call[-1].get("branch"), call[1])


def test_create(program: Program, fake: FakeWorkspace) -> None:
    fake.answers["create"] = Created(BRANCH, Path("/ws/exp2"), dirty_source="exp1")
    ran = program("create", "exp2", "--from", "exp1")
    assert ran.out == "created exp2 at commit 0123456789, mounted at /ws/exp2\n"
    assert ran.err == (
        "note: uncommitted changes of exp1 stay in exp1; "
        "exp2 starts at its last commit 0123456789\n"
    )
    fake.answers["create"] = Created(BRANCH, None)
    ran = program("create", "exp2", "--no-mount", "--json")
    assert json.loads(ran.out) == {
        "schema": 1,
        "branch": "exp2",
        "head": HEAD,
        "mountpoint": None,
        "dirty_source": None,
    }
    assert ran.err == ""
    assert fake.asked == [
        ("create", "exp2", {"start": "exp1", "mount": True}),
        ("create", "exp2", {"start": None, "mount": False}),
    ]


def test_list(program: Program, fake: FakeWorkspace) -> None:
    fake.branch_at("main", Path("/ws/main"))
    fake.branch_at("実験", None)
    fake.answers["current_branch"] = "main"
    assert program("list").out.splitlines() == [
        "  BRANCH  COMMIT      DEPTH  MOUNTED AT",
        "* main    aaaaaaaaaa  1      /ws/main",
        "  実験    aaaaaaaaaa  1      -",
    ]
    assert json.loads(program("list", "--json").out)["branches"][1] == {
        "name": "実験",
        "head": "a" * 40,
        "mounted": False,
        "mountpoint": None,
        "depth": 1,
    }


def test_status(program: Program, fake: FakeWorkspace) -> None:
    counts = {"A": 1200, "D": 1}
    mountpoint = Path(os.fsdecode(b"/ws\xff/exp1"))
    fake.answers["status"] = Status("exp1", HEAD, True, mountpoint, False, counts)
    assert program("status", "exp1").out.splitlines() == [
        "On branch exp1 at commit 0123456789",
        r'Mounted at "/ws\377/exp1"',
        "1,201 uncommitted changes: 1,200 added, 1 deleted",
    ]
    assert json.loads(program("status", "exp1", "--json").out) == {
        "schema": 1,
        "branch": "exp1",
        "head": HEAD,
        "mounted": True,
        "mountpoint": "/ws\ufffd/exp1",
        "mountpoint_b64": "L3dz/y9leHAx",
        "clean": False,
        "counts": counts,
        "running": [],
    }
    fake.answers["status"] = Status("exp1", HEAD, False, None, True)
    way = "mount" if os.geteuid() == 0 else "shell"
    assert program("status", "exp1").out.splitlines() == [
        "On branch exp1 at commit 0123456789",
        f"Not mounted (`dsbranch {way} exp1` shows it)",
        "No uncommitted changes",
    ]


DIFF = FakeDiff(Change("A", b"a", "file", size=1), Change("D", b"b\n", "file", old_size=2))


@pytest.mark.parametrize(
    ("options", "out"),
    [
        ([], 'A  a\nD  "b\\n"\n'),
        (["--name-status"], 'A\ta\nD\t"b\\n"\n'),
        (["-z"], "A\0a\0D\0b\n\0"),
        (["-z", "--name-status"], "A\0a\0D\0b\n\0"),
        (["--stat"], ' A  a      +1 B\n D  "b\\n"  -2 B\n 1 added, 1 deleted; +1 B -2 B\n'),
    ],
)
def test_diff_forms(program: Program, fake: FakeWorkspace, options: list[str], out: str) -> None:
    fake.answers["diff"] = DIFF
    assert program("diff", "main", "exp1", *options).out == out


def test_diff_as_json(program: Program, fake: FakeWorkspace) -> None:
    fake.answers["diff"] = DIFF
    assert json.loads(program("diff", "main", "exp1", "--json").out) == {
        "schema": 1,
        "from": "main",
        "to": "exp1",
        "changes": [
            {"status": "A", "path": "a", "kind": "file", "size": 1, "old_size": None},
            {"status": "D", "path": "b\n", "kind": "file", "size": None, "old_size": 2},
        ],
    }
    assert json.loads(program("diff", "main", "exp1", "--json", "--stat").out) == {
        "schema": 1,
        "from": "main",
        "to": "exp1",
        "counts": {"A": 1, "D": 1},
        "added_bytes": 1,
        "removed_bytes": 2,
    }
    fake.answers["diff"] = FakeDiff()
    assert json.loads(program("diff", "main", "exp1", "--json").out)["changes"] == []


@pytest.mark.parametrize(
    "options", [["--json", "-z"], ["--json", "--name-status"], ["--stat", "-z"]], ids=str
)
def test_forms_exclude_each_other(
    program: Program, fake: FakeWorkspace, options: list[str]
) -> None:
    ran = program("diff", "main", "exp1", *options)
    assert ran.code == 2
    assert "excludes" in ran.err
    assert fake.asked == []


def test_exit_code_tells_differences(program: Program, fake: FakeWorkspace) -> None:
    fake.answers["diff"] = DIFF
    assert program("diff", "main", "exp1").code == 0
    assert program("diff", "main", "exp1", "--exit-code").code == 1
    fake.answers["diff"] = FakeDiff()
    assert program("diff", "main", "exp1", "--exit-code").code == 0


def test_diff_tells_what_it_leaves_out(program: Program, fake: FakeWorkspace) -> None:
    fake.answers["diff"] = FakeDiff(pending="exp1")
    ran = program("diff", "main", "exp1")
    assert (ran.out, ran.err) == (
        "",
        "note: uncommitted changes of exp1 are not in this comparison\n",
    )


def test_diff_passes_on_what_it_is_asked(program: Program, fake: FakeWorkspace) -> None:
    fake.answers["diff"] = FakeDiff()
    fake.answers["current_branch"] = "exp1"
    nothing = {"branch": None, "paths": [], "renames": True}
    program("diff")
    program("diff", "exp2")
    program("diff", "main..exp2", "--no-renames")
    program("diff", "main", "exp2", "--", "-odd", "a/../b/", "\udcff")
    program("diff", "--", "x", ".")
    assert fake.asked == [
        ("diff", None, None, nothing | {"branch": "exp1"}),
        ("diff", "exp2", None, nothing | {"branch": "exp1"}),
        ("diff", "main..exp2", None, nothing | {"branch": "exp1", "renames": False}),
        ("diff", "main", "exp2", nothing | {"paths": [b"-odd", b"b", b"\xff"]}),
        ("diff", None, None, nothing | {"branch": "exp1"}),
    ]


def test_paths_inside_a_branch_count_from_where_one_stands(
    program: Program, fake: FakeWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mountpoint = tmp_path / "exp1"
    (mountpoint / "labels").mkdir(parents=True)
    (mountpoint / "link").symlink_to("/etc")
    (tmp_path / "alias").symlink_to(mountpoint)
    fake.branch_at("exp1", mountpoint)
    fake.branch_at("main", None)
    fake.answers["diff"] = FakeDiff()

    def asked(*paths: str) -> list[bytes]:
        assert program("diff", "exp1", "--", *paths).code == 0
        return list(fake.asked[-1][-1]["paths"])

    monkeypatch.chdir(tmp_path)
    assert asked("x") == [b"x"]
    assert asked(str(mountpoint / "labels" / "cat")) == [b"labels/cat"]
    assert asked(str(tmp_path / "alias" / "labels")) == [b"labels"]
    assert asked(str(mountpoint / "link")) == [b"link"]
    assert asked(str(mountpoint)) == []
    monkeypatch.chdir(mountpoint / "labels")
    assert asked("x", "../y") == [b"labels/x", b"y"]
    assert asked(".") == [b"labels"]
    assert asked("..") == []
    for outside in ("../..", "/etc", str(tmp_path)):
        ran = program("diff", "exp1", "--", outside)
        assert ran.code == 2
        assert "lies outside of every mounted branch" in ran.err


def test_commit(program: Program, fake: FakeWorkspace) -> None:
    itself = Process(os.getpid(), "dsbranch commit", "/ws/exp1", "working directory")
    stale = (itself, READER)
    fake.answers["commit"] = Committed(COMMIT, {"A": 2}, Path("/ws/exp1"), stale, (READER,))
    ran = program("commit", "exp1", "-m", "subject", "--wait", "2.5", "--no-hash", "--allow-empty")
    assert ran.code == 0
    assert ran.out == "[exp1 ffffffffff] subject (2 added)\n"
    assert ran.err.splitlines() == [
        (
            "note: 1 process still sees the old view of exp1, now read-only; "
            "`cd .` there gets the new one"
        ),
        "  7  less notes  /ws/exp1 (working directory)",
        (
            "note: 1 process keeps the old view of exp1, now read-only, in another mount namespace "
            "(a container, say) until it is mounted there again"
        ),
        "  7  less notes  /ws/exp1 (working directory)",
    ]
    assert fake.asked == [
        ("commit", "exp1", "subject", {"wait": 2.5, "allow_empty": True, "hash": False})
    ]
    answer = json.loads(program("commit", "exp1", "-m", "x", "--json").out)
    assert answer["commit"] == {
        "id": "f" * 40,
        "parents": [HEAD],
        "message": COMMIT.message,
        "author": "ada",
        "time": "2001-09-09T01:46:40Z",
    }
    assert answer["stale"] == [
        {"pid": 7, "command": "less notes", "path": "/ws/exp1", "what": "working directory"}
    ]


def test_commit_without_a_message_and_a_terminal(program: Program, fake: FakeWorkspace) -> None:
    assert usage_error(program, "commit", "exp1") == "a commit needs a message"
    assert fake.asked == []


class Terminal:
    def isatty(self) -> bool:
        return True


def edited(program: Program, monkeypatch: pytest.MonkeyPatch, editor: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", editor)
    ran = program("commit", "exp1")
    return ran.code, ran.err


def test_commit_asks_the_editor(
    program: Program, fake: FakeWorkspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake.answers["status"] = Status("exp1", HEAD, True, None, False, {"A": 1})
    fake.answers["commit"] = Committed(COMMIT, {"A": 1})
    seen = tmp_path / "seen"
    script = tmp_path / "my editor"
    script.write_text(f'#!/bin/sh\ncp "$2" {seen}; printf "one\\n\\ntwo  \\n# no\\n" > "$2"\n')
    script.chmod(0o755)
    code, _ = edited(program, monkeypatch, f"'{script}' --wait")
    assert code == 0
    assert fake.asked[-1][:3] == ("commit", "exp1", "one\n\ntwo")
    assert "# On branch exp1: 1 added\n" in seen.read_text()


@pytest.mark.parametrize(
    ("editor", "sentence"),
    [
        ("false", "the editor (false) ended with status 1; nothing was committed"),
        ("true", "the message is empty; nothing was committed"),
        ("cp /proc/self/exe", "the message is not UTF-8; nothing was committed"),
    ],
)
def test_no_message_from_the_editor(
    program: Program,
    fake: FakeWorkspace,
    monkeypatch: pytest.MonkeyPatch,
    editor: str,
    sentence: str,
) -> None:
    fake.answers["status"] = Status("exp1", HEAD, True, None, False, {"A": 1})
    code, err = edited(program, monkeypatch, editor)
    assert (code, err.splitlines()[0]) == (2, f"error: {sentence}")
    assert [call[0] for call in fake.asked] == ["status"]


def test_the_editor_is_not_opened_for_nothing(
    program: Program, fake: FakeWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.answers["status"] = Status("exp1", HEAD, True, None, True)
    code, err = edited(program, monkeypatch, "false")
    assert (code, err.splitlines()[0]) == (1, "error: nothing to commit on exp1")


def test_writers_are_named(program: Program, fake: FakeWorkspace) -> None:
    fake.answers["commit"] = errors.WritersPresent(
        "exp1 is being written",
        processes=[Process(42, "python\ntrain.py", "/ws/exp1/\x1b[31mlog")],
        hint="`--wait 30` waits for them",
    )
    ran = program("commit", "exp1", "-m", "x")
    assert (ran.code, ran.out) == (4, "")
    assert ran.err.splitlines() == [
        "error: exp1 is being written",
        r"  42  python\ntrain.py  /ws/exp1/\033[31mlog (open for writing)",
        "hint: `--wait 30` waits for them",
    ]


def test_log(program: Program, fake: FakeWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.answers["log"] = [COMMIT, ROOT]
    out = program("log", "exp1", "-n", "2").out.splitlines()
    assert out[0] == "commit " + "f" * 40
    assert out[1] == "Author: ada"
    assert out[2].startswith("Date:   2001-09-")
    assert out[3:8] == ["", "    subject", "", r"    body\033[31m", ""]
    assert out[8] == f"commit {HEAD}"
    assert program("log", "exp1", "--oneline").out == "ffffffffff subject\n0123456789 adopt\n"
    answer = json.loads(program("log", "exp1", "--json").out)
    assert [commit["id"] for commit in answer["commits"]] == ["f" * 40, HEAD]
    assert answer["commits"][1] == {
        "id": HEAD,
        "parents": [],
        "message": "adopt",
        "author": "ada",
        "time": "1970-01-01T00:00:00Z",
    }
    assert [call[-1]["limit"] for call in fake.asked] == [2, None, None]


def test_show(program: Program, fake: FakeWorkspace) -> None:
    fake.answers["show"] = (COMMIT, DIFF)
    out = program("show", "exp1").out.splitlines()
    assert out[0] == "commit " + "f" * 40
    assert out[-3:] == ["", "A  a", r'D  "b\n"']
    assert program("show", "exp1", "-z").out == "A\0a\0D\0b\n\0"
    answer = json.loads(program("show", "exp1", "--json").out)
    assert answer["commit"]["id"] == "f" * 40
    assert [change["path"] for change in answer["changes"]] == ["a", "b\n"]


def test_rollback(program: Program, fake: FakeWorkspace) -> None:
    fake.answers["rollback"] = RolledBack("exp1", HEAD, 12, "layer00000", {"A": 1}, None, (READER,))
    ran = program("rollback", "exp1", "--to", "exp1~1", "--wait", "1")
    assert ran.out == (
        "exp1 is back at commit 0123456789; 1 uncommitted change set aside, kept by operation 12\n"
    )
    assert ran.err.startswith("note: 1 process still sees the old view of exp1")
    assert fake.asked == [("rollback", "exp1", "exp1~1", {"wait": 1.0})]
    assert json.loads(program("rollback", "exp1", "--json").out)["operation"] == 12


def test_a_rollback_from_what_is_damaged(program: Program, fake: FakeWorkspace) -> None:
    lost = "the directory of layer layer00001 is gone"
    fake.answers["rollback"] = RolledBack("exp1", HEAD, 12, "layer00000", None, damage=lost)
    ran = program("rollback", "exp1")
    assert ran.out == (
        "exp1 is back at commit 0123456789; its uncommitted changes, uncounted, are set aside,"
        " kept by operation 12\n"
    )
    assert ran.err == f"note: {lost}; `dsbranch verify` tells more\n"
    answer = json.loads(program("rollback", "exp1", "--json").out)
    assert (answer["counts"], answer["damage"]) == (None, lost)


def test_squash(program: Program, fake: FakeWorkspace) -> None:
    fake.answers["squash"] = Squashed(COMMIT, 3, 1000, 2, 2048, remounted=False)
    ran = program("squash", "exp1", "--since", "main", "-m", "one")
    assert ran.out == (
        "[exp1 ffffffffff] 3 commits became one; 1,000 files linked, 2 copied (2.0 KiB)\n"
    )
    assert ran.err == ("note: exp1 is in use and goes on with the old layers until mounted again\n")
    assert fake.asked == [("squash", "exp1", {"since": "main", "message": "one"})]
    assert json.loads(program("squash", "exp1", "--json").out)["copied_bytes"] == 2048


CONFLICT = Conflict(
    b"a\xff", "modified / deleted", Seen(b"b", "file", 12), Seen(b"a\xff", "file", 2048), None
)


def test_merge(program: Program, fake: FakeWorkspace) -> None:
    fake.answers["merge"] = Merged("main", COMMIT, {"A": 2, "D": 1}, linked=3, dirty_source="exp1")
    ran = program(
        *("merge", "exp1", "--into", "main", "-m", "both", "--strategy", "ours", "--wait", "2"),
        *("--prefer", "a=b/**=theirs", "--prefer", "\udcff=ours"),
    )
    assert ran.code == 0
    assert ran.out == "[main ffffffffff] subject (2 added, 1 deleted); 3 files linked\n"
    assert ran.err == "note: uncommitted changes of exp1 are not in the merge\n"
    ((verb, other, keywords),) = fake.asked
    assert (verb, other) == ("merge", "exp1")
    assert keywords == {
        "into": "main",
        "message": "both",
        "strategy": "ours",
        "prefer": [Preference(b"a=b/**", "theirs"), Preference(b"\xff", "ours")],
        "dry_run": False,
        "wait": 2.0,
    }
    answer = json.loads(program("merge", "exp1", "--into", "main", "--json").out)
    assert (answer["conflicts"], answer["commit"]["id"], answer["linked"]) == ([], "f" * 40, 3)


def test_merge_of_what_is_contained(program: Program, fake: FakeWorkspace) -> None:
    fake.answers["merge"] = Merged("main", None, up_to_date=True)
    ran = program("merge", "exp1", "--into", "main")
    assert (ran.code, ran.out) == (0, "already up to date: main has all of exp1\n")


def test_merge_conflicts(program: Program, fake: FakeWorkspace) -> None:
    line = '"a\\377": modified / deleted (base 12 B at b, ours 2.0 KiB, theirs absent)\n'
    fake.answers["merge"] = errors.MergeConflict("they conflict", conflicts=[CONFLICT], hint="do")
    ran = program("merge", "exp1", "--into", "main")
    assert (ran.code, ran.out) == (3, line)
    assert ran.err == "error: they conflict\nhint: do\n"
    shape = {
        "schema": 1,
        "conflicts": [
            {
                "path": "a\ufffd",
                "path_b64": "Yf8=",
                "reason": "modified / deleted",
                "base": {"path": "b", "kind": "file", "size": 12},
                "ours": {"path": "a\ufffd", "path_b64": "Yf8=", "kind": "file", "size": 2048},
                "theirs": None,
            }
        ],
    }
    assert json.loads(program("merge", "exp1", "--into", "main", "--json").out) == shape
    fake.answers["merge"] = Merged("main", None, conflicts=(CONFLICT,))
    ran = program("merge", "exp1", "--into", "main", "--dry-run")
    assert (ran.code, ran.err) == (3, "")
    assert ran.out == line + "exp1 cannot be merged into main: 1 conflict\n"


def test_merge_with_a_preference_that_is_none(program: Program) -> None:
    assert "GLOB=ours" in usage_error(program, "merge", "exp1", "--prefer", "labels=both")


def test_export(program: Program, fake: FakeWorkspace) -> None:
    fake.answers["export"] = Exported(Path("/x/a.tar"), 12, 1024, ("1 socket was left out",))
    ran = program("export", "main..exp1", "-o", "a\udcff.tar")
    assert ran.out == "exported main..exp1 to /x/a.tar: 12 entries, 1.0 KiB\n"
    assert ran.err == "note: 1 socket was left out\n"
    assert fake.asked == [("export", "main..exp1", Path.cwd() / "a\udcff.tar", {})]
    assert json.loads(program("export", "exp1", "-o", "x", "--json").out) == {
        "schema": 1,
        "path": "/x/a.tar",
        "entries": 12,
        "bytes": 1024,
        "notes": ["1 socket was left out"],
    }


def test_mount(program: Program, fake: FakeWorkspace) -> None:
    fake.answers["mount"] = Mounted(Path("/mnt/v"), "exp1~1", read_only=True)
    fake.answers["mount_all"] = [Mounted(Path("/ws/main"), "main", already=True)]
    ran = program("mount", "exp1~1", "--at", "v", "--read-only")
    assert ran.out == "exp1~1 is mounted at /mnt/v, read-only\n"
    assert program("mount", "--all").out == "main was already mounted at /ws/main\n"
    assert json.loads(program("mount", "--all", "--json").out) == {
        "schema": 1,
        "mounts": [{"ref": "main", "path": "/ws/main", "already": True, "read_only": False}],
    }
    fake.answers["mount_all"] = []
    assert program("mount", "--all").out == "every branch is mounted already\n"
    assert program("mount", "exp1", "--all").code == 2
    assert fake.asked[0] == ("mount", "exp1~1", {"at": Path.cwd() / "v", "read_only": True})


def test_umount(
    program: Program, fake: FakeWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fake.answers["umount"] = [Path("/ws/exp1")]
    assert program("umount", "exp1").out == "unmounted /ws/exp1\n"
    program("umount", "./view", "--lazy")
    program("umount", "/mnt/../mnt/view/")
    assert fake.asked == [
        ("umount", "exp1", {"lazy": False}),
        ("umount", str(tmp_path / "view"), {"lazy": True}),
        ("umount", "/mnt/view", {"lazy": False}),
    ]


def test_delete(program: Program, fake: FakeWorkspace) -> None:
    fake.answers["delete"] = Deleted("exp1", HEAD, 9, "layer00000")
    ran = program("delete", "exp1", "--force")
    assert ran.out == "deleted exp1, which was at commit 0123456789; kept by operation 9\n"
    assert fake.asked == [("delete", "exp1", {"force": True})]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NothingToCommit("nothing"), 1),
        (errors.UnknownRef("no such ref", ref="x", suggestions=["exp1"]), 2),
        (errors.DirtyBranch("dirty"), 3),
        (errors.Locked("locked"), 4),
        (errors.StorageError("full", errno=errno.ENOSPC), 5),
        (errors.MountRefused("refused", errno=errno.EINVAL), 6),
        (errors.Interrupted("interrupted"), 130),
        (KeyboardInterrupt(), 130),
        (OSError(errno.EIO, "x", "/f"), 5),
    ],
)
def test_exit_codes(program: Program, fake: FakeWorkspace, error: BaseException, code: int) -> None:
    fake.answers["list"] = error
    ran = program("list")
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith("error: ")


def test_a_bug_shows_its_traceback(program: Program, fake: FakeWorkspace) -> None:
    fake.answers["list"] = ValueError("a bug")
    with pytest.raises(ValueError, match="a bug"):
        program("list")


def test_init_takes_the_workspace_once(program: Program) -> None:
    ran = program("-C", "/a", "init", "/data", "/b")
    assert ran.code == 2
    assert ran.err == "error: the workspace is named twice, by -C and by WORKSPACE\n"


def test_where_the_workspace_is_named_in_full_no_current_directory_is_needed(
    program: Program, fake: FakeWorkspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    monkeypatch.delenv("PWD", raising=False)
    assert program("-C", "/elsewhere", "list", "--json").code == 0
    assert fake.start == Path("/elsewhere")
    assert usage_error(program, "-C", "sub", "list") == "the current directory no longer exists"


def test_as_many_files_may_be_open_as_the_system_allows(program: Program) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
        program("--version")
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_end_of_the_process() -> None:
    code = """
import atexit, sys
from dsbranch.__main__ import main
atexit.register(print, "registered")
sys.argv = ["dsbranch", "-C", "/proc", "status"]
main()
print("not to be seen")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "registered\n")
    assert done.stderr.startswith("error: there is no dsbranch workspace")

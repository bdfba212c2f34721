"""``inspect`` as it prints, and how it is called."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dsbranch.errors import BadPath
from dsbranch.model.archives import Applied
from dsbranch.model.changes import Change
from dsbranch.model.facts import Commit
from dsbranch.model.overlays import Belonging, MountPlace, Overlay, OverlayPart
from dsbranch.model.views import Process
from tests.cli.fake import FakeDiff

WS = Path("/ws")

OVERLAY = Overlay(
    "dsbranch:w:l1",
    (
        MountPlace(Path("/ws/main"), False),
        MountPlace(Path("/d"), True, Process(7, "sleep 1", "/d"), Path("/sub")),
        MountPlace(Path("/ws/main"), False, Process(9, "cron", "/ws/main")),
        MountPlace(Path("/d"), True, Process(9, "cron", "/d"), Path("/sub")),
    ),
    (
        OverlayPart("upper", Path("/u"), True, Belonging(WS, "open", "l1", "main"), 2048, 1),
        OverlayPart("work", Path("/w"), True),
        OverlayPart(
            "lower", Path("/c"), True, Belonging(WS, "commit", "l0", None, "a" * 40, "one\n"), 1, 12
        ),
        OverlayPart("lower", Path("/p"), True, Belonging(WS, "checkpoint", "k", None, "b" * 40)),
        OverlayPart("lower", Path("/q"), True, Belonging(WS, "pending", "k", "main")),
        OverlayPart("lower", Path("/r"), True, Belonging(WS, "kept", "k9")),
        OverlayPart("lower", Path("/s"), True, Belonging(WS, "view", "k9", "exp1")),
        OverlayPart("lower", Path("/t"), True, Belonging(WS, "view", None, None, "c" * 40)),
        OverlayPart("lower", Path("/v"), True, Belonging(WS, "empty")),
        OverlayPart("lower", Path("/data"), True, Belonging(WS, "dataset")),
        OverlayPart("data", Path("/x\n"), False),
    ),
    "trusted",
    (("redirect_dir", "on"), ("volatile", "")),
    notes=("it is volatile",),
)

PLAIN = Overlay("web", (), (OverlayPart("upper", Path("/u"), True),), "user", read_only=True)


class Answers:
    """What the public functions answer; `asked` are the calls."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.found: list[Overlay] = [OVERLAY]
        for name in ("inspect", "inspect_all", "inspect_containers", "overlay_changes"):
            monkeypatch.setattr(f"dsbranch.workspace.{name}", self._answer(name))

    def _answer(self, name: str) -> Any:
        def answer(*given: Any, progress: Any, **keywords: Any) -> Any:
            assert progress is None, "no terminal, no bar"
            self.asked.append((name, *given, keywords))
            if name == "overlay_changes":
                return self.diff()
            return self.found[0] if name == "inspect" else self.found

        return answer

    def diff(self) -> FakeDiff:
        diff = FakeDiff(Change("D", b"g", "file", None, None, 4))
        diff.from_ = diff.to = None  # type: ignore[assignment]
        return diff


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    return Answers(monkeypatch)


def give(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text)))


def test_a_stack(program, answers):
    ran = program("inspect", "/ws/main")
    assert ran.out == (
        "dsbranch:w:l1\n"
        "  mounted  /ws/main, and in 1 other mount namespace, as of process 9: cron\n"
        "  mounted  /d  (read-only)  (only /sub of it),"
        " in 2 other mount namespaces, as of process 7: sleep 1\n"
        "  xattrs   trusted.overlay.*\n"
        "  options  redirect_dir=on,volatile\n"
        "  upper    2.0 KiB    1 inode  /u\n"
        "           uncommitted changes of branch main of /ws\n"
        "  work           -             /w\n"
        "  lower        1 B  12 inodes  /c\n"
        "           commit aaaaaaaaaa of /ws: one\n"
        "  lower          -             /p\n"
        "           a checkpoint down from commit bbbbbbbbbb of /ws\n"
        "  lower          -             /q\n"
        "           changes of branch main of /ws whose commit was undone\n"
        "  lower          -             /r\n"
        "           layer k9 of /ws, which no branch or commit has\n"
        "  lower          -             /s\n"
        "           in the mounted branch exp1 of /ws\n"
        "  lower          -             /t\n"
        "           in the mounted commit cccccccccc of /ws\n"
        "  lower          -             /v\n"
        "           empty, as a read-only view of /ws needs\n"
        "  lower          -             /data\n"
        "           the dataset of /ws\n"
        '  data           -             "/x\\n"  (not found)\n'
    )
    assert ran.err == "note: it is volatile\n"
    assert ran.code == 0
    assert answers.asked == [("inspect", Path("/ws/main"), {"sizes": True})]


def test_all_of_them(program, answers):
    answers.found = [PLAIN, PLAIN]
    ran = program("inspect", "--all", "--no-sizes")
    one = "web, read-only\n  mounted  no\n  xattrs   user.overlay.*\n  upper    -    /u\n"
    assert ran.out == f"{one}\n{one}"
    assert answers.asked == [("inspect_all", {"sizes": False})]
    answers.found = []
    ran = program("inspect", "--all")
    assert (ran.out, ran.err, ran.code) == ("", "note: no overlay is mounted that you can see\n", 0)


def test_where_you_stand(program, answers, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    program("inspect")
    program("inspect", "sub")
    assert [asked[1] for asked in answers.asked] == [tmp_path, tmp_path / "sub"]


def test_json(program, answers):
    answer = json.loads(program("inspect", "/ws/main", "--json").out)
    (one,) = answer["overlays"]
    assert answer["schema"] == 1
    assert one["mounted"][1] == {
        "path": "/d",
        "root": "/sub",
        "read_only": True,
        "process": {"pid": 7, "command": "sleep 1"},
    }
    assert one["parts"][0] == {
        "role": "upper",
        "path": "/u",
        "found": True,
        "bytes": 2048,
        "inodes": 1,
        "belongs": {
            "workspace": "/ws",
            "what": "open",
            "layer": "l1",
            "branch": "main",
            "commit": None,
            "message": None,
        },
    }
    assert one["parts"][1]["belongs"] is None
    assert (one["dialect"], one["read_only"], one["notes"]) == (
        "trusted",
        False,
        ["it is volatile"],
    )
    assert one["options"] == {"redirect_dir": "on", "volatile": ""}


def test_changes_of_a_container(program, answers, monkeypatch):
    give(monkeypatch, b"[{}]")
    assert program("inspect", "-", "--changes", "--", "/a/", "b").out == "D  g\n"
    assert answers.asked == [
        ("inspect_containers", b"[{}]", {"sizes": False}),
        ("overlay_changes", OVERLAY, {"paths": [b"a", b"b"], "renames": True}),
    ]
    give(monkeypatch, b"")
    assert program("inspect", "-", "--changes", "--name-status", "--no-renames").out == "D\tg\n"
    assert answers.asked[-1][-1] == {"paths": [], "renames": False}
    give(monkeypatch, b"")
    answer = json.loads(program("inspect", "-", "--changes", "--json", "--", ".").out)
    assert answers.asked[-1][-1]["paths"] == [b""]
    assert answer["overlay"]["name"] == "dsbranch:w:l1"
    assert (answer["from"], answer["to"]) == (None, None)
    assert [one["path"] for one in answer["changes"]] == ["g"]


def test_changes_are_of_one_container(program, answers, monkeypatch):
    answers.found = [PLAIN, PLAIN]
    give(monkeypatch, b"")
    ran = program("inspect", "-", "--changes")
    assert ran.code == 2
    assert "describes 2" in ran.err
    assert "hint: name one container" in ran.err


COMMIT = Commit("ab" * 20, ("cd" * 20,), "l", "adopt web\n\nmore", "ada", 0)


def test_a_container_is_adopted(program, answers, fake, monkeypatch):
    fake.answers["adopt"] = Applied(COMMIT, {"A": 1, "D": 2}, Path("/ws/exp"))
    give(monkeypatch, b"[{}]")
    ran = program("-C", "/ws", "inspect", "-", "--adopt", "exp", "-m", "why")
    assert ran.out == "[exp ababababab] adopt web (1 added, 2 deleted), mounted at /ws/exp\n"
    assert fake.asked == [("adopt", "exp", OVERLAY, "why", {"mount": True})]
    assert fake.start == Path("/ws")
    fake.answers["adopt"] = Applied(COMMIT, {"A": 1})
    give(monkeypatch, b"[{}]")
    answer = json.loads(program("inspect", "-", "--adopt", "exp", "--no-mount", "--json").out)
    assert fake.asked[-1] == ("adopt", "exp", OVERLAY, None, {"mount": False})
    assert (answer["branch"], answer["counts"], answer["mountpoint"]) == ("exp", {"A": 1}, None)
    assert answer["commit"]["id"] == COMMIT.id
    answers.found = []
    give(monkeypatch, b"[{}]")
    assert "the JSON describes 0" in program("inspect", "-", "--adopt", "exp").err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--stat",), "about changes"),
        (("--no-renames",), "about changes"),
        (("/m", "--", "a"), "about changes"),
        (("--all", "--changes"), "--all excludes --changes"),
        (("--all", "/m"), "--all excludes a mount point"),
        (("--changes", "--json", "-z"), "--json excludes"),
        (("-m", "why"), "about a new branch"),
        (("--no-mount",), "about a new branch"),
        (("--all", "--adopt", "x"), "--adopt excludes --all"),
        (("-", "--changes", "--adopt", "x"), "--adopt excludes --changes"),
    ],
)
def test_what_does_not_go_together(program, answers, arguments, words):
    ran = program("inspect", *arguments)
    assert ran.code == 2
    assert words in ran.err
    assert answers.asked == []


def test_an_error_is_a_sentence_and_a_hint(program, monkeypatch):
    def fail(*_: Any, **__: Any) -> None:
        raise BadPath("/tmp lies in no overlay mount", hint="`dsbranch inspect --all`")

    monkeypatch.setattr("dsbranch.workspace.inspect", fail)
    ran = program("inspect", "/tmp")
    assert ran.err == ("error: /tmp lies in no overlay mount\nhint: `dsbranch inspect --all`\n")
    assert ran.code == 2

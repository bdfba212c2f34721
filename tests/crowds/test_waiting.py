"""While a command is at work: who only looks does not wait, who would change the same is told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import children, crowd
from tests import edits as e
from tests.ops.conftest import BASE, Bench
from tests.trees import File

pytestmark = pytest.mark.root

WRITTEN = "dsbranch.store.writes:log"

AT_WORK = [
    ("commit('main', 'x')", "dsbranch.ops.commit:_examine"),
    ("commit('main', 'x')", "dsbranch.ops.layers:write_manifest"),
    ("commit('main', 'x')", WRITTEN),
    ("commit('main', 'x')", "dsbranch.store.database:Store.record"),
    ("squash('main')", "dsbranch.ops.build:built"),
    ("rollback('main')", WRITTEN),
    ("merge('other', into='main')", "dsbranch.ops.merge:built"),
    ("create('exp')", WRITTEN),
    ("gc(keep=0.0)", "dsbranch.store.sweep:drop"),
    ("gc(keep=0.0)", "dsbranch.ops.gc:_retire"),
]
LOOKING = [
    ("status", "main"),
    ("status", "other"),
    ("log", "main"),
    ("diff", "main"),
    ("diff", "main", "other"),
    ("list",),
    ("show", "other"),
    ("op", "log"),
    ("du",),
]

STOP = """
import importlib, sys
import dsbranch
place, action, module, name = sys.argv[1:]
owner = importlib.import_module(module)
*parents, last = name.split(".")
for parent in parents:
    owner = getattr(owner, parent)
real = getattr(owner, last)
def stopping(*arguments, **keywords):
    answer = real(*arguments, **keywords)
    print("stopped", flush=True)
    sys.stdin.readline()
    return answer
setattr(owner, last, stopping)
with dsbranch.open(place) as ws:
    eval("ws." + action)
"""


@pytest.fixture
def ready(tmp_path: Path) -> Iterator[Bench]:
    """main and other have gone apart."""
    bench = Bench(tmp_path, BASE)
    bench.commit(e.append("f", b"1"))
    bench.commit(e.append("f", b"2"))
    bench.ws.create("other", start="main~1")
    bench.commit(e.append("g", b"other"), branch="other")
    bench.ws.rollback("other", "main~2")
    bench.ws.undo()
    yield bench
    bench.close()


@contextmanager
def at_work(bench: Bench, action: str, target: str) -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of ``ws.<action>``, for as long as the body; then it goes on."""
    module, _, name = target.partition(":")
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", STOP, str(bench.place), action, module, name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=children.environment(),
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline() == "stopped\n"
        yield process
        if process.poll() is None:
            # It may come by there again.
            process.communicate("\n" * 100)
            assert process.returncode == 0


@pytest.mark.parametrize(("action", "target"), AT_WORK)
def test_who_looks_does_not_wait(ready: Bench, action: str, target: str) -> None:
    if not action.startswith("merge"):
        ready.edit(e.add("new", File(b"new")))
    reader = crowd.Member(ready.place, 0, "")
    with at_work(ready, action, target):
        for words in LOOKING:
            # It would wait for ever, and be found stuck.
            reader.run(*words, may=())
    assert not reader.complaints
    assert not ready.ws.verify().findings


def test_who_would_change_the_same_is_told_who_does(ready: Bench) -> None:
    ready.edit(e.add("new", File(b"new")))
    member = crowd.Member(ready.place, 0, "")
    with at_work(ready, "commit('main', 'x')", "dsbranch.ops.commit:_examine") as process:
        for words in (("squash", "main"), ("delete", "main")):
            told = member.run(*words, may=(4,))
            assert told.code == 4
            assert f"`dsbranch commit main` (pid {process.pid})" in told.stderr
    assert not member.complaints


@pytest.mark.parametrize(("action", "target"), AT_WORK[::3])
def test_the_dead_hold_nothing(ready: Bench, action: str, target: str) -> None:
    if not action.startswith("merge"):
        ready.edit(e.add("new", File(b"new")))
    member = crowd.Member(ready.place, 0, "")
    with at_work(ready, action, target) as process:
        process.kill()
        process.wait()
        for words in (
            ("commit", "main", "-m", "y", "--allow-empty"),
            ("create", "one-more"),
            ("gc",),
            ("delete", "one-more", "--force"),
        ):
            member.run(*words, may=())
    assert not member.complaints
    assert not ready.ws.verify().findings

"""Many processes on one workspace: nobody's work is lost, nobody is stuck, nobody sees a fault.

By default a few for some steps. DSBRANCH_TEST_CROWD=32x600 lets 32 of them work for 600 seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsbranch.model.facts import Branch
from tests import children, crowd
from tests.ops.conftest import Bench, mounts
from tests.trees import Dir, File

pytestmark = pytest.mark.root

MEMBERS, STEPS, SECONDS = 6, 40, 0.0
if wanted := os.environ.get("DSBRANCH_TEST_CROWD"):
    MEMBERS, SECONDS = int(wanted.partition("x")[0]), float(wanted.partition("x")[2])
SEED = os.environ.get("DSBRANCH_TEST_SEED", "0")

WORK = "import sys; from tests.crowd import work; work(sys.argv[1], *eval(sys.argv[2]))"


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path, Dir({"a": File(b"a"), "b": File(b"b"), "f0": File(b"f")}))
    yield bench
    bench.close()


def test_nobody_loses_anything(bench: Bench) -> None:
    for name in (*crowd.LEDGERS, *crowd.TOSSED):
        bench.ws.create(name)
    began = time.monotonic()
    members = [_member(bench.place, number) for number in range(MEMBERS)]
    told = [member.communicate()[0] for member in members]
    seconds = time.monotonic() - began
    assert not any(member.returncode for member in members)
    reports = [json.loads(text) for text in told]
    done = sum((Counter(report["done"]) for report in reports), Counter())
    print(f"\n{MEMBERS} members: {done.total()} commands, {done.total() / seconds:.1f} a second")
    print(", ".join(f"{what}: {count}" for what, count in sorted(done.items())))
    complaints = [complaint for report in reports for complaint in report["complaints"]]
    assert not complaints, "\n\n".join(complaints)
    bench.reopen()
    bench.ws.mount_all()

    for number, report in enumerate(reports):
        me = f"o{number}"
        assert crowd.read(bench.path(me)) == report["tree"]
        assert len(bench.ws.log(me)) >= report["log"]
        for ledger, count in report["written"].items():
            lines = (bench.path(ledger) / me).read_text().split() if count else []
            assert lines == [str(line) for line in range(1, count + 1)], (ledger, me)
    messages = Counter(commit.message for commit in bench.ws.log("commits"))
    assert not [m for r in reports for m in r["committed"] if messages[m] != 1]

    _require_unbroken(bench)
    _require_one_superblock_each(bench)
    for info in bench.ws.list():
        bench.ws.status(info.name)
    assert not bench.ws.verify(full=True).findings


def _member(place: Path, number: int) -> subprocess.Popen[str]:
    task = repr((number, SEED, STEPS, SECONDS))
    return subprocess.Popen(
        [sys.executable, "-P", "-c", WORK, str(place), task],
        stdout=subprocess.PIPE,
        text=True,
        env=children.environment(),
    )


def _require_unbroken(bench: Bench) -> None:
    """Each operation began where the one before it left the branch: none went unseen."""
    operations = [logged.operation for logged in reversed(bench.ws.operations())]
    numbers = {operation.id for operation in operations}
    last: dict[int, tuple[int, Branch | None]] = {}
    for operation in operations:
        for move in operation.moves:
            side = move.before or move.after
            if not isinstance(side, Branch):
                continue
            if side.id in last:
                number, stood = last[side.id]
                # What gc has removed cannot be asked.
                if numbers.issuperset(range(number, operation.id)) and move.before is not None:
                    assert stood in (move.before, None), (number, operation)
            last[side.id] = operation.id, move.after
    for branch in bench.ws._context.store.branches():
        if branch.id in last:
            assert last[branch.id][1] == branch


def _require_one_superblock_each(bench: Bench) -> None:
    sources = Counter(source for _, source, _ in mounts(bench.root))
    assert not [source for source, count in sources.items() if count > 1]

"""The power fails: right after a verb said it was done, and at calls in the middle of it.

What was reported has happened for good; what was not has happened whole or not at all. Nothing
that lay on the disk before is missing, `verify --full` is content, and the command, given once
more, does its work.

By default each verb is tried on one filesystem at the end, and on another in the middle.
DSBRANCH_TEST_POWER=all tries every call on ext4, xfs and btrfs, DSBRANCH_TEST_POWER=N every N-th.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

import dsbranch
from tests import edits as e
from tests import leaks
from tests.injected import Call, Ended
from tests.injected import dsbranch as run
from tests.ops.conftest import KILLED, Bench
from tests.trees import File, differences, make, snapshot

from .power import KINDS, Disk, sync
from .scenarios import BASE, SCENARIOS, Scenario
from .test_faults import state

pytestmark = pytest.mark.root

WANTED = os.environ.get("DSBRANCH_TEST_POWER", "")
LARGE = bytes(range(256)) * 1000


def chmodded(bench: Bench) -> None:
    """main and other both have a file whose data are in one commit, and its mode in another."""
    bench.ws.create("other")
    for branch in ("main", "other"):
        large = f"large-{branch}"
        bench.commit(e.add(large, File(LARGE)), branch=branch, message=f"data of {branch}")
        bench.commit(e.chmod(large, 0o600), branch=branch, message=f"mode of {branch}")
    bench.ws.export("main~2..other", bench.root / "other.tar")
    # Making a mount read-only puts all on the disk, and so does taking one off.
    bench.ws.umount("main")


# What a mount shows, and where, ends with the power in any case.
LASTING = [s for s in SCENARIOS if s.name not in ("mount", "umount")] + [
    Scenario("squash-unmounted", chmodded, ("squash", "main", "--since", "main~2", "-m", "done")),
    Scenario("merge-unmounted", chmodded, ("merge", "other", "--into", "main", "-m", "done")),
    Scenario("apply-unmounted", chmodded, ("apply", "../other.tar", "main", "-m", "done")),
]


class Started(Bench):
    """The workspace on a disk that was switched on."""

    def __init__(self, disk: Disk, mounted: Sequence[str]) -> None:
        self.root = disk.at / "r"
        self.data, self.place = self.root / "data", self.root / "ws"
        self.ws = dsbranch.open(self.place)
        for name in {info.name for info in self.ws.list()}.intersection(mounted):
            self.ws.mount(name)

    def archives(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.root.iterdir() if path.is_file()}


class Trial:
    """One scenario on one filesystem, made ready once and begun anew each time."""

    def __init__(self, kind: str, scenario: Scenario, root: Path) -> None:
        self.scenario = scenario
        self.report = root / "strace"
        self.saved = root / "saved"
        self.disk = Disk(kind, root)
        self._prepare()
        with self.started() as bench:
            self.before = state(bench)
        with self.started() as bench:
            ended = self.run(bench)
            assert ended.code == 0, ended
            self.calls = ended.calls
            self.after = state(bench)

    def _prepare(self) -> None:
        self.disk.make()
        self.disk.on()
        try:
            place = self.disk.at / "r"
            place.mkdir()
            bench = Bench(place, BASE)
            try:
                self.scenario.prepare(bench)
                self.mounted = [info.name for info in bench.ws.list() if info.mounted]
            finally:
                bench.close()
        finally:
            self.disk.off()
        self.disk.image.rename(self.saved)

    @contextmanager
    def started(self) -> Iterator[Started]:
        """The disk as it was saved, switched on, and something written to it just now."""
        self.disk.become(self.saved)
        self.disk.on()
        try:
            with closing(Started(self.disk, self.mounted)) as bench:
                if self.scenario.name.startswith(("commit", "restore")):
                    self._write(bench)
                yield bench
        finally:
            self.disk.off()

    def _write(self, bench: Started) -> None:
        """What the verb is to freeze, and nobody has put on the disk yet."""
        with bench.ws.branch("main").mounted() as path:
            (path / "fresh").write_bytes(LARGE)
            with (path / "f").open("ab") as file:
                file.write(b"fresh")
        os.utime(bench.upper() / "fresh", ns=(1, 1))
        os.utime(bench.upper() / "f", ns=(2, 2))

    def run(self, bench: Bench, effect: str = "", at: Call | None = None) -> Ended:
        bench.ws.close()
        words = self.scenario.words
        ended = run(words, cwd=bench.place, report=self.report, effect=effect, at=at)
        bench.ws = dsbranch.open(bench.place)
        return ended

    def survive(self, effect: str = "", at: Call | None = None) -> None:
        with self.started() as bench:
            if at is not None:
                sync(self.disk)
            ended = self.run(bench, effect, at)
            assert ended.code == (0 if at is None else KILLED), (at, ended[:3])
            archives = bench.archives() if at is None else {}
            bench.ws.close()
            self.disk.cut()
            with closing(Started(self.disk, self.mounted)) as again:
                told = self.scenario.name, self.disk.kind, at
                assert archives.items() <= again.archives().items(), told
                self._judge(again, done=at is None, told=told)

    def _judge(self, bench: Started, *, done: bool, told: object) -> None:
        broken = ""
        try:
            now = state(bench)
        except dsbranch.errors.IntegrityError as error:
            broken = str(error)  # and not the error, which holds frames, and those the disk
        assert not broken, (told, broken)
        old = now.differences(self.before, times=True)
        new = now.differences(self.after, times=False)
        assert not (new if done or old else old), (told, old, new)
        assert not bench.ws.verify(full=True).findings, told
        if not done and not old and self.scenario.repeats:
            again = self.run(bench)
            assert again.code == 0, (told, again[:3])
            assert not state(bench).differences(self.after, times=False), told


def _trials() -> list[object]:
    kinds = list(KINDS) if WANTED else ["ext4", "xfs"]
    return [
        pytest.param((kind, scenario), id=f"{scenario}-{kind}")
        for number, scenario in enumerate(LASTING)
        for kind in (kinds if WANTED else [kinds[number % 2]])
    ]


@pytest.fixture(params=_trials(), scope="module")
def trial(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trial]:
    root = tmp_path_factory.mktemp("power")
    try:
        yield Trial(*request.param, root)
    finally:
        for point in leaks.mounts(root):
            subprocess.run(["umount", "-l", point], check=True)


def test_what_was_reported_lasts(trial: Trial) -> None:
    trial.survive()


def test_in_the_middle_it_is_whole_or_nothing(trial: Trial) -> None:
    chosen = (
        trial.calls[:: 1 if WANTED == "all" else int(WANTED)]
        if WANTED
        else random.Random(trial.scenario.name).sample(trial.calls, 1)
    )
    for call in chosen:
        trial.survive("signal=KILL", call)
    print(
        f"\n{trial.scenario}, {trial.disk.kind}: cut at {len(chosen)} of {len(trial.calls)}", end=""
    )


@pytest.mark.parametrize("kind", KINDS if WANTED else ["xfs"])
def test_an_adopted_dataset_stays_adopted(tmp_path: Path, kind: str) -> None:
    disk = Disk(kind, tmp_path)
    disk.make()
    disk.on()
    try:
        make(BASE, disk.at / "data")
        sync(disk)
        words = "init", "data", "ws"
        assert run(words, cwd=disk.at, report=tmp_path / "strace").code == 0
        disk.cut()
        with dsbranch.open(disk.at / "ws") as ws:
            ws.mount("main")
            assert not differences(snapshot(disk.at / "data"), snapshot(disk.at / "ws/main"))
            assert not ws.verify(full=True).findings
    finally:
        disk.off()


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_forgets_what_it_was_not_made_to_keep(tmp_path: Path, kind: str) -> None:
    disk = Disk(kind, tmp_path)
    disk.make()
    disk.on()
    try:
        (disk.at / "kept").write_bytes(LARGE)
        sync(disk)
        (disk.at / "lost").write_bytes(LARGE)
        disk.cut()
        assert (disk.at / "kept").read_bytes() == LARGE
        assert not (disk.at / "lost").exists()
    finally:
        disk.off()


NOT_SYNCING = """
import dsbranch.ops.layers
dsbranch.ops.layers.sync = lambda context: None
"""


@pytest.mark.parametrize("name", ["squash-unmounted", "commit"])
def test_a_verb_that_leaves_its_data_to_luck_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    trial = Trial("ext4", next(s for s in LASTING if s.name == name), tmp_path)
    trial.survive()
    (tmp_path / "sitecustomize.py").write_text(NOT_SYNCING)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(AssertionError, match="not a valid manifest"):
        trial.survive()

"""A disk without one free block, or without one free inode: every verb, on a real one.

Each verb says so in a sentence and leaves what there was, verify is content, and nothing of the
attempt lies in the store. Reading goes on, what frees space works; with space, the rest does.
"""

from __future__ import annotations

import gc
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from errno import ENOSPC
from pathlib import Path

import pytest

import dsbranch
from dsbranch import errors
from dsbranch._core import syscalls
from dsbranch.ops import layers as layer_steps
from tests import edits as e
from tests import leaks
from tests.cases import BASE
from tests.trees import make, snapshot

from .conftest import layers, mount_filesystem, one_sentence, python, rows

pytestmark = pytest.mark.root

Fill = Callable[["Disk"], None]


def _goes_in(write: Callable[[], object]) -> bool:
    try:
        write()
    except OSError as error:
        if error.errno == ENOSPC:
            return False
        raise
    return True


def _own(xattrs: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Without the kernel's notes on where something was copied up from, which commits strip."""
    return [pair for pair in xattrs if not pair[0].endswith(("overlay.origin", "overlay.impure"))]


class Disk:
    """A small ext4 with a workspace on it; the dataset and an export lie elsewhere."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data, self.archive = root / "data", root / "exp.tar"
        make(BASE, self.data)
        image = root / "image"
        image.touch()
        os.truncate(image, 8 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-N", "512", image], check=True)
        self.at = mount_filesystem("ext4", root / "disk", "-o", "loop", source=image)
        self.place = self.at / "ws"
        with dsbranch.init(self.data, self.place) as ws:
            ws.create("exp")
            for branch in ("main", "exp"):
                for number in range(2):
                    e.append(f"{branch}-{number}", os.urandom(50_000))(self.place / branch)
                    ws.commit(branch, f"number {number}")
            ws.create("dirty")
            ws.create("unmounted", mount=False)
            with ws.branch("unmounted").mounted() as path:
                e.append("new", b"new")(path)
            e.append("f", b"changed")(self.place / "dirty")
            e.unlink("g")(self.place / "dirty")
            ws.export("exp", self.archive)

    def fill_blocks(self) -> None:
        with (self.at / "filler").open("wb", buffering=0) as file:
            for size in (1 << 20, 1024):
                while _goes_in(lambda size=size: file.write(bytes(size))):
                    pass
                os.fsync(file.fileno())

    def fill_inodes(self) -> None:
        (self.at / "fillers").mkdir()
        number = 0
        while _goes_in((self.at / "fillers" / str(number)).touch):
            number += 1

    def empty(self) -> None:
        subprocess.run(["rm", "-rf", self.at / "filler", self.at / "fillers"], check=True)

    def rows(self) -> object:
        """Read from a copy, as there is no space to read it in place."""
        copy = self.root / "copy" / ".dsbranch"
        copy.mkdir(parents=True, exist_ok=True)
        subprocess.run(["rm", "-f", copy / "store.db-wal", copy / "store.db-shm"], check=True)
        for file in (self.place / ".dsbranch").glob("store.db*"):
            shutil.copy(file, copy)
        return rows(copy.parent, "mounts")

    def traces(self) -> dict[str, object]:
        return {
            "rows": self.rows(),
            "layers": {
                path: (
                    mode,
                    inode,
                    size,
                    time_ns if stat.S_ISREG(mode) else None,
                    owner,
                    _own(xattrs),
                )
                for path, (mode, inode, size, time_ns, owner, xattrs) in layers(self.place).items()
            },
            "names": sorted(os.listdir(self.place)),
            "mounts": sorted(leaks.mounts(self.root)),
            "views": {name: snapshot(self.place / name) for name in ("main", "exp", "dirty")},
        }


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path)
    try:
        yield made
    finally:
        gc.collect()  # errors hold frames, and those hold directories open
        for point in leaks.mounts(tmp_path):
            subprocess.run(["umount", point], check=True)


FILLS = [Disk.fill_blocks, Disk.fill_inodes]
IDS = ["blocks", "inodes"]

# What takes space, and so is refused.
WRITING: dict[str, Callable[[dsbranch.Workspace, Disk], object]] = {
    "create": lambda ws, disk: ws.create("another"),
    "create, not mounted": lambda ws, disk: ws.create("aside", mount=False),
    "commit": lambda ws, disk: ws.commit("dirty", "x"),
    "commit, not mounted": lambda ws, disk: ws.commit("unmounted", "x"),
    "merge": lambda ws, disk: ws.merge("exp", into="main"),
    "squash": lambda ws, disk: ws.squash("exp", since=ws.log("exp~2", limit=1)[0].id),
    "rollback": lambda ws, disk: ws.rollback("dirty"),
    "restore": lambda ws, disk: ws.restore("dirty", [b"f"]),
    "restore by replay": lambda ws, disk: ws.restore("main", [b"exp-0"], start="exp"),
    "apply": lambda ws, disk: ws.apply("main", disk.archive, force=True),
    "export": lambda ws, disk: ws.export("exp", disk.at / "out.tar"),
    "export of a directory": lambda ws, disk: ws.export("exp", disk.at / "out"),
    "rename": lambda ws, disk: ws.rename("exp", "other"),
}


def refused(disk: Disk, action: Callable[[dsbranch.Workspace, Disk], object]) -> None:
    before = disk.traces()
    with dsbranch.open(disk.place) as ws:
        with pytest.raises(errors.DsbranchError) as caught:
            action(ws, disk)
        assert isinstance(caught.value, errors.StorageError | errors.MountRefused)
        one_sentence(caught.value)
        hint = caught.value.hint or ""
        assert "free some space" in hint or "left: remove something" in hint
    assert disk.traces() == before
    assert sorted(os.listdir(disk.at)) == sorted({*os.listdir(disk.at)} - {"out", "out.tar"})
    with dsbranch.open(disk.place) as ws:
        assert not ws.verify(full=True).findings


@pytest.mark.parametrize("fill", FILLS, ids=IDS)
def test_what_takes_space_is_refused_and_works_later(disk: Disk, fill: Fill) -> None:
    fill(disk)
    for verb, action in WRITING.items():
        print(verb)
        refused(disk, action)
    disk.empty()
    with dsbranch.open(disk.place) as ws:
        for verb, action in WRITING.items():
            print(verb)
            action(ws, disk)
        assert not ws.verify(full=True).findings


@pytest.mark.parametrize("fill", FILLS, ids=IDS)
def test_reading_goes_on(disk: Disk, fill: Fill) -> None:
    def read() -> list[object]:
        with dsbranch.open(disk.place) as ws:
            return [
                *(ws.status(name) for name in ("main", "dirty", "unmounted")),
                *(sorted(ws.diff("main", "exp").counts().items()), ws.diff("dirty").counts()),
                *(ws.list(), ws.log("exp"), ws.operations(), ws.verify(full=True)),
            ]

    before = read()
    fill(disk)
    for _ in range(10):  # each takes and gives back
        assert read() == before
    assert not list((disk.place / ".dsbranch").glob("store.db-?*"))
    disk.empty()
    assert read() == before


@pytest.mark.parametrize("fill", FILLS, ids=IDS)
def test_what_frees_space_works(disk: Disk, fill: Fill) -> None:
    fill(disk)
    with dsbranch.open(disk.place) as ws:
        ws.umount("dirty")
        ws.delete("exp", force=True)
        ws.delete("dirty", force=True)
    with dsbranch.open(disk.place) as ws:
        done = ws.gc(keep=0)
    assert done.layers
    assert done.bytes > 100_000
    assert not done.problems
    with dsbranch.open(disk.place) as ws:
        e.append("main-2", b"there is room")(disk.place / "main")
        ws.commit("main", "again")
        assert not ws.verify(full=True).findings
    assert len(os.listdir(disk.place / ".dsbranch" / "reserve")) == 4


@pytest.mark.parametrize("fill", FILLS, ids=IDS)
def test_what_only_writes_rows_works(disk: Disk, fill: Fill) -> None:
    fill(disk)
    with dsbranch.open(disk.place) as ws:
        ws.tag("v1", "main")
    with dsbranch.open(disk.place) as ws:
        assert [tag.name for tag in ws.tags()] == ["v1"]
        ws.undo()
    with dsbranch.open(disk.place) as ws:
        assert ws.tags() == []
        assert not ws.verify(full=True).findings


def test_a_log_that_a_killed_command_left_is_read(disk: Disk) -> None:
    """What is in it is true, and there is no space for the index that others read it by."""
    code = (
        "import os, sys, dsbranch; ws = dsbranch.open(sys.argv[1]); ws.tag('v9', 'main');"
        "os._exit(0)"
    )
    assert python(code, str(disk.place)).returncode == 0
    assert (disk.place / ".dsbranch" / "store.db-wal").stat().st_size
    disk.fill_blocks()
    with dsbranch.open(disk.place) as ws:
        assert [tag.name for tag in ws.tags()] == ["v9"]
        assert not ws.verify(full=True).findings


def test_a_reader_on_a_full_disk_waits_for_another(disk: Disk) -> None:
    disk.fill_blocks()
    with dsbranch.open(disk.place) as ws:
        heads = [info.head for info in ws.list()]
        code = (
            "import sys, dsbranch\n"
            "from dsbranch.store import connection\n"
            "connection._BUSY_SECONDS = connection._ALONE_SECONDS = 0.1\n"
            "try: dsbranch.open(sys.argv[1])\n"
            "except dsbranch.errors.Locked as error: print(error)\n"
        )
        done = python(code, str(disk.place))
        assert "another dsbranch command" in done.stdout, done
    with dsbranch.open(disk.place) as ws:
        assert [info.head for info in ws.list()] == heads


def test_an_older_workspace_gets_its_reserve(disk: Disk) -> None:
    reserve = disk.place / ".dsbranch" / "reserve"
    subprocess.run(["rm", "-r", reserve], check=True)
    with dsbranch.open(disk.place) as ws:
        ws.gc()
    assert sum(path.stat().st_blocks for path in reserve.iterdir()) * 512 >= 256 << 10


def test_where_each_name_counts_as_an_inode(swept: Path) -> None:
    at = mount_filesystem("tmpfs", swept / "disk", "-o", "size=16m,nr_inodes=100")
    make(BASE, swept / "data")
    with dsbranch.init(swept / "data", at / "ws") as ws:
        ws.create("exp")
    number = 0
    while _goes_in((at / str(number)).touch):
        number += 1
    try:
        with dsbranch.open(at / "ws") as ws:
            assert {branch.name for branch in ws.list()} == {"main", "exp"}
            ws.delete("exp")
        with dsbranch.open(at / "ws") as ws:
            assert [branch.name for branch in ws.list()] == ["main"]
    finally:
        subprocess.run(["umount", at / "ws" / "main"], check=True)


def test_a_write_that_failed_is_told_though_somebody_else_was_told_before(swept: Path) -> None:
    """As on a thin volume that is full: what a filesystem takes, its disk does not."""
    memory = mount_filesystem("tmpfs", swept / "memory", "-o", "size=16m")
    image = memory / "image"
    image.touch()
    os.truncate(image, 64 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", image], check=True)
    at = mount_filesystem("ext4", swept / "disk", "-o", "loop", source=image)
    make(BASE, swept / "data")
    with dsbranch.init(swept / "data", at / "ws", mount=False) as ws:
        context = ws._context
        with context.watched():
            fd = os.open(at, os.O_RDONLY | os.O_DIRECTORY)
            try:
                (context.layout.layers / "large").write_bytes(os.urandom(24 << 20))
                with pytest.raises(OSError):  # ENOSPC or EIO, as the kernel likes
                    syscalls.syncfs(fd)
            finally:
                os.close(fd)
            with pytest.raises(errors.StorageError):
                layer_steps.sync(context)
    subprocess.run(["umount", at], check=True)

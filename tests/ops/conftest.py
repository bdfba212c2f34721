"""Fixtures of the verbs' tests: a workspace on a real small tree, mounted by the real kernel."""

from __future__ import annotations

import importlib
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

import dsbranch
from dsbranch._core.table import Table
from dsbranch.errors import DsbranchError
from dsbranch.store import manifest
from tests import children, leaks, reference
from tests.cases import BASE
from tests.edits import Edit
from tests.overlay.conftest import hold  # noqa: F401  # a fixture of these tests, too
from tests.trees import Dir, Snapshot, make, snapshot

KILLED = -9


class Bench:
    """A dataset, a workspace of it with ``main`` mounted, and what a test asks of both."""

    def __init__(self, root: Path, base: Dir) -> None:
        self.root = root
        self.data = root / "data"
        self.place = root / "ws"
        make(base, self.data)
        self.ws = dsbranch.init(self.data, self.place)

    def path(self, branch: str = "main") -> Path:
        return self.place / branch

    def upper(self, branch: str = "main") -> Path:
        """The directory of the branch's open layer."""
        return self.fs(self.ws._context.store.branch(branch).layer)

    def fs(self, layer: str) -> Path:
        return self.place / ".dsbranch" / "layers" / layer / "fs"

    def manifest(self, layer: str) -> Path:
        return self.fs(layer).parent / "manifest.parquet"

    def index(self, layer: str) -> Path:
        return self.fs(layer).parent / "index"

    def head(self, branch: str = "main") -> str:
        return self.ws.branch(branch).head

    def edit(self, *edits: Edit, branch: str = "main") -> None:
        for edit in edits:
            edit(self.path(branch))

    def commit(self, *edits: Edit, branch: str = "main", message: str = "changes") -> str:
        """The edits as a commit; its id."""
        self.edit(*edits, branch=branch)
        return self.ws.commit(branch, message).commit.id

    def lines(self, *arguments: str, **keywords: object) -> list[str]:
        """A diff as text; without arguments the uncommitted changes of main."""
        if not arguments:
            keywords.setdefault("branch", "main")
        return said(self.ws.diff(*arguments, **keywords))

    def see(self, branch: str = "main") -> Snapshot:
        return snapshot(self.path(branch))

    def view(self, ref: str) -> Snapshot:
        """What a commit shows, by a read-only mount of its own."""
        at = self.root / "look"
        self.ws.mount(ref, at=at, read_only=True)
        try:
            return snapshot(at)
        finally:
            self.ws.umount(str(at))
            at.rmdir()

    def reopen(self) -> None:
        """Go on as another process would."""
        self.ws.close()
        self.ws = dsbranch.open(self.place)

    def killed(self, action: str, target: str, when: str) -> None:
        """Run ``ws.<action>`` in a process that is killed `when` it calls `target`.

        `target` is a function's dotted name, `when` is ``before`` or ``after``.
        """
        # Two processes may not go on with one connection to SQLite.
        self.ws.close()
        try:
            killed(self.place, action, target, when)
        finally:
            self.ws = dsbranch.open(self.place)

    def traces(self) -> dict[str, object]:
        """All that a refused command must leave as it found it."""
        return {
            "rows": rows(self.place),
            "layers": layers(self.place),
            "mounts": mounts(self.root),
            "names": sorted(os.listdir(self.place)),
        }

    def close(self) -> None:
        self.ws.close()
        for point in leaks.mounts(self.root):
            subprocess.run(["umount", "-l", point], check=True)


def killed(place: Path, action: str, target: str, when: str) -> None:
    """As `Bench.killed`, in a child of this process, which has the workspace `place` closed."""
    child = os.fork()
    if child == 0:
        try:
            _die(place, action, target, when)
        except BaseException:  # noqa: BLE001 - the test fails, and shows this
            traceback.print_exc()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == KILLED, target


def _die(place: Path, action: str, target: str, when: str) -> None:
    module, _, name = target.partition(":")
    owner = importlib.import_module(module)
    *parents, last = name.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    real = getattr(owner, last)

    def deadly(*arguments: object, **keywords: object) -> None:
        if when == "after":
            real(*arguments, **keywords)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, last, deadly)
    ws = dsbranch.open(place)
    eval(f"ws.{action}", {"ws": ws})


def python(
    code: str, *arguments: str, user: int | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a few lines in another process that imports what this one does."""
    identity = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    return subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=children.environment(),
        **identity,
    )


def said(diff: object) -> list[str]:
    """A diff as ``tests.reference.lines`` puts it, those of one path in a fixed order."""
    found = [
        reference.Change(c.status, c.path, c.old_path, c.kind, c.size, c.old_size) for c in diff
    ]
    order = sorted(found, key=lambda c: (reference.order(c.path), c.status))
    assert [c.path for c in order] == [c.path for c in found], "not sorted"
    return reference.lines(order)


def rows(place: Path, *without: str) -> dict[str, list[str]]:
    """Every row of the store, by table."""
    with closing(sqlite3.connect(place / ".dsbranch" / "store.db")) as db:
        names = db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        return {
            name: sorted(map(repr, db.execute(f"SELECT * FROM {name}")))
            for (name,) in names
            if name not in without and not name.startswith("sqlite_")
        }


def layers(place: Path) -> dict[str, tuple[object, ...]]:
    """Every entry of every layer directory with its metadata and all its xattrs."""
    top = os.fsencode(place / ".dsbranch" / "layers")
    found = {}
    for directory, inner, files in os.walk(top):
        if b"work" in inner:
            inner.remove(b"work")  # the kernel's own
        for name in [*inner, *files]:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            xattrs = sorted(
                (key, os.getxattr(path, key, follow_symlinks=False))
                for key in os.listxattr(path, follow_symlinks=False)
            )
            found[os.fsdecode(path)] = (
                status.st_mode,
                status.st_ino,
                status.st_size if not os.path.isdir(path) else 0,
                status.st_mtime_ns,
                status.st_uid,
                xattrs,
            )
    return found


def recorded(bench: Bench, layer: str) -> Table:
    """What the manifest of a layer says."""
    return manifest.read(bench.manifest(layer), spill=os.fsencode(bench.fs(layer).parent))


def mounts(below: Path) -> list[tuple[str, str, str]]:
    """Mount points below a directory with source and superblock options, in mount order."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        point = before.split(" ")[4]
        if point.startswith(f"{below}/"):
            found.append((point, after.split(" ")[1], after.split(" ")[2]))
    return found


def one_sentence(error: DsbranchError) -> str:
    """The message, which is one line that names a thing; there is a hint beside it."""
    message = str(error)
    assert message
    assert "\n" not in message
    assert error.hint, message
    assert "\n" not in error.hint
    return message


@pytest.fixture
def adopt(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def adopted(base: Dir = BASE) -> Bench:
        root = tmp_path / str(len(made))
        root.mkdir()
        made.append(Bench(root, base))
        return made[-1]

    try:
        yield adopted
    finally:
        for bench in made:
            bench.close()


@pytest.fixture
def bench(adopt: Callable[..., Bench]) -> Bench:
    return adopt()


@pytest.fixture
def swept(tmp_path: Path) -> Iterator[Path]:
    """A directory whose mounts are taken off at the end."""
    try:
        yield tmp_path
    finally:
        for point in leaks.mounts(tmp_path):
            subprocess.run(["umount", "-l", point], check=True)


def mount_filesystem(kind: str, at: Path, *options: str, source: str | Path | None = None) -> Path:
    at.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", kind, *options, source or kind, at], check=True)
    return at


def command(arguments: Sequence[object]) -> str:
    """What a program of the system prints; it must not fail."""
    done = subprocess.run(
        list(map(str, arguments)),
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
    )
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout


def with_descriptors(most: int, place: Path, *call: str) -> subprocess.CompletedProcess[str]:
    """A call of the command in a workspace, with no more than so many of them."""
    return subprocess.run(
        [sys.executable, "-m", "dsbranch", "-C", place, *call],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (most, most)),
        env=children.environment(),
        capture_output=True,
        text=True,
        check=False,
    )

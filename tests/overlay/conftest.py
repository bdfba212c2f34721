"""Fixtures of the overlay room's tests: real mounts below tmp_path, and who holds them."""

from __future__ import annotations

import os
import pickle
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from dsbranch._core import syscalls
from dsbranch.model.facts import Dialect
from dsbranch.model.views import MountPlan
from dsbranch.overlay import mountinfo
from dsbranch.overlay.driver import Driver
from dsbranch.overlay.kernel import KernelDriver
from dsbranch.overlay.plan import plan, source

WAIT_S = 10


class Place:
    """A directory with lowers, an upper and a mount point; everything mounted below is swept."""

    def __init__(
        self, root: Path, driver: Driver | None = None, *, dialect: Dialect = "trusted"
    ) -> None:
        self.root = root
        self.driver = driver or KernelDriver()
        self.dialect = dialect
        self.base = self.directory("base")
        self.target = self.directory("view")

    def directory(self, name: str) -> Path:
        path = self.root / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def layer(self, name: str) -> Path:
        """An upper directory as a workspace has it, with its workdir beside it."""
        self.directory(f"ws/.dsbranch/layers/{name}/work")
        return self.directory(f"ws/.dsbranch/layers/{name}/fs")

    def plan(
        self, layer: str | None, lowers: Sequence[Path] = (), dialect: Dialect | None = None
    ) -> MountPlan:
        """`layer` over `lowers` over the base; without a layer a read-only view."""
        dialect = dialect or self.dialect
        if layer is None:
            return plan(
                lowers=[*lowers, self.base, self.directory("ws/.dsbranch/empty")],
                upper=None,
                work=None,
                source=source("w", commit="c0ffee"),
                dialect=dialect,
            )
        upper = self.layer(layer)
        return plan(
            lowers=[*lowers, self.base],
            upper=upper,
            work=upper.parent / "work",
            source=source("w", layer=layer),
            dialect=dialect,
        )

    def mount(self, plan: MountPlan, target: Path | None = None) -> int:
        with self.driver.prepare(plan) as prepared:
            prepared.attach(target or self.target)
            assert prepared.mount_id is not None
            return prepared.mount_id

    def filesystem(self, kind: str, name: str, *options: str) -> Path:
        """Another filesystem (tmpfs, ramfs …) mounted below this place."""
        path = self.directory(name)
        subprocess.run(["mount", "-t", kind, *options, kind, path], check=True)
        return path


def mounts_below(root: Path) -> list[mountinfo.MountEntry]:
    inside = os.fsencode(root) + b"/"
    return [entry for entry in mountinfo.current() if entry.path.startswith(inside)]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    try:
        yield Place(tmp_path)
    finally:
        for entry in reversed(mounts_below(tmp_path)):
            syscalls.umount(entry.path, lazy=True)
        assert not mounts_below(tmp_path)


class Holder:
    """Another process: runs `code`, at `go_on` also `then`, and waits until `end`."""

    def __init__(
        self, code: str, *arguments: object, then: str = "", before: Sequence[str] = ()
    ) -> None:
        wait = "print('ready', flush=True)\nsys.stdin.readline()\n"
        script = f"import os, sys\n{code}\n{wait}{then}\n{wait}"
        self.process = subprocess.Popen(
            [*before, sys.executable, "-I", "-S", "-c", script, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
        )
        try:
            self._wait()
        except BaseException:
            self.end()
            raise

    def _wait(self) -> None:
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], WAIT_S)
        assert ready, "the holder says nothing"
        assert self.process.stdout.readline() == b"ready\n"

    def go_on(self) -> None:
        # By a line, not a signal: one that comes just before read() is handled after it.
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        self._wait()

    @property
    def pid(self) -> int:
        return self.process.pid

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def hold() -> Iterator[Callable[..., Holder]]:
    held: list[Holder] = []

    def start(code: str, *arguments: object, then: str = "", before: Sequence[str] = ()) -> Holder:
        held.append(Holder(code, *arguments, then=then, before=before))
        return held[-1]

    try:
        yield start
    finally:
        for holder in held:
            holder.end()


def in_child(prepare: Callable[[], object], act: Callable[[], object]) -> object:
    """What `act` returns or raises in a forked child, after `prepare` changed its rights."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            prepare()
            answer = act()
        except Exception as error:  # noqa: BLE001  # the parent judges it
            answer = (type(error).__name__, str(error), getattr(error, "hint", None))
        os.write(writing, pickle.dumps(answer))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    return pickle.loads(data)


def become_nobody() -> None:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)

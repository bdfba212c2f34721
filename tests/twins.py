"""Test foundation: a plain directory that does what a branch's mount does.

Knows how an overlay differs from it: what one copies up for an edit, and that its names part
from those they were linked to. Knows nothing of workspaces.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
import subprocess
import time
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests import operations
from tests.beneath import beneath, join
from tests.operations import Act, Step, survey
from tests.trees import Snapshot, assert_same, snapshot
from tests.truth import UNKNOWN

CLOCK_NS = 20_000_000
"""How far the kernel's time of writing may lie behind the clock."""

_births = itertools.count()


class Seen(NamedTuple):
    """A tree as it looks, and the times of its directories."""

    nodes: Snapshot
    times: dict[bytes, int]


def see(at: Path) -> Seen:
    times = {p: s.st_mtime_ns for p, s in _entries(at) if stat.S_ISDIR(s.st_mode)}
    return Seen(snapshot(at), times)


def same(a: Seen, b: Seen) -> None:
    assert_same(a.nodes, b.nodes)
    assert a.times == b.times


class Twin:
    """`births` tells inodes apart: a number each, which stays with one through renames and
    copies of the tree. Those that are given belong to `plain` as it is now."""

    def __init__(self, plain: Path, births: dict[bytes, int]) -> None:
        self.plain = plain
        self._births = {_inode(plain, path): born for path, born in births.items()}
        self._lower: set[int] = set()
        self.seal()

    def seal(self) -> None:
        """All that is there lies in lower layers from now on."""
        self._lower = {status.st_ino for _, status in walk(self.plain)}

    def births(self) -> dict[bytes, int]:
        """What is where."""
        found = {}
        for path, status in _entries(self.plain):
            if status.st_ino not in self._births:
                self._births[status.st_ino] = next(_births)
            found[path] = self._births[status.st_ino]
        return found

    def settle_births(self, below: dict[bytes, int], sealed: Container[bytes]) -> None:
        """What a commit has dropped, as it equals what it covers, is what it covers.

        So are two equal files that were exchanged. `below` is what was where under the layer that
        the commit has `sealed`; a directory's births tell where the layer looks for what is in it.
        """
        births = self.births()
        places = {born: path for path, born in below.items() if born != UNKNOWN}
        for path, status in _entries(self.plain):
            if path in sealed or stat.S_ISDIR(status.st_mode):
                continue
            directory, _, name = path.rpartition(b"/")
            born = births[directory]
            source = None if born == UNKNOWN else join(places[born], name)
            self._births[status.st_ino] = UNKNOWN if source is None else below[source]

    def edit(self, mount: Path, steps: Iterable[Step]) -> None:
        """Do these steps to the mount, and whatever it lets be done to the plain tree as well."""
        start, late = time.time_ns() - CLOCK_NS, set[int]()
        for step in steps:
            for act in operations.OPERATIONS[step.op](self.plain, survey(self.plain), step):
                if not self._act(mount, act):
                    break
                if act.late:
                    late.update(_inode(self.plain, path) for path in act.copies_up)
        self._settle_times(mount, start, late)

    def _act(self, mount: Path, act: Act) -> bool:
        """Whether it was done."""
        refused = _errno(act, mount)
        if refused == errno.EXDEV:  # an overlay's own reason, of which plain trees know nothing
            return False
        if not refused:
            for path in act.copies_up:
                self._copy_up(path)
        assert _errno(act, self.plain) == refused, f"on the mount: {refused}"
        return not refused

    def _copy_up(self, path: bytes) -> None:
        """Without an index, copying up one name of a hard-linked file splits it from the others."""
        with beneath(self.plain, path) as at, beneath(self.plain, b".split") as spare:
            status = os.lstat(at)
            if status.st_ino not in self._lower:
                return
            if status.st_nlink == 1:
                self._lower.discard(status.st_ino)
                return
            mine = b"/proc/%d/" % os.getpid()
            places = [place.replace(b"/proc/self/", mine) for place in (at, spare)]
            subprocess.run(["cp", "-a", "--", *places], check=True)
            born = self._births.get(status.st_ino)
            if born is not None:
                self._births[os.lstat(spare).st_ino] = born
            os.rename(spare, at)

    def _settle_times(self, mount: Path, start: int, late: set[int]) -> None:
        """What was written just now was written at another moment in each tree."""
        plain = snapshot(self.plain)
        for path, node in snapshot(mount).items():
            own = plain.get(path)
            if own is None or node.mtime_ns is None or own.mtime_ns is None:
                continue
            if node.mtime_ns == own.mtime_ns or node.mtime_ns < start:
                continue
            if own.mtime_ns >= start or _inode(self.plain, path) in late:
                with beneath(self.plain, path) as at:
                    os.utime(at, ns=(node.mtime_ns, node.mtime_ns), follow_symlinks=False)

    def rejoin(self, seen: Snapshot) -> None:
        """A hard link of the base that was copied up for nothing is whole again once that is
        dropped; nothing else may change what is linked to what."""
        own, births = snapshot(self.plain), self.births()
        for path, node in seen.items():
            if path not in own or node.links == own[path].links:
                continue
            assert set(own[path].links) < set(node.links), f"{path!r} lost its link: {own[path]}"
            assert len({births[p] for p in node.links}) == 1, f"{node.links} were never one"
            for other in node.links:
                if other != path:
                    with beneath(self.plain, path) as a, beneath(self.plain, other) as b:
                        os.unlink(b)
                        os.link(a, b, follow_symlinks=False)
            own = snapshot(self.plain)


def walk(top: Path) -> Iterator[tuple[bytes, os.stat_result]]:
    """All entries below a directory, by their full paths."""
    for directory, inner, files in os.walk(os.fsencode(top)):
        for name in [*inner, *files]:
            path = os.path.join(directory, name)
            try:
                yield path, os.lstat(path)
            except FileNotFoundError:  # a whiteout over nothing is listed
                continue


def _entries(top: Path) -> Iterator[tuple[bytes, os.stat_result]]:
    """The directory and all below it, by relative path."""
    yield b"", os.lstat(top)
    for path, status in walk(top):
        yield path.removeprefix(os.fsencode(top) + b"/"), status


def _inode(root: Path, path: bytes) -> int:
    with beneath(root, path) as at:
        return os.lstat(at).st_ino


def _errno(act: Act, root: Path) -> int:
    """What the kernel says to an edit, 0 if it went through."""
    try:
        act.edit(root)
    except OSError as error:
        return error.errno or errno.EIO
    return 0

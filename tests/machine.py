"""Test foundation: a workspace, and beside each of its branches a plain directory.

Whatever is done to a branch's mount is done to the directory as well, and both must look the
same ever after; of each commit a copy is kept. Every answer of the verbs is held against what
these trees say. The kernel and plain directories are the judges; of the code under test nothing
is trusted but ids.
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import dsbranch
from dsbranch import errors
from dsbranch.ops import stacks
from dsbranch.ops.diff import Diff, fork_point
from tests import archives, core, leaks, operations, reference, truth
from tests.beneath import beneath
from tests.operations import Act, Step, survey
from tests.trees import Dir, Snapshot, assert_same, differences, make, snapshot

CLOCK_NS = 20_000_000
"""How far the kernel's time of writing may lie behind the clock."""

BORN_LATER = 1_000_000


class Seen(NamedTuple):
    """A tree as it looks, and the times of its directories."""

    nodes: Snapshot
    times: dict[bytes, int]


class Kept(NamedTuple):
    """A commit: a copy of what it must show for ever."""

    tree: Path
    seen: Seen
    births: dict[bytes, int]
    parents: tuple[str, ...]


@dataclass
class Twin:
    """A branch's other self.

    `lower` are the plain inodes that the open layer has not got. `births` tells directories of
    the plain tree apart by their inodes: a number each, which goes with a directory through
    renames and copies of the tree.
    """

    plain: Path
    head: str
    mounted: bool
    births: dict[int, int]
    lower: set[int]


class Machine:
    """The first failed assertion of a method is the finding; `sound` tells whether there was one.

    `root` is an empty directory, whose mounts are taken off by `close`.
    """

    def __init__(self, root: Path, base: Dir, dialect: str = "trusted") -> None:
        self.root, self.dialect, self.sound = root, dialect, True
        self.counts: Counter[str] = Counter()
        self.data, self.place = root / "data", root / "ws"
        make(base, self.data)
        self.adopted = self._see(self.data)
        with mock.patch("dsbranch.ops.init.probe_store", return_value=dialect):
            self.ws = dsbranch.init(self.data, self.place)
        head = self.ws.branch("main").head
        self.number = 0
        births = {path: number for number, path in enumerate(self.adopted.times)}
        self.kept = {head: Kept(self._copy(self.data), self.adopted, births, ())}
        self.twins = {"main": self._twin(head, mounted=True)}
        self.layers: dict[str, object] = {}

    # Choosing

    def branch(self, number: int) -> str:
        names = sorted(self.twins)
        return names[number % len(names)]

    def any_commit(self, number: int) -> str:
        ids = list(self.kept)
        return ids[number % len(ids)]

    def line(self, name: str) -> list[str]:
        """A branch's commits along first parents, newest first."""
        found = [self.twins[name].head]
        while self.kept[found[-1]].parents:
            found.append(self.kept[found[-1]].parents[0])
        return found

    # Editing

    def edit(self, name: str, steps: Iterable[Step]) -> None:
        twin = self.twins[name]
        if not twin.mounted:
            self.mount(name)
        start, late = time.time_ns() - CLOCK_NS, set[int]()
        for step in steps:
            for act in operations.OPERATIONS[step.op](twin.plain, survey(twin.plain), step):
                if not self._act(name, twin, act):
                    break
                if act.late:
                    late.update(_inode(twin.plain, path) for path in act.copies_up)
            self.counts["operations"] += 1
        self._settle_times(name, twin, start, late)
        self.compare(name)
        self.ask(name)

    def _act(self, name: str, twin: Twin, act: Act) -> bool:
        """Do it on the mount and on the plain tree; whether it was done."""
        refused = _errno(act, self.place / name)
        if refused == errno.EXDEV:  # an overlay's own reason, of which plain trees know nothing
            return False
        if not refused:
            for path in act.copies_up:
                self._copy_up(twin, path)
        assert _errno(act, twin.plain) == refused, f"on the mount: {refused}"
        return not refused

    def _copy_up(self, twin: Twin, path: bytes) -> None:
        """Without an index, copying up one name of a hard-linked file splits it from the others."""
        with beneath(twin.plain, path) as at, beneath(twin.plain, b".split") as spare:
            status = os.lstat(at)
            if status.st_ino not in twin.lower:
                return
            twin.lower.discard(status.st_ino)
            if status.st_nlink > 1:
                outside = [
                    p.replace(b"/proc/self/", b"/proc/%d/" % os.getpid()) for p in (at, spare)
                ]
                subprocess.run(["cp", "-a", "--", *outside], check=True)
                os.rename(spare, at)
                twin.lower.add(status.st_ino)  # the other names stay where they were

    def _settle_times(self, name: str, twin: Twin, start: int, late: set[int]) -> None:
        """What was written just now was written at another moment in each tree."""
        plain = snapshot(twin.plain)
        for path, node in snapshot(self.place / name).items():
            own = plain.get(path)
            if own is None or node.mtime_ns is None or own.mtime_ns is None:
                continue
            if node.mtime_ns == own.mtime_ns or node.mtime_ns < start:
                continue
            if own.mtime_ns >= start or _inode(twin.plain, path) in late:
                with beneath(twin.plain, path) as at:
                    os.utime(at, ns=(node.mtime_ns, node.mtime_ns), follow_symlinks=False)

    # Verbs

    def mount(self, name: str) -> None:
        self.ws.mount(name)
        self.twins[name].mounted = True
        self.compare(name)

    def umount(self, name: str) -> None:
        self.ws.umount(name)
        self.twins[name].mounted = False

    def remount(self, name: str) -> None:
        before = self._see(self.place / name) if self.twins[name].mounted else None
        if before is not None:
            self.umount(name)
        self.mount(name)
        if before is not None:
            _same(self._see(self.place / name), before)

    def commit(self, name: str, *, hash: bool = True, allow_empty: bool = False) -> None:
        twin = self.twins[name]
        old, new = self.kept[twin.head].seen, snapshot(twin.plain)
        expected = truth.by_path(old.nodes, new)
        before = self._see(self.place / name) if twin.mounted else None
        try:
            done = self.ws.commit(name, "x", hash=hash, allow_empty=allow_empty)
        except errors.NothingToCommit:
            assert not expected
            assert not allow_empty
            self.compare(name)
            return
        assert expected or allow_empty
        id = done.commit.id
        self._advance(name, id, (twin.head,), before)
        assert done.counts == self.ws.diff(done.commit.parents[0], id).counts()

    def _advance(
        self, name: str, id: str, parents: tuple[str, ...], before: Seen | None = None
    ) -> None:
        """A branch has a new head that shows what its plain directory shows."""
        twin = self.twins[name]
        seen = self.view(id)
        self._rejoin(twin, seen.nodes, self.kept[twin.head].seen.nodes)
        assert_same(snapshot(twin.plain), seen.nodes)
        if before is not None:
            _same(self._see(self.place / name), seen)
            assert seen.times == before.times
        self.kept[id] = Kept(self._copy(twin.plain), seen, self._births(twin), parents)
        twin.head = id
        twin.lower = _inodes(twin.plain)
        self.sealed()
        self.ask(name)

    def _rejoin(self, twin: Twin, seen: Snapshot, before: Snapshot) -> None:
        """A hard link of the base that was copied up for nothing is whole again once that is
        dropped; nothing else may change what is linked to what."""
        own = snapshot(twin.plain)
        for path, node in seen.items():
            if path not in own or node.links == own[path].links:
                continue
            assert set(own[path].links) < set(node.links), f"{path!r} lost its link: {own[path]}"
            assert len({before[p].links for p in node.links if p in before}) == 1
            for other in node.links:
                if other != path:
                    with beneath(twin.plain, path) as a, beneath(twin.plain, other) as b:
                        os.unlink(b)
                        os.link(a, b, follow_symlinks=False)
            own = snapshot(twin.plain)

    def squash(self, name: str, since: int | None) -> None:
        twin, line = self.twins[name], self.line(name)
        if since is None:
            context = self.ws._context
            start = fork_point(context, context.store.branch(name))
        else:
            start = line[since % len(line)]
        before = self._see(self.place / name) if twin.mounted else None
        layer = self.ws._context.store.branch(name).layer
        try:
            done = self.ws.squash(name, since=start if since is not None else None)
        except errors.NothingToCommit:
            assert line.index(start) < 2
            return
        assert done.replaced == line.index(start) >= 2
        assert done.commit.parents == (start,)
        shown = self.kept[twin.head]
        _same(self.view(done.commit.id), shown.seen)
        self.kept[done.commit.id] = shown._replace(parents=(start,))
        twin.head = done.commit.id
        if before is not None:
            after = self._see(self.place / name)
            if layer != self.ws._context.store.branch(name).layer:
                self._rejoin(twin, after.nodes, shown.seen.nodes)
                twin.lower = _inodes(twin.plain)
            assert_same(after.nodes, snapshot(twin.plain))
            assert after.times == before.times
        self.sealed()
        self.ask(name)

    def rollback(self, name: str, to: str) -> None:
        twin = self.twins[name]
        lost = self.ws.diff(branch=name).counts()
        done = self.ws.rollback(name, to)
        assert done.head == to
        assert done.counts == lost
        subprocess.run(["rm", "-r", twin.plain], check=True)
        self.twins[name] = self._twin(to, mounted=twin.mounted)
        self.compare(name)
        if twin.mounted:
            _same(self._see(self.place / name), self.kept[to].seen)
        self.ask(name)

    def create(self, name: str, start: str, *, mounted: bool) -> None:
        """`start` is a commit or a branch, whose head it is then."""
        head = self.twins[start].head if start in self.twins else start
        done = self.ws.create(name, start=start, mount=mounted)
        assert done.branch.head == head
        self.twins[name] = self._twin(head, mounted=mounted)
        self.compare(name)
        self.ask(name)

    def delete(self, name: str) -> None:
        if self.twins[name].mounted:
            self.umount(name)
        self.ws.delete(name, force=True)
        subprocess.run(["rm", "-r", self.twins.pop(name).plain], check=True)

    def export(self, commit: str, suffix: str) -> None:
        """`suffix` is ``.tar``, ``.tar.zst`` or nothing, for a directory."""
        seen = self.kept[commit].seen
        refused = archives.unsayable(seen.nodes, as_tar=bool(suffix))
        found = self._exported(commit, suffix, refused=refused)
        if found is not None:
            at = archives.unpack(found, self._new_path("unpacked")) if suffix else found
            _same(self._see(at), seen)

    def export_range(self, one: str, two: str, suffix: str) -> None:
        old, new = self.kept[one].seen, self.kept[two].seen
        changed = {path for letter, path in truth.by_path(old.nodes, new.nodes) if letter != "D"}
        changed |= {path for path, mtime in new.times.items() if old.times.get(path) != mtime}
        named = {path: new.nodes[path] for path in changed}
        refused = archives.unsayable(named, as_tar=bool(suffix))
        found = self._exported(f"{one}..{two}", suffix, refused=refused)
        if found is not None:
            onto = self._copy(self.kept[one].tree)
            apply = archives.apply_tar if suffix else archives.apply_directory
            apply(found, onto)
            assert_same(snapshot(onto), new.nodes, ignore=("links",))

    def _exported(self, spec: str, suffix: str, *, refused: bool) -> Path | None:
        output = self._new_path(f"out{suffix}")
        try:
            self.ws.export(spec, output)
        except errors.UnsupportedError:
            assert refused
            assert not output.exists()
            return None
        assert not refused
        return output

    # Asking

    def compare(self, name: str) -> None:
        if not self.twins[name].mounted:
            return
        plain = snapshot(self.twins[name].plain)
        lines = differences(plain, snapshot(self.place / name))
        if lines and all(": links: " in line for line in lines):
            # A kernel that cannot note where an inode came from tells its names apart until it
            # forgets them: symlinks and special files with `userxattr`.
            self.ws.umount(name)
            self.ws.mount(name)
        assert_same(plain, snapshot(self.place / name))

    def ask(self, name: str) -> None:
        """What `status` and `diff` say of a branch."""
        twin = self.twins[name]
        new, births = snapshot(twin.plain), self._births(twin)
        old = self.kept[twin.head]
        found = self.ws.diff(branch=name)
        check(old.seen.nodes, new, self.ws.diff(branch=name, renames=False), found)
        # Where directories can be renamed at all, each one is seen through in an open layer.
        check_births(old.births, births, new, found, all=self.dialect == "trusted")
        status = self.ws.status(name)
        assert status.clean == (not truth.by_path(old.seen.nodes, new))
        assert status.head == twin.head
        assert status.mounted == twin.mounted
        assert status.counts == found.counts()
        context = self.ws._context
        fork = self.kept[fork_point(context, context.store.branch(name))]
        found = self.ws.diff(name)
        check(fork.seen.nodes, new, self.ws.diff(name, renames=False), found)
        check_births(fork.births, births, new, found)

    def ask_between(self, one: str, two: str) -> None:
        old, new = self.kept[one], self.kept[two]
        found = self.ws.diff(one, two)
        check(old.seen.nodes, new.seen.nodes, self.ws.diff(one, two, renames=False), found)
        check_births(old.births, new.births, new.seen.nodes, found)

    def view(self, commit: str) -> Seen:
        """What a commit shows, by a read-only mount of its own."""
        at = self.root / "look"
        self.ws.mount(commit, at=at, read_only=True)
        try:
            return self._see(at)
        finally:
            self.ws.umount(str(at))
            at.rmdir()

    def look_back(self, commit: str) -> None:
        """A commit still shows what it did, and its manifests say the same."""
        seen = self.kept[commit].seen
        _same(self.view(commit), seen)
        tables = self.ws._context.store.stack(commit)
        layers = [reference.scan(self._fs(layer), self.dialect) for layer in tables]
        base = reference.scan(self.data, self.dialect)
        assert_same(reference.nodes(reference.resolve(layers, base)), seen.nodes)

    def sealed(self) -> None:
        """Look at layers that were sealed since: their manifests must say what is there."""
        context = self.ws._context
        for commit in self.kept:
            for layer in context.store.stack(commit):
                if layer not in self.layers:
                    self.layers[layer] = _fingerprint(self._fs(layer))
                    self._check_manifest(layer)

    def _check_manifest(self, layer: str) -> None:
        table = stacks.sealed(self.ws._context, layer)
        rows = core.entries(table)
        there = core.in_order(reference.scan(self._fs(layer), self.dialect))
        said = [row._replace(origin=None, digest=None) for row in core.comparable(rows)]
        assert said == core.comparable(there)
        for row in rows:
            if row.digest is not None:
                assert row.digest == reference.digest(self._fs(layer), row.path), row

    def everything(self) -> None:
        """All that must hold at any time, however dear it is to ask."""
        for commit in self.kept:
            self.look_back(commit)
        for name in self.twins:
            self.compare(name)
            self.ask(name)
        _same(self._see(self.data), self.adopted)
        for layer, before in self.layers.items():
            assert _fingerprint(self._fs(layer)) == before, f"layer {layer} was written to"
        shown = {str(self.place / name) for name, twin in self.twins.items() if twin.mounted}
        assert {point for point in leaks.mounts(self.root) if point != str(self.root)} == shown

    def close(self) -> None:
        self.ws.close()

    # Trees

    def _see(self, at: Path) -> Seen:
        return Seen(snapshot(at), {path: s.st_mtime_ns for path, s in _directories(at)})

    def _twin(self, head: str, *, mounted: bool) -> Twin:
        plain = self._copy(self.kept[head].tree)
        births = {_inode(plain, path): born for path, born in self.kept[head].births.items()}
        return Twin(plain, head, mounted, births, _inodes(plain))

    def _births(self, twin: Twin) -> dict[bytes, int]:
        """Which directory is where; new ones get their numbers here."""
        found = {}
        for path, status in _directories(twin.plain):
            if status.st_ino not in twin.births:
                self.number += 1
                twin.births[status.st_ino] = BORN_LATER + self.number
            found[path] = twin.births[status.st_ino]
        return found

    def _copy(self, tree: Path) -> Path:
        return archives.copy(tree, self._new_path("copy"))

    def _new_path(self, name: str) -> Path:
        self.number += 1
        return self.root / f"{self.number}{name}"

    def _fs(self, layer: str) -> Path:
        return self.place / ".dsbranch" / "layers" / layer / "fs"


def check(old: Snapshot, new: Snapshot, found: Diff, renamed: Diff) -> None:
    """A diff, without renames and with them, against the two trees."""
    assert [(change.status, change.path) for change in found] == truth.by_path(old, new)
    assert all(change.old_path is None for change in found)
    truth.check_replay(old, new, _changes(renamed))
    for change in [*found, *renamed]:
        was = None if change.status == "A" else old[change.old_path or change.path]
        now = None if change.status == "D" else new[change.path]
        shown = now or was
        assert shown is not None
        assert change.kind == shown.kind
        sizes = [node.size if node and node.kind == "file" else None for node in (now, was)]
        assert [change.size, change.old_size] == sizes, change


def check_births(
    old: dict[bytes, int], new: dict[bytes, int], nodes: Snapshot, found: Diff, *, all: bool = False
) -> None:
    """What a diff calls a renamed directory is the same one; with `all`, the other way too."""
    changes = _changes(found)
    where = {born: path for path, born in old.items()}
    for change in changes:
        if change.status == "R" and change.kind == "directory":
            assert new[change.path] == old[change.old_path], f"{change} is another directory"
    came = truth.sources(nodes, changes)
    for path, born in new.items() if all else ():
        if born in where:
            assert came.get(path) == where[born], f"{path!r} was {where[born]!r}"


def _changes(found: Diff) -> list[reference.Change]:
    return [
        reference.Change(c.status, c.path, c.old_path, c.kind, c.size, c.old_size) for c in found
    ]


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


def _same(a: Seen, b: Seen) -> None:
    assert_same(a.nodes, b.nodes)
    assert a.times == b.times


def _walk(top: Path) -> Iterable[tuple[bytes, os.stat_result]]:
    for directory, inner, files in os.walk(os.fsencode(top)):
        for name in [*inner, *files]:
            path = os.path.join(directory, name)
            try:
                yield path, os.lstat(path)
            except FileNotFoundError:  # a whiteout over nothing is listed
                continue


def _inodes(top: Path) -> set[int]:
    return {status.st_ino for _, status in _walk(top)}


def _directories(top: Path) -> Iterable[tuple[bytes, os.stat_result]]:
    yield b"", os.lstat(top)
    for path, status in _walk(top):
        if stat.S_ISDIR(status.st_mode):
            yield path.removeprefix(os.fsencode(top) + b"/"), status


def _fingerprint(layer: Path) -> object:
    """Every entry of a layer with its metadata, all its xattrs and its time of writing."""
    return {
        path: (
            *(status.st_mode, status.st_ino, status.st_uid, status.st_gid, status.st_rdev),
            *(status.st_size, status.st_mtime_ns),
            sorted(
                (name, os.getxattr(path, name, follow_symlinks=False))
                for name in os.listxattr(path, follow_symlinks=False)
            ),
        )
        for path, status in _walk(layer)
    }

"""Test foundation: a workspace, and beside each of its branches a plain directory.

Whatever is done to a branch's mount is done to the directory as well, and both must look the
same ever after; of each commit a copy is kept. Every answer of the verbs is held against what
these trees say. The kernel and plain directories are the judges; of the code under test nothing
is trusted but ids.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple
from unittest import mock

import pytest

import dsbranch
from dsbranch import errors
from dsbranch.model.operations import Undone
from dsbranch.ops import diff, dirty, stacks
from dsbranch.ops.lowers import lowers_of
from dsbranch.ops.refs import fork_point
from tests import archives, core, leaks, reference, truth
from tests.operations import Step
from tests.reference import Change
from tests.trees import Dir, assert_same, differences, make, snapshot
from tests.truth import Births
from tests.twins import Seen, Twin, same, see, walk


class Kept(NamedTuple):
    """A commit: a copy of what it must show for ever."""

    tree: Path
    seen: Seen
    births: Births
    parents: tuple[str, ...]


class Branch(Twin):
    """A branch's other self."""

    def __init__(self, plain: Path, births: Births, head: str, *, mounted: bool) -> None:
        super().__init__(plain, births)
        self.head = head
        self.mounted = mounted


class State(NamedTuple):
    """Where a name stood: what an operation moves, and moves back when it is undone."""

    branch: Branch
    head: str


class Operation(NamedTuple):
    """A move of one branch. `same_view`: its open layer is no part of it. `sealed`: the open
    layer of before is one no longer."""

    name: str
    old: State | None
    new: State | None
    same_view: bool = False
    sealed: bool = False


class Renaming(NamedTuple):
    """A branch has another name."""

    old: str
    new: str


class Tagging(NamedTuple):
    """A tag stands at another commit, None where there is none."""

    name: str
    old: str | None
    new: str | None


class Machine:
    """Each method does something and then judges it; the first failed assertion is the finding.

    `root` is an empty directory. The caller takes its mounts off in the end.
    """

    def __init__(self, root: Path, base: Dir, dialect: str = "trusted") -> None:
        self.root, self.dialect = root, dialect
        self.counts: Counter[str] = Counter()
        self.number = 0
        self.data, self.place = root / "data", root / "ws"
        make(base, self.data)
        self.adopted = see(self.data)
        with mock.patch("dsbranch.ops.init.probe_store", return_value=dialect):
            self.ws = dsbranch.init(self.data, self.place)
        head = self.ws.branch("main").head
        births = Twin(self.data, {}).births()
        self.kept = {head: Kept(self._copy(self.data), self.adopted, births, ())}
        self.branches = {"main": self._branch(head, mounted=True)}
        self.layers: dict[str, object] = {}
        self.operations: list[Operation | Renaming | Tagging] = []
        self.tags: dict[str, str] = {}

    # Choosing

    def branch(self, number: int) -> str:
        names = sorted(self.branches)
        return names[number % len(names)]

    def any_commit(self, number: int) -> str:
        ids = list(self.kept)
        return ids[number % len(ids)]

    def any_path(self, name: str, commit: str | None, number: int) -> bytes:
        """Of the branch as it is or of a commit (None: its head); rarely one of neither."""
        branch = self.branches[name]
        then = self.kept[branch.head if commit is None else commit].seen.nodes
        known = sorted({*snapshot(branch.plain), *then})
        return known[number % len(known)] if number % 50 else b"a/never"

    def line(self, name: str) -> list[str]:
        """A branch's commits along first parents, newest first."""
        found = [self.branches[name].head]
        while self.kept[found[-1]].parents:
            found.append(self.kept[found[-1]].parents[0])
        return found

    # Verbs

    def edit(self, name: str, steps: Sequence[Step]) -> None:
        branch = self.branches[name]
        if not branch.mounted:
            self.mount(name)
        branch.edit(self.place / name, steps)
        self.counts["operations"] += len(steps)
        self.compare(name)
        self.ask(name)

    def mount(self, name: str) -> None:
        self.ws.mount(name)
        self.branches[name].mounted = True
        self.compare(name)

    def umount(self, name: str) -> None:
        self.ws.umount(name)
        self.branches[name].mounted = False

    def remount(self, name: str) -> None:
        """As another process would."""
        before = self._shown(name)
        if before is not None:
            self.umount(name)
        self.ws.close()
        self.ws = dsbranch.open(self.place)
        self.mount(name)
        if before is not None:
            same(see(self.place / name), before)

    def commit(self, name: str, *, hash: bool = True, allow_empty: bool = False) -> None:
        branch = self.branches[name]
        expected = truth.by_path(self.kept[branch.head].seen.nodes, snapshot(branch.plain))
        before = self._shown(name)
        pending = self.ws._context.store.branch(name).pending
        try:
            done = self.ws.commit(name, "x", hash=hash, allow_empty=allow_empty)
        except errors.NothingToCommit:
            assert not expected
            assert not allow_empty
            self.compare(name)
            return
        assert expected or allow_empty
        if not pending:  # what a commit that was undone wrote, and is undone by hand, stays
            self._check_nothing_idle(done.commit.id, {path for _, path in expected})
        self._advance(name, done.commit.id, (branch.head,), before)
        assert done.counts == self.ws.diff(done.commit.parents[0], done.commit.id).counts()

    def _advance(self, name: str, id: str, parents: tuple[str, ...], before: Seen | None) -> None:
        """A branch has a new head, which must show what its plain directory shows."""
        branch = self.branches[name]
        seen = self.view(id)
        branch.rejoin(seen.nodes)
        layer = reference.scan(self._fs(self.ws._context.store.stack(id)[0]), self.dialect)
        branch.settle_births(self.kept[parents[0]].births, layer)
        assert_same(snapshot(branch.plain), seen.nodes)
        if before is not None:
            same(see(self.place / name), seen)
            assert seen.times == before.times
        self.kept[id] = Kept(self._copy(branch.plain), seen, branch.births(), parents)
        self._move_head(name, id)
        branch.seal()
        self.look_at_layers()
        self.ask(name)

    def _check_nothing_idle(self, commit: str, changed: set[bytes]) -> None:
        """What was copied up for nothing is not in the commit's layer."""
        layer = reference.scan(self._fs(self.ws._context.store.stack(commit)[0]), self.dialect)
        moved = reference.OPAQUE | reference.REDIRECT
        for path, entry in layer.items():
            names = path.split(b"/")
            above = (b"/".join(names[:count]) for count in range(len(names) + 1))
            if entry.kind in ("file", "symlink") and not entry.nlink_group:
                assert path in changed or any(layer[p].flags & moved for p in above), entry

    def squash(self, name: str, since: int | None) -> None:
        """Since the commit of this number in the branch's line, or since the fork."""
        branch, line = self.branches[name], self.line(name)
        start = self._fork(name) if since is None else line[since % len(line)]
        before, layer = self._shown(name), self._open_layer(name)
        try:
            done = self.ws.squash(name, since=None if since is None else start)
        except errors.NothingToCommit:
            assert line.index(start) < 2
            return
        assert done.replaced == line.index(start) >= 2
        assert done.commit.parents == (start,)
        shown = self.kept[branch.head]
        same(self.view(done.commit.id), shown.seen)
        self.kept[done.commit.id] = shown._replace(parents=(start,))
        self._move_head(name, done.commit.id)
        if before is not None:
            after = see(self.place / name)
            if layer != self._open_layer(name):
                branch.rejoin(after.nodes)
                branch.seal()
            assert_same(after.nodes, snapshot(branch.plain))
            assert after.times == before.times
        self.look_at_layers()
        self.ask(name)

    def rollback(self, name: str, to: str) -> None:
        lost = self.ws.diff(branch=name).counts()
        done = self.ws.rollback(name, to)
        assert done.head == to
        assert done.counts == lost
        old = self.branches[name]
        self.branches[name] = new = self._branch(to, mounted=old.mounted)
        self.operations.append(Operation(name, State(old, old.head), State(new, to)))
        shown = self._shown(name)
        if shown is not None:
            same(shown, self.kept[to].seen)
        self.ask(name)

    def create(self, name: str, start: str, *, mounted: bool) -> None:
        """`start` is a commit or a branch, whose head it is then."""
        head = self.branches[start].head if start in self.branches else start
        done = self.ws.create(name, start=start, mount=mounted)
        assert done.branch.head == head
        self.branches[name] = new = self._branch(head, mounted=mounted)
        self.operations.append(Operation(name, None, State(new, head)))
        shown = self._shown(name)
        if shown is not None:
            same(shown, self.kept[head].seen)
        self.ask(name)

    def merge(self, name: str, other: str, strategy: Literal["fail", "ours", "theirs"]) -> None:
        """`other` is a commit. What it comes to is for tests/ops/test_merge.py to say; here, that
        what only one side changed is as on that side, and that no other tree changes."""
        branch = self.branches[name]
        base = self.ws._context.store.merge_base(branch.head, other)
        kept = [self.kept[id] for id in (base, branch.head, other)]
        before = self._shown(name)
        try:
            done = self.ws.merge(other, into=name, strategy=strategy)
        except errors.DirtyBranch:
            assert truth.by_path(kept[1].seen.nodes, snapshot(branch.plain))
            return self.compare(name)
        except errors.MergeConflict:
            assert strategy == "fail"
            return self.compare(name)
        except errors.UnsupportedError:
            return self.compare(name)
        assert done.up_to_date == (base == other)
        if done.commit is None:
            return self.compare(name)
        id = done.commit.id
        assert done.commit.parents == (branch.head, other)
        seen = self.view(id)
        changes = _changes(self.ws.diff(base, branch.head)), _changes(self.ws.diff(base, other))
        in_place = not any(change.status == "R" for side in changes for change in side)
        if in_place:
            truth.check_merge(*(one.seen.nodes for one in kept), seen.nodes)
        assert before is None or see(self.place / name) == seen
        sides = [one.births if in_place else {} for one in kept[1:]]
        births = truth.merged_births(seen.nodes, *sides)
        return self._adopt(name, id, done.commit.parents, births)

    def _adopt(self, name: str, id: str, parents: tuple[str, ...], births: Births) -> None:
        """A branch shows a commit that no plain tree went before."""
        old, at = self.branches[name], self.root / "look"
        self.ws.mount(id, at=at, read_only=True)
        try:
            seen, tree = see(at), self._copy(at)
        finally:
            self.ws.umount(str(at))
            at.rmdir()
        assert_same(snapshot(tree), seen.nodes)
        self.kept[id] = Kept(tree, seen, births, parents)
        self.branches[name] = new = self._branch(id, mounted=old.mounted)
        self.operations.append(Operation(name, State(old, old.head), State(new, id)))
        self.look_at_layers()
        self.ask(name)

    def restore(self, name: str, paths: list[bytes], start: str | None) -> None:
        """`start` is a commit, None for the branch's head."""
        branch = self.branches[name]
        source = self.kept[branch.head if start is None else start]
        now, then, births = snapshot(branch.plain), source.seen.nodes, branch.births()
        expected, layer = truth.restored(now, then, paths), self._open_layer(name)
        letters = truth.by_path(now, expected)
        try:
            done = self.ws.restore(name, paths, start=start)
        except errors.BadPath:
            assert not all(path in now or path in then for path in paths)
            return self.compare(name)
        assert all(path in now or path in then for path in paths)
        assert done.counts == Counter(letter for letter, _ in letters)
        if not letters:
            return self.compare(name)
        if not branch.mounted:
            self.ws.mount(name)
        # A name that comes back on its own is no longer one inode with another.
        shown = snapshot(self.place / name)
        assert_same(shown, expected, ignore=("links",))
        tree = self._copy(self.place / name)
        births = truth.restored_births(shown, births, source.births, paths)
        new = Branch(tree, births, branch.head, mounted=True)
        self.branches[name] = new
        sealed = self.ws._context.store.layer(layer).state == "sealed"
        old, at = State(branch, branch.head), State(new, branch.head)
        self.operations.append(Operation(name, old, at, sealed=sealed))
        self.compare(name)
        return self.ask(name)

    def rename(self, name: str) -> None:
        self.number += 1
        new = f"r{self.number}"
        self.ws.rename(name, new)
        self._renamed(name, new)

    def _renamed(self, old: str, new: str) -> None:
        self.branches[new] = self.branches.pop(old)
        # Whatever came before is told of the branch by the name it has.
        self.operations = [
            move._replace(name=new) if isinstance(move, Operation) and move.name == old else move
            for move in self.operations
        ]
        self.operations.append(Renaming(old, new))
        self.compare(new)
        self.ask(new)

    def tag(self, name: str, commit: str) -> None:
        """Put a tag, or move it."""
        before = self.tags.get(name)
        if before is not None:
            with pytest.raises(errors.AlreadyExists):
                self.ws.tag(name, commit)
        done = self.ws.tag(name, commit, force=before is not None)
        assert (done.tag.commit, done.replaced) == (commit, before)
        self._tagged(name, commit)

    def untag(self, name: str) -> None:
        self.ws.untag(name)
        self._tagged(name, None)

    def _tagged(self, name: str, commit: str | None) -> None:
        self.operations.append(Tagging(name, self.tags.pop(name, None), commit))
        if commit is not None:
            self.tags[name] = commit
        assert {tag.name: tag.commit for tag in self.ws.tags()} == self.tags

    def delete(self, name: str) -> None:
        if self.branches[name].mounted:
            self.umount(name)
        self.ws.delete(name, force=True)
        old = self.branches.pop(name)
        self.operations.append(Operation(name, State(old, old.head), None))

    def undo(self) -> None:
        """The newest operation, which may be an undo itself."""
        if not self.operations:
            return
        operation, done = self.operations[-1], self.ws.undo()
        if isinstance(operation, Renaming):
            assert done.name == operation.old
            self._renamed(operation.new, operation.old)
        elif isinstance(operation, Tagging):
            assert (done.name, done.head) == (operation.name, operation.old)
            self._tagged(operation.name, operation.old)
        else:
            self._undone(operation, done)

    def _undone(self, operation: Operation, done: Undone) -> None:
        name, old, new, same_view, sealed = operation
        assert (done.name, done.head) == (name, None if old is None else old.head)
        self.operations.append(Operation(name, new, old, same_view))
        mounted = new is None or self.branches[name].mounted
        if old is None:
            self.branches.pop(name)
            return
        self.branches[name] = old.branch
        old.branch.head, old.branch.mounted = old.head, mounted
        if sealed:
            old.branch.seal()
        self.compare(name)
        self.ask(name)

    def collect(self) -> None:
        """Remove what no branch reaches, and nothing else."""
        store = self.ws._context.store
        forks = (store.branch(name).fork for name in self.branches)
        heads = (branch.head for branch in self.branches.values())
        reached, rest = set(), [*forks, *heads, *self.tags.values()]
        while rest:
            id = rest.pop()
            if id not in reached:
                reached.add(id)
                rest += self.kept[id].parents
        done = self.ws.gc(keep=0)
        assert {commit.id for commit in done.commits} == self.kept.keys() - reached
        assert not done.problems
        self.kept = {id: self.kept[id] for id in self.kept if id in reached}
        self.layers = {id: at for id, at in self.layers.items() if self._fs(id).exists()}
        self.operations.clear()

    def export(self, commit: str, suffix: str) -> None:
        """`suffix` is ``.tar``, ``.tar.zst`` or nothing, for a directory."""
        seen = self.kept[commit].seen
        refused = archives.unsayable(seen.nodes, as_tar=bool(suffix))
        found = self._exported(commit, suffix, refused=refused)
        if found is not None:
            at = archives.unpack(found, self._new_path("unpacked")) if suffix else found
            same(see(at), seen)
            if suffix:
                nothing = self._new_path("nothing")
                nothing.mkdir()
                self._apply_elsewhere(found, nothing, seen)

    def export_range(self, one: str, two: str, suffix: str) -> None:
        old, new = self.kept[one].seen, self.kept[two].seen
        letters = truth.by_path(old.nodes, new.nodes)
        changed = {path for letter, path in letters if letter != "D"}
        changed |= {path for path, mtime in new.times.items() if old.times.get(path) != mtime}
        # All names of an inode that changed under one of them, and the tops of what is gone.
        changed |= {name for path in changed for name in new.nodes[path].links}
        gone = {path for letter, path in letters if letter == "D"}
        tops = {path for path in gone if archives.is_top(path, new.nodes)}
        refused = archives.unsayable(
            {path: new.nodes[path] for path in changed}, as_tar=bool(suffix)
        ) or archives.unsayable({path: old.nodes[path] for path in tops}, as_tar=False)
        found = self._exported(f"{one}..{two}", suffix, refused=refused)
        if found is not None:
            onto = self._copy(self.kept[one].tree)
            apply = archives.apply_tar if suffix else archives.apply_directory
            self._apply_elsewhere(found, self._copy(self.kept[one].tree), new)
            apply(found, onto)
            assert_same(snapshot(onto), new.nodes, ignore=("links",))

    def _apply_elsewhere(self, archive: Path, base: Path, shown: Seen) -> None:
        """In a workspace of its own, on an equal base, an archive leads to the same tree.

        There is no equal base where a user has set attributes that an overlay keeps to itself.
        """
        names = {name for node in see(base).nodes.values() for name, _ in node.xattrs}
        if any(name.startswith(f"{self.dialect}.overlay.") for name in names):
            return
        place = self._new_path("elsewhere")
        with mock.patch("dsbranch.ops.init.probe_store", return_value=self.dialect):
            ws = dsbranch.init(base, place)
        with ws:
            try:
                ws.apply("main", archive, allow_devices=True)
            except errors.NothingToCommit:
                assert not truth.by_path(see(base).nodes, shown.nodes)
            assert_same(snapshot(place / "main"), shown.nodes, ignore=("links",))
            assert not ws.verify(full=True).findings
            ws.umount("main")

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
        """A mounted branch looks like its plain directory."""
        branch, place = self.branches[name], self.place / name
        if not branch.mounted:
            return
        plain = snapshot(branch.plain)
        lines = differences(plain, snapshot(place))
        if lines and all(": links: " in line for line in lines):
            # A kernel that cannot note where an inode came from tells its names apart until it
            # forgets them: symlinks and special files with `userxattr`.
            self.ws.umount(name)
            self.ws.mount(name)
        assert_same(plain, snapshot(place))

    def ask(self, name: str) -> None:
        """`status` and `diff` say of a branch what is so."""
        branch = self.branches[name]
        new, births = snapshot(branch.plain), branch.births()
        old, fork = self.kept[branch.head], self.kept[self._fork(name)]
        uncommitted = self.ws.diff(branch=name)
        found = _changes(uncommitted)
        truth.check(old.seen.nodes, new, _changes(self.ws.diff(branch=name, renames=False)), found)
        # Where directories can be renamed at all, each one is seen through in an open layer.
        truth.check_births(
            old.births, births, old.seen.nodes, new, found, all=self.dialect == "trusted"
        )
        status = self.ws.status(name)
        assert status.clean == (not found)
        assert (status.head, status.mounted) == (branch.head, branch.mounted)
        assert status.counts == uncommitted.counts()
        self.ask_about_times(name)
        found = _changes(self.ws.diff(name))
        truth.check(fork.seen.nodes, new, _changes(self.ws.diff(name, renames=False)), found)
        truth.check_births(fork.births, births, fork.seen.nodes, new, found)

    def ask_about_times(self, name: str) -> None:
        """Whether a branch is untouched is told by a look as by a comparison."""
        context = self.ws._context
        branch = context.store.branch(name)
        times = {"renames": False, "directory_times": True}
        found = diff.uncommitted(context, branch, branch.head, **times)
        assert dirty.uncommitted_counts(context, branch, **times) == found.counts()

    def ask_between(self, one: str, two: str) -> None:
        """So does `diff`, of any two commits."""
        old, new = self.kept[one], self.kept[two]
        by_name, found = self.ws.diff(one, two, renames=False), _changes(self.ws.diff(one, two))
        truth.check(old.seen.nodes, new.seen.nodes, _changes(by_name), found)
        truth.check_births(old.births, new.births, old.seen.nodes, new.seen.nodes, found)

    def view(self, commit: str) -> Seen:
        """What a commit shows, by a read-only mount of its own."""
        at = self.root / "look"
        self.ws.mount(commit, at=at, read_only=True)
        try:
            return see(at)
        finally:
            self.ws.umount(str(at))
            at.rmdir()

    def look_back(self, commit: str) -> None:
        """A commit still shows what it did, and its layers say the same."""
        seen = self.kept[commit].seen
        same(self.view(commit), seen)
        stack = self.ws._context.store.stack(commit)
        layers = [reference.scan(self._fs(layer), self.dialect) for layer in stack]
        base = reference.scan(self.data, self.dialect)
        found = reference.nodes(reference.resolve(layers, base))
        # What was restored shares its inode with what a rename has made of it.
        ignore = ("links",) if self.counts["restore"] else ()
        assert_same(found, seen.nodes, ignore=ignore)

    def look_at_layers(self) -> None:
        """The manifests of layers that are sealed since say what lies there."""
        for commit in self.kept:
            shown = lowers_of(self.ws._context, commit)
            for layer in {*self.ws._context.store.stack(commit), *shown}:
                if layer not in self.layers:
                    self.layers[layer] = _fingerprint(self._fs(layer))
                    self._check_manifest(layer)

    def _check_manifest(self, layer: str) -> None:
        rows = core.entries(stacks.sealed(self.ws._context, layer))
        there = core.in_order(reference.scan(self._fs(layer), self.dialect))
        said = [row._replace(origin=None, digest=None) for row in core.comparable(rows)]
        assert said == core.comparable(there)
        hashed = self.ws._context.store.layer(layer).hashed
        for row in rows:
            if row.kind == "file" and not row.flags & reference.METACOPY:
                assert row.digest is not None or not hashed
            if row.digest is not None:
                assert row.digest == reference.digest(self._fs(layer), row.path), row

    def everything(self) -> None:
        """All that must hold at any time, however dear it is to ask."""
        for commit in self.kept:
            self.look_back(commit)
        for name in self.branches:
            self.compare(name)
            self.ask(name)
        same(see(self.data), self.adopted)
        findings = self.ws.verify(full=True).findings
        assert not findings, findings
        for layer, before in self.layers.items():
            assert _fingerprint(self._fs(layer)) == before, f"layer {layer} was written to"
        shown = {str(self.place / name) for name in self.branches if self.branches[name].mounted}
        assert {point for point in leaks.mounts(self.root) if point != str(self.root)} == shown

    # Places

    def _shown(self, name: str) -> Seen | None:
        return see(self.place / name) if self.branches[name].mounted else None

    def _fork(self, name: str) -> str:
        context = self.ws._context
        return fork_point(context, context.store.branch(name))

    def _open_layer(self, name: str) -> str:
        return self.ws._context.store.branch(name).layer

    def _fs(self, layer: str) -> Path:
        return self.place / ".dsbranch" / "layers" / layer / "fs"

    def _branch(self, head: str, *, mounted: bool) -> Branch:
        kept = self.kept[head]
        return Branch(self._copy(kept.tree), kept.births, head, mounted=mounted)

    def _move_head(self, name: str, head: str) -> None:
        """A commit or a squash, which leaves the view as it is."""
        branch = self.branches[name]
        old, new = State(branch, branch.head), State(branch, head)
        self.operations.append(Operation(name, old, new, same_view=True))
        branch.head = head

    def _copy(self, tree: Path) -> Path:
        return archives.copy(tree, self._new_path("copy"))

    def _new_path(self, name: str) -> Path:
        self.number += 1
        return self.root / f"{self.number}{name}"


def _changes(found: diff.Diff) -> list[Change]:
    return [Change(c.status, c.path, c.old_path, c.kind, c.size, c.old_size) for c in found]


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
        for path, status in walk(layer)
    }

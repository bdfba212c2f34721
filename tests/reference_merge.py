"""The slow, obvious twin of the core's merge: whole trees, entry by entry.

Every entry of the three trees gets an identity: that of the base's entry it was, or else its
home's with its name, which is the same for what both sides added in one place. Then each
identity is merged by itself: its place, its content and each fact of its metadata. It shares
no code with `dsbranch`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from tests import reference
from tests.trees import Node, Snapshot

Id = tuple[object, ...]


class Seen(NamedTuple):
    home: Id | None
    name: bytes
    node: Node
    path: bytes


Tree = dict[Id, Seen]

ROOT: Id = ("base", b"")


@dataclass
class Merged:
    """`conflicts` are paths in ours, where it has the entry, else in theirs, else in the base."""

    conflicts: set[bytes] = field(default_factory=set)
    tree: Tree = field(default_factory=dict)

    def snapshot(self) -> Snapshot:
        return {path_in(self.tree, id): seen.node for id, seen in self.tree.items()}


def path_in(tree: Tree, id: Id) -> bytes:
    seen = tree[id]
    if seen.home is None:
        return b""
    above = path_in(tree, seen.home)
    return above + b"/" + seen.name if above else seen.name


class Side:
    def __init__(
        self, base: reference.View, view: reference.View, matched: dict[bytes, bytes]
    ) -> None:
        nodes = reference.nodes(view)
        self.tree: Tree = {}
        self.ids: dict[bytes, Id] = {}
        self.replaced: dict[Id, Id] = {}
        for path in sorted(view, key=reference.order):
            home, _, name = path.rpartition(b"/")
            directory = nodes[path].kind == "directory"
            id: Id
            old = matched.get(path)
            if old is not None and base[old].is_directory == directory:
                id = ("base", old)
            else:
                id = ("new", self.ids[home], name, directory)
                if old is not None:
                    self.replaced["base", old] = id
            self.ids[path] = id
            above = self.ids[home] if path else None
            self.tree[id] = Seen(above, name, replace(nodes[path], links=()), path)


Matched = dict[bytes, bytes]


def _copied(
    base: reference.View,
    view: reference.View,
    other: reference.View,
    own: Matched,
    others: Matched,
) -> Matched:
    """Directories that the other side moved, and whose content this one has there as well."""
    moved = {path: old for path, old in own.items() if _is_moved(path, old, own)}
    both = {
        path: old
        for path, old in others.items()
        if _is_moved(path, old, others)
        and base[old].is_directory
        and path in view
        and view[path].is_directory
        and path not in moved
        and old not in moved.values()
    }
    found = {
        path: old
        for path, old in both.items()
        if path != old and _was_copied(base, view, other, old, path)
    }
    for path, old in both.items():
        if path == old and any(path.startswith(top + b"/") for top in found.values()):
            found[path] = old
    return found


def _was_copied(
    base: reference.View, view: reference.View, other: reference.View, old: bytes, path: bytes
) -> bool:
    inside = reference.files_in(base, old)
    was, here, there = (reference.nodes(each) for each in (base, view, other))
    total = came = stayed = 0
    for at in inside:
        if was[at].kind == "file" and was[at].size == 0:
            continue
        new = path + at[len(old) :]
        if not reference.alike(there.get(new), was[at]) or reference.alike(was.get(new), was[at]):
            continue
        total += 1
        came += reference.alike(here.get(new), was[at])
        stayed += at in here and not (at in there and reference.alike(here[at], there[at]))
    if inside:
        return 2 * came >= total and came > stayed
    directories = [tree.get(at) for tree, at in ((view, old), (base, path))]
    return not any(entry is not None and entry.is_directory for entry in directories)


def _follow_files(
    base: reference.View, view: reference.View, own: Matched, others: Matched
) -> None:
    """What a side deleted, and has where the other moved it, it moved, too."""
    there, here = reference.nodes(base), reference.nodes(view)
    for path, old in others.items():
        free = path in view and path not in own and old not in own.values()
        moved = _is_moved(path, old, others) and not base[old].is_directory
        if free and moved and reference.alike(here[path], there[old]):
            own[path] = old


def _is_moved(path: bytes, old: bytes, matched: Matched) -> bool:
    home, _, name = path.rpartition(b"/")
    return bool(path) and (matched.get(home), name) != old.rpartition(b"/")[::2]


class _Merge:
    def __init__(self, base: reference.View, ours: reference.View, theirs: reference.View) -> None:
        self.base = Side(base, base, {path: path for path in base}).tree
        views = (ours, theirs)
        matches = [reference._match(base, view, renames=True) for view in views]
        copied = [
            _copied(base, views[i], views[1 - i], matches[i], matches[1 - i]) for i in range(2)
        ]
        we, they = (
            reference._match(base, view, renames=True, moved=moved)
            for view, moved in zip(views, copied, strict=True)
        )
        _follow_files(base, ours, we, they)
        _follow_files(base, theirs, they, we)
        self.sides = (Side(base, ours, we), Side(base, theirs, they))
        self.ours, self.theirs = (side.tree for side in self.sides)
        self.inodes = {
            path: (base.place(seen.stack[0])[0], seen.entry.nlink_group)
            for path, seen in base.items()
            if seen.entry.nlink_group
        }
        self.result: Tree = {}
        self.clashes: set[Id] = set()
        self.torn: set[Id] = set()
        # What took the place of something in conflict is in that conflict, not in one of its own.
        self.takers: set[Id] = set()

    def clash(self, id: Id) -> None:
        self.torn.add(id)
        for side in self.sides:
            if id not in side.tree and id in side.replaced:
                self.takers.add(side.replaced[id])
        self.at_top(id, id)

    def at_top(self, id: Id, inside: Id) -> None:
        """Note a clash of `id` there, or at the highest directory at or above `inside` that was
        replaced by a side that lacks `inside`."""
        sides = [side for side in self.sides if inside not in side.tree]
        for above in _above(inside) if inside in self.base else ():
            for side in sides:
                if above in side.replaced and self.base[above].node.kind == "directory":
                    self.torn.add(side.replaced[above])
                    self.takers.add(side.replaced[above])
                    self.clashes.add(above)
                    return
        self.clashes.add(id)

    def run(self) -> None:
        for id in self.base.keys() | self.ours.keys() | self.theirs.keys():
            self.one(id)
        self.torn |= self.takers
        self.clashes -= self.takers
        for id, seen in list(self.result.items()):
            home = seen.home
            if id in self.torn or home is None:
                continue
            if home not in self.result and home not in self.torn:
                self.torn.add(id)
                self.at_top(id, home)
        self.places()
        self.tops()
        self.inode_writers()

    def one(self, id: Id) -> None:
        was, we, they = self.base.get(id), self.ours.get(id), self.theirs.get(id)
        if we is None and they is None:
            if len({side.replaced.get(id) is None for side in self.sides}) == 2:
                self.clash(id)
            return
        if was is None and (we is None or they is None):
            self.result[id] = we or they  # type: ignore[assignment]
            return
        if we is None or they is None:
            left = we or they
            assert left is not None
            assert was is not None
            if left[:3] != was[:3]:
                self.clash(id)
            return
        merged = self.both(was, we, they)
        if merged is None:
            self.clash(id)
        else:
            self.result[id] = merged

    def both(self, was: Seen | None, we: Seen, they: Seen) -> Seen | None:
        if was is not None and was[:3] in (we[:3], they[:3]):
            return they if we[:3] == was[:3] else we
        place = three(was and was[:2], we[:2], they[:2])
        a, b = we.node, they.node
        changed = was and any(content(was.node) != content(node) for node in (a, b))
        if a.kind != b.kind:
            return None
        what = three(was and content(was.node), content(a), content(b))
        before = was.node if was and was.node.kind == a.kind else None
        facts = {
            name: three(
                before and (getattr(before, name),), (getattr(a, name),), (getattr(b, name),)
            )
            for name in ("mode", "uid", "gid", "xattrs")
        }
        if place is None or what is None or None in facts.values():
            return None
        if was is None or content(was.node) not in (content(a), content(b)):
            time = a.mtime_ns
        elif changed:
            time = a.mtime_ns if content(b) == content(was.node) else b.mtime_ns
        elif a.mtime_ns == was.node.mtime_ns:
            time = b.mtime_ns
        elif b.mtime_ns == was.node.mtime_ns or a.mtime_ns is None or b.mtime_ns is None:
            time = a.mtime_ns
        else:
            time = max(a.mtime_ns, b.mtime_ns)
        from_ours = what == content(a)
        node = replace(
            a if from_ours else b,
            mtime_ns=time,
            **{name: value[0] for name, value in facts.items() if value is not None},
        )
        return Seen(*place, node, b"")

    def places(self) -> None:
        taken: dict[tuple[Id | None, bytes], Id] = {}
        for id in sorted(self.result, key=repr):
            seen = self.result[id]
            if id in self.torn or seen.home is None:
                continue
            other = taken.setdefault((seen.home, seen.name), id)
            if other != id:
                ours = self.ours.get(id)
                mine = id if ours is not None and ours[:2] == seen[:2] else other
                self.torn |= {id, other}
                self.clashes.add(mine)

    def tops(self) -> None:
        for id, seen in self.result.items():
            if id in self.torn or id not in self.base or seen.home == self.base[id].home:
                continue
            walked = {id}
            up = seen.home
            while up is not None and up not in walked and up not in self.torn:
                walked.add(up)
                up = self.result[up].home if up in self.result else None
            if up == id:
                self.torn |= walked
                moved = [
                    i for i in walked if i in self.base and self.result[i].home != self.base[i].home
                ]
                self.clashes.add(min(moved, key=lambda i: reference.order(i[1])))

    def inode_writers(self) -> None:
        writers: tuple[dict[object, set[Id]], ...] = ({}, {})
        for id in self.result:
            if id[0] != "base" or id in self.torn or id[1] not in self.inodes:
                continue
            was = content(self.base[id].node)
            changed = [content(tree[id].node) != was for tree in (self.ours, self.theirs)]
            kinds = {tree[id].node.kind for tree in (self.ours, self.theirs)}
            if changed[0] != changed[1] and kinds == {"file"}:
                key = self.inodes[id[1]]  # type: ignore[index]
                writers[changed.index(True)].setdefault(key, set()).add(id)
        for key in writers[0].keys() & writers[1].keys():
            self.clashes |= writers[0][key] | writers[1][key]


def _above(id: Id) -> list[Id]:
    """The base's entries from the top down to this one."""
    assert isinstance(id[1], bytes)
    parts = id[1].split(b"/")
    return [("base", b"/".join(parts[:count])) for count in range(1, len(parts) + 1)]


def three(was, we, they):  # type: ignore[no-untyped-def]
    if they in (we, was):
        return we
    return they if we == was else None


def content(node: Node) -> tuple[object, ...]:
    """None of it metadata. All directories hold the same: what is in them is merged by itself."""
    return (node.kind, node.rdev, node.content, node.target)


def merge(base: reference.View, ours: reference.View, theirs: reference.View) -> Merged:
    if _facts(ours) == _facts(theirs):
        base = ours
    job = _Merge(base, ours, theirs)
    job.run()
    if not job.clashes:
        return Merged(tree=job.result)
    return Merged(conflicts={_shown(job, id) for id in job.clashes})


def _facts(view: reference.View) -> dict[bytes, Node]:
    return {path: replace(node, links=()) for path, node in reference.nodes(view).items()}


def _shown(job: _Merge, id: Id) -> bytes:
    for side in job.sides:
        found = side.tree.get(id) or side.tree.get(side.replaced.get(id, ()))
        if found is not None:
            return found.path
    return job.base[id].path

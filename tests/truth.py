"""Test foundation: what a diff must say, from nothing but two trees as they were seen.

Knows neither layers nor the code under test.
"""

from __future__ import annotations

from collections.abc import Iterable

from tests import reference
from tests.reference import Change
from tests.trees import Node, Snapshot


def by_path(old: Snapshot, new: Snapshot) -> list[tuple[str, bytes]]:
    """The letters of a diff without renames."""
    found = []
    for path in old.keys() | new.keys():
        if path not in new:
            found.append(("D", path))
        elif path not in old:
            found.append(("A", path))
        elif letter := _letter(old[path], new[path]):
            found.append((letter, path))
    return sorted(found, key=lambda change: reference.order(change[1]))


def _letter(old: Node, new: Node) -> str | None:
    if old.kind != new.kind:
        return "T"
    if _bytes(old) != _bytes(new):
        return "M"
    for name in ("mode", "uid", "gid", "xattrs", "mtime_ns"):
        if getattr(old, name) != getattr(new, name):
            return "m"
    return None


def _bytes(node: Node) -> object:
    # The size as well: zeros do not count in the digest of a large file's content.
    return node.kind, node.size, node.content, node.target, node.rdev


def plain(found: Iterable[Change]) -> list[tuple[str, bytes]]:
    return [(change.status, change.path) for change in found]


def sources(new: Snapshot, found: Iterable[Change]) -> dict[bytes, bytes]:
    """What the entries of `new` were before, as a diff with renames has it; not the added ones."""
    renamed = {change.path: change.old_path for change in found if change.status == "R"}
    added = {change.path for change in found if change.status == "A"}
    return {path: _source(path, renamed) for path in new if path not in added}


def check_replay(old: Snapshot, new: Snapshot, found: Iterable[Change]) -> None:
    """Nothing is missing in a diff with renames: it leads from the one tree to the other."""
    deleted = {change.path for change in found if change.status == "D"}
    stated = {change.path: change for change in found if change.status != "D"}
    assert stated.keys() <= new.keys()
    assert all(change.old_path is None for change in found if change.status in "AD")
    reached: set[bytes] = set()
    for path, source in sources(new, found).items():
        change = stated.get(path)
        assert source not in reached, f"{source!r} became {path!r} and something else, too"
        reached.add(source)
        assert source in old, f"{path!r} is explained by {source!r}, which was not there"
        if change is not None:
            assert (change.old_path or path) == source
        letter = change.status if change is not None else None
        if letter != "R":
            assert _letter(old[source], new[path]) == letter, f"{path!r} from {source!r}"
    assert deleted == old.keys() - reached


def _source(path: bytes, renamed: dict[bytes, bytes | None]) -> bytes:
    tail = b""
    while path:
        source = renamed.get(path)
        if source is not None:
            return source + tail
        path, _, name = path.rpartition(b"/")
        tail = b"/" + name + tail
    return tail.removeprefix(b"/")


def check(old: Snapshot, new: Snapshot, by_name: Iterable[Change], renamed: list[Change]) -> None:
    """A diff, without renames and with them, against the two trees."""
    by_name = list(by_name)
    assert plain(by_name) == by_path(old, new)
    assert all(change.old_path is None for change in by_name)
    check_replay(old, new, renamed)
    for change in [*by_name, *renamed]:
        was = None if change.status == "A" else old[change.old_path or change.path]
        now = None if change.status == "D" else new[change.path]
        shown = now or was
        assert shown is not None
        assert change.kind == shown.kind
        sizes = [node.size if node and node.kind == "file" else None for node in (now, was)]
        assert [change.size, change.old_size] == sizes, change


Births = dict[bytes, int]
"""What is where, told apart by a number that stays with an inode when it is renamed."""


UNKNOWN = -1


def merged_births(nodes: Snapshot, ours: Births, theirs: Births) -> Births:
    """Of what neither side has there, or each another, nobody knows which it is now."""
    found = {}
    for path in nodes:
        sides = {side[path] for side in (ours, theirs) if path in side}
        found[path] = sides.pop() if len(sides) == 1 else UNKNOWN
    return found


def check_births(
    old: Births,
    new: Births,
    was: Snapshot,
    now: Snapshot,
    found: list[Change],
    *,
    all: bool = False,
) -> None:
    """What a diff calls renamed is the same, or at least a file of the same content.

    With `all` the other way, too: each directory that is somewhere else now is called renamed.
    """
    for change in found:
        if change.status == "R":
            assert change.old_path is not None
            births = new[change.path], old[change.old_path]
            same = births[0] == births[1] or UNKNOWN in births
            if not same and change.kind == "file":
                same = _bytes(now[change.path]) == _bytes(was[change.old_path])
            assert same, f"{change} is another one"
    where = {born: path for path, born in old.items() if was[path].kind == "directory"}
    came = sources(now, found)
    for path, born in new.items() if all else ():
        if born in where and born != UNKNOWN:
            assert came.get(path) == where[born], f"{path!r} was {where[born]!r}"


def within(path: bytes, tops: Iterable[bytes]) -> bool:
    """Whether a path is one of these, or lies below one; ``b""`` is the root."""
    return any(top in (b"", path) or path.startswith(top + b"/") for top in tops)


def restored(now: Snapshot, then: Snapshot, paths: list[bytes]) -> Snapshot:
    """What a tree must show once `paths` of it are as they are in another."""
    result = {path: node for path, node in now.items() if not within(path, paths)}
    for path in sorted(then):
        if not within(path, paths):
            continue
        parts = path.split(b"/")
        for end in range(1, len(parts)):
            above = b"/".join(parts[:end])
            if above not in result or result[above].kind != "directory":
                result[above] = then[above]
        result[path] = then[path]
    return result


def restored_births(nodes: Snapshot, now: Births, then: Births, paths: list[bytes]) -> Births:
    """What has come back may be there twice by now; of either nobody knows which it is."""
    back = {born for path, born in then.items() if within(path, paths)}
    kept = {path: born for path, born in now.items() if not within(path, paths)}
    return {
        path: UNKNOWN if (born := kept.get(path)) in back or born is None else born
        for path in nodes
    }


def check_merge(base: Snapshot, ours: Snapshot, theirs: Snapshot, merged: Snapshot) -> None:
    """What one side alone touched is as on that side, where neither renamed anything."""
    touched = [{path for _, path in by_path(base, side)} for side in (ours, theirs)]
    tops = [
        {
            path
            for path in paths
            if path not in base or path not in side or base[path].kind != side[path].kind
        }
        for paths, side in zip(touched, (ours, theirs), strict=True)
    ]
    for path in base.keys() | ours.keys() | theirs.keys() | merged.keys():
        parts = path.split(b"/")
        above = {b"/".join(parts[:count]) for count in range(1, len(parts))}
        if above & (tops[0] | tops[1]) or path in touched[0] & touched[1]:
            continue
        side = theirs if path in touched[1] else ours
        expected, found = side.get(path), merged.get(path)
        if expected is None or found is None:
            # A directory that one deleted and the other wrote into is a conflict, or was decided.
            inside = path + b"/"
            both = [any(p.startswith(inside) for p in paths) for paths in touched]
            assert expected is found or all(both), f"{path!r}: {expected} and {found}"
        else:
            assert _letter(expected, found) is None, f"{path!r}: {expected} and {found}"

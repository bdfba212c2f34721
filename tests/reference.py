"""The slow, obvious twin of the core: what `scan`, `resolve`, `changes` and `squash` mean.

Dictionaries and recursion; correctness over speed. `resolve` follows the kernel's own lookup
(fs/overlayfs/namei.c, `ovl_lookup`) step by step, and test_reference.py holds it against real
mounts. It shares no code with `dsbranch`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import xxhash

from tests import trees
from tests.beneath import Root, beneath, join
from tests.renames import renamed_files

WHITEOUT, OPAQUE, REDIRECT, METACOPY = 1, 2, 4, 8
# The xattrs that count: any filesystem can hold them.
KEPT = ("user.", "trusted.", "security.", "system.posix_acl_")


class Entry(NamedTuple):
    """A row of a manifest (docs/internals/format.md)."""

    path: bytes
    kind: str
    flags: int
    mode: int
    uid: int
    gid: int
    rdev: int
    size: int
    mtime_ns: int
    nlink_group: int
    target: bytes | None
    redirect: bytes | None
    origin: bytes | None
    xattrs: bytes | None
    digest: bytes | None


class Layer(dict[bytes, Entry]):
    """All entries of one directory tree by path, as they lie on disk."""

    def __init__(self, root: bytes, dialect: str) -> None:
        super().__init__()
        self.root = root
        self.dialect = dialect
        self.names: dict[bytes, list[bytes]] = {}


def order(path: bytes) -> list[bytes]:
    """Sorts paths by their bytes with ``/`` lowest."""
    return path.split(b"/") if path else []


def scan(root: Root, dialect: str = "trusted") -> Layer:
    """Every entry below `root`, which is read and never written; no content digests."""
    layer = Layer(os.fsencode(root), dialect)
    inodes: dict[tuple[int, int], list[bytes]] = {}
    _scan_into(layer, b"", dialect, inodes)
    groups = 0
    for paths in inodes.values():
        if len(paths) > 1:
            groups += 1
            for path in paths:
                layer[path] = layer[path]._replace(nlink_group=groups)
    return layer


def _scan_into(
    layer: Layer, path: bytes, dialect: str, inodes: dict[tuple[int, int], list[bytes]]
) -> None:
    with beneath(layer.root, path) as at:
        status = os.lstat(at)
        layer[path] = entry = _entry(path, at, status, dialect)
        names = sorted(os.listdir(at)) if entry.kind == "directory" else []
    if entry.kind not in ("directory", "whiteout"):
        inodes.setdefault((status.st_dev, status.st_ino), []).append(path)
    for name in names:
        layer.names.setdefault(path, []).append(name)
        _scan_into(layer, join(path, name), dialect, inodes)


def _entry(path: bytes, at: bytes, status: os.stat_result, dialect: str) -> Entry:
    kind: str = trees.kind_of(status.st_mode)
    raw = _all_xattrs(at)
    prefix = f"{dialect}.overlay."
    # What the other dialect calls a marker is an ordinary xattr, which the mount shows, and so
    # is what the user called one: the kernel writes it with one more `overlay.`.
    own = {
        name: value
        for name, value in raw.items()
        if name.startswith(KEPT)
        and (not name.startswith(prefix) or name.startswith(f"{prefix}overlay."))
    }
    overlay = {
        name.removeprefix(prefix): value for name, value in raw.items() if name.startswith(prefix)
    }
    device = kind in ("char", "block")
    if (kind == "char" and status.st_rdev == 0) or (
        kind == "file" and status.st_size == 0 and "whiteout" in overlay
    ):
        kind = "whiteout"
    flags = 0
    if kind == "whiteout":
        flags = WHITEOUT
    elif kind == "directory":
        flags |= OPAQUE if overlay.get("opaque") == b"y" else 0
        flags |= REDIRECT if "redirect" in overlay else 0
    elif kind == "file":
        flags |= METACOPY if "metacopy" in overlay else 0
        flags |= REDIRECT if "redirect" in overlay else 0
    return Entry(
        path=path,
        kind=kind,
        flags=flags,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        rdev=os.major(status.st_rdev) << 32 | os.minor(status.st_rdev) if device else 0,
        size=status.st_size if kind in ("file", "symlink") else 0,
        mtime_ns=status.st_mtime_ns,
        nlink_group=0,
        target=os.readlink(at) if kind == "symlink" else None,
        redirect=overlay.get("redirect") if flags & REDIRECT else None,
        origin=overlay.get("origin") if kind not in ("whiteout", "directory") else None,
        xattrs=xattrs_digest(own) if kind != "whiteout" else None,
        digest=None,
    )


def _all_xattrs(at: bytes) -> dict[str, bytes]:
    return {
        name: os.getxattr(at, name, follow_symlinks=False)
        for name in os.listxattr(at, follow_symlinks=False)
    }


def xattrs_digest(own: dict[str, bytes]) -> bytes | None:
    """XXH3-128 over an entry's own xattrs, None where it has none (format.md)."""
    if not own:
        return None
    parts = []
    for name, value in sorted((os.fsencode(name), value) for name, value in own.items()):
        parts.append(name + b"\0" + len(value).to_bytes(8, "little") + value)
    return xxhash.xxh3_128_digest(b"".join(parts))


def digest(root: Root, path: bytes) -> bytes:
    """XXH3-128 of the whole content of a file, holes read as zeros."""
    state = xxhash.xxh3_128()
    with beneath(root, path) as at, open(at, "rb", buffering=0) as file:
        while data := file.read(1 << 20):
            state.update(data)
    return state.digest()


Place = tuple[int, bytes]
"""Where something lies: the number of its layer, 0 the newest, and the path in that layer."""


@dataclass(frozen=True)
class Seen:
    """One entry of a view.

    `entry` is the row whose metadata show. `stack` is every place that takes part, newest
    first: the merged directories, or a file's metacopies down to the one with its data.
    """

    path: bytes
    entry: Entry
    stack: tuple[Place, ...]

    @property
    def is_directory(self) -> bool:
        return self.entry.kind == "directory"


class View(dict[bytes, Seen]):
    """The merged tree of `layers`, newest first, the base last."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        super().__init__()
        self.layers = tuple(layers)

    def place(self, place: Place) -> tuple[bytes, bytes]:
        """A place by the directory of its layer: comparable between views that share layers."""
        return self.layers[place[0]].root, place[1]


def resolve(layers: Sequence[Layer], base: Layer) -> View:
    """What the kernel shows of `layers`, newest first, over `base`.

    :raises OSError: EIO for a metacopy file without data below, as the kernel
    :raises ValueError: a malformed redirect, where the kernel says EINVAL
    """
    view = View([*layers, base])
    # The root of every layer takes part: markers on it are not looked at.
    stack = tuple((number, b"") for number in range(len(view.layers)))
    view[b""] = Seen(b"", view.layers[0][b""], stack)
    _resolve_children(view, view[b""])
    return view


def squash(newest_first: Sequence[Layer], below: Sequence[Layer], base: Layer) -> View:
    """The view that a layer squashed from `newest_first` must give on top of `below`."""
    return resolve([*newest_first, *below], base)


def _resolve_children(view: View, directory: Seen) -> None:
    names: set[bytes] = set()
    for number, path in directory.stack:
        names.update(view.layers[number].names.get(path, ()))
    for name in sorted(names):
        found = _lookup(view, directory.stack, name)
        if found:
            number, path = found[0]
            seen = Seen(join(directory.path, name), view.layers[number][path], tuple(found))
            view[seen.path] = seen
            if seen.is_directory:
                _resolve_children(view, seen)


@dataclass
class _Lookup:
    """`struct ovl_lookup_data`."""

    name: bytes
    is_directory: bool = False
    stop: bool = False
    last: bool = False
    metacopy: bool = False
    redirect: bytes | None = field(default=None)


def _lookup(view: View, parents: tuple[Place, ...], name: bytes) -> list[Place]:
    """`ovl_lookup`: all places of `name` in the merged directory `parents`."""
    d = _Lookup(name)
    roots = view[b""].stack
    found: list[Place] = []
    i = 0
    while i < len(parents) and not d.stop:
        number, path = parents[i]
        d.last = number == len(view.layers) - 1
        hit = _lookup_layer(view.layers[number], path, d)
        if hit is not None:
            found.append((number, hit))
            if d.redirect is not None and d.redirect.startswith(b"/") and parents is not roots:
                parents = roots
                i = number
        i += 1
    if d.metacopy:
        raise OSError(errno.EIO, "metacopy with no lower data found", os.fsdecode(name))
    return found


def _lookup_layer(layer: Layer, directory: bytes, d: _Lookup) -> bytes | None:
    """`ovl_lookup_layer`: one name below `directory`, or a whole path from the layer's root."""
    if not d.name.startswith(b"/"):
        return _lookup_single(layer, directory, d, d.name, 0, b"")
    at: bytes | None = b""
    remaining = len(d.name) - 1  # counted from the end, since redirects change what is before
    while at is not None and layer[at].kind == "directory":
        start = len(d.name) - remaining
        end = d.name.find(b"/", start)
        end = len(d.name) if end < 0 else end
        post = d.name[end:]
        at = _lookup_single(layer, at, d, d.name[start:end], start, post)
        if not post:
            break
        remaining -= end - start + 1
    return at


def _lookup_single(
    layer: Layer, directory: bytes, d: _Lookup, name: bytes, before: int, post: bytes
) -> bytes | None:
    """`ovl_lookup_single`: one component, with `before` bytes of ``d.name`` ahead of it."""
    path = join(directory, name)
    entry = layer.get(path)
    if entry is None:
        return None
    final = not post
    if entry.kind == "whiteout":
        d.stop = True
        return None
    if final and d.metacopy and entry.kind != "file":
        d.stop = True
        return None
    if entry.kind != "directory":
        if d.is_directory or not final:
            d.stop = True
            return None
        d.metacopy = bool(entry.flags & METACOPY)
        d.stop = not d.metacopy
        if not d.metacopy or d.last:
            return path
    else:
        if final:
            d.is_directory = True
        if d.last:
            return path
        if entry.flags & OPAQUE:
            d.stop = True
            return path
    if entry.redirect is not None:
        _follow(entry.redirect, d, before, post)
    return path


def _follow(redirect: bytes, d: _Lookup, before: int, post: bytes) -> None:
    """`ovl_check_redirect`."""
    if redirect.startswith(b"/"):
        if b"" in redirect[1:].split(b"/"):
            raise ValueError(f"malformed redirect {redirect!r}")
        d.stop = False
        d.redirect = redirect + post
    elif not redirect or b"/" in redirect:
        raise ValueError(f"malformed redirect {redirect!r}")
    else:
        d.redirect = d.name[:before] + redirect + post
    d.name = d.redirect


def nodes(view: View) -> trees.Snapshot:
    """The view as a snapshot, read from where its parts lie: comparable with a mount's."""
    links: dict[tuple[int, int | bytes], list[bytes]] = {}
    result: trees.Snapshot = {}
    for path, seen in view.items():
        number, layer_path = seen.stack[0]
        data_number, data_path = seen.stack[-1]
        with (
            beneath(view.layers[number].root, layer_path) as at,
            beneath(view.layers[data_number].root, data_path) as data,
        ):
            dialect = view.layers[number].dialect
            result[path] = trees.node_of(at, os.lstat(at), content_at=data, dialect=dialect)
        if not seen.is_directory:
            # One place can show under two names, by a redirect that was copied.
            inode = seen.entry.nlink_group or layer_path
            links.setdefault((number, inode), []).append(path)
    for paths in links.values():
        if len(paths) > 1:
            for path in paths:
                result[path] = replace(result[path], links=tuple(sorted(paths)))
    return result


class Change(NamedTuple):
    status: str
    path: bytes
    old_path: bytes | None
    kind: str
    size: int | None
    old_size: int | None


def changes(
    old: View, new: View, *, renames: bool = True, directory_times: bool = False
) -> list[Change]:
    """From `old` to `new`, true to content, sorted by path with ``/`` lowest.

    Every entry of `old` is matched with at most one of `new`; the unmatched are D and A.
    Directories that moved are matched by where their lowest part lies, everything else by
    its name in the matched parent; what is left of the rest as `tests.renames` says.
    """
    matched = _match(old, new, renames=renames)
    result = []
    for path, source in matched.items():
        changed = _compare(old, new, source, path, directory_times)
        home = matched.get(_parent(path)) if path else b""
        moved = home is None or source != join(home, _name(path))
        sizes = _size(new[path]), _size(old[source])
        if path and moved:
            # Whatever else is new about a renamed entry, its name says the most.
            result.append(Change("R", path, source, new[path].entry.kind, *sizes))
        elif changed is not None:
            old_path = source if source != path else None
            result.append(Change(changed, path, old_path, new[path].entry.kind, *sizes))
    result += [
        Change("A", path, None, new[path].entry.kind, _size(new[path]), None)
        for path in new.keys() - matched.keys()
    ]
    result += [
        Change("D", path, None, old[path].entry.kind, None, _size(old[path]))
        for path in old.keys() - set(matched.values())
    ]
    # Where a deleted entry's name was taken by another, the deletion comes first.
    return sorted(result, key=lambda c: (order(c.path), c.status != "D"))


def _match(
    old: View, new: View, *, renames: bool, moved: dict[bytes, bytes] | None = None
) -> dict[bytes, bytes]:
    """For entries of `new` what they were in `old`; `moved` as in the core."""
    matched = {b"": b""}
    taken: set[bytes] = set()
    if renames:
        given, moved = moved or {}, _moved_directories(old, new)
        for path, source in given.items():
            for at in (path, source):
                if moved.get(at) == at:
                    del moved[at]
            if path not in moved and source not in moved.values():
                moved[path] = source
        matched.update(moved)
        taken.update(moved.values())
    for path in sorted(new, key=order):
        if path in matched:
            continue
        home = matched.get(_parent(path))
        if home is None:
            continue
        candidate = join(home, _name(path))
        if candidate in old and candidate not in taken:
            matched[path] = candidate
    if renames:
        gone = {p for p in old.keys() - set(matched.values()) if not old[p].is_directory}
        come = {p for p in new.keys() - matched.keys() if not new[p].is_directory}
        matched.update(renamed_files(old, new, gone, come))
    return matched


def _moved_directories(old: View, new: View) -> dict[bytes, bytes]:
    """Directories of both views by the identity of their lowest part, new path to old path."""
    before: dict[tuple[bytes, bytes], bytes] = {}
    for path in sorted(old, key=order):
        if path and old[path].is_directory:
            before.setdefault(old.place(old[path].stack[-1]), path)
    directories = [path for path in sorted(new, key=order) if path and new[path].is_directory]
    matched: dict[bytes, bytes] = {}
    # Of several with one identity (a copied redirect) the one that kept its name is the same.
    for keep in (True, False):
        for path in directories:
            source = before.get(new.place(new[path].stack[-1]))
            if source is None or source in matched.values():
                continue
            if path in matched or (keep and source != path):
                continue
            if source == path or _came(old, new, source, path):
                matched[path] = source
    return matched


def _came(old: View, new: View, source: bytes, path: bytes) -> bool:
    """Whether a directory was renamed, and is not rather what lay there under that name."""
    known = {layer.root for layer in new.layers}
    if all(layer.root in known for layer in old.layers):
        return True  # what was made on top of it can only have been renamed
    if path not in old or not old[path].is_directory:
        return True
    before, after = nodes(old), nodes(new)
    more = 0
    for at in files_in(new, path):
        more += alike(before.get(source + at[len(path) :]), after[at])
        more -= alike(before.get(at), after[at])
    return more > 0


def files_in(view: View, path: bytes) -> list[bytes]:
    return [at for at in view if at.startswith(path + b"/") and not view[at].is_directory]


def alike(one: trees.Node | None, other: trees.Node) -> bool:
    if one is None or (one.kind, one.mtime_ns) != (other.kind, other.mtime_ns):
        return False
    return one.kind != "file" or one.size == other.size


def _compare(old: View, new: View, source: bytes, path: bytes, directory_times: bool) -> str | None:
    a, b = old[source].entry, new[path].entry
    if a.kind != b.kind:
        return "T"
    if a.kind == "file" and not _same_content(old, new, source, path):
        return "M"
    if (a.target, a.rdev) != (b.target, b.rdev):
        return "M"
    if (a.mode, a.uid, a.gid, a.xattrs) != (b.mode, b.uid, b.gid, b.xattrs):
        return "m"
    if a.mtime_ns != b.mtime_ns and (a.kind != "directory" or directory_times):
        return "m"
    return None


def _same_content(old: View, new: View, source: bytes, path: bytes) -> bool:
    a, b = old.place(old[source].stack[-1]), new.place(new[path].stack[-1])
    if a == b:
        return True
    if old[source].entry.size != new[path].entry.size:
        return False
    with beneath(*a) as one, beneath(*b) as other:
        return trees.content(one) == trees.content(other)


def _size(seen: Seen) -> int | None:
    return seen.entry.size if seen.entry.kind == "file" else None


def _parent(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def _name(path: bytes) -> bytes:
    return path.rpartition(b"/")[2]


def lines(found: Iterable[Change]) -> list[str]:
    """Changes as short text, for tests that spell out what they expect: ``R new < old``."""
    result = []
    for change in found:
        name = change.path.decode(errors="backslashreplace") or "."
        source = (change.old_path or b"").decode(errors="backslashreplace")
        result.append(f"{change.status} {name}" + (f" < {source}" if source else ""))
    return result

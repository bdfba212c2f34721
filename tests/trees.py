"""Test foundation: tree literals, and snapshots to compare trees with.

``make(Dir({"f": File(b"one"), "d": Dir()}), path)`` writes a tree; ``snapshot(path)`` reads
back what an observer can see of it, ``assert_same`` compares two of these. Knows nothing of
layers: a mount and a plain directory look alike here, overlay xattrs are left out.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Literal

from tests.beneath import Root, beneath, join

Kind = Literal["file", "directory", "symlink", "fifo", "socket", "char", "block"]

EPOCH_NS = 1_600_000_000_000_000_000
"""The mtime of every literal that states none, so that equal literals make equal trees."""

CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)
"""A value of ``security.capability``: cap_net_bind_service=ep (linux/capability.h, revision 2)."""


def acl(uid: int, permissions: int) -> bytes:
    """A value of ``system.posix_acl_access`` that grants one user `permissions` (rwx as 0-7)."""
    nobody = 0xFFFFFFFF
    entries = [
        (1, 6, nobody),
        (2, permissions, uid),
        (4, 4, nobody),
        (16, 7, nobody),
        (32, 4, nobody),
    ]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


@dataclass(frozen=True, kw_only=True)
class _Meta:
    mode: int | None = None
    uid: int = 0
    gid: int = 0
    mtime_ns: int = EPOCH_NS
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class File(_Meta):
    """`sparse` extends the file with a hole to this size in bytes."""

    content: bytes = b""
    sparse: int | None = None


@dataclass(frozen=True)
class Dir(_Meta):
    children: Mapping[str | bytes, Tree] = field(default_factory=dict)


@dataclass(frozen=True)
class Symlink(_Meta):
    target: str | bytes


@dataclass(frozen=True)
class Fifo(_Meta):
    pass


@dataclass(frozen=True)
class Socket(_Meta):
    pass


@dataclass(frozen=True)
class Device(_Meta):
    kind: Literal["char", "block"]
    major: int
    minor: int


@dataclass(frozen=True)
class Link:
    """A hard link to another path of the same literal, given from its root."""

    path: str | bytes


Tree = File | Dir | Symlink | Fifo | Socket | Device | Link

_PERMISSIONS = {Dir: 0o755, Symlink: 0o777}


def make(tree: Dir, path: Root) -> None:
    """Write `tree` at `path`, which may exist as an empty directory."""
    os.makedirs(path, exist_ok=True)
    links: list[tuple[bytes, bytes]] = []
    directories: list[tuple[bytes, Dir]] = []
    _fill(os.fsencode(path), b"", tree, links, directories)
    for source, target in links:
        with beneath(path, source) as existing, beneath(path, target) as new:
            os.link(existing, new, follow_symlinks=False)
    for name, directory in reversed(directories):
        with beneath(path, name) as at:
            _describe(at, directory)


def put(tree: Tree, root: Root, path: bytes) -> None:
    """Write one literal at ``root/path``, where nothing is yet."""
    if isinstance(tree, Dir):
        with beneath(root, path) as at:
            os.mkdir(at)
            make(tree, at)
    elif isinstance(tree, Link):
        with beneath(root, os.fsencode(tree.path)) as existing, beneath(root, path) as new:
            os.link(existing, new, follow_symlinks=False)
    else:
        with beneath(root, path) as at:
            _create(at, tree)


def _fill(
    root: bytes,
    path: bytes,
    tree: Dir,
    links: list[tuple[bytes, bytes]],
    directories: list[tuple[bytes, Dir]],
) -> None:
    directories.append((path, tree))
    for name, child in tree.children.items():
        inner = join(path, os.fsencode(name))
        if isinstance(child, Link):
            links.append((os.fsencode(child.path), inner))
            continue
        with beneath(root, inner) as at:
            if not isinstance(child, Dir):
                _create(at, child)
                continue
            os.mkdir(at)
        _fill(root, inner, child, links, directories)


def _create(at: bytes, tree: File | Symlink | Fifo | Socket | Device) -> None:
    match tree:
        case File(content=content, sparse=sparse):
            with open(at, "xb") as file:
                file.write(content)
                if sparse is not None:
                    file.truncate(sparse)
        case Symlink(target=target):
            os.symlink(target, at)
        case Fifo():
            os.mkfifo(at)
        case Socket():
            os.mknod(at, stat.S_IFSOCK)
        case Device(kind=kind, major=major, minor=minor):
            form = stat.S_IFCHR if kind == "char" else stat.S_IFBLK
            os.mknod(at, form, os.makedev(major, minor))
    _describe(at, tree)


def _describe(at: bytes, tree: _Meta) -> None:
    # The order matters: chown clears setuid and capabilities, and all of them move the ctime only.
    # The owner only where the caller is root: trees of others are for the tests that need root.
    if os.geteuid() == 0:
        os.chown(at, tree.uid, tree.gid, follow_symlinks=False)
    if not isinstance(tree, Symlink):
        os.chmod(at, tree.mode if tree.mode is not None else _PERMISSIONS.get(type(tree), 0o644))
    for name, value in tree.xattrs.items():
        os.setxattr(at, name, value, follow_symlinks=False)
    os.utime(at, ns=(tree.mtime_ns, tree.mtime_ns), follow_symlinks=False)


@dataclass(frozen=True)
class Node:
    """What an observer sees of one entry.

    `mtime_ns` is None for directories, whose times an overlay does not keep. `content` is the
    bytes of a small file and a digest of a large one; holes and zeros are the same. `links`
    are all paths of the tree that are this inode, where there are several.
    """

    kind: Kind
    mode: int
    uid: int
    gid: int
    rdev: tuple[int, int]
    size: int
    mtime_ns: int | None
    content: bytes | None
    target: bytes | None
    xattrs: tuple[tuple[str, bytes], ...]
    links: tuple[bytes, ...]


Snapshot = dict[bytes, Node]

SMALL = 200


def snapshot(root: Root) -> Snapshot:
    """Everything below `root` (itself included, as ``b""``), by relative path.

    A name that is listed and cannot be looked up is not there: that is how an overlay shows
    whiteouts over nothing.
    """
    found: dict[bytes, tuple[Node, tuple[int, int]]] = {}
    _visit(os.fsencode(root), b"", found)
    names: dict[tuple[int, int], list[bytes]] = {}
    for path, (node, inode) in found.items():
        if node.kind != "directory":
            names.setdefault(inode, []).append(path)
    groups = {inode: tuple(sorted(paths)) for inode, paths in names.items() if len(paths) > 1}
    result: Snapshot = {}
    for path, (node, inode) in found.items():
        links = groups.get(inode, ()) if node.kind != "directory" else ()
        result[path] = replace(node, links=links)
    return result


def _visit(at: bytes, path: bytes, found: dict[bytes, tuple[Node, tuple[int, int]]]) -> None:
    try:
        status = os.lstat(at)
    except FileNotFoundError:
        return
    found[path] = node_of(at, status), (status.st_dev, status.st_ino)
    if stat.S_ISDIR(status.st_mode):
        fd = os.open(at, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            for name in sorted(map(os.fsencode, os.listdir(fd))):
                _visit(b"/proc/self/fd/%d/%s" % (fd, name), join(path, name), found)
        finally:
            os.close(fd)


def node_of(
    at: bytes,
    status: os.stat_result,
    *,
    content_at: bytes | None = None,
    dialect: str | None = None,
) -> Node:
    """The node of one entry, or what an overlay of `dialect` shows of it if it lies in a layer.

    `content_at` names the file that holds its content, if not itself.
    """
    kind = kind_of(status.st_mode)
    device = kind in ("char", "block")
    return Node(
        kind=kind,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        rdev=(os.major(status.st_rdev), os.minor(status.st_rdev)) if device else (0, 0),
        size=status.st_size if kind in ("file", "symlink") else 0,
        mtime_ns=status.st_mtime_ns if kind != "directory" else None,
        content=content(content_at or at) if kind == "file" else None,
        target=os.readlink(at) if kind == "symlink" else None,
        xattrs=tuple(sorted(xattrs_of(at, dialect).items())),
        links=(),
    )


def kind_of(mode: int) -> Kind:
    kinds: dict[int, Kind] = {
        stat.S_IFREG: "file",
        stat.S_IFDIR: "directory",
        stat.S_IFLNK: "symlink",
        stat.S_IFIFO: "fifo",
        stat.S_IFSOCK: "socket",
        stat.S_IFCHR: "char",
        stat.S_IFBLK: "block",
    }
    return kinds[stat.S_IFMT(mode)]


def xattrs_of(at: bytes, dialect: str | None) -> dict[str, bytes]:
    """All xattrs of an entry, or those that an overlay of `dialect` shows of one in a layer.

    Names that are the overlay's own are hidden; one the user gave is ``overlay.overlay.NAME``.
    """
    marker = f"{dialect}.overlay."
    found = {}
    for name in os.listxattr(at, follow_symlinks=False):
        shown = name
        if dialect is not None and name.startswith(marker):
            if not name.startswith(f"{marker}overlay."):
                continue
            shown = marker + name.removeprefix(f"{marker}overlay.")
        found[shown] = os.getxattr(at, name, follow_symlinks=False)
    return found


def content(at: bytes) -> bytes:
    """The bytes of a small file; of a large one a digest that reads data only and skips zeros."""
    fd = os.open(at, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        size = os.fstat(fd).st_size
        if size <= SMALL:
            return os.read(fd, size)
        digest = hashlib.blake2b(digest_size=16)
        for start, end in _data(fd, size):
            # Blocks are aligned to their size, so that an extent's border does not show.
            for block in range(start - start % 65536, end, 65536):
                data = os.pread(fd, 65536, block)
                if data.count(0) != len(data):
                    digest.update(struct.pack("<Q", block) + data)
        return b"blake2b:" + digest.hexdigest().encode()
    finally:
        os.close(fd)


def _data(fd: int, size: int) -> Iterable[tuple[int, int]]:
    at = reached = 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        at = os.lseek(fd, start, os.SEEK_HOLE)
        end = at + -at % 65536
        yield max(start - start % 65536, reached), end
        reached = end


def differences(a: Snapshot, b: Snapshot, *, ignore: Iterable[str] = ()) -> list[str]:
    """How `b` differs from `a`, a line each; `ignore` names fields of `Node`."""
    lines = []
    skip = set(ignore)
    for path in sorted(a.keys() | b.keys()):
        if path not in b:
            lines.append(f"- {path!r}: {a[path]}")
        elif path not in a:
            lines.append(f"+ {path!r}: {b[path]}")
        else:
            for f in fields(Node):
                left, right = getattr(a[path], f.name), getattr(b[path], f.name)
                if left != right and f.name not in skip:
                    lines.append(f"~ {path!r}: {f.name}: {left!r} != {right!r}")
    return lines


def assert_same(a: Snapshot, b: Snapshot, *, ignore: Iterable[str] = ()) -> None:
    """Fail with a readable list where the two differ."""
    lines = differences(a, b, ignore=ignore)
    if lines:
        more = [f"… and {len(lines) - 40} more"] if len(lines) > 40 else []
        raise AssertionError("\n".join(["the trees differ:", *lines[:40], *more]))

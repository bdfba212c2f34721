"""Test foundation: what a `Step` may do to a tree, by name.

Each operation looks at the tree and gives the system calls to make, one `Act` each, so that a
caller can make them on several trees and see each one's outcome. Knows nothing of layers, but
for naming what an overlay would copy up.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import NamedTuple

from tests import edits as e
from tests.beneath import Root, beneath, join
from tests.edits import Edit
from tests.trees import CAPABILITY, Device, Dir, Fifo, File, Kind, Socket, Symlink, Tree, kind_of

NAMES = (b"a", b"b", b"c", b"d", b"a-b", b"a b\n", b"\xff\xfe", b"-r", b".wh.a", b'x:y,z\\"')
RARE_NAMES = (b"l" * 255, b"'", b"*", b"\\n", b" ", "e\u0301".encode())
COMMON = 1000
"""A step whose `c` is not below this chooses among the rare names."""


class Step(NamedTuple):
    """An operation and a few integers that choose among what is there."""

    op: str
    a: int
    b: int
    c: int


class Act(NamedTuple):
    """One edit. `copies_up` names the entries, no directories, that an overlay copies up for it.

    `late`: a file that had only its metadata copied up before gets its data for this, and with
    them, as kernels to 6.18 at least have it, a new time of writing.
    """

    edit: Edit
    copies_up: tuple[bytes, ...] = ()
    late: bool = False


class Survey(NamedTuple):
    """What there is, sorted; `directories` begins with the root, ``b""``."""

    kinds: dict[bytes, Kind]
    directories: list[bytes]
    files: list[bytes]
    everything: list[bytes]

    def free(self, step: Step) -> bytes | None:
        """A path where nothing is, None if the chosen name is taken."""
        names = NAMES if step.c < COMMON else RARE_NAMES
        path = join(self.directories[step.b % len(self.directories)], names[step.c % len(names)])
        return None if path in self.kinds else path


def survey(root: Root) -> Survey:
    tree = Survey({}, [b""], [], [])

    def visit(directory: bytes) -> None:
        with beneath(root, directory) as at:
            names = sorted(os.listdir(at))
        for name in names:
            path = join(directory, name)
            with beneath(root, path) as at:
                try:
                    kind = kind_of(os.lstat(at).st_mode)
                except FileNotFoundError:  # a whiteout over nothing is listed
                    continue
            tree.kinds[path] = kind
            tree.everything.append(path)
            if kind == "file":
                tree.files.append(path)
            if kind == "directory":
                tree.directories.append(path)
                visit(path)

    visit(b"")
    return tree


Operation = Callable[[Root, Survey, Step], list[Act]]

_LITERALS: tuple[Tree, ...] = (
    File(b"new"),
    File(b""),
    Dir(),
    Dir({"a": File(b"in"), "b": Dir({"c": File(b"inner")})}),
    Symlink("a"),
    Fifo(),
    File(b"start", sparse=300_000),
    Device("char", 1, 3),
    Socket(),
)


def _pick(paths: list[bytes], number: int) -> bytes | None:
    return paths[number % len(paths)] if paths else None


def _parent(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]


def _inside(one: bytes, other: bytes) -> bool:
    """Whether one of two paths is the other, or lies inside it."""
    return one == other or one.startswith(other + b"/") or other.startswith(one + b"/")


def _up(tree: Survey, *paths: bytes) -> tuple[bytes, ...]:
    """Those that are copied up when they are moved or described; a directory keeps its inode."""
    return tuple(path for path in paths if tree.kinds[path] != "directory")


def _add(root: Root, tree: Survey, step: Step) -> list[Act]:
    path = tree.free(step)
    return [] if path is None else [Act(e.add(path, _LITERALS[step.a % len(_LITERALS)]))]


def _on_file(make: Callable[[bytes, Step], Edit]) -> Operation:
    def operation(root: Root, tree: Survey, step: Step) -> list[Act]:
        path = _pick(tree.files, step.a)
        return [] if path is None else [Act(make(path, step), (path,))]

    return operation


def _on_any(make: Callable[[bytes, Step], Edit], *kinds: Kind) -> Operation:
    """On any entry, or any of some kinds, with its metadata copied up."""

    def operation(root: Root, tree: Survey, step: Step) -> list[Act]:
        paths = [path for path in tree.everything if not kinds or tree.kinds[path] in kinds]
        path = _pick(paths, step.a)
        return [] if path is None else [Act(make(path, step), _up(tree, path))]

    return operation


def _open(root: Root, tree: Survey, step: Step) -> list[Act]:
    path = _pick(tree.files, step.a)
    return [] if path is None else [Act(e.open_and_close(path), (path,), late=True)]


def _remove(root: Root, tree: Survey, step: Step) -> list[Act]:
    path = _pick(tree.everything, step.a)
    return [] if path is None else [Act(e.remove(path))]


def _recreate(root: Root, tree: Survey, step: Step) -> list[Act]:
    path = _pick(tree.everything, step.a)
    if path is None:
        return []
    return [Act(e.remove(path)), Act(e.add(path, _LITERALS[step.b % len(_LITERALS)]))]


def _rename(root: Root, tree: Survey, step: Step) -> list[Act]:
    source, target = _pick(tree.everything, step.a), tree.free(step)
    if source is None or target is None:
        return []
    return [Act(e.rename(source, target), _up(tree, source))]


def _rename_directory(root: Root, tree: Survey, step: Step) -> list[Act]:
    source, target = _pick(tree.directories[1:], step.a), tree.free(step)
    return [] if source is None or target is None else [Act(e.rename(source, target))]


def _two(paths: list[bytes], step: Step) -> tuple[bytes, bytes] | None:
    one, other = _pick(paths, step.a), _pick(paths, step.b)
    return None if one is None or other is None or _inside(one, other) else (one, other)


def _rename_over(root: Root, tree: Survey, step: Step) -> list[Act]:
    """By rename(2) alone, which wants a file over a file or an empty directory; or after rm -r."""
    found = _two(tree.everything, step)
    if found is None:
        return []
    source, target = found
    first = [Act(e.remove(target))] if step.c % 2 else []
    return [*first, Act(e.rename(source, target), _up(tree, source))]


def _swap(root: Root, tree: Survey, step: Step) -> list[Act]:
    found = _two(tree.directories[1:], step)
    if found is None:
        return []
    one, other = found
    aside = join(_parent(one), b"aside")
    pairs = (one, aside), (other, one), (aside, other)
    return [] if aside in tree.kinds else [Act(e.rename(a, b)) for a, b in pairs]


def _exchange(root: Root, tree: Survey, step: Step) -> list[Act]:
    """RENAME_EXCHANGE, of whatever kinds."""
    found = _two(tree.everything, step)
    if found is None:
        return []
    one, other = found
    return [Act(e.exchange(one, other), _up(tree, one, other))]


def _replace(root: Root, tree: Survey, step: Step) -> list[Act]:
    """Move a directory away and make another one of its name."""
    source, target = _pick(tree.directories[1:], step.a), tree.free(step)
    if source is None or target is None or target.startswith(source + b"/"):
        return []
    other = Dir({"a": File(b"in its place")})
    return [Act(e.rename(source, target)), Act(e.add(source, other))]


def _link(*kinds: Kind) -> Operation:
    def operation(root: Root, tree: Survey, step: Step) -> list[Act]:
        sources = [path for path in tree.everything if tree.kinds[path] in kinds]
        source, target = _pick(sources, step.a), tree.free(step)
        return [] if source is None or target is None else [Act(e.link(source, target), (source,))]

    return operation


def _chmod_and_back(root: Root, tree: Survey, step: Step) -> list[Act]:
    path = _pick(tree.files, step.a)
    if path is None:
        return []
    with beneath(root, path) as at:
        mode = stat.S_IMODE(os.lstat(at).st_mode)
    return [Act(e.chmod(path, mode ^ 0o111), (path,)), Act(e.chmod(path, mode), (path,))]


def _chmod(path: bytes, step: Step) -> Edit:
    return e.chmod(path, (0o600, 0o644, 0o755, 0o4711, 0o2755)[step.b % 5])


def _chmod_root(root: Root, tree: Survey, step: Step) -> list[Act]:
    return [Act(e.chmod(b"", (0o700, 0o755, 0o1777)[step.b % 3]))]


def _xattr(path: bytes, step: Step) -> Edit:
    # Not "user.": that namespace is for files and directories only.
    return e.setxattr(path, f"trusted.note{step.b % 2}", b"v" * (step.c % 3))


def _marker(path: bytes, step: Step) -> Edit:
    """An overlay's own name, set by a user, as a container store inside a branch does."""
    name = ("opaque", "redirect", "note", "overlay.opaque")[step.b % 4]
    return e.setxattr(path, f"trusted.overlay.{name}", b"y")


def _acl(path: bytes, step: Step) -> Edit:
    return e.setfacl(path, 1000 + step.b % 2, step.c % 8)


def _default_acl(path: bytes, step: Step) -> Edit:
    return e.setdefaultacl(path, 1000, step.c % 8)


OPERATIONS: dict[str, Operation] = {
    "add": _add,
    "append": _on_file(lambda path, step: e.append(path, b"+" * (1 + step.b % 3))),
    "rewrite": _on_file(lambda path, step: e.rewrite(path)),
    "write at": _on_file(lambda path, step: e.write_at(path, (1, 5000, 1 << 17)[step.b % 3], b"@")),
    "truncate": _on_file(lambda path, step: e.truncate(path, (0, 1, 2, 70_000)[step.b % 4])),
    "open": _open,
    "remove": _remove,
    "recreate": _recreate,
    "rename": _rename,
    "rename directory": _rename_directory,
    "rename over": _rename_over,
    "swap": _swap,
    "exchange": _exchange,
    "replace": _replace,
    "link": _link("file"),
    "link of a special file": _link("symlink", "fifo", "socket", "char"),
    "chmod": _on_any(_chmod, "file", "directory", "fifo", "socket", "char"),
    "chmod and back": _chmod_and_back,
    "chmod of the root": _chmod_root,
    "chown": _on_any(lambda path, step: e.chown(path, step.b % 3, step.c % 3)),
    "utime": _on_any(lambda path, step: e.utime(path, (step.b - 3) * 1_000_000_007)),
    "xattr": _on_any(_xattr),
    "user xattr": _on_any(
        lambda path, step: e.setxattr(path, f"user.n{step.b % 2}", b"u" * (step.c % 3)),
        "file",
        "directory",
    ),
    "marker": _on_any(_marker),
    "user marker": _on_any(
        lambda path, step: e.setxattr(path, "user.overlay.opaque", b"y"), "file", "directory"
    ),
    "remove xattr": _on_any(lambda path, step: e.removexattr(path, f"trusted.note{step.b % 2}")),
    "acl": _on_any(_acl, "file", "directory"),
    "default acl": _on_any(_default_acl, "directory"),
    "capability": _on_file(lambda path, step: e.setxattr(path, "security.capability", CAPABILITY)),
}

# Directory renames are where overlays are hard, so they are drawn more often.
WEIGHTS = [4 if "rename" in op or op in ("swap", "replace") else 2 for op in OPERATIONS]

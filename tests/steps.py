"""Test foundation: random sequences of edits that always apply.

A `Step` is an operation and a few integers that choose among what is there, so any list of
steps means something on any tree, shrinks well, and is the same on every run.
"""

from __future__ import annotations

import errno
import os
import random
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests import edits as e
from tests.beneath import Root, beneath, join
from tests.edits import Edit
from tests.trees import Dir, Fifo, File, Symlink, Tree, kind_of

NAMES = (b"a", b"b", b"c", b"d", b"a-b", b"a b\n", b"\xff\xfe", b"-r", b".wh.a", b'x:y,z\\"')


class Step(NamedTuple):
    op: str
    a: int
    b: int
    c: int


class _Tree(NamedTuple):
    """What there is, sorted; `directories` begins with the root, ``b""``."""

    directories: list[bytes]
    files: list[bytes]
    everything: list[bytes]


def _survey(root: Path) -> _Tree:
    tree = _Tree([b""], [], [])

    def visit(directory: bytes) -> None:
        with beneath(root, directory) as at:
            names = sorted(os.listdir(at))
        for name in names:
            path = join(directory, name)
            with beneath(root, path) as at:
                kind = kind_of(os.lstat(at).st_mode)
            tree.everything.append(path)
            if kind == "file":
                tree.files.append(path)
            if kind == "directory":
                tree.directories.append(path)
                visit(path)

    visit(b"")
    return tree


def _free(root: Path, tree: _Tree, step: Step) -> bytes | None:
    """A path where nothing is, None if the chosen name is taken."""
    path = join(tree.directories[step.b % len(tree.directories)], NAMES[step.c % len(NAMES)])
    with beneath(root, path) as at:
        return None if os.path.lexists(at) else path


def _pick(paths: list[bytes], number: int) -> bytes | None:
    return paths[number % len(paths)] if paths else None


def perform(root: Path, step: Step) -> str:
    """Do one step below `root`; says what was done, for the reader of a failure."""
    tree = _survey(root)
    edit = _OPERATIONS[step.op](root, tree, step)
    if edit is None:
        return f"{step.op}: nothing to do it to"
    try:
        edit(root)
    except OSError as error:
        # A redirect of more than 256 bytes, a file that became its own directory's child.
        if error.errno not in (
            errno.EXDEV,
            errno.EINVAL,
            errno.ENOTEMPTY,
            errno.EISDIR,
            errno.ENOTDIR,
        ):
            raise
        return f"{step}: {error}"
    return f"{step}"


_Operation = Callable[[Path, _Tree, Step], Edit | None]
_LITERALS: tuple[Tree, ...] = (
    File(b"new"),
    File(b""),
    Dir(),
    Dir({"a": File(b"in"), "b": Dir({"c": File(b"inner")})}),
    Symlink("a"),
    Fifo(),
)


def _add(root: Path, tree: _Tree, step: Step) -> Edit | None:
    path = _free(root, tree, step)
    return None if path is None else e.add(path, _LITERALS[step.a % len(_LITERALS)])


def _on_file(make: Callable[[bytes, Step], Edit]) -> _Operation:
    def operation(root: Path, tree: _Tree, step: Step) -> Edit | None:
        path = _pick(tree.files, step.a)
        return None if path is None else make(path, step)

    return operation


def _on_any(make: Callable[[bytes, Step], Edit]) -> _Operation:
    def operation(root: Path, tree: _Tree, step: Step) -> Edit | None:
        path = _pick(tree.everything, step.a)
        return None if path is None else make(path, step)

    return operation


def _rename(root: Path, tree: _Tree, step: Step) -> Edit | None:
    source, target = _pick(tree.everything, step.a), _free(root, tree, step)
    if source is None or target is None:
        return None
    return e.rename(source, target)


def _rename_directory(root: Path, tree: _Tree, step: Step) -> Edit | None:
    source, target = _pick(tree.directories[1:], step.a), _free(root, tree, step)
    if source is None or target is None:
        return None
    return e.rename(source, target)


def _rename_over(root: Path, tree: _Tree, step: Step) -> Edit | None:
    source, target = _pick(tree.everything, step.a), _pick(tree.everything, step.b)
    if source is None or target is None or source == target:
        return None
    if target.startswith(source + b"/") or source.startswith(target + b"/"):
        return None
    return e.sequence(e.remove(target), e.rename(source, target))


def _swap(root: Path, tree: _Tree, step: Step) -> Edit | None:
    source, target = _pick(tree.directories[1:], step.a), _pick(tree.directories[1:], step.b)
    if source is None or target is None or source == target:
        return None
    if target.startswith(source + b"/") or source.startswith(target + b"/"):
        return None
    return e.swap(source, target)


def _replace(root: Path, tree: _Tree, step: Step) -> Edit | None:
    """Move a directory away and make another one of its name."""
    source, target = _pick(tree.directories[1:], step.a), _free(root, tree, step)
    if source is None or target is None:
        return None
    if target.startswith(source + b"/"):
        return None
    return e.sequence(e.rename(source, target), e.add(source, Dir({"a": File(b"in its place")})))


def _link(root: Path, tree: _Tree, step: Step) -> Edit | None:
    source, target = _pick(tree.files, step.a), _free(root, tree, step)
    return None if source is None or target is None else e.link(source, target)


def _chmod_and_back(root: Path, tree: _Tree, step: Step) -> Edit | None:
    path = _pick(tree.files, step.a)
    if path is None:
        return None
    with beneath(root, path) as at:
        mode = stat.S_IMODE(os.lstat(at).st_mode)
    return e.sequence(e.chmod(path, mode ^ 0o111), e.chmod(path, mode))


def _chmod(path: bytes, step: Step) -> Edit:
    def edit(root: Root) -> None:
        with beneath(root, path) as at:
            if not stat.S_ISLNK(os.lstat(at).st_mode):
                os.chmod(at, (0o600, 0o644, 0o755, 0o4711)[step.b % 4])

    return edit


def _xattr(path: bytes, step: Step) -> Edit:
    # Not "user.": that namespace is for files and directories only.
    return e.setxattr(path, f"trusted.note{step.b % 2}", b"v" * (step.c % 3))


_OPERATIONS: dict[str, _Operation] = {
    "add": _add,
    "append": _on_file(lambda path, step: e.append(path, b"+" * (1 + step.b % 3))),
    "rewrite": _on_file(lambda path, step: e.rewrite(path)),
    "truncate": _on_file(lambda path, step: e.truncate(path, step.b % 3)),
    "open": _on_file(lambda path, step: e.open_and_close(path)),
    "remove": _on_any(lambda path, step: e.remove(path)),
    "recreate": _on_any(lambda path, step: e.recreate(path, _LITERALS[step.b % len(_LITERALS)])),
    "rename": _rename,
    "rename directory": _rename_directory,
    "rename over": _rename_over,
    "swap": _swap,
    "replace": _replace,
    "link": _link,
    "chmod": _on_any(_chmod),
    "chmod and back": _chmod_and_back,
    "chown": _on_any(lambda path, step: e.chown(path, step.b % 3, step.c % 3)),
    "utime": _on_any(lambda path, step: e.utime(path, step.b * 1_000_000_007)),
    "xattr": _on_any(_xattr),
}

OPERATIONS = tuple(_OPERATIONS)

# Directory renames are where overlays are hard, so they are drawn more often.
_WEIGHTS = [4 if "rename" in op or op in ("swap", "replace") else 2 for op in OPERATIONS]

START = Dir(
    {
        "a": Dir({"a": File(b"aa"), "b": Dir({"c": File(b"abc"), "d": Dir({"a": File(b"deep")})})}),
        "b": Dir({"c": Dir({"a": File(b"bca"), "b": File(b"bcb")}), "a": Symlink("c")}),
        "c": File(b"cc", xattrs={"trusted.note0": b"base"}),
        "d": Dir(),
    }
)
"""A small base on which steps meet each other often."""


def random_steps(seed: int, count: int) -> list[Step]:
    rng = random.Random(seed)
    ops = rng.choices(OPERATIONS, weights=_WEIGHTS, k=count)
    return [Step(op, *(rng.randrange(1000) for _ in range(3))) for op in ops]


def random_layers(seed: int, layers: int, count: int) -> list[list[Step]]:
    """`layers` lists of up to `count` steps."""
    rng = random.Random(seed)
    return [random_steps(rng.getrandbits(32), rng.randint(1, count)) for _ in range(layers)]


def perform_all(root: Path, steps: Sequence[Step]) -> list[str]:
    return [perform(root, step) for step in steps]

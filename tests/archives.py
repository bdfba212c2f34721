"""Test foundation: what others do with an export, by tar(1), rsync(1) and OCI's rules."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path

from tests.trees import Snapshot

WHITEOUT = b".wh."
SIDECAR = b".wh..wh.dsbranch"


def unpack(tar: Path, at: Path) -> Path:
    """Unpack a tar with GNU tar into the new directory `at`."""
    at.mkdir()
    _untar(tar, at)
    return at


def apply_tar(tar: Path, onto: Path) -> None:
    """Lay a tar of changes over a tree."""
    with tarfile.open(tar, encoding="utf-8", errors="surrogateescape") as members:
        for member in members:
            path = os.path.join(os.fsencode(onto), os.fsencode(member.name))
            directory, name = os.path.split(path)
            if name.startswith(WHITEOUT):
                remove(os.path.join(directory, name.removeprefix(WHITEOUT)))
            elif os.path.lexists(path):
                if member.isdir() and _is_directory(path):
                    for xattr in os.listxattr(path):
                        os.removexattr(path, xattr)
                else:
                    remove(path)
    _untar(tar, onto)


def apply_directory(changes: Path, onto: Path) -> None:
    """Lay a directory of changes over a tree. `changes` is used up."""
    (changes / os.fsdecode(SIDECAR)).unlink(missing_ok=True)
    top, below = os.fsencode(changes), os.fsencode(onto)
    for directory, inner, files in os.walk(top):
        place = os.path.join(below, os.path.relpath(directory, top))
        for name in [*inner, *files]:
            here, there = os.path.join(directory, name), os.path.join(place, name)
            if name.startswith(WHITEOUT):
                remove(os.path.join(place, name.removeprefix(WHITEOUT)))
                os.unlink(here)
            elif os.path.lexists(there) and not (_is_directory(here) and _is_directory(there)):
                remove(there)
    _run("rsync", "-aHAX", "--numeric-ids", f"{changes}/", f"{onto}/")


def _untar(tar: Path, at: Path) -> None:
    whiteouts = ("--wildcards", "--no-anchored", "--exclude=.wh.*")
    # `--acls`: else what lies in a directory with a default ACL inherits from it.
    _run("tar", "--acls", "--xattrs", "--xattrs-include=*", *whiteouts, "-C", at, "-xpf", tar)


def remove(path: bytes) -> None:
    if _is_directory(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def copy(tree: Path, at: Path) -> Path:
    """The same tree once more, in the new directory `at`."""
    _run("cp", "-a", "--", tree, at)
    return at


def unsayable(paths: Snapshot, *, as_tar: bool) -> bool:
    """Whether these entries cannot be exported."""
    return any(
        (as_tar and node.kind == "socket")
        or any(name.startswith(WHITEOUT) for name in path.split(b"/"))
        for path, node in paths.items()
    )


def is_top(gone: bytes, view: Snapshot) -> bool:
    """Whether a path that is gone from `view` was in a directory that it still has."""
    above = view.get(gone.rpartition(b"/")[0])
    return above is not None and above.kind == "directory"


def _is_directory(path: bytes) -> bool:
    return stat.S_ISDIR(os.lstat(path).st_mode)


def _run(*arguments: object) -> None:
    command = [argument if isinstance(argument, bytes) else str(argument) for argument in arguments]
    if any(str(word).endswith(".zst") for word in command) and shutil.which("zstd") is None:
        # GNU tar calls it.
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "zstd")
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, (command, done.stderr)

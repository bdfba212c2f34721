"""Room ``cli``: where a command works: the workspace, the branch implied, the paths meant.

The only reader of the current directory. Decides nothing about branches themselves.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from dsbranch.cli import render
from dsbranch.cli.call import Call
from dsbranch.errors import BadPath, IntegrityError, UsageError
from dsbranch.workspace import Workspace
from dsbranch.workspace import open as open_at

_DISK_GONE = """\
error: a file of the workspace was cut off, could not be read or found no room while it was in use
hint: where the disk is full free some space, else see `dmesg`; then run `dsbranch verify`
"""


def here() -> Path:
    """The current directory. One that a commit has replaced is reached by its name: the kernel
    no longer has a path for it, but the shell remembers."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        remembered = os.environ.get("PWD", "")
        if os.path.isabs(remembered) and os.path.isdir(remembered):
            return Path(remembered)
        raise BadPath(
            "the current directory no longer exists", hint="`cd` to one that does"
        ) from None


def from_here(path: Path) -> Path:
    """`path` made absolute, in a current directory that a commit has replaced, too."""
    return path if path.is_absolute() else here() / path


def chosen_directory(call: Call) -> Path | None:
    """What ``-C`` named, absolute."""
    return None if call.workspace is None else from_here(call.workspace)


@contextmanager
def open_workspace(call: Call) -> Iterator[Workspace]:
    """The workspace that is meant, with a bar for each long phase on a terminal."""
    with open_at(chosen_directory(call) or here()) as workspace, _shown(workspace):
        workspace.last_words(_DISK_GONE, IntegrityError.exit_code)
        try:
            yield workspace
        finally:
            for note in workspace.notes:
                render.note(note)


def _shown(workspace: Workspace) -> AbstractContextManager[None]:
    if not sys.stderr.isatty():
        return nullcontext()
    from dsbranch.cli.bar import shown

    return shown(workspace)


def current_branch(call: Call, workspace: Workspace) -> str | None:
    """The branch in whose mount ``-C DIR``, or else the current directory, lies."""
    directory = chosen_directory(call)
    if directory is not None:
        branch = workspace.current_branch(directory)
        if branch is not None:
            return branch
    try:
        return workspace.current_branch(here())
    except BadPath:
        # A directory that is gone lies in no branch.
        return None


def branch_or_current(call: Call, workspace: Workspace, name: str | None) -> str:
    branch = name or current_branch(call, workspace)
    if branch is None:
        raise UsageError(
            "it is not clear which branch is meant",
            hint="give a branch name, or run this inside a mounted branch",
        )
    return branch


def branch_paths(workspace: Workspace, given: Sequence[str]) -> list[bytes]:
    """Paths relative to a branch's root. None given, or the root among them, means everything.

    An absolute path must lie in a mounted branch. A relative one counts from the current
    directory inside a branch, as in git, and from the branch's root elsewhere.

    :raises BadPath: a path lies outside
    """
    if not given:
        return []
    mountpoints = [info.mountpoint for info in workspace.list()]
    roots = [os.path.realpath(path) for path in mountpoints if path is not None]
    # A branch can be mounted within another one: the deepest is the one meant.
    roots.sort(key=len, reverse=True)
    paths = [_branch_path(path, roots) for path in given]
    return [] if b"" in paths else paths


def _branch_path(given: str, roots: Sequence[str]) -> bytes:
    relative: str | None
    if os.path.isabs(given):
        relative = _below(_real(given), roots)
    else:
        directory = _below(os.path.realpath(here()), roots)
        relative = os.path.normpath(os.path.join(directory or "", given))
    if relative is None or relative.split("/", 1)[0] == "..":
        raise BadPath(
            f"{given} lies outside of every mounted branch",
            hint="give paths relative to the branch's root, as `dsbranch diff` shows them",
        )
    return b"" if relative == "." else os.fsencode(relative)


def _real(path: str) -> str:
    # The last component may be a symlink of the branch, and is meant itself.
    head, tail = os.path.split(os.path.normpath(path))
    return os.path.join(os.path.realpath(head), tail) if tail else head


def _below(path: str, roots: Sequence[str]) -> str | None:
    for root in roots:
        if path == root or path.startswith(root + "/"):
            return os.path.relpath(path, root)
    return None

"""Which sealed layers show a commit or branch, and the dataset they lie over: all that a mount
needs to know, without a look into a layer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dsbranch.errors import IntegrityError
from dsbranch.model.facts import Branch
from dsbranch.ops.context import Context, require_sight
from dsbranch.store.faults import from_errno
from dsbranch.store.layout import is_directory


def lowers_of(context: Context, commit: str, *, cuts: Sequence[str] = ()) -> list[str]:
    """The sealed layers that show a commit's view over the base, newest first.

    They are checkpoints where there are any, but for such as reach across one of the commits
    `cuts`: below one that both pass, the layers of two commits are the same.
    """
    return [layer for run in context.store.runs(commit, cuts) for layer in run.layers]


def apart(context: Context, *commits: str) -> list[list[str]]:
    """The lowers of commits that are to be compared: below the commits in which their lines
    meet they are the same, as comparing costs what is not, and tells by it what was renamed."""
    cuts = context.store.meetings(commits)
    return [lowers_of(context, commit, cuts=cuts) for commit in commits]


def branch_lowers(context: Context, branch: Branch) -> list[str]:
    """The sealed layers below a branch's open one, newest first."""
    return [*branch.pending, *lowers_of(context, branch.head)]


def is_there(context: Context, layer: str) -> bool:
    """Whether a sealed layer has its directory and its manifest."""
    return context.layout.fs(layer).is_dir() and context.layout.manifest(layer).is_file()


def root_of_view(context: Context, commit: str) -> Path:
    """The directory whose metadata the root of a commit's view shows: its topmost layer's.

    :raises IntegrityError: that or the base is not there
    """
    return root_of_stack(context, lowers_of(context, commit))


def root_of_stack(context: Context, layers: Sequence[str]) -> Path:
    """As `root_of_view`, of a stack of sealed layers, newest first, over the base."""
    require_base(context)
    return require_layer(context, layers[0]) if layers else context.base


def require_layer(context: Context, layer: str) -> Path:
    """The directory of a sealed layer.

    :raises IntegrityError: it is gone
    """
    path = context.layout.fs(layer)
    if not is_directory(path):
        raise IntegrityError(
            f"the directory of layer {layer} is gone",
            hint="`dsbranch verify` tells what is lost; a backup or an export may still have it,"
            " and `dsbranch rollback BRANCH --to` an older commit does without",
        )
    return path


def require_base(context: Context) -> None:
    """:raises NoPrivilege: see `require_sight`
    :raises IntegrityError: the base is gone, or only an empty directory is where it was

    A dataset that was restored from a backup has another inode and is still the dataset; an
    empty directory in its place is the mount point of a disk that is not there.
    """
    require_sight(context)
    path = context.base
    try:
        inode = os.stat(path).st_ino
        replaced = inode != context.store.base_identity[1] and not any(path.iterdir())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise IntegrityError(
            f"the base {path} is gone", hint="put it back, or mount the disk it lies on"
        ) from error
    except OSError as error:
        raise from_errno(error.errno or 0, f"open the base {path}") from error
    if replaced:
        raise IntegrityError(
            f"another directory, an empty one, is where the base {path} was",
            hint="mount the disk the dataset lies on, or put it back",
        )

"""Room overlay: mount plans as data. Pure: no I/O, no system call.

Promises that every option is stated, whatever the module's defaults on the machine are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dsbranch.errors import UnsupportedError
from dsbranch.model.facts import Dialect
from dsbranch.model.views import MountPlan

MAX_LOWERS = 500
"""What the kernel stacks at most (OVL_MAX_STACK in fs/overlayfs/super.c)."""

_SCHEME = "dsbranch"

_COMMON = (
    # With the index a second mount of a layer, or a layer restored from a backup, is refused.
    ("index", "off"),
    ("nfs_export", "off"),
    ("xino", "auto"),
    # Else the kernel stamps overlay.uuid on every upper root, which then is part of the layer.
    ("uuid", "null"),
)

_BY_DIALECT: dict[Dialect, tuple[tuple[str, str], ...]] = {
    "trusted": (("redirect_dir", "on"), ("metacopy", "on")),
    # The kernel refuses userxattr with redirects or metacopy, redirect_dir=off included:
    # off means "follow those there are", and anybody could have written them.
    "user": (("userxattr", ""), ("redirect_dir", "nofollow"), ("metacopy", "off")),
}


def source(workspace_id: str, *, layer: str | None = None, commit: str | None = None) -> str:
    """What mount tables show in the first column: of an open layer, or of a read-only commit.

    :raises ValueError: not exactly one of `layer` and `commit`
    """
    if (layer is None) == (commit is None):
        raise ValueError("a mount shows either an open layer or a commit")
    return f"{source_prefix(workspace_id)}{layer if commit is None else '@' + commit}"


def source_prefix(workspace_id: str) -> str:
    """What every `source` of a workspace begins with."""
    return f"{_SCHEME}:{workspace_id}:"


def parse_source(text: str) -> tuple[str, str | None, str | None] | None:
    """Workspace id, layer and commit of a `source`; None if it is not one of dsbranch's."""
    match text.split(":"):
        case [scheme, workspace, shown] if scheme == _SCHEME and workspace and shown.strip("@"):
            if shown.startswith("@"):
                return workspace, None, shown[1:]
            return workspace, shown, None
    return None


def plan(
    *,
    lowers: Sequence[Path],
    upper: Path | None,
    work: Path | None,
    source: str,
    dialect: Dialect,
) -> MountPlan:
    """The plan of one overlay: `lowers` newest first, the base last.

    Without `upper` and `work` it is read-only, and the kernel wants two lowers: give an empty
    directory as the last one if there is but the base.

    :raises UnsupportedError: more lowers than the kernel stacks
    :raises ValueError: the call itself is wrong
    """
    if (upper is None) != (work is None):
        raise ValueError("upper and work go together")
    if len(lowers) < (2 if upper is None else 1):
        raise ValueError(f"too few lower directories: {len(lowers)}")
    places = [*lowers, *(place for place in (upper, work) if place is not None)]
    if not all(place.is_absolute() for place in places):
        raise ValueError("mount plans take absolute paths")
    if len(lowers) > MAX_LOWERS:
        raise UnsupportedError(
            f"{len(lowers)} layers lie on each other, and the kernel stacks {MAX_LOWERS} at most",
            hint="`dsbranch squash` makes one layer of many",
        )
    return MountPlan(
        lowers=tuple(lowers),
        upper=upper,
        work=work,
        source=source,
        options=_BY_DIALECT[dialect] + _COMMON,
    )

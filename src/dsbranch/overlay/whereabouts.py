"""Room overlay: from the names in mount tables to the directories that are meant. Read only.

Container engines go into their storage before they mount, so that the names are short
(``l/XXXX``, ``ID/diff``), and mount tables show names as they were given. The directory they
count from is a parent of the upper directory or of the mount point: the nearest one in which
every such name leads to a directory is taken.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from dsbranch.model.facts import Dialect
from dsbranch.overlay.markers import prefix
from dsbranch.overlay.stack import Stack, unescaped


class Whereabouts:
    """Finds the directories of one overlay. `near` are where it is mounted, or what else lies
    close to it; `roots` are the roots that absolute names may count from, the likeliest first:
    whoever mounted it may have had another one than we have."""

    def __init__(
        self, stack: Stack, near: Iterable[Path], roots: Sequence[Path] = (Path("/"),)
    ) -> None:
        self._roots = roots
        names = [name for name in (stack.upper, stack.work) if name is not None]
        names += [*stack.lowers, *stack.data]
        relative = [name for name in names if not name.startswith(b"/")]
        places = [Path(os.fsdecode(name)) for name in names if name.startswith(b"/")]
        self._home = _home(relative, [*places, *near]) if relative else None

    def find(self, name: bytes) -> tuple[Path, bool]:
        """The directory of that name, and whether it is there."""
        tried = [self._absolute(one) for one in (name, unescaped(name))]
        for path in (path for paths in tried for path in paths):
            if os.path.isdir(path):
                # Without symlinks, but for that to another root, which no path of ours can follow.
                return (path if path.parts[:2] == ("/", "proc") else path.resolve()), True
        return tried[0][0], False

    def _absolute(self, name: bytes) -> list[Path]:
        path = Path(os.fsdecode(name))
        if not path.is_absolute():
            return [path if self._home is None else self._home / path]
        return [root / path.relative_to("/") for root in self._roots]


def _home(names: Sequence[bytes], near: Sequence[Path]) -> Path | None:
    for place in near:
        for parent in place.parents:
            if all(_is_directory(parent, name) for name in names):
                return parent
    return None


def _is_directory(parent: Path, name: bytes) -> bool:
    return any(
        os.path.isdir(os.path.join(os.fsencode(parent), one)) for one in (name, unescaped(name))
    )


def dialect_of(upper: Path) -> Dialect:
    """Which xattrs the marks of an upper directory are that is not mounted.

    Its own marks tell; without any, whose storage it lies in: but for root nobody can write
    ``trusted.``.

    :raises OSError: with the path
    """
    names = os.listxattr(upper)
    if any(name.startswith(prefix("trusted").decode()) for name in names):
        return "trusted"
    if any(name.startswith(prefix("user").decode()) for name in names):
        return "user"
    return "trusted" if os.stat(upper.parent).st_uid == 0 else "user"

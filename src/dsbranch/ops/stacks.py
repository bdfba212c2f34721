"""From commits and branches to views the core can compare: tables of layers, and the base."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from errno import EACCES
from pathlib import Path
from typing import TypeVar

from dsbranch._core.base import Base
from dsbranch._core.content import share_digests
from dsbranch._core.scan import scan
from dsbranch._core.table import Table
from dsbranch._core.view import View
from dsbranch.errors import DsbranchError, IntegrityError, NoPrivilege
from dsbranch.model.facts import Branch
from dsbranch.ops.context import Context
from dsbranch.store import index
from dsbranch.store.faults import from_errno

_Thing = TypeVar("_Thing")


@contextmanager
def reading(place: Path, doing: str = "read") -> Iterator[None]:
    """Give the core's errors domain names; `place` is the directory their paths are relative to."""
    try:
        with consistent(place):
            yield
    except OSError as error:
        if error.errno is None:
            raise
        where = place / os.fsdecode(error.filename) if error.filename else place
        raise _closed(place, where, error) or from_errno(error.errno, f"{doing} {where}") from error


def _closed(place: Path, where: Path, error: OSError) -> NoPrivilege | None:
    """The error for what the caller owns and has no right to read."""
    try:
        status = os.lstat(where)
    except OSError:
        return None
    if error.errno != EACCES or status.st_uid != os.geteuid():
        return None
    from shlex import quote

    wanted = "u+rx" if stat.S_ISDIR(status.st_mode) else "u+r"
    in_layer = place.name == "fs"
    named = quote(os.fspath(where.relative_to(place) if in_layer else where))
    return NoPrivilege(
        f"{where} is yours, and closed to you",
        hint=f"open it{' in the branch' if in_layer else ''}: `chmod {wanted} {named}`",
    )


def told(context: Context, things: Iterable[_Thing]) -> Iterator[_Thing]:
    """What is made up of views while it is gone through: that a view cannot be read has nothing to
    do with what is made of it."""
    with reading(context.root):
        yield from things


@contextmanager
def consistent(place: Path) -> Iterator[None]:
    """Take the core's ValueError for what it is: layers that contradict each other."""
    try:
        yield
    except ValueError as error:
        raise IntegrityError(
            f"the layers of {place} contradict each other: {error}",
            hint="has something written into `.dsbranch/layers`?",
        ) from error


def base(context: Context) -> Base:
    """The adopted directory, to be looked into during one operation.

    :raises IntegrityError: it is gone, or something else lies there now
    """
    path = context.base
    require_base(context)
    try:
        found = Base(os.fsencode(path), dialect=context.store.dialect)
        found.spill_into(spill(context))
        return found
    except OSError as error:
        raise from_errno(error.errno or 0, f"open the base {path}") from error


def require_sight(context: Context) -> None:
    """:raises NoPrivilege: layers hold markers that this process cannot see, so that a deletion or
    a renamed directory would look like none
    """
    if not context.sees_markers:
        raise NoPrivilege(
            f"the workspace {context.root} was made by root: what its layers say of deleted and"
            " renamed directories is for root's eyes only",
            hint="run the command as root, for example with sudo,"
            " or make a workspace of your own: `dsbranch init`",
        )


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


def sealed(context: Context, layer: str) -> Table:
    """What the manifest of a sealed layer says, with its directory at hand."""
    table = context.tables.get(layer)
    if table is not None:
        return table
    table = recorded(context, layer)
    try:
        table.open(os.fsencode(context.layout.fs(layer)))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise IntegrityError(f"the directory of layer {layer} is gone") from error
    context.tables[layer] = table
    return table


def recorded(context: Context, layer: str) -> Table:
    """What the manifest of a sealed layer says, to be looked at once."""
    path = context.layout.manifest(layer)
    place = context.layout.index_file(layer)
    table = index.read(place, path, context.digests)
    if table is not None:
        return table
    table = from_manifest(context, layer)
    # To the next reader's gain. Where nothing may or can be written there is none.
    with suppress(DsbranchError):
        index.write(place, table, path)
    return table


def from_manifest(context: Context, layer: str) -> Table:
    """What the manifest of a sealed layer says, with the digests that were computed later.

    :raises IntegrityError: it is malformed
    """
    # Most find an index, and need none of these.
    from dsbranch.store import later, manifest

    path = context.layout.manifest(layer)
    try:
        table = manifest.read(path, spill=spill(context))
        if later.take(context.layout.later_digests(layer), table):
            share_digests(table)  # they are one for each inode
    except ValueError as error:
        raise IntegrityError(f"the manifest {path} is malformed: {error}") from error
    return table


def spill(context: Context) -> bytes:
    """Where tables go that are too large for memory."""
    return os.fsencode(context.layout.layers)


def lowers(context: Context, commit: str, *, cuts: Sequence[str] = ()) -> list[str]:
    """The sealed layers that show a commit's view over the base, newest first.

    They are checkpoints where there are any, but for such as reach across one of the commits
    `cuts`: below one that both pass, the layers of two commits are the same.
    """
    return [layer for run in context.store.runs(commit, cuts) for layer in run.layers]


def apart(context: Context, *commits: str) -> list[list[str]]:
    """The lowers of commits that are to be compared: below the commits in which their lines
    meet they are the same, as comparing costs what is not, and tells by it what was renamed."""
    cuts = context.store.meetings(commits)
    return [lowers(context, commit, cuts=cuts) for commit in commits]


def pair(context: Context, a: str, b: str) -> tuple[View, View]:
    """The views of two commits, made to be compared."""
    one, two = _views(context, a, b)
    return one, two


def trio(context: Context, a: str, b: str, c: str) -> tuple[View, View, View]:
    """The views of three commits, made to be compared."""
    one, two, three = _views(context, a, b, c)
    return one, two, three


def _views(context: Context, *commits: str) -> list[View]:
    below = base(context)
    return [View(tables(context, found), below) for found in apart(context, *commits)]


def branch_lowers(context: Context, branch: Branch) -> list[str]:
    """The sealed layers below a branch's open one, newest first."""
    return [*branch.pending, *lowers(context, branch.head)]


def tables(context: Context, layers: Sequence[str]) -> list[Table]:
    """The manifests of sealed layers."""
    return [sealed(context, layer) for layer in layers]


def open_table(context: Context, branch: Branch, *, live: bool = True) -> Table:
    """Scan the open layer of a branch. `live`: it may change under the walk."""
    return scanned(context, branch.layer, live=live)


def scanned(context: Context, layer: str, *, live: bool = False) -> Table:
    """Scan the directory of a layer that has no manifest yet."""
    require_sight(context)
    place = context.layout.fs(layer)
    with reading(place):
        return scan(
            os.fsencode(place),
            dialect=context.store.dialect,
            live=live,
            spill=spill(context),
            progress=context.report("scanning"),
        )


def root_of_view(context: Context, commit: str) -> Path:
    """The directory whose metadata the root of a commit's view shows: its topmost layer's.

    :raises IntegrityError: the base is not there
    """
    return root_of_stack(context, lowers(context, commit))


def root_of_stack(context: Context, layers: Sequence[str]) -> Path:
    """As `root_of_view`, of a stack of sealed layers, newest first, over the base."""
    require_base(context)
    return context.layout.fs(layers[0]) if layers else context.base

"""From commits and branches to views the core can compare: tables of layers, and the base."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from errno import EACCES, ENOENT, ENOTDIR
from pathlib import Path
from typing import TypeVar

from dsbranch._core.base import Base
from dsbranch._core.content import share_digests
from dsbranch._core.scan import scan
from dsbranch._core.table import Table
from dsbranch._core.view import View
from dsbranch.errors import DsbranchError, IntegrityError, NoPrivilege, StorageError
from dsbranch.model.facts import Branch
from dsbranch.ops.context import Context, require_sight
from dsbranch.ops.lowers import apart, require_base, require_layer
from dsbranch.ops.serving import may_hold_marks
from dsbranch.store import index
from dsbranch.store.faults import MANIFEST_HINT, from_errno, storage

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


def sealed(context: Context, layer: str) -> Table:
    """What the manifest of a sealed layer says, with its directory at hand."""
    table = context.tables.get(layer)
    if table is not None:
        return table
    table = recorded(context, layer)
    place = require_layer(context, layer)
    with storage(f"open {place}"):
        table.open(os.fsencode(place))
    context.tables[layer] = table
    return table


def recorded(context: Context, layer: str) -> Table:
    """What the manifest of a sealed layer says, to be looked at once."""
    path = context.layout.manifest(layer)
    place = context.layout.index_file(layer)
    table = index.read(place, path, context.digests)
    if table is not None:
        return table
    try:
        table = from_manifest(context, layer)
    except StorageError as error:
        if error.errno not in (ENOENT, ENOTDIR):
            raise
        require_layer(context, layer)
        raise IntegrityError(f"the manifest {path} is gone", hint=MANIFEST_HINT) from error
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
        raise IntegrityError(
            f"the manifest {path} is malformed: {error}", hint=MANIFEST_HINT
        ) from error
    return table


def spill(context: Context) -> bytes:
    """Where tables go that are too large for memory."""
    return os.fsencode(context.layout.layers)


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
            served=may_hold_marks(context, layer),
            live=live,
            spill=spill(context),
            progress=context.report("scanning"),
        )

"""The part of ``verify`` that repairs: what can be is made again, and nothing is deleted.

A manifest is rebuilt from the files of its layer, an index from its manifest, a workdir is made;
the store from its journal, and that from the store. What was damaged is kept beside, under another
name. gc is kept away meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from errno import EIO, ENOENT
from pathlib import Path

from dsbranch._core.content import digest_files
from dsbranch._core.table import Table
from dsbranch.errors import IntegrityError, NoPrivilege, StorageError
from dsbranch.model.facts import Commit, Layer
from dsbranch.model.history import History
from dsbranch.ops import stacks
from dsbranch.ops.consistency import name_of
from dsbranch.ops.context import Context, workspace_root
from dsbranch.ops.context import name_of as name_of_user
from dsbranch.store import index, manifest, recovery, sweep
from dsbranch.store.faults import storage
from dsbranch.store.identity import commit_id
from dsbranch.store.layout import Layout, is_directory, sync_directory
from dsbranch.store.lock import gc_lock


def recover(start: Path) -> str | None:
    """Make the store of the workspace at or above `start` again, if it is damaged or gone; what was
    done.

    :raises NoPrivilege: the workspace is somebody else's
    :raises IntegrityError: there is nothing left to make it again from
    :raises Locked: other commands have it open
    :raises StorageError: the disk is full or failing
    """
    layout = Layout(workspace_root(start))
    with storage(f"look at {layout.layers}"):
        owner = os.stat(layout.layers).st_uid
    if owner != os.geteuid():
        raise NoPrivilege(
            f"the workspace {layout.root} is {name_of_user(owner)}'s",
            hint=f"run the command as {name_of_user(owner)}",
        )
    return recovery.recover(layout)


def repair(context: Context) -> list[str]:
    """Repair what can be; what was done, a sentence each.

    :raises Locked: gc runs
    :raises StorageError: the disk is full or failing
    """
    with gc_lock(context.layout, verb="verify --repair"):
        try:
            with context.store.snapshot():
                history = sweep.history(context.store)
        except IntegrityError:
            # `recover` comes before there is a context; verify tells of what it could not do.
            return []
        done = [
            done for layer in history.layers.values() for done in _layer(context, history, layer)
        ]
        if sweep.journal_flaw(context.store) is not None:
            with storage(f"keep {context.layout.journal}"):
                _keep(context.layout.journal)
            sweep.renew_journal(context.store)
            done.append("the journal was written anew from the store")
        return done


def _layer(context: Context, history: History, layer: Layer) -> Iterator[str]:
    if not is_directory(context.layout.fs(layer.id)):
        return
    if layer.state == "open":
        yield from _workdir(context, history, layer)
        return
    path = context.layout.manifest(layer.id)
    place = context.layout.index_file(layer.id)
    owner = next((c for c in history.commits.values() if c.layer == layer.id), None)
    where = f"layer {layer.id}" + (f" of {name_of(owner)}" if owner else "")
    rebuilt = None
    try:
        table = stacks.from_manifest(context, layer.id)
    except IntegrityError as error:
        if isinstance(error, StorageError) and error.errno not in (ENOENT, EIO):
            raise
        table = rebuilt = _rebuild(context, layer, owner)
    else:
        if owner is not None and not _is_vouched_for(owner, path):
            rebuilt = _rebuild_as_committed(context, layer, owner)
            table = rebuilt or table
    if rebuilt is not None:
        _set_aside(context.layout.later_digests(layer.id))  # it goes by the rows of the manifest
        yield f"{where}: its manifest was rebuilt from its files"
    if index.flaw(place, path, table) is not None:
        index.write(place, table, path)
        yield f"layer {layer.id}: its index was made again"


def _workdir(context: Context, history: History, layer: Layer) -> Iterator[str]:
    work = context.layout.work(layer.id)
    used = any(branch.layer == layer.id for branch in history.branches)
    if used and not is_directory(work):
        with storage(f"make {work}"):
            work.mkdir()
            sync_directory(work.parent)
        yield f"layer {layer.id}: its workdir was made again"


def _is_vouched_for(commit: Commit, path: Path) -> bool:
    """Whether a manifest that can be read is the one that was committed, or is known not to be."""
    return manifest.is_rebuilt(path) or _is_its(commit, manifest.digest_file(path))


def _rebuild_as_committed(context: Context, layer: Layer, owner: Commit) -> Table | None:
    """Write the manifest anew if that makes it what was committed; None: it does not, and which one
    is nearer to that nobody knows, so the one that is there stays."""
    path = context.layout.manifest(layer.id)
    table = _held(context, layer)
    again = path.with_name(f"{path.name}.again")
    try:
        checksum = manifest.write(again, table, layer=layer.id, dialect=layer.dialect)
        if not _is_its(owner, checksum):
            return None
        with storage(f"keep {path}"):
            _keep(path)
            again.replace(path)
            sync_directory(path.parent)
    finally:
        again.unlink(missing_ok=True)
    return table


def _held(context: Context, layer: Layer) -> Table:
    """What the layer holds now."""
    table = stacks.scanned(context, layer.id)
    if layer.hashed:
        with stacks.reading(context.layout.fs(layer.id)):
            digest_files(table, progress=context.report("hashing"))
    return table


def _rebuild(context: Context, layer: Layer, owner: Commit | None) -> Table:
    """Write a manifest that says what the layer holds now."""
    path = context.layout.manifest(layer.id)
    table = _held(context, layer)
    with storage(f"keep {path}"), suppress(FileNotFoundError):
        _keep(path)
    checksum = manifest.write(path, table, layer=layer.id, dialect=layer.dialect)
    if owner is not None and not _is_its(owner, checksum):
        # Nobody can tell whether this is what was committed, and readers are to know.
        manifest.write(path, table, layer=layer.id, dialect=layer.dialect, rebuilt=True)
    return table


def _keep(path: Path) -> None:
    """Give a damaged file one more name, that no other has, before its own is taken."""
    number = 1
    while os.path.lexists(other := path.with_name(f"{path.name}.damaged-{number}")):
        number += 1
    os.link(path, other, follow_symlinks=False)


def _set_aside(path: Path) -> None:
    with storage(f"keep {path}"), suppress(FileNotFoundError):
        _keep(path)
        path.unlink()


def _is_its(commit: Commit, checksum: str) -> bool:
    """Whether the commit's id vouches for a manifest."""
    assert commit.layer is not None
    found = commit_id(
        author=commit.author,
        layer=commit.layer,
        manifest_sha256=checksum,
        message=commit.message,
        parents=commit.parents,
        time_ns=commit.time_ns,
    )
    return found == commit.id

"""Making and sealing layers: the steps that commit, rollback and squash share."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dsbranch._core import syscalls
from dsbranch.errors import DsbranchError, UsageError
from dsbranch.model.facts import Commit, Layer
from dsbranch.ops.context import Context
from dsbranch.overlay.markers import copy_root
from dsbranch.store.faults import storage
from dsbranch.store.identity import commit_id
from dsbranch.store.layout import RETIRED, new_layer_id
from dsbranch.store.lock import layer_claim
from dsbranch.store.removal import remove_soon, remove_tree

if TYPE_CHECKING:
    from dsbranch._core.table import Table

_MUCH = 100 << 20
"""Bytes that a slow disk takes a second for."""


@contextmanager
def new_layer(context: Context, root_like: Path, *, work: bool = True) -> Iterator[Layer]:
    """Make the directories of a new open layer; removed again if the body fails before its
    transaction. What the store knows of is never removed, whatever comes after. The body puts them
    on the disk before that: by `sync`, or as `create` does.

    `root_like` is the directory whose metadata the root of the view has.
    """
    layer = Layer(new_layer_id(), "open", context.store.dialect, time.time_ns())
    try:
        context.layout.make_layer_dirs(layer.id, work=work)
        with context.watched(), layer_claim(context.layout, layer.id):
            with storage(f"prepare the layer {layer.id}"):
                copy_root(root_like, context.layout.fs(layer.id), dialect=layer.dialect)
            yield layer
    except BaseException as error:
        if not context.store.may_have_layer(layer.id):
            # Should this fail too: a directory without a row is garbage.
            _drop(context.layout.layer(layer.id), error)
        raise


def _drop(path: Path, error: BaseException) -> None:
    """Remove a layer's directory. Whoever interrupts does not wait for that: what is left then is
    the next gc's, which knows it by its name."""
    if not isinstance(error, KeyboardInterrupt):
        _remove(path)
        return
    gone = path.with_name(path.name + RETIRED)
    with suppress(OSError):
        path.rename(gone)
        remove_soon(gone)


@contextmanager
def sealing(context: Context, layer: Layer, table: Table) -> Iterator[tuple[Layer, str]]:
    """`write_manifest` of an open layer; undone again if the body fails before its transaction."""
    try:
        yield write_manifest(context, layer, table)
    except BaseException:
        if not context.store.may_be_sealed(layer.id):
            # Should this fail too: the next commit writes over them.
            for path in (context.layout.manifest(layer.id), context.layout.index_file(layer.id)):
                with suppress(OSError):
                    path.unlink(missing_ok=True)
        raise


def write_manifest(context: Context, layer: Layer, table: Table) -> tuple[Layer, str]:
    """Write the manifest of a layer; the layer as it is once sealed, and the file's SHA-256.

    Both get to the disk with all else that the caller syncs before the transaction.
    """
    from dsbranch.store import index, manifest

    facts = table.summary()
    path = context.layout.manifest(layer.id)
    checksum = manifest.write(path, table, layer=layer.id, dialect=layer.dialect, sync=False)
    index.write(context.layout.index_file(layer.id), table, path, sync=False)
    sealed = Layer(
        id=layer.id,
        state="sealed",
        dialect=layer.dialect,
        created_ns=layer.created_ns,
        sealed_ns=time.time_ns(),
        entries=facts["entries"],
        bytes=facts["bytes"],
        hashed=facts["hashed"],
        redirects=facts["redirects"],
        metacopy=facts["metacopy"],
    )
    return sealed, checksum


def strip_notes(context: Context, layer: Layer, table: Table) -> None:
    """Remove from a layer what the kernel noted there, which means something in an open one only.

    After the transaction: a branch that goes on with the layer would not tell a renamed file from a
    deleted and an added one any more.
    """
    from dsbranch._core.seal import strip

    with storage(f"write {context.layout.fs(layer.id)}"):
        strip(table, dialect=layer.dialect)


def require_message(message: str) -> str:
    """The message without blank lines around it, so that its first line is its subject.

    :raises UsageError: there is nothing else in it
    """
    if not message.strip():
        raise UsageError("a commit needs a message", hint="give one with `-m MESSAGE`")
    return message.strip("\n")


def subject(message: str) -> str:
    """The first line of a commit's message."""
    return message.split("\n", 1)[0]


def new_commit(
    layer: Layer, checksum: str, *, parents: tuple[str, ...], message: str, author: str
) -> Commit:
    now = time.time_ns()
    id = commit_id(
        author=author,
        layer=layer.id,
        manifest_sha256=checksum,
        message=message,
        parents=parents,
        time_ns=now,
    )
    return Commit(id, parents, layer.id, message, author, now)


def flush(context: Context) -> None:
    """Have the disk take what is left to be written, where that is much.

    Nothing interrupts a process that waits for it in the kernel; so another one does, and this one
    waits for that. Who is interrupted leaves it at work. Whether it worked, the next `sync` tells,
    as the filesystem is `watched`.
    """
    if _unwritten() < _MUCH:
        return
    try:
        child = os.fork()
    except OSError:
        # There may be as many as there may be: `sync` waits for it, and nothing interrupts that.
        return
    if child == 0:
        try:
            # Or else who reads what we print, or wants a lock of ours when we were killed, would
            # wait, too.
            os.closerange(0, 1 << 20)
            syscalls.syncfs(os.open(context.layout.layers, os.O_RDONLY | os.O_DIRECTORY))
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def _unwritten() -> int:
    """How many bytes of files this machine has in memory that are not on a disk yet."""
    with suppress(OSError, KeyError), open("/proc/meminfo", "rb") as lines:
        sizes = dict(line.split()[:2] for line in lines)
        return 1024 * (int(sizes[b"Dirty:"]) + int(sizes[b"Writeback:"]))
    return 0


def sync(context: Context) -> None:
    """Put all that was written to the store's filesystem on the disk.

    :raises StorageError: the kernel reports a write that failed since it is `watched`
    """
    with context.watched() as disk:
        flush(context)
        with storage(f"write {context.layout.layers}"):
            syscalls.syncfs(disk)


def drop_workdir_if_sealed(context: Context, layer: str) -> None:
    """Remove the workdir of a layer that is open no longer. What is left is garbage for gc."""
    if context.store.is_sealed(layer):
        with suppress(OSError):
            context.layout.fuse_sign(layer).unlink()
        _remove(context.layout.work(layer))


def finish(context: Context, layer: str) -> None:
    """Do what is left to do in such a layer: the kernel's notes may still be there, and an idle
    copy may have been removed whose directory did not get its time back."""
    from dsbranch._core.seal import restore_times
    from dsbranch.ops import stacks

    # Who may not is told by `verify`; nothing that a branch does depends on it.
    with suppress(OSError, DsbranchError):
        table = stacks.sealed(context, layer)
        strip_notes(context, context.store.layer(layer), table)
        restore_times(table)
    drop_workdir_if_sealed(context, layer)


def _remove(tree: Path) -> None:
    """As far as it goes: what is left is garbage for gc."""
    remove_tree(tree, lambda _gone: None)

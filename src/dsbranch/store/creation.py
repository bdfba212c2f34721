"""The making of a new store. Room ``store``.

It promises that ``.dsbranch`` appears complete or not at all: it is built under a temporary
name beside its place, synced, and renamed. What a killed attempt leaves is called
``.dsbranch.<id>`` and is removed by the next attempt in the same directory.
"""

import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EEXIST, ENOTEMPTY
from pathlib import Path
from typing import NamedTuple

from dsbranch.errors import AlreadyExists, Locked
from dsbranch.model.facts import Branch, Commit, Dialect, Layer, Move
from dsbranch.store import journal, reserve, writes
from dsbranch.store.connection import Connection
from dsbranch.store.faults import storage
from dsbranch.store.identity import commit_id, new_id
from dsbranch.store.layout import DOT, FIRST_BRANCH, Layout, sync_directory

_LEFTOVER = re.compile(re.escape(DOT) + r"\.[0-9a-z]{10}")
_CONFIG = "# Settings of this dsbranch workspace. Format 1 knows none yet.\n"


class Adoption(NamedTuple):
    """The facts a new store begins with."""

    base: Path
    dialect: Dialect
    author: str


def is_leftover(name: str) -> bool:
    """Whether a directory entry of a workspace is what a killed attempt left behind."""
    return _LEFTOVER.fullmatch(name) is not None


def create(root: Path, adoption: Adoption, prepare: Callable[[Path], None] | None) -> None:
    """Make ``root/.dsbranch``; `prepare` gets the first open layer's ``fs`` to make it ready.

    :raises AlreadyExists: there is one
    :raises Locked: another process makes one here
    :raises StorageError: the disk is full or failing; nothing is left behind
    """
    what = f"make the store {root / DOT}"
    with _alone(root):
        with storage(what):
            _sweep(root)
            draft = root / f"{DOT}.{new_id()}"
            draft.mkdir()
        try:
            _build(draft, adoption, prepare)
            with storage(what):
                try:
                    draft.rename(root / DOT)
                except OSError as error:
                    if error.errno in (EEXIST, ENOTEMPTY):
                        raise AlreadyExists(f"{root} is a workspace already") from error
                    raise
                sync_directory(root)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)  # the first error is the one to report
            raise


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Hold the lock of the workspace directory itself, as there is no lock directory yet."""
    with storage(f"open {root}"):
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with storage(f"lock {root}"):
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Locked(
                    f"another dsbranch command is making a workspace of {root}",
                    hint="wait for it to end",
                ) from None
        yield
    finally:
        os.close(fd)


def _sweep(root: Path) -> None:
    for entry in list(os.scandir(root)):
        if is_leftover(entry.name) and entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)


def _build(draft: Path, adoption: Adoption, prepare: Callable[[Path], None] | None) -> None:
    # A layout whose root is never used: every path it gives lies below the draft.
    layout = _Draft(draft)
    layer = Layer(new_id(), "open", adoption.dialect, time.time_ns())
    with storage(f"make the store {draft}"):
        for directory in (layout.layers, layout.locks, layout.empty):
            directory.mkdir()
        layout.config.write_text(_CONFIG, encoding="utf-8")
        _sync_file(layout.config)
    reserve.keep(layout.reserve)
    layout.make_layer_dirs(layer.id, work=True)
    if prepare is not None:
        prepare(layout.fs(layer.id))
    db = Connection(layout.db, create=True)
    try:
        journal.make_tables(db)
        with db.transaction():
            _first_rows(db, adoption, layer)
        journal.write(layout, db)
    finally:
        db.close()
    with storage(f"make the store {draft}"):
        layout.sync_layer_dirs(layer.id)
        sync_directory(draft)


class _Draft(Layout):
    """The layout of a store under its temporary name."""

    @property
    def dot(self) -> Path:
        return self.root


def _first_rows(db: Connection, adoption: Adoption, layer: Layer) -> None:
    workspace, base, now = new_id(), os.fsencode(adoption.base), layer.created_ns
    with storage(f"look at {adoption.base}"):
        identity = os.stat(adoption.base)
    db.run(
        "INSERT INTO workspace VALUES (1, ?, ?, ?, ?, ?, ?)",
        workspace,
        base,
        _signed(identity.st_dev),
        _signed(identity.st_ino),
        adoption.dialect,
        now,
    )
    message = f"adopt {base.decode('utf-8', 'backslashreplace')}"
    root = Commit(
        commit_id(
            author=adoption.author,
            layer=workspace,
            manifest_sha256=None,
            message=message,
            parents=(),
            time_ns=now,
        ),
        (),
        None,
        message,
        adoption.author,
        now,
    )
    writes.insert_commit(db, root)
    writes.insert_layer(db, layer)
    main = Branch(0, FIRST_BRANCH, root.id, layer.id, root.id, now)
    done = writes.carry_out(db, [Move(None, main)], None)
    writes.log(db, "init", done, author=adoption.author, detail=message)


def _signed(number: int) -> int:
    """SQLite integers have 64 bits with sign; inode numbers use all 64 (as NFS does)."""
    return number - (1 << 64) if number >= 1 << 63 else number


def _sync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

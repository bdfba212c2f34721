"""Making ``store.db`` again where it is damaged or gone. Room ``store``.

It promises that what is there is kept under another name, and that the new one appears complete or
not at all. Commands that have the damaged one open keep it from being replaced.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from dsbranch.errors import DsbranchError, IntegrityError, Locked, StorageError
from dsbranch.store import journal, sweep
from dsbranch.store.connection import Connection
from dsbranch.store.database import Store
from dsbranch.store.faults import storage
from dsbranch.store.layout import Layout, sync_directory
from dsbranch.store.lock import gc_lock

_SIDES = ("", "-wal", "-shm")
# The bytes of the file that SQLite locks while a database is open (src/os.h, SHARED_FIRST).
_SHARED_FIRST = 0x40000002
_SHARED_SIZE = 510


def recover(layout: Layout) -> str | None:
    """Make the store again if it is damaged or gone; what was done, None if it is sound.

    :raises IntegrityError: it is damaged, and so is the journal, or there is none
    :raises NewerFormat: a newer dsbranch wrote it; nothing was touched
    :raises Locked: other commands have it open
    :raises StorageError: the disk is full or failing
    """
    flaw = _flaw(layout)
    if flaw is None:
        return None
    if not layout.journal.exists():
        raise IntegrityError(
            f"{layout.db} is damaged ({flaw}), and there is no journal to make it again from",
            hint=journal.BACKUP_HINT,
        )
    known = _last_operation(layout.db)
    draft = layout.db.with_name(f"{layout.db.name}.again")
    with gc_lock(layout, verb="verify --repair"), _nobody_else(layout.db):
        _remove(draft)
        last = _build(draft, layout.journal)
        with storage(f"put {layout.db} in place"):
            kept = _set_aside(layout.db)
            draft.rename(layout.db)
            sync_directory(layout.dot)
    said = f"{layout.db} ({flaw}) was made again from the journal, as it was after operation {last}"
    if known is not None and known > last:
        lost = known - last
        said += f"; {'one operation' if lost == 1 else f'{lost} operations'} after that"
        said += f" {'is' if lost == 1 else 'are'} lost"
    return said if kept is None else f"{said}; what was there is {kept.name}"


def _flaw(layout: Layout) -> str | None:
    try:
        with closing(Store.open(layout.root)) as store:
            found = sweep.flaws(store)
            sweep.history(store)
    except StorageError:
        raise  # it was not read, and may be sound
    except IntegrityError as error:
        return str(error)
    return found[0] if found else None


def _last_operation(path: Path) -> int | None:
    """The number of the last operation that a damaged file knows, if it can be asked."""
    with suppress(DsbranchError), closing(Connection(path)) as db:
        return _last(db)
    return None


def _last(db: Connection) -> int:
    row = db.row("SELECT max(id) FROM operations")
    return row[0] if row is not None and isinstance(row[0], int) else 0


@contextmanager
def _nobody_else(path: Path) -> Iterator[None]:
    """Keep everybody from opening a database, and be refused where somebody has it open."""
    if not path.exists():
        yield
        return
    with storage(f"lock {path}"):
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        with storage(f"lock {path}"):
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, _SHARED_SIZE, _SHARED_FIRST)
            except BlockingIOError:
                raise Locked(
                    f"other commands have {path} open",
                    hint="wait for their end, then run `dsbranch verify --repair` again",
                ) from None
        yield
    finally:
        os.close(fd)


def _build(draft: Path, told: Path) -> int:
    with closing(Connection(draft, create=True)) as db:
        journal.make_tables(db)
        journal.replay(told, db)
        Store(Layout(draft.parent.parent), db)  # it holds a workspace
        return _last(db)


def _set_aside(path: Path) -> Path | None:
    """Give a damaged database another name. Its own file goes first: without it nobody takes what
    is left for a store."""
    number = 1
    while any(os.path.lexists(f"{path}.damaged-{number}{side}") for side in _SIDES):
        number += 1
    other = path.with_name(f"{path.name}.damaged-{number}")
    there = os.path.lexists(path)
    for side in _SIDES:
        with suppress(FileNotFoundError):
            os.rename(f"{path}{side}", f"{other}{side}")
    return other if there else None


def _remove(path: Path) -> None:
    """What an interrupted recovery left."""
    with storage(f"remove {path}"):
        for side in _SIDES:
            path.with_name(path.name + side).unlink(missing_ok=True)

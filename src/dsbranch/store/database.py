"""`Store`: all that a workspace remembers, in ``store.db``. Room ``store``.

It promises that each write is one transaction with its row in the operation log, that a
branch which moved since the caller read it is never overwritten, and that reads never wait
for writers. It makes no layer directory and holds no lock: the caller does both, before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import cast

from dsbranch.errors import (
    IntegrityError,
    Locked,
    NewerFormat,
    NotAWorkspace,
    StorageError,
    UnknownRef,
)
from dsbranch.model.facts import (
    Branch,
    Checkpoint,
    Commit,
    Dialect,
    Layer,
    MountRecord,
    Move,
    Operation,
    Run,
    Tag,
)
from dsbranch.store import history, line, reserve, rows, writes
from dsbranch.store.connection import Connection
from dsbranch.store.faults import DAMAGED_HINT, storage
from dsbranch.store.layout import Layout

FORMAT = 2
_APPLICATION_ID = 0x64736272


class Store:
    """An open store. It belongs to one thread; close it when done.

    Every method can raise `StorageError`, `IntegrityError` or `NoPrivilege`; writes also
    `Locked`. Commit and layer ids are full ids.
    """

    def __init__(self, layout: Layout, db: Connection) -> None:
        """Use `open` or `create` instead."""
        self._layout = layout
        self._db = db
        row = db.row("SELECT id, base, base_dev, base_ino, dialect, created_ns FROM workspace")
        if row is None:
            raise IntegrityError(f"{db.path} holds no workspace")
        found = rows.workspace(row)
        self._id, self._base, self._base_identity, self._dialect, self._created_ns = found

    @staticmethod
    def create(
        root: Path,
        base: Path,
        dialect: Dialect,
        *,
        author: str,
        prepare: Callable[[Path], None] | None = None,
    ) -> Store:
        """Make the store of a new workspace in the existing directory `root`.

        It has the root commit, and the branch ``main`` on it with an open layer whose
        directories exist. `prepare` is called with that layer's ``fs`` before anything is
        visible; if it raises, nothing is left behind. `base` is absolute.

        :raises AlreadyExists: `root` is a workspace already
        :raises Locked: another process makes one there
        """
        from dsbranch.store import creation

        creation.create(root, creation.Adoption(base, dialect, author), prepare)
        return Store.open(root)

    @staticmethod
    def open(root: Path) -> Store:
        """Open the store of the workspace at `root`.

        :raises NotAWorkspace: there is none
        :raises NewerFormat: a newer dsbranch wrote it; nothing was touched
        :raises IntegrityError: the file is no store, or damaged
        """
        layout = Layout(root)
        with storage(f"open {layout.db}"):
            try:
                os.lstat(layout.db)
            except (FileNotFoundError, NotADirectoryError):
                if os.path.lexists(layout.journal):
                    raise IntegrityError(f"{layout.db} is gone", hint=DAMAGED_HINT) from None
                raise NotAWorkspace(
                    f"{root} is no dsbranch workspace", hint="`dsbranch init DATASET` makes one"
                ) from None
        db = _connect(layout)
        try:
            _check_format(db)
            return Store(layout, db)
        except BaseException:
            db.close()
            raise

    def close(self) -> None:
        self._db.close()
        if self._db.alone:
            reserve.take_back(self._layout)

    def spending_reserve(self) -> AbstractContextManager[None]:
        """Let the body, which is to free space, have the space that is set aside for it."""
        return reserve.spent(self._layout)

    @property
    def layout(self) -> Layout:
        return self._layout

    @property
    def id(self) -> str:
        """The random id by which mount tables name this workspace."""
        return self._id

    @property
    def base(self) -> Path:
        return self._base

    @property
    def base_identity(self) -> tuple[int, int]:
        """st_dev and st_ino of the base's root when it was adopted."""
        return self._base_identity

    @property
    def created_ns(self) -> int:
        """When the base was adopted."""
        return self._created_ns

    @property
    def dialect(self) -> Dialect:
        return self._dialect

    def transaction(self) -> AbstractContextManager[None]:
        """One write transaction; the writing methods open their own and do not nest in it."""
        return self._db.transaction()

    def snapshot(self) -> AbstractContextManager[None]:
        """Let all reads of the body see one state; it writes nothing, and nobody waits for it."""
        return self._db.snapshot()

    # --- names ---

    def branch(self, name: str) -> Branch:
        """:raises UnknownRef: there is none of that name; names close to it are suggested"""
        row = self._by_name(rows.BRANCH, name)
        if row is None:
            raise UnknownRef(
                f"there is no branch {name}", ref=name, suggestions=self._close_branches(name)
            )
        return rows.branch(row)

    def has_branch(self, name: str) -> bool:
        return self._by_name(rows.BRANCH, name) is not None

    def branch_by_id(self, id: int) -> Branch | None:
        """The branch of that id, or None if it is gone."""
        row = self._db.row(f"{rows.BRANCH} WHERE id = ?", id)
        return None if row is None else rows.branch(row)

    def branch_of_layer(self, layer: str) -> Branch | None:
        """The branch that has this open layer, or None if there is none."""
        row = self._db.row(f"{rows.BRANCH} WHERE layer = ?", layer)
        return None if row is None else rows.branch(row)

    def branches(self) -> list[Branch]:
        """All branches, by name."""
        return [rows.branch(row) for row in self._db.rows(f"{rows.BRANCH} ORDER BY name")]

    def tag(self, name: str) -> Tag | None:
        row = self._by_name(rows.TAG, name)
        return None if row is None else rows.tag(row)

    def tags(self) -> list[Tag]:
        """All tags, by name."""
        return [rows.tag(row) for row in self._db.rows(f"{rows.TAG} ORDER BY name")]

    def close_names(self, ref: str) -> list[str]:
        """Up to three branches and tags whose names resemble `ref`, best first."""
        return self._close(ref, "SELECT name FROM branches UNION SELECT name FROM tags")

    def positions(self, branch: Branch) -> list[str]:
        """Former heads of a branch, newest first: item N - 1 is what ``BRANCH@{N}`` means.

        They are the branch's own, under whatever name it had.
        """
        found = self._db.rows(
            "SELECT json_extract(before, '$.head') AS old FROM moves WHERE branch = ?"
            " AND old IS NOT NULL AND old IS NOT json_extract(after, '$.head')"
            " AND after IS NOT NULL ORDER BY operation DESC",
            branch.id,
        )
        return [row[0] for row in found]

    def former_layer(self, branch: Branch) -> str | None:
        """The open layer that a branch had before the last one it got; None if it never did."""
        row = self._db.row(
            "SELECT json_extract(before, '$.layer') AS old FROM moves WHERE branch = ?"
            " AND old IS NOT json_extract(after, '$.layer') AND after IS NOT NULL"
            " ORDER BY operation DESC LIMIT 1",
            branch.id,
        )
        return None if row is None else cast(str | None, row[0])

    def former_name(self, branch: Branch) -> str | None:
        """The name that a branch gave up last; None if it has had this one all the time."""
        row = self._db.row(
            "SELECT name FROM moves WHERE branch = ? AND after IS NULL"
            " ORDER BY operation DESC LIMIT 1",
            branch.id,
        )
        return None if row is None or row[0] == branch.name else cast(str, row[0])

    # --- history ---

    def layer(self, id: str) -> Layer:
        """:raises IntegrityError: there is none of that id"""
        row = self._db.row(f"{rows.LAYER} WHERE id = ?", id)
        if row is None:
            raise IntegrityError(f"the store has no layer {id}")
        return rows.layer(row)

    def has_layer(self, id: str) -> bool:
        return self._db.row("SELECT 1 FROM layers WHERE id = ?", id) is not None

    def may_have_layer(self, id: str) -> bool:
        """Whether there is, or after a transaction that failed at its end may be, a row for the
        layer; a directory without one is garbage."""
        return self._db.in_doubt or self.has_layer(id)

    def is_sealed(self, id: str) -> bool:
        """Whether a layer is sealed; one that gc has taken is not."""
        row = self._db.row("SELECT 1 FROM layers WHERE id = ? AND state = 'sealed'", id)
        return row is not None

    def may_be_sealed(self, id: str) -> bool:
        """Whether a layer is sealed, or may be, as in `may_have_layer`."""
        return self._db.in_doubt or self.is_sealed(id)

    def settle_doubt(self) -> None:
        """Forget that a transaction failed at its end: what is read from now on is the truth."""
        self._db.in_doubt = False

    def may_have_moved(self, branch: Branch) -> bool:
        """Whether the branch moved since it was read, or may have, as in `may_have_layer`."""
        return self._db.in_doubt or self.branch_by_id(branch.id) != branch

    def commit(self, id: str) -> Commit:
        """:raises UnknownRef: there is none of that id"""
        return history.commit(self._db, id)

    def commits_with_prefix(self, prefix: str, limit: int) -> list[Commit]:
        """Up to `limit` commits whose id begins with `prefix`, by id."""
        if not prefix or set(prefix) - set("0123456789abcdef"):
            return []
        found = self._db.rows(
            f"{rows.COMMIT} WHERE c.id >= ? AND c.id < ? ORDER BY c.id LIMIT ?",
            prefix,
            prefix + "g",
            limit,
        )
        return [rows.commit(row) for row in found]

    def checkpoints(self, top: str) -> list[Checkpoint]:
        """The checkpoints whose newest commit is `top`, those that span the most first."""
        found = self._db.rows(f"{rows.CHECKPOINT} WHERE top = ? ORDER BY span DESC", top)
        return [rows.checkpoint(row) for row in found]

    def parents(self, commit_id: str) -> tuple[str, ...]:
        return self.commit(commit_id).parents

    def ancestors(self, commit_id: str) -> Iterator[Commit]:
        """The commit and its ancestors, each once, newest first, no parent before a child.

        Read as they are asked for: the first few of a long history cost only themselves.
        """
        return history.ancestors(self._db, commit_id)

    def first_parents(self, commit_id: str, until: str | None = None) -> list[str]:
        """Commit ids from `commit_id` along first parents to `until`, or if they do not meet it
        or it is None to the root commit."""
        return history.first_parents(self._db, commit_id, until)

    def ancestor(self, commit_id: str, steps: int) -> tuple[int, str]:
        """The commit up to `steps` first parents before, and how many they are: fewer where the
        history begins."""
        return line.ancestor(self._db, commit_id, steps)

    def meetings(self, commit_ids: Sequence[str]) -> list[str]:
        """The commits in which the first-parent lines of different commits meet, newest first."""
        return line.meetings(self._db, commit_ids)

    def runs(self, commit_id: str, cuts: Sequence[str] = ()) -> list[Run]:
        """Layers that show what `stack` shows, as few as checkpoints allow, newest first.

        No run reaches across one of the commits `cuts`, so two lists have the same runs below
        such a commit if both pass it.
        """
        return line.runs(self._db, commit_id, cuts)

    def stack(self, commit_id: str) -> list[str]:
        """The sealed layers of the commit's stack, newest first, without the base."""
        return history.stack(self._db, commit_id)

    def merge_base(self, a: str, b: str) -> str:
        """The newest commit that is, or is an ancestor of, both."""
        return history.merge_base(self._db, a, b)

    def is_ancestor(self, a: str, b: str) -> bool:
        """Whether `a` is `b` or an ancestor of it."""
        return history.is_ancestor(self._db, a, b)

    def operations(
        self, limit: int | None = None, *, name: str | None = None, since: int = 0
    ) -> list[Operation]:
        """The last `limit` operations after the one numbered `since`, newest first.

        `name` picks those that moved a branch or tag of that name, or the branch that has it now.
        """
        if name is not None and not rows.is_text(name):
            return []
        found = self._db.rows(rows.LAST_OPERATIONS, since, name, -1 if limit is None else limit)
        return rows.operations(found)

    def undoings(self) -> dict[int, int]:
        """For each operation that was undone, the one that did it, undone itself or not."""
        found = self._db.rows("SELECT undoes, id FROM operations WHERE undoes IS NOT NULL")
        return {row[0]: row[1] for row in found}

    def operation(self, id: int) -> Operation:
        """:raises UnknownRef: there is none of that number"""
        found = rows.operations(self._db.rows(f"{rows.OPERATION} WHERE o.id = ? ORDER BY m.id", id))
        if not found:
            raise UnknownRef(
                f"there is no operation {id}", ref=str(id), hint="`dsbranch op log` shows them"
            )
        return found[0]

    # --- writes: each one transaction ---

    def record(
        self,
        verb: str,
        *moves: Move,
        author: str,
        detail: str,
        layers: Sequence[Layer] = (),
        commit: Commit | None = None,
        undoes: int | None = None,
        claim: Callable[[int], None] | None = None,
        mount: MountRecord | None = None,
    ) -> Operation:
        """Make an operation happen: the layers and the commit it made, and what it moves.

        A layer that the store has as open is sealed with the facts given, others are added. A
        new branch has the id 0 in its move; `claim` is called with the one it gets before
        anybody else can see it. `mount` is remembered as by `record_mount`.

        :raises AlreadyExists: a new name is taken
        :raises Locked: a branch or tag is no longer where its move begins; nothing was written
        """
        # It hashes, which is of no use to who only reads.
        from dsbranch.store import journal

        with self._db.transaction():
            writes.require_unmoved(self._db, moves)
            for layer in layers:
                writes.put_layer(self._db, layer)
            if commit is not None:
                writes.insert_commit(self._db, commit)
            done = writes.carry_out(self._db, moves, claim)
            operation = writes.log(
                self._db, verb, done, author=author, detail=detail, undoes=undoes
            )
            if mount is not None:
                writes.insert_mount(self._db, mount)
            told = journal.written(self._db, operation, layers, commit)
        journal.append(self._layout, self._db, operation.id, told)
        return operation

    def head_depths(self) -> dict[str, int]:
        """How many layers `runs` gives for the head of each branch, by its id."""
        return line.head_depths(self._db)

    def add_checkpoint(self, checkpoint: Checkpoint, layers: Sequence[Layer]) -> None:
        """Remember a checkpoint and its layers; no name moves, so this is no operation."""
        with self._db.transaction():
            for layer in layers:
                writes.put_layer(self._db, layer)
            writes.insert_checkpoint(self._db, checkpoint)

    # --- mount records ---

    def record_mount(self, record: MountRecord) -> MountRecord:
        """Remember a mount; gives the record with the id it got (that of `record` is ignored)."""
        with self._db.transaction():
            id = writes.insert_mount(self._db, record)
        return record._replace(id=id)

    def mount_records(self) -> list[MountRecord]:
        """All records, oldest first; the kernel says which still hold."""
        return [rows.mount(row) for row in self._db.rows(f"{rows.MOUNT} ORDER BY id")]

    def records_for_layer(self, id: str) -> list[MountRecord]:
        """The records of writable mounts of one open layer, oldest first."""
        found = self._db.rows(f"{rows.MOUNT} WHERE layer = ? ORDER BY id", id)
        return [rows.mount(row) for row in found]

    def drop_mount(self, id: int) -> None:
        """Forget a record; one that is gone already is no error."""
        with self._db.transaction():
            self._db.run("DELETE FROM mounts WHERE id = ?", id)

    # --- inner ---

    def _by_name(self, select: str, name: str) -> tuple[object, ...] | None:
        return self._db.row(f"{select} WHERE name = ?", name) if rows.is_text(name) else None

    def _close_branches(self, name: str) -> list[str]:
        return self._close(name, "SELECT name FROM branches")

    def _close(self, name: str, select: str) -> list[str]:
        from difflib import get_close_matches

        return get_close_matches(name, [row[0] for row in self._db.rows(select)], n=3)


def _connect(layout: Layout) -> Connection:
    """On a full disk keep to ourselves: a process that has to write into an index for which there
    is no block gets no error but SIGBUS."""
    if reserve.is_needed(layout):
        # Where others have the store open, there is an index.
        with suppress(Locked):
            return _connect_alone(layout)
    try:
        return Connection(layout.db)
    except StorageError as error:
        # A quota, of which the filesystem says nothing beforehand.
        if error.errno not in (ENOSPC, EDQUOT):
            raise
        return _connect_alone(layout)


def _connect_alone(layout: Layout) -> Connection:
    reserve.lend_log(layout)
    return Connection(layout.db, alone=True)


def _check_format(db: Connection) -> None:
    application = db.row("PRAGMA application_id")
    version = db.row("PRAGMA user_version")
    if application is None or application[0] != _APPLICATION_ID:
        raise IntegrityError(f"{db.path} is not a dsbranch store")
    if version is None or version[0] > FORMAT:
        raise NewerFormat(
            f"{db.path} has format {version[0] if version else '?'},"
            f" this dsbranch knows up to {FORMAT}",
            hint="use a newer dsbranch: `pip install --upgrade dsbranch`",
        )
    if version[0] < FORMAT:
        from dsbranch.store import upgrade

        upgrade.upgrade(db, FORMAT)

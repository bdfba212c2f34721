"""`Store`: all that a workspace remembers, in ``store.db``. Room ``store``.

It promises that each write is one transaction with its row in the operation log, that a
branch which moved since the caller read it is never overwritten, and that reads never wait
for writers. It makes no layer directory and holds no lock: the caller does both, before.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import cast

from dsbranch.errors import IntegrityError, NewerFormat, NotAWorkspace, UnknownRef
from dsbranch.model import (
    Branch,
    Commit,
    Dialect,
    Layer,
    MountRecord,
    Operation,
    Position,
    Tag,
)
from dsbranch.store import creation, history, rows, writes
from dsbranch.store.connection import Connection
from dsbranch.store.faults import storage
from dsbranch.store.layout import Layout

FORMAT = 1
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
        row = db.row("SELECT id, base, base_dev, base_ino, dialect FROM workspace")
        if row is None:
            raise IntegrityError(f"{db.path} holds no workspace")
        self._id, base, device, inode, dialect = row
        self._base = Path(os.fsdecode(base))
        self._base_identity = (device % (1 << 64), inode % (1 << 64))
        self._dialect = cast(Dialect, dialect)

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
                raise NotAWorkspace(
                    f"{root} is no dsbranch workspace", hint="`dsbranch init DATASET` makes one"
                ) from None
        db = Connection(layout.db)
        try:
            _check_format(db)
            return Store(layout, db)
        except BaseException:
            db.close()
            raise

    def close(self) -> None:
        self._db.close()

    @property
    def layout(self) -> Layout:
        return self._layout

    @property
    def id(self) -> str:
        """The random id by which mount tables name this workspace."""
        return cast(str, self._id)

    @property
    def base(self) -> Path:
        return self._base

    @property
    def base_identity(self) -> tuple[int, int]:
        """st_dev and st_ino of the base's root when it was adopted."""
        return self._base_identity

    @property
    def dialect(self) -> Dialect:
        return self._dialect

    def transaction(self) -> AbstractContextManager[None]:
        """One write transaction; the writing methods open their own and do not nest in it."""
        return self._db.transaction()

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

    def positions(self, name: str) -> list[str]:
        """Former heads of a branch, newest first: item N - 1 is what ``BRANCH@{N}`` means."""
        if not rows.is_text(name):
            return []
        found = self._db.rows(
            "SELECT json_extract(before, '$.head') AS old FROM moves WHERE name = ?"
            " AND old IS NOT NULL AND old IS NOT json_extract(after, '$.head')"
            " ORDER BY operation DESC",
            name,
        )
        return [row[0] for row in found]

    def former_layer(self, name: str) -> str | None:
        """The open layer that a branch had before its last move; None if it never moved."""
        row = self._db.row(
            "SELECT json_extract(before, '$.layer') FROM moves WHERE name = ?"
            " ORDER BY operation DESC LIMIT 1",
            name,
        )
        return None if row is None else cast(str | None, row[0])

    # --- history ---

    def layer(self, id: str) -> Layer:
        """:raises IntegrityError: there is none of that id"""
        row = self._db.row(f"{rows.LAYER} WHERE id = ?", id)
        if row is None:
            raise IntegrityError(f"the store has no layer {id}")
        return rows.layer(row)

    def may_have_layer(self, id: str) -> bool:
        """Whether there is, or after a transaction that failed at its end may be, a row for the
        layer; a directory without one is garbage."""
        row = self._db.row("SELECT 1 FROM layers WHERE id = ?", id)
        return self._db.in_doubt or row is not None

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

    def parents(self, commit_id: str) -> tuple[str, ...]:
        return self.commit(commit_id).parents

    def ancestors(self, commit_id: str) -> Iterator[Commit]:
        """The commit and its ancestors, each once, newest first, no parent before a child.

        Read as they are asked for: the first few of a long history cost only themselves.
        """
        return history.ancestors(self._db, commit_id)

    def first_parents(self, commit_id: str) -> list[str]:
        """Commit ids from `commit_id` along first parents to the root commit."""
        return history.first_parents(self._db, commit_id)

    def stack(self, commit_id: str) -> list[str]:
        """The sealed layers of the commit's stack, newest first, without the base."""
        return history.stack(self._db, commit_id)

    def merge_base(self, a: str, b: str) -> str:
        """The newest commit that is, or is an ancestor of, both."""
        return history.merge_base(self._db, a, b)

    def is_ancestor(self, a: str, b: str) -> bool:
        """Whether `a` is `b` or an ancestor of it."""
        return history.is_ancestor(self._db, a, b)

    def operations(self, limit: int) -> list[Operation]:
        """The last `limit` operations, newest first."""
        return rows.operations(
            self._db.rows(
                "SELECT o.id, o.verb, o.time_ns, o.author, o.detail, m.name, m.before, m.after"
                " FROM (SELECT * FROM operations ORDER BY id DESC LIMIT ?) o"
                " LEFT JOIN moves m ON m.operation = o.id ORDER BY o.id DESC, m.name",
                limit,
            )
        )

    # --- writes: each one transaction and one operation ---

    def seal_and_advance(
        self,
        branch: Branch,
        sealed: Layer,
        commit: Commit,
        next_layer: Layer,
        *,
        verb: str = "commit",
        detail: str,
    ) -> Operation:
        """Seal the open layer of `branch`, add `commit` on it and move the branch to both.

        `branch` is as it was read before; `sealed` is its open layer with the facts now known.

        :raises Locked: the branch moved since it was read; nothing was written
        """
        if sealed.id != branch.layer or sealed.state != "sealed" or commit.layer != sealed.id:
            raise ValueError(f"layer {sealed.id} is not the sealed layer of {branch.name}")
        _require_on_head(branch, commit)
        with self._db.transaction():
            writes.require_unmoved(self._db, branch)
            writes.seal_layer(self._db, sealed)
            writes.insert_commit(self._db, commit)
            writes.insert_layer(self._db, next_layer)
            return self._move(
                branch, commit.id, next_layer.id, verb=verb, author=commit.author, detail=detail
            )

    def create_branch(
        self,
        name: str,
        head: str,
        fork: str,
        layer: Layer,
        *,
        author: str,
        detail: str,
        claim: Callable[[int], None] | None = None,
    ) -> Operation:
        """Add the branch `name` on the commit `head` with the open layer `layer`.

        `claim` is called with the new branch's id before anybody else can see it.

        :raises AlreadyExists: the name is taken
        """
        now = time.time_ns()
        with self._db.transaction():
            writes.insert_layer(self._db, layer)
            id = writes.insert_branch(self._db, Branch(0, name, head, layer.id, fork, now))
            if claim is not None:
                claim(id)
            return writes.log(
                self._db,
                verb="create",
                author=author,
                detail=detail,
                time_ns=now,
                name=name,
                before=None,
                after=Position(id, head, layer.id, fork),
            )

    def replace_layer(
        self,
        branch: Branch,
        new_head: str,
        next_layer: Layer,
        *,
        verb: str = "rollback",
        author: str,
        detail: str,
    ) -> Operation:
        """Move `branch` to `new_head` with the fresh open layer `next_layer`.

        The layer set aside stays open and is found through the operation's move.

        :raises Locked: the branch moved since it was read; nothing was written
        """
        with self._db.transaction():
            writes.require_unmoved(self._db, branch)
            writes.insert_layer(self._db, next_layer)
            return self._move(
                branch, new_head, next_layer.id, verb=verb, author=author, detail=detail
            )

    def insert_squash(
        self,
        branch: Branch,
        commit: Commit,
        sealed: Layer,
        next_layer: Layer | None,
        *,
        verb: str = "squash",
        detail: str,
    ) -> Operation:
        """Add `commit` with the new layer `sealed` and move `branch` to it.

        The branch keeps its open layer if `next_layer` is None.

        :raises Locked: the branch moved since it was read; nothing was written
        """
        if sealed.state != "sealed" or commit.layer != sealed.id:
            raise ValueError(f"layer {sealed.id} is not the sealed layer of the new commit")
        with self._db.transaction():
            writes.require_unmoved(self._db, branch)
            writes.insert_layer(self._db, sealed)
            writes.insert_commit(self._db, commit)
            if next_layer is not None:
                writes.insert_layer(self._db, next_layer)
            layer = branch.layer if next_layer is None else next_layer.id
            return self._move(
                branch, commit.id, layer, verb=verb, author=commit.author, detail=detail
            )

    def delete_branch(self, branch: Branch, *, author: str, detail: str) -> Operation:
        """Drop the name. Its commits and its open layer stay, found through the operation.

        :raises Locked: the branch moved since it was read; nothing was written
        """
        with self._db.transaction():
            writes.require_unmoved(self._db, branch)
            self._db.run("DELETE FROM branches WHERE id = ?", branch.id)
            return writes.log(
                self._db,
                verb="delete",
                author=author,
                detail=detail,
                time_ns=time.time_ns(),
                name=branch.name,
                before=rows.position(branch),
                after=None,
            )

    # --- mount records ---

    def record_mount(self, record: MountRecord) -> MountRecord:
        """Remember a mount; gives the record with the id it got (that of `record` is ignored)."""
        with self._db.transaction():
            id = self._db.run(
                "INSERT INTO mounts (boot_id, namespace, mount_id, path, commit_id, layer,"
                " lowers, created_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                record.boot_id,
                record.namespace,
                record.mount_id,
                os.fsencode(record.path),
                record.commit,
                record.layer,
                json.dumps(record.lowers),
                time.time_ns(),
            )
        return replace(record, id=id)

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

    def _move(
        self, branch: Branch, head: str, layer: str, *, verb: str, author: str, detail: str
    ) -> Operation:
        after = writes.move_branch(self._db, branch, head=head, layer=layer)
        return writes.log(
            self._db,
            verb=verb,
            author=author,
            detail=detail,
            time_ns=time.time_ns(),
            name=branch.name,
            before=rows.position(branch),
            after=after,
        )

    def _by_name(self, select: str, name: str) -> tuple[object, ...] | None:
        return self._db.row(f"{select} WHERE name = ?", name) if rows.is_text(name) else None

    def _close_branches(self, name: str) -> list[str]:
        return self._close(name, "SELECT name FROM branches")

    def _close(self, name: str, select: str) -> list[str]:
        return get_close_matches(name, [row[0] for row in self._db.rows(select)], n=3)


def _require_on_head(branch: Branch, commit: Commit) -> None:
    if commit.parents[:1] != (branch.head,):
        raise ValueError(f"commit {commit.id} does not continue {branch.name}")


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
        raise IntegrityError(f"{db.path} has format {version[0]}, which never was one")

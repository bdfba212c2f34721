"""What an archive will hold: a plan made of changes; and what it cannot say."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from typing import TYPE_CHECKING, NamedTuple

from dsbranch._core.base import Base
from dsbranch._core.columnar import to_batches
from dsbranch._core.delta import Delta
from dsbranch._core.entries import inode, link_count
from dsbranch._core.table import Table
from dsbranch._core.view import View
from dsbranch.errors import UnsupportedError
from dsbranch.ops.archive.mark import WHITEOUT_PREFIX, before
from dsbranch.ops.archive.member import LONGEST_NAME, has_whiteout_name, shown

if TYPE_CHECKING:
    from dsbranch._core.delta import Place


class Item(NamedTuple):
    """One entry to write. `place` is where it lies, None for a whiteout of `path`; `content` where
    a file's data lie. `first` is the path of an earlier item that is the same inode; `before` the
    digest of what was there, None in a full archive."""

    path: bytes
    place: Place | None = None
    content: Place | None = None
    kind: str = ""
    size: int = 0
    first: bytes | None = None
    before: bytes | None = None

    @property
    def name(self) -> bytes:
        """The path it has in the archive."""
        if self.place is not None:
            return self.path
        directory, slash, name = self.path.rpartition(b"/")
        return directory + slash + WHITEOUT_PREFIX + name


@dataclass(frozen=True, slots=True)
class Items:
    """The items, parents first, made anew each time they are gone through: they are never all held.

    Of a whole view if `old` is None, else of what changed since `old`.
    """

    deltas: Sequence[Delta]
    old: View | None = None
    others: Sequence[Item] = ()

    def __iter__(self) -> Iterator[Item]:
        """The items as far as the changes tell: none has `before`."""
        if self.old is None:
            return _linked(map(_item, self.deltas))
        return _linked(merge(_changed(self.deltas), self.others, key=_order))

    def marked(self) -> Iterator[Item]:
        """The items, each with what must lie where it goes."""
        for item in self:
            if self.old is None:
                yield item
            else:
                whole = item.kind != "directory"
                yield item._replace(before=before(self.old, item.path, whole=whole))


def plan_full(deltas: Sequence[Delta]) -> Items:
    """The items of a whole view."""
    return Items(deltas)


def plan_changes(deltas: Sequence[Delta], old: View, new: View, stack: Sequence[Table]) -> Items:
    """The items of what changed; `stack` are the layers of `new`.

    Only the top of a deleted tree becomes a whiteout, and what vanished because its directory
    became something else needs none.
    """
    return Items(deltas, old, sorted(_other_names(deltas, new, stack), key=_order))


def _order(item: Item) -> bytes:
    return item.path.replace(b"/", b"\0")


def _item(delta: Delta) -> Item:
    return Item(delta.path, delta.new, delta.content, delta.kind, delta.size or 0)


def _changed(deltas: Sequence[Delta]) -> Iterator[Item]:
    gone: bytes | None = None
    for delta in deltas:
        if delta.status != "D":
            if delta.status == "T" and delta.kind != "directory":
                gone = delta.path
            yield _item(delta)
        elif gone is None or not delta.path.startswith(gone + b"/"):
            gone = delta.path
            yield Item(delta.path)


def _linked(items: Iterator[Item]) -> Iterator[Item]:
    """The items, those of one inode linked to the first of them."""
    firsts: dict[Hashable, bytes] = {}
    for item in items:
        key = None if item.place is None else inode(*item.place)
        first = item.path if key is None else firsts.setdefault(key, item.path)
        yield item if first == item.path else item._replace(first=first)


def _other_names(deltas: Sequence[Delta], new: View, stack: Sequence[Table]) -> Iterator[Item]:
    """The names that did not change of inodes that have one that did."""
    changed: dict[Hashable, list[Delta]] = {}
    for delta in deltas:
        key = None if delta.new is None else inode(*delta.new)
        if key is not None:
            changed.setdefault(key, []).append(delta)
    if not changed:
        return
    known = {delta.path for some in changed.values() for delta in some}
    for path, table, row in _candidates(changed, new, stack):
        key = inode(table, row)
        if key in changed and path not in known:
            known.add(path)
            like = changed[key][0]
            yield Item(path, (table, row), like.content, like.kind, like.size or 0)


def _candidates(
    changed: dict[Hashable, list[Delta]], new: View, stack: Sequence[Table]
) -> Iterator[tuple[bytes, Table, int]]:
    """Entries among which the other names are.

    A layer knows the names of its inodes, but by the paths that it had when it was made; the base
    does not know them. Where that is not enough, the whole view is gone through.
    """
    moved = any(table.summary()["redirects"] for table in stack)
    tables: dict[int, Table] = {}
    for deltas in changed.values():
        assert deltas[0].new is not None
        table, row = deltas[0].new
        if not isinstance(table, Base):
            tables[id(table)] = table
        elif link_count(table, row) > len(deltas):
            yield from new.tree(b"")
            return
    for table in tables.values():
        for row, group in enumerate(_groups(table)):
            if group and (id(table), group) in changed:
                found = new.find(table.path(row))
                if found is not None and found[0] is table and found[1] == row:
                    yield table.path(row), table, row
                elif moved:
                    yield from new.tree(b"")
                    return


def _groups(table: Table) -> Iterator[int]:
    for columns in to_batches(table):
        yield from memoryview(columns.nlink_group).cast("I")


def refuse_unsayable(item: Item, *, as_tar: bool) -> None:
    """:raises UnsupportedError: the format has no way to say it, nor that it is gone"""
    if has_whiteout_name(item.path):
        raise UnsupportedError(
            f"{shown(item.path)} cannot be exported: "
            "a name that begins with `.wh.` means a deletion",
            hint="rename it in the branch and commit; if it is gone, export the whole view",
        )
    if not as_tar and len(item.name) - item.name.rfind(b"/") - 1 > LONGEST_NAME:
        raise UnsupportedError(
            f"that {shown(item.path)} is gone cannot be exported: "
            "no file has a name long enough to say it",
            hint="export as a tar, or the whole view",
        )
    if as_tar and item.kind == "socket":
        raise UnsupportedError(
            f"{shown(item.path)} cannot be exported: a tar cannot hold a socket",
            hint="delete it and commit, or export into a directory",
        )

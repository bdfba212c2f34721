"""Test foundation: the core's answers in the shape of the reference's, to be compared with them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dsbranch._core.algebra import changes as core_changes
from dsbranch._core.base import Base
from dsbranch._core.content import digest_files
from dsbranch._core.scan import scan as core_scan
from dsbranch._core.table import Table
from dsbranch._core.view import View
from tests import reference
from tests.reference import Change, Entry


def scan(path: Path, *, dialect: str = "trusted", threads: int = 2) -> Table:
    return core_scan(os.fsencode(path), dialect=dialect, threads=threads)


def entries(table: Table) -> list[Entry]:
    return [Entry(*table.entry(i)) for i in range(len(table))]


def comparable(found: Sequence[Entry]) -> list[Entry]:
    """Entries in order, with what the format leaves open made equal.

    Link groups are named by their first path's position; of a whiteout only the path counts.
    """
    first: dict[int, int] = {}
    result = []
    for number, entry in enumerate(found):
        if entry.kind == "whiteout":
            bare = (0, 0, 0, 0, 0, 0, 0, None, None, None, None, None)
            result.append(Entry(entry.path, entry.kind, entry.flags, *bare))
        elif entry.nlink_group:
            group = 1 + first.setdefault(entry.nlink_group, number)
            result.append(entry._replace(nlink_group=group))
        else:
            result.append(entry)
    return result


def in_order(layer: reference.Layer) -> list[Entry]:
    return [layer[path] for path in sorted(layer, key=reference.order)]


class Stack:
    """The same layers for both: tables for the core, scans for the reference, newest first."""

    def __init__(self, layers: Sequence[Path], base: Path, *, dialect: str = "trusted") -> None:
        self.tables = [scan(path, dialect=dialect) for path in layers]
        self.base = Base(os.fsencode(base), dialect=dialect)
        self.layers = [reference.scan(path, dialect) for path in layers]
        self.base_layer = reference.scan(base, dialect)

    def digest(self) -> None:
        """Let the digests of all layers be known, as after commits; the base has none."""
        for table, layer in zip(self.tables, self.layers, strict=True):
            digest_files(table)
            for path, entry in layer.items():
                if entry.kind == "file" and not entry.flags & reference.METACOPY:
                    layer[path] = entry._replace(digest=reference.digest(layer.root, path))

    def depth(self) -> int:
        return len(self.tables)

    def core_view(self, skip: int = 0) -> View:
        return View(self.tables[skip:], self.base)

    def view(self, skip: int = 0) -> reference.View:
        return reference.resolve(self.layers[skip:], self.base_layer)


def changes(old: View | None, new: View, **options: bool) -> list[Change]:
    found = core_changes(old, new, **options).tuples()
    return [Change(status, path, old, kind, *sizes) for status, path, kind, old, *sizes in found]


def settled(found: Sequence[Change]) -> list[Change]:
    """Changes with those of one path in a fixed order; the order of paths is kept as it is."""
    result: list[Change] = []
    run: list[Change] = []
    for change in found:
        if run and run[0].path != change.path:
            result += sorted(run, key=lambda c: c.status)
            run = []
        run.append(change)
    return result + sorted(run, key=lambda c: c.status)

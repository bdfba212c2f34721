"""Room ``cli``: a diff as lines of text. Pure; prints nothing.

Changes arrive sorted by path, so that a directory comes before what lies in it and its
contents are one contiguous run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from dsbranch.cli.quote import quote_path
from dsbranch.cli.wording import count_words, human_size, plural
from dsbranch.model.changes import Change

Paint = Callable[[str], str]
"""Colours a change letter, or returns it as it is."""

# What a letter on a directory covers below it: all of a tree that is new, gone or replaced.
_COVERS = {"A": "A", "D": "D", "T": "AD"}

_WIDEST = 60


def listing(changes: Iterable[Change], paint: Paint) -> Iterator[str]:
    """For people: ``M  path``, ``R  old → new``; directories end in a slash."""
    for item in changes:
        yield f"{paint(item.status)}  {_names(item)}"


def name_status(changes: Iterable[Change]) -> Iterator[str]:
    """As git's ``--name-status``: letter, tab, path; for a rename the old path first."""
    for item in changes:
        if item.status == "R":
            yield "\t".join(["R", *map(quote_path, _paths(item))])
        else:
            yield f"{item.status}\t{quote_path(item.path)}"


def raw(changes: Iterable[Change]) -> Iterator[bytes]:
    """As git's ``--name-status -z``: the same fields unquoted, each ended by NUL."""
    for item in changes:
        yield b"".join(part + b"\0" for part in (item.status.encode(), *_paths(item)))


class Totals:
    """What ``--stat`` sums up; bytes are those of regular files."""

    def __init__(self, added_bytes: int = 0, removed_bytes: int = 0) -> None:
        self.counts: dict[str, int] = {}
        self.added_bytes = added_bytes
        self.removed_bytes = removed_bytes

    def add(self, item: Change) -> None:
        self.counts[item.status] = self.counts.get(item.status, 0) + 1
        new, old = item.size or 0, item.old_size or 0
        if item.status == "T":
            self.added_bytes += new
            self.removed_bytes += old
        else:
            self.added_bytes += max(0, new - old)
            self.removed_bytes += max(0, old - new)

    def line(self) -> str:
        return f"{count_words(self.counts)}; {_bytes(self.added_bytes, self.removed_bytes)}"


class _Row:
    def __init__(self, item: Change) -> None:
        self.item = item
        self.within = Totals()

    def covers(self, item: Change) -> bool:
        prefix = self.item.path + b"/" if self.item.path else b""
        return item.status in _COVERS.get(self.item.status, "") and item.path.startswith(prefix)

    def detail(self) -> str:
        item, within = self.item, self.within
        entries = sum(within.counts.values())
        if item.status == "T":
            text = "type changed"
            if entries:
                text += f", {plural(entries, 'entry', 'entries')} below"
        elif item.status in ("A", "D") and item.kind == "directory":
            text = plural(entries, "entry", "entries")
        elif item.status in ("A", "D"):
            text = item.kind if item.kind != "file" else ""
        elif item.status == "m":
            text = "metadata"
        elif item.size == item.old_size or item.size is None or item.old_size is None:
            text = "" if item.size is None else human_size(item.size)
        else:
            text = f"{human_size(item.old_size)} → {human_size(item.size)}"
        total = Totals(within.added_bytes, within.removed_bytes)
        total.add(item)
        if item.status in ("A", "D", "T") and (total.added_bytes or total.removed_bytes):
            text += (", " if text else "") + _bytes(total.added_bytes, total.removed_bytes)
        return text


def stat(changes: Iterable[Change], paint: Paint) -> Iterator[str]:
    """One line per change, whole trees in one, and the totals; nothing where nothing changed."""
    rows, totals = _summary(changes)
    if not rows:
        return
    names = [_names(row.item) for row in rows]
    width = min(_WIDEST, max(len(name) for name in names))
    for row, name in zip(rows, names, strict=True):
        yield f" {paint(row.item.status)}  {name:<{width}}  {row.detail()}".rstrip()
    yield f" {totals.line()}"


def totals_of(changes: Iterable[Change]) -> Totals:
    totals = Totals()
    for item in changes:
        totals.add(item)
    return totals


def _summary(changes: Iterable[Change]) -> tuple[list[_Row], Totals]:
    rows: list[_Row] = []
    totals = Totals()
    tree: _Row | None = None
    for item in changes:
        totals.add(item)
        if tree is not None and tree.covers(item):
            tree.within.add(item)
            continue
        row = _Row(item)
        rows.append(row)
        if (item.status in ("A", "D") and item.kind == "directory") or item.status == "T":
            tree = row
    return rows, totals


def _paths(item: Change) -> tuple[bytes, ...]:
    new = item.path or b"."
    # An entry inside a renamed directory has an old path too, but only the directory moved.
    return (item.old_path or b".", new) if item.status == "R" else (new,)


def _names(item: Change) -> str:
    directory = item.kind == "directory"
    return " → ".join(quote_path(path, directory=directory) for path in _paths(item))


def _bytes(added: int, removed: int) -> str:
    parts = [f"+{human_size(added)}"] if added or not removed else []
    parts += [f"-{human_size(removed)}"] if removed else []
    return " ".join(parts)

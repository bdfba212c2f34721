"""Walks over the graph of commits. Room ``store``; reads only.

Every walk costs what it visits, never the whole history. They rest on one guarantee of the
schema: ``commits.seq`` grows with insertion and a parent is inserted before its child, so
taking the highest number first never shows a parent before a child, whatever clocks said.
"""

from __future__ import annotations

from collections.abc import Iterator

from dsbranch.errors import IntegrityError, UnknownRef
from dsbranch.model.facts import Commit
from dsbranch.store import line, rows
from dsbranch.store.connection import Connection

_FIRST_PARENTS = """
    WITH RECURSIVE line (id, layer, depth) AS (
        SELECT id, layer, 0 FROM commits WHERE id = ?1
        UNION ALL
        SELECT c.id, c.layer, line.depth + 1
        FROM line
        JOIN parents p ON p.commit_id = line.id AND p.position = 0
        JOIN commits c ON c.id = p.parent_id
        WHERE line.id IS NOT ?2
    )
    SELECT id, layer FROM line ORDER BY depth
"""


def commit(db: Connection, id: str) -> Commit:
    """:raises UnknownRef: there is none of that id"""
    row = db.row(f"{rows.COMMIT} WHERE c.id = ?", id) if rows.is_text(id) else None
    if row is None:
        raise UnknownRef(f"there is no commit {id}", ref=id)
    return rows.commit(row)


def ancestors(db: Connection, id: str) -> Iterator[Commit]:
    """`id` and all its ancestors, each once, the newest first, read as they are asked for."""
    from heapq import heappop, heappush

    heap = [(-line.seq(db, id), id)]
    seen = {id}
    while heap:
        found = commit(db, heappop(heap)[1])
        yield found
        for seq, parent in _parents(db, found.id):
            if parent not in seen:
                seen.add(parent)
                heappush(heap, (-seq, parent))


def first_parents(db: Connection, id: str, until: str | None = None) -> list[str]:
    """Commit ids from `id` along first parents to `until`, or if they do not meet it or it is
    None to the root commit."""
    return [row[0] for row in _line(db, id, until)]


def stack(db: Connection, id: str) -> list[str]:
    """Layer ids of the commit's stack, newest first; the base is not among them."""
    return [layer for _, layer in _line(db, id) if layer is not None]


def merge_base(db: Connection, a: str, b: str) -> str:
    """The newest commit that both `a` and `b` are or descend from."""
    met = line.meetings(db, [a, b])
    if not met or met[0] in (a, b):
        return met[0] if met else a
    from heapq import heappop, heappush

    reached: dict[str, int] = {}
    heap: list[tuple[int, str]] = []

    def reach(seq: int, id: str, sides: int) -> None:
        if id not in reached:
            heappush(heap, (-seq, id))
        reached[id] = reached.get(id, 0) | sides

    reach(line.seq(db, a), a, 1)
    reach(line.seq(db, b), b, 2)
    while heap:
        id = heappop(heap)[1]
        # All that descends from it has been popped, so nobody can add a side any more.
        if reached[id] == 3:
            return id
        for seq, parent in _parents(db, id):
            reach(seq, parent, reached[id])
    raise IntegrityError(f"commits {a} and {b} have no ancestor in common")


def is_ancestor(db: Connection, a: str, b: str) -> bool:
    """Whether `b` is `a` or descends from it."""
    return merge_base(db, a, b) == a


def _line(db: Connection, id: str, until: str | None = None) -> list[tuple[str, str | None]]:
    found = db.rows(_FIRST_PARENTS, id, until) if rows.is_text(id) else []
    if not found:
        raise UnknownRef(f"there is no commit {id}", ref=id)
    if found[-1][1] is not None and found[-1][0] != until:
        raise IntegrityError(f"the history of commit {id} does not end at the root commit")
    return [(row[0], row[1]) for row in found]


def _parents(db: Connection, id: str) -> list[tuple[int, str]]:
    return [
        (row[0], row[1])
        for row in db.rows(
            "SELECT c.seq, c.id FROM parents p JOIN commits c ON c.id = p.parent_id"
            " WHERE p.commit_id = ?",
            id,
        )
    ]

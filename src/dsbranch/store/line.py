"""Walks along first parents, with checkpoints to jump by. Room ``store``; reads only.

First parents form a tree, and ``commits.seq`` falls along each line of it, so numbers tell
whether a jump would pass a commit of the line. With the checkpoints that commits leave
behind, a walk costs what it names, not the commits it passes.
"""

from __future__ import annotations

from collections.abc import Sequence

from dsbranch.errors import IntegrityError, UnknownRef
from dsbranch.model.facts import Run
from dsbranch.store import rows
from dsbranch.store.connection import Connection

_RUNS = """
    WITH RECURSIVE line (n, top, bottom, span, layer, data) AS (
        SELECT 0, NULL, ?1, 0, NULL, NULL
        UNION ALL
        SELECT line.n + 1, c.id, ifnull(k.bottom, p.parent_id), ifnull(k.span, 1),
               ifnull(k.layer, c.layer), k.data
        FROM line
        JOIN commits c ON c.id = line.bottom AND c.layer IS NOT NULL
        LEFT JOIN checkpoints k ON k.layer = (
            SELECT j.layer FROM checkpoints j JOIN commits b ON b.id = j.bottom
            WHERE j.top = c.id AND NOT EXISTS (
                SELECT 1 FROM json_each(?2) WHERE value < c.seq AND value > b.seq
            )
            ORDER BY j.span DESC LIMIT 1
        )
        LEFT JOIN parents p ON p.commit_id = c.id AND p.position = 0
    )
    SELECT line.layer, line.data, line.top, line.bottom, line.span,
           ifnull(l.entries, 0) + ifnull(d.entries, 0)
    FROM line
    JOIN layers l ON l.id = line.layer
    LEFT JOIN layers d ON d.id = line.data
    ORDER BY line.n
"""

_HEADS = """
    WITH RECURSIVE step (top, bottom, layers) AS (
        SELECT NULL, head, 0 FROM branches
        UNION
        SELECT c.id, ifnull(k.bottom, p.parent_id), 1 + (k.data IS NOT NULL)
        FROM step
        JOIN commits c ON c.id = step.bottom AND c.layer IS NOT NULL
        LEFT JOIN checkpoints k ON k.layer = (
            SELECT layer FROM checkpoints WHERE top = c.id ORDER BY span DESC LIMIT 1
        )
        LEFT JOIN parents p ON p.commit_id = c.id AND p.position = 0
    )
    SELECT top, bottom, layers FROM step
"""

_ANCESTOR = """
    WITH RECURSIVE line (n, id) AS (
        SELECT 0, ?1
        UNION ALL
        SELECT line.n + 1, p.parent_id
        FROM line JOIN parents p ON p.commit_id = line.id AND p.position = 0
        WHERE line.n < ?2
    )
    SELECT n, id FROM line ORDER BY n DESC LIMIT 1
"""

_STEP = """
    SELECT b.seq, b.id FROM checkpoints k JOIN commits b ON b.id = k.bottom
    WHERE k.top = ?1 AND b.seq >= ?2
    UNION ALL
    SELECT c.seq, c.id FROM parents p JOIN commits c ON c.id = p.parent_id
    WHERE p.commit_id = ?1 AND p.position = 0
    ORDER BY 1 LIMIT 1
"""

_LAYER = "SELECT layer FROM commits WHERE id = ?"


def runs(db: Connection, id: str, cuts: Sequence[str] = ()) -> list[Run]:
    """The fewest known layers that show the commit over the base, newest first.

    No run reaches across one of the commits `cuts`: below one of them that is in the line, the
    runs are those of that commit.
    """
    row = db.row(_LAYER, id) if rows.is_text(id) else None
    if row is None:
        raise UnknownRef(f"there is no commit {id}", ref=id)
    if row[0] is None:
        return []
    # Of numbers, so what Python makes of a list is JSON.
    seqs = str([seq(db, cut) for cut in cuts])
    found = [
        Run((layer,) if data is None else (layer, data), top, bottom, span, entries)
        for layer, data, top, bottom, span, entries in db.rows(_RUNS, id, seqs)
    ]
    end = db.row(_LAYER, found[-1].bottom) if found else None
    if end is None or end[0] is not None:
        raise IntegrityError(f"the history of commit {id} does not end at the root commit")
    return found


def head_depths(db: Connection) -> dict[str, int]:
    """How many layers `runs` gives for the head of each branch, by its id; others are among them.

    What lines share is walked once, as there may be ten thousand branches.
    """
    steps: dict[str, tuple[str, int]] = {}
    heads = []
    for top, bottom, layers in db.rows(_HEADS):
        if top is None:
            heads.append(bottom)
        else:
            steps[top] = (bottom, layers)
    found: dict[str, int] = {}
    for head in heads:
        passed = []
        id = head
        while id not in found and id in steps:
            passed.append(id)
            id = steps[id][0]
        depth = found.setdefault(id, 0)
        for id in reversed(passed):
            depth += steps[id][1]
            found[id] = depth
    return found


def ancestor(db: Connection, id: str, steps: int) -> tuple[int, str]:
    """The commit up to `steps` first parents before `id`, and how many they are."""
    row = db.row(_ANCESTOR, id, steps)
    assert row is not None
    return row[0], row[1]


def meetings(db: Connection, ids: Sequence[str]) -> list[str]:
    """The commits in which first-parent lines of different commits meet, newest first.

    One of `ids` that lies on another's line is where these two meet.
    """
    waiting = sorted((seq(db, id), id) for id in set(ids))
    found: list[str] = []
    while len(waiting) > 1:
        _, id = waiting.pop()
        floor, other = waiting[-1]
        if id == other:
            if id not in found:
                found.append(id)
            continue
        # None of the others is above `floor`, so nothing is missed by a jump down to it.
        row = db.row(_STEP, id, floor)
        if row is None:
            raise IntegrityError(f"the history of commit {id} does not end at the root commit")
        waiting.append((row[0], row[1]))
        waiting.sort()
    return found


def seq(db: Connection, id: str) -> int:
    """The commit's number in the order of insertion."""
    row = db.row("SELECT seq FROM commits WHERE id = ?", id) if rows.is_text(id) else None
    if row is None:
        raise UnknownRef(f"there is no commit {id}", ref=id)
    return int(row[0])

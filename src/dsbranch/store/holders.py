"""Room ``store``: what a layer is there for. Reads only."""

from __future__ import annotations

from dsbranch.model.facts import Branch, Checkpoint, Commit
from dsbranch.store import rows
from dsbranch.store.database import Store


def holder(store: Store, layer: str) -> Branch | Commit | Checkpoint | None:
    """The branch whose open layer this is, or else the newest commit, or the checkpoint, that it
    belongs to, or else a branch that has it pending; None: the operation log at most."""
    if not rows.is_text(layer):
        return None
    found: Branch | Commit | Checkpoint | None = store.branch_of_layer(layer)
    if found is None:
        row = store._db.row(f"{rows.COMMIT} WHERE c.layer = ? ORDER BY c.seq DESC LIMIT 1", layer)
        found = None if row is None else rows.commit(row)
    if found is None:
        row = store._db.row(f"{rows.CHECKPOINT} WHERE layer = ?1 OR data = ?1", layer)
        found = None if row is None else rows.checkpoint(row)
    if found is None:
        found = next((one for one in store.branches() if layer in one.pending), None)
    return found

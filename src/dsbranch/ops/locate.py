"""Which branch a directory belongs to."""

from __future__ import annotations

import os
from pathlib import Path

from dsbranch.ops import views
from dsbranch.ops.context import Context
from dsbranch.overlay.locate import mount_at
from dsbranch.overlay.plan import parse_source


def current_branch(context: Context, cwd: Path) -> str | None:
    """The branch whose mount, wherever it is, or whose directory in the workspace holds `cwd`."""
    entry = mount_at(cwd)
    shown = None if entry is None else parse_source(entry.source)
    if entry is not None and shown is not None and shown[1] is not None:
        if shown[0] != context.store.id or not views.is_of(context, entry, shown[1]):
            return None
        branch = context.store.branch_of_layer(shown[1])
        return None if branch is None else branch.name
    # Unmounted, or a view that a commit has replaced under somebody's feet: the path tells.
    try:
        inside = Path(os.path.abspath(cwd)).relative_to(context.root)
    except ValueError:
        return None
    first = inside.parts[0] if inside.parts else ""
    return first if context.store.has_branch(first) else None

"""What directories of the machine are to workspaces of dsbranch's. Read only.

A layer is told by where it lies, and the workspace's store is asked what it is there for. A
store that cannot be read is no obstacle: what is known without it is said.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from dsbranch.errors import DsbranchError
from dsbranch.model.facts import Branch, Checkpoint, Commit
from dsbranch.model.overlays import Belonging
from dsbranch.overlay.locate import mount_at, workspace_of_mount
from dsbranch.overlay.plan import parse_source
from dsbranch.store.database import Store
from dsbranch.store.holders import holder
from dsbranch.store.layout import Layout


class Belongings:
    """Remembers the workspaces met: nothing in a dataset says whose it is."""

    def __init__(self) -> None:
        self._roots: set[Path] = set()
        self._datasets: dict[Path, Path] = {}

    def learn(self, paths: Iterable[Path]) -> None:
        """Look up the datasets of those workspaces whose layers are among `paths`."""
        for root in {layout.root for path in paths if (layout := _layout(path))} - self._roots:
            self._roots.add(root)
            store = _store(root)
            if store is not None:
                with closing(store):
                    self._datasets[store.base] = root

    def of(self, path: Path) -> Belonging | None:
        if path in self._datasets:
            return Belonging(self._datasets[path], "dataset")
        layout = _layout(path)
        if layout is None:
            return _within_view(path)
        if path == layout.empty:
            return Belonging(layout.root, "empty")
        return _layer(layout.root, path.parent.name)


def _layout(path: Path) -> Layout | None:
    """That of the workspace whose store `path` is a layer of, or the empty directory."""
    if path.name == "fs" and path.parent.parent.name == "layers":
        dot = path.parent.parent.parent
    else:
        dot = path.parent
    layout = Layout(dot.parent)
    return layout if dot == layout.dot and os.path.lexists(layout.db) else None


def _store(root: Path) -> Store | None:
    try:
        return Store.open(root)
    except DsbranchError:
        return None


def _layer(root: Path, id: str) -> Belonging:
    store = _store(root)
    if store is None:
        return Belonging(root, "kept", id)
    with closing(store):
        try:
            found = holder(store, id)
        except DsbranchError:
            found = None
    match found:
        case Branch():
            what = "open" if found.layer == id else "pending"
            return Belonging(root, what, id, branch=found.name)  # type: ignore[arg-type]
        case Commit():
            return Belonging(root, "commit", id, commit=found.id, message=found.message)
        case Checkpoint():
            return Belonging(root, "checkpoint", id, commit=found.top)
        case _:
            return Belonging(root, "kept", id)


def _within_view(path: Path) -> Belonging | None:
    """A directory of a mounted branch or commit may be a lower of something else."""
    root, entry = workspace_of_mount(path), mount_at(path)
    if root is None or entry is None:
        return None
    shown = parse_source(entry.source)
    if shown is None:
        return None
    _, layer, commit = shown
    branch = None
    if layer is not None:
        branch = _layer(root, layer).branch
    return Belonging(root, "view", layer, branch, commit)

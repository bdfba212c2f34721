"""Which bytes a branch or a commit holds alone, and which with others. Pure.

It starts from the sets of layers that share inodes. A layer that only the log keeps, or that is
a checkpoint, counts for nobody: it goes when the others go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dsbranch.model.facts import Branch, Commit
from dsbranch.model.history import Doomed, History
from dsbranch.ops.reach import ancestors, held
from dsbranch.overlay.inuse import InUse

_MANY = object()
_PARTS = ("history", "uncommitted", "checkpoints", "log", "garbage")


@dataclass(slots=True)
class Part:
    bytes: int = 0
    inodes: int = 0


class Holdings:
    """`shares` are those of `dsbranch._core.usage.Usage`; its owners are indices of `owners`,
    which are layer ids, each the name of a directory."""

    def __init__(
        self,
        history: History,
        going: Doomed,
        mounted: InUse,
        owners: Sequence[str],
        shares: Mapping[tuple[int, ...], tuple[int, int]],
    ) -> None:
        self._history = history
        self._going = {*going.layers, *going.checkpoints}
        self._checkpoints = {
            layer for checkpoint in history.checkpoints for layer in checkpoint.layers
        }
        self._open = {layer for branch in history.branches for layer in held(branch)}
        # Owner -1, names outside of the store, becomes "": a layer that nothing can remove.
        names = [*owners, ""]
        self._shares = {
            frozenset(names[number] for number in numbers): (size, inodes)
            for numbers, (size, inodes) in shares.items()
        }
        self._keys: dict[str, list[frozenset[str]]] = {}
        for key in self._shares:
            for layer in key:
                self._keys.setdefault(layer, []).append(key)
        self._holders = self._who_holds(mounted)
        self._alone: dict[str, int] = {}
        self._owned = {key: self._only_holder(key) for key in self._shares}
        for key, name in self._owned.items():
            if name is not None:
                self._alone[name] = self._alone.get(name, 0) + self._shares[key][0]
        self._reached: tuple[tuple[str, ...], set[frozenset[str]]] = ((), set())

    def parts(self) -> dict[str, Part]:
        """All that layer directories occupy, each inode in one part."""
        parts = {name: Part() for name in _PARTS}
        for key, (size, inodes) in self._shares.items():
            part = parts[self.part(key)]
            part.bytes += size
            part.inodes += inodes
        return parts

    def part(self, key: Iterable[str]) -> str:
        """Which part an inode with names in these layers belongs to: the first that has one."""
        return _PARTS[min(self._rank(layer) for layer in key if layer)]

    def alone(self, branch: Branch) -> int:
        return self._alone.get(branch.name, 0)

    def shared(self, branch: Branch) -> int:
        """Cheapest if asked for branches of the same head one after the other."""
        starts = (branch.head, branch.fork)
        if self._reached[0] != starts:
            commits = (self._history.commits[id] for id in ancestors(self._history, starts))
            below = self._keys_of(commit.layer for commit in commits if commit.layer is not None)
            self._reached = (starts, below)
        keys = self._reached[1] | self._keys_of(held(branch))
        return self._size(key for key in keys if self._owned[key] != branch.name)

    def open(self, branch: Branch) -> int:
        return self._size(self._keys_of(held(branch)))

    def commit(self, commit: Commit) -> tuple[int, int]:
        """What the commit's layer holds alone, and what it shares."""
        if commit.layer is None:
            return 0, 0
        keys = self._keys_of([commit.layer])
        alone = self._size(
            key for key in keys if {id for id in key if self._counts(id)} == {commit.layer}
        )
        return alone, self._size(keys) - alone

    def line(self, branch: Branch) -> list[str]:
        """The commits whose layers the branch's mount shows."""
        found = []
        commit = self._history.commits.get(branch.head)
        while commit is not None:
            found.append(commit.id)
            commit = self._history.commits.get(commit.parents[0]) if commit.parents else None
        return found

    def _rank(self, layer: str) -> int:
        if layer not in self._history.layers:
            return _PARTS.index("garbage")
        if layer in self._going:
            return _PARTS.index("log")
        if layer in self._checkpoints:
            return _PARTS.index("checkpoints")
        return _PARTS.index("uncommitted" if layer in self._open else "history")

    def _counts(self, layer: str) -> bool:
        """Whether a layer stays when gc has dropped the log, and its checkpoints with it."""
        return layer == "" or _PARTS[self._rank(layer)] in ("history", "uncommitted")

    def _who_holds(self, mounted: InUse) -> dict[str, object]:
        """For each layer the only branch that reaches it, by name, or `_MANY`."""
        commits: dict[str, object] = {}

        def hold(id: str, name: object) -> None:
            if commits.setdefault(id, name) != name:
                commits[id] = _MANY

        for branch in self._history.branches:
            hold(branch.head, branch.name)
            hold(branch.fork, branch.name)
        for tag in self._history.tags:
            hold(tag.commit, _MANY)
        # Newest first, so a commit's holders are known before they are its parents' as well.
        for commit in self._history.commits.values():
            if commit.id in commits:
                for parent in commit.parents:
                    hold(parent, commits[commit.id])
        holders: dict[str, object] = {
            commit.layer: commits[commit.id]
            for commit in self._history.commits.values()
            if commit.layer is not None and commit.id in commits
        }
        for branch in self._history.branches:
            for layer in held(branch):
                if holders.setdefault(layer, branch.name) != branch.name:
                    holders[layer] = _MANY
        for checkpoint in self._history.checkpoints:
            for layer in checkpoint.layers:
                holders.setdefault(layer, commits.get(checkpoint.top, _MANY))
        # A squashed branch may go on with the layers it was mounted on.
        for branch in self._history.branches:
            for layer in mounted.views.get(branch.layer, ()):
                holders.setdefault(layer, branch.name)
        return holders

    def _only_holder(self, key: frozenset[str]) -> str | None:
        # A checkpoint follows its commits: it counts only for what it has besides theirs.
        counting = [layer for layer in key if self._counts(layer)]
        counting = counting or [layer for layer in key if self.part((layer,)) == "checkpoints"]
        names = {self._holders.get(layer, _MANY) for layer in counting}
        found = names.pop() if len(names) == 1 else None
        return found if isinstance(found, str) else None

    def _keys_of(self, layers: Iterable[str]) -> set[frozenset[str]]:
        return {key for layer in layers for key in self._keys.get(layer, ())}

    def _size(self, keys: Iterable[frozenset[str]]) -> int:
        return sum(self._shares[key][0] for key in keys)

"""All that the store knows, for who checks or sweeps it, and what of it nothing reaches."""

from typing import NamedTuple

from dsbranch.model.facts import Branch, Checkpoint, Commit, Layer, MountRecord, Operation, Tag


class History(NamedTuple):
    """All that the store knows; commits newest first, no parent before a child."""

    commits: dict[str, Commit]
    branches: tuple[Branch, ...]
    tags: tuple[Tag, ...]
    operations: tuple[Operation, ...]
    layers: dict[str, Layer]
    checkpoints: tuple[Checkpoint, ...]
    mounts: tuple[MountRecord, ...]


class Doomed(NamedTuple):
    """Ids of rows that nothing reaches. A checkpoint is among `layers`, too, unless mounted."""

    operations: tuple[int, ...]
    commits: tuple[str, ...]
    layers: tuple[str, ...]
    checkpoints: tuple[str, ...]
    mounts: tuple[int, ...]

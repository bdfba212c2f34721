"""What lies on the disk: the answers of ``du`` and ``gc``."""

from pathlib import Path
from typing import NamedTuple

from dsbranch.model.facts import Commit


class Collected(NamedTuple):
    """The answer of gc: what went, or in a dry run would go.

    `operations` counts rows of the log; `checkpoints` are not among `layers`; `garbage` are
    directories that the store does not know. `bytes` is what the filesystem gets back, in
    `inodes`. `problems` says what could not be removed, a sentence each.
    """

    operations: int
    commits: tuple[Commit, ...]
    layers: tuple[str, ...]
    checkpoints: tuple[str, ...]
    garbage: tuple[Path, ...]
    bytes: int
    inodes: int
    problems: tuple[str, ...] = ()


class BranchSpace(NamedTuple):
    """`alone` is freed if the branch goes, `shared` is not, as others hold it, too;
    `uncommitted` is the part of both that its open and pending layers hold."""

    name: str
    alone: int
    shared: int
    uncommitted: int


class CommitSpace(NamedTuple):
    """What a commit's own layer holds that no other layer does, and what others do, too."""

    commit: Commit
    alone: int
    shared: int


class Space(NamedTuple):
    """The answer of du, in bytes on the disk. The parts of `total` are the fields after it.

    `history` is what commits hold, `uncommitted` what open and pending layers hold besides,
    `log` what only the operation log keeps, and `garbage` what belongs to nobody.
    """

    branches: tuple[BranchSpace, ...]
    commits: tuple[CommitSpace, ...]
    total: int
    history: int
    uncommitted: int
    log: int
    checkpoints: int
    manifests: int
    database: int
    garbage: int
    checkpoint_inodes: int = 0

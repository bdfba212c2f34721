"""When the layers of a history are merged into checkpoints, and which. Pure.

A commit whose depth is a multiple of 2^k leaves a checkpoint of as many commits behind, so any
stretch of a history falls into few of them. What is already large is left out of a merge that
brings little to it. What has become small, since later commits wrote the same files, is merged
further: so the layers of a mount are each at least as large as all newer ones together.
"""

from collections.abc import Sequence
from typing import NamedTuple


class Ladder(NamedTuple):
    """The numbers that rule it.

    `batch`, a power of two, is how many commits wait to be merged at once; 0: none ever are.
    `deep` is how many lowers a mount may have before it makes checkpoints itself. `widest` is how
    many layers are merged in one step.
    """

    batch: int = 4
    deep: int = 32
    widest: int = 64

    def window(self, depth: int) -> int:
        """How many commits the newest at `depth` merges; 0: it leaves none behind."""
        span = depth & -depth
        return span if self.batch and span >= self.batch else 0

    def is_deep(self, lowers: int) -> bool:
        return bool(self.batch) and lowers > self.deep


HEAVY = 4
"""A run this many times larger than all newer ones together is left out of their checkpoint."""


def ripe(sizes: Sequence[int], ratio: int = 1) -> int:
    """How many of the newest runs to merge, so that each that is left is at least `ratio` times
    as large as all newer ones together; `sizes` are newest first. 0: none."""
    newer, count = 0, 0
    for number, size in enumerate(sizes):
        if size < ratio * newer:
            count = number + 1
        newer += size
    return count

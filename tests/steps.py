"""Test foundation: random sequences of edits that always apply.

A `Step` is an operation and a few integers that choose among what is there, so any list of
steps means something on any tree, shrinks well, and is the same on every run.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Sequence
from pathlib import Path

from tests import operations
from tests.operations import Step, survey
from tests.trees import Dir, File, Symlink

OPERATIONS = tuple(operations.OPERATIONS)

REFUSALS = (
    errno.EXDEV,  # a redirect of more than 256 bytes, or in a dialect without any
    errno.EINVAL,  # a directory that would become its own child
    errno.ENOTEMPTY,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.ENODATA,
)
"""What a kernel may say to a step that asks too much."""


def perform(root: Path, step: Step) -> str:
    """Do one step below `root`; says what was done, for the reader of a failure."""
    acts = operations.OPERATIONS[step.op](root, survey(root), step)
    if not acts:
        return f"{step.op}: nothing to do it to"
    try:
        for act in acts:
            act.edit(root)
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        return f"{step}: {error}"
    return f"{step}"


START = Dir(
    {
        "a": Dir({"a": File(b"aa"), "b": Dir({"c": File(b"abc"), "d": Dir({"a": File(b"deep")})})}),
        "b": Dir({"c": Dir({"a": File(b"bca"), "b": File(b"bcb")}), "a": Symlink("c")}),
        "c": File(b"cc", xattrs={"trusted.note0": b"base"}),
        "d": Dir(),
    }
)
"""A small base on which steps meet each other often."""


def random_steps(seed: int, count: int) -> list[Step]:
    rng = random.Random(seed)
    ops = rng.choices(OPERATIONS, weights=operations.WEIGHTS, k=count)
    return [Step(op, *(rng.randrange(1000) for _ in range(3))) for op in ops]


def random_layers(seed: int, layers: int, count: int) -> list[list[Step]]:
    """`layers` lists of up to `count` steps."""
    rng = random.Random(seed)
    return [random_steps(rng.getrandbits(32), rng.randint(1, count)) for _ in range(layers)]


def perform_all(root: Path, steps: Sequence[Step]) -> list[str]:
    return [perform(root, step) for step in steps]

"""The dataset as a whole, as its seal and verify walk it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EAGAIN

from dsbranch._core.kept import plain
from dsbranch._core.scan import scan
from dsbranch._core.syscalls import open_tree_clone
from dsbranch._core.table import Table
from dsbranch.model.health import Problem
from dsbranch.model.seal import Seal
from dsbranch.ops import stacks
from dsbranch.ops.context import Context
from dsbranch.ops.lowers import require_base
from dsbranch.store import sealing

Problems = list[tuple[bytes, int]]
"""What the core passed over: a path and an errno."""


@contextmanager
def walked(context: Context, problems: Problems) -> Iterator[tuple[Table, os.stat_result]]:
    """All of the dataset, and what stat says of its root.

    What other filesystems mount inside it is left out: no view shows that.

    :raises IntegrityError: it is gone
    """
    require_base(context)
    with stacks.reading(context.base):
        fd = _clone(os.fsencode(context.base))
    try:
        with stacks.reading(context.base):
            table = scan(
                b"/proc/self/fd/%d" % fd,
                dialect=context.store.dialect,
                spill=stacks.spill(context),
                problems=problems,
                progress=context.report("walking the dataset"),
            )
        plain(table)
        yield table, os.fstat(fd)
    finally:
        os.close(fd)


def _clone(path: bytes) -> int:
    try:
        return open_tree_clone(path)
    except PermissionError:
        # Without the right to mount, what is mounted inside is seen; so it is by nobody else.
        return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def named(problems: Problems) -> tuple[Problem, ...]:
    """Problems in words, by path."""
    return tuple(Problem(path, _why(errno)) for path, errno in sorted(problems))


def _why(errno: int) -> str:
    return "it changed while it was read" if errno == EAGAIN else os.strerror(errno)


def recorded(context: Context, seal: Seal) -> Table:
    """What a seal says.

    :raises IntegrityError: its manifest is missing or damaged
    """
    return sealing.read(context.layout, seal, spill=stacks.spill(context))

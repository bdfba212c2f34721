"""The answers of ``op log`` and ``undo``."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from dsbranch.model.changes import NONE
from dsbranch.model.facts import Operation
from dsbranch.model.views import Process


class Logged(NamedTuple):
    """A row of the operation log, and the operation by which it is undone, if it is."""

    operation: Operation
    undone_by: int | None = None


class Undone(NamedTuple):
    """The answer of undo. `undone` is what was reversed, by `operation` (None: a dry run).

    `head` is the commit that `name`, a branch or tag, stands at now; None: it is gone. `counts`
    are the uncommitted changes the branch has now, `set_aside` those it had that are kept only
    by the operation.
    """

    operation: int | None
    undone: Operation
    name: str
    head: str | None
    counts: Mapping[str, int] = NONE
    set_aside: Mapping[str, int] = NONE
    mountpoint: Path | None = None
    stale: tuple[Process, ...] = ()
    elsewhere: tuple[Process, ...] = ()

"""The answers of ``export`` and ``apply``."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from dsbranch.model.facts import Commit
from dsbranch.model.views import Process


class Exported(NamedTuple):
    """The answer of export. `notes` say what the archive could not take."""

    path: Path
    entries: int
    bytes: int
    notes: tuple[str, ...] = ()


class Applied(NamedTuple):
    """The answer of apply. `commit` is None after a dry run; the rest is as in `Committed`."""

    commit: Commit | None
    counts: Mapping[str, int]
    mountpoint: Path | None = None
    stale: tuple[Process, ...] = ()
    elsewhere: tuple[Process, ...] = ()

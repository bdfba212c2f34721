"""What every mount sees of the dataset at a glance: whether its root changed behind our back."""

from __future__ import annotations

import os
import time

from dsbranch.errors import DsbranchError
from dsbranch.ops.context import Context
from dsbranch.store import seal as seals


def note_change(context: Context) -> None:
    """Note, once, that the root of the dataset is not what it was when it was sealed or adopted.

    That is one stat: it sees another directory in its place, and names that came or went in the
    root itself, nothing further down and no content. Device numbers change from boot to boot and
    are not looked at.
    """
    note = _change(context)
    if note is not None and note not in context.notes:
        context.notes.append(note)


def _change(context: Context) -> str | None:
    try:
        root = os.stat(context.base)
        seal = seals.current(context.layout)
    except (OSError, DsbranchError):
        # A mount does without; verify says what is wrong with it.
        return None
    if seal is None:
        inode, since = context.store.base_identity[1], "adopted"
        # Nothing says what its time was, but it was before the workspace was made, unless it is a
        # time that only somebody's wrong clock can have had.
        written = context.store.created_ns < root.st_mtime_ns <= time.time_ns()
        hint = "`dsbranch seal` records what it is, so that `dsbranch verify` can tell"
    else:
        inode, since = seal.root_ino, "sealed"
        written = root.st_mtime_ns != seal.root_mtime_ns
        hint = "`dsbranch verify` says what drifted"
    if root.st_ino != inode:
        return f"another directory is where the dataset {context.base} was {since}; {hint}"
    if written:
        return f"the dataset {context.base} has changed since it was {since}; {hint}"
    return None

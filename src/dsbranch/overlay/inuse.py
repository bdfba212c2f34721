"""Room overlay: which layers of a workspace the mounts of this machine consist of. Read only."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from dsbranch.overlay import mountinfo
from dsbranch.overlay.plan import parse_source, source_prefix

# Also within a list, which kernels that do not know `lowerdir+` show as one value.
_LAYER = re.compile(rb"(?:^|[/:])([0-9a-z]{10})/fs(?=$|:)")
_OPTIONS = (b"upperdir", b"lowerdir", b"lowerdir+")


@dataclass(frozen=True, slots=True)
class InUse:
    """`uppers` are layers that are mounted to be written, `layers` all that mounts consist of,
    those included, and `commits` what read-only views show."""

    uppers: frozenset[str]
    layers: frozenset[str]
    commits: frozenset[str]


def in_use(workspace_id: str) -> InUse:
    """What the mounts of a workspace need, in every namespace that the caller can see.

    A mount that was detached and lives on in its users is in no table, and so not seen.
    """
    uppers: set[str] = set()
    layers: set[str] = set()
    commits: set[str] = set()
    for entry in mountinfo.everywhere(source_prefix(workspace_id)):
        shown = parse_source(entry.source)
        if shown is None:
            continue
        _, layer, commit = shown
        if layer is not None:
            uppers.add(layer)
        if commit is not None:
            commits.add(commit)
        for option in _OPTIONS:
            for value in entry.super_option(option):
                layers.update(map(os.fsdecode, _LAYER.findall(value)))
    return InUse(frozenset(uppers), frozenset(layers | uppers), frozenset(commits))

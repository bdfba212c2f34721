"""Room overlay: which layers of a workspace the mounts of this machine consist of. Read only."""

import os
import re
from typing import NamedTuple

from dsbranch.overlay import mountinfo
from dsbranch.overlay.plan import parse_source, source_prefix

# Also within a list, which kernels that do not know `lowerdir+` show as one value.
_LAYER = re.compile(rb"(?:^|[/:])([0-9a-z]{10})/fs(?=$|:)")
_OPTIONS = (b"upperdir", b"lowerdir", b"lowerdir+")


class InUse(NamedTuple):
    """`views` has, for each layer that is mounted to be written, all layers its mounts consist
    of; `layers` are all that any mount consists of, and `commits` what read-only views show."""

    views: dict[str, frozenset[str]]
    layers: frozenset[str]
    commits: frozenset[str]


def in_use(workspace_id: str) -> InUse:
    """What the mounts of a workspace need, in every namespace that the caller can see.

    A mount that was detached and lives on in its users is in no table, and so not seen.
    """
    views: dict[str, frozenset[str]] = {}
    layers: set[str] = set()
    commits: set[str] = set()
    for entry in mountinfo.everywhere(source_prefix(workspace_id)):
        shown = parse_source(entry.source)
        if shown is None:
            continue
        _, layer, commit = shown
        values = [value for option in _OPTIONS for value in entry.super_option(option)]
        parts = {os.fsdecode(id) for value in values for id in _LAYER.findall(value)}
        layers |= parts
        if layer is not None:
            views[layer] = views.get(layer, frozenset()) | parts | {layer}
        if commit is not None:
            commits.add(commit)
    return InUse(views, frozenset(layers | views.keys()), frozenset(commits))

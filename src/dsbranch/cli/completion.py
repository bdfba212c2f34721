"""Room ``cli``: what the shell is offered after a Tab. Prints nothing and never raises."""

from __future__ import annotations

from dsbranch.cli.call import Call
from dsbranch.cli.scope import open_workspace


def branch_names(call: Call, incomplete: str) -> list[str]:
    try:
        with open_workspace(call) as workspace:
            names = [info.name for info in workspace.list()]
    except Exception:  # noqa: BLE001 - a Tab offers what it can; an error would land in the prompt
        return []
    return [name for name in names if name.startswith(incomplete)]


def tag_names(call: Call, incomplete: str) -> list[str]:
    try:
        with open_workspace(call) as workspace:
            names = [tag.name for tag in workspace.tags()]
    except Exception:  # noqa: BLE001 - as above
        return []
    return [name for name in names if name.startswith(incomplete)]

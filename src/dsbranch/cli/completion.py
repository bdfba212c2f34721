"""Room ``cli``: what the shell is offered after a Tab. Prints nothing and never raises."""

from __future__ import annotations

from dsbranch.cli.call import Call, Offer
from dsbranch.cli.scope import open_workspace


def names(call: Call, offer: Offer, incomplete: str) -> list[str]:
    try:
        with open_workspace(call) as workspace:
            found = [] if offer == "tags" else [branch.name for branch in workspace.list()]
            if offer != "branches":
                found += [tag.name for tag in workspace.tags()]
    except Exception:  # noqa: BLE001 - a Tab offers what it can; an error would land in the prompt
        return []
    return [name for name in found if name.startswith(incomplete)]

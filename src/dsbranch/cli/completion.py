"""Room ``cli``: what the shell is offered after a Tab. Prints nothing and never raises."""

from __future__ import annotations

from dsbranch.cli.call import Call, Offer
from dsbranch.cli.scope import open_workspace


def names(call: Call, offer: Offer, incomplete: str) -> list[str]:
    try:
        with open_workspace(call) as workspace:
            found = workspace.list() if offer == "branches" else workspace.tags()
    except Exception:  # noqa: BLE001 - a Tab offers what it can; an error would land in the prompt
        return []
    return [item.name for item in found if item.name.startswith(incomplete)]

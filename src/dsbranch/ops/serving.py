"""Open layers that fuse-overlayfs writes to: what it leaves there is said to the kernel before
anything else makes a view of it.

A file beside the layer tells that there may be something left. It is made before the first mount
and removed once there is no mount and nothing left.
"""

from __future__ import annotations

import os
from contextlib import suppress

from dsbranch._core.view import View
from dsbranch.errors import BusyError
from dsbranch.model.facts import Branch
from dsbranch.ops import stacks
from dsbranch.ops.context import Context
from dsbranch.overlay.mountinfo import SERVED, MountEntry, current
from dsbranch.store.faults import storage


def expect(context: Context, layer: str) -> None:
    """A layer is going to be written to by fuse-overlayfs."""
    with storage(f"write beside the layer {layer}"):
        context.layout.served(layer).touch()


def translate(context: Context, layer: str) -> None:
    """Say to the kernel what fuse-overlayfs left in a layer that nobody writes to meanwhile."""
    from dsbranch._core.seal import to_kernel

    table = stacks.scanned(context, layer)
    with storage(f"write {context.layout.fs(layer)}"):
        to_kernel(table)


def settle(context: Context, layer: str, mounts: list[MountEntry]) -> None:
    """As `translate`, if it is to be done and can be: not while one of `mounts` shows the layer."""
    sign = context.layout.served(layer)
    if context.store.dialect == "user" and not mounts and sign.exists():
        require_unserved(context, layer)
        translate(context, layer)
        with suppress(FileNotFoundError), storage(f"remove {sign}"):
            sign.unlink()


def require_unserved(context: Context, layer: str) -> None:
    """:raises BusyError: a view of the layer lives on in its users, though it is mounted nowhere"""
    from dsbranch.overlay import served

    if not context.layout.served(layer).exists():
        return
    upper = context.layout.fs(layer)
    attached = {entry.place for entry in current() if entry.fstype == SERVED}
    for server in served.servers():
        if server.plan.upper == upper and server.target not in attached:
            raise BusyError(
                f"a view of the branch that was taken off {server.target} still has users",
                hint=f"end them, or the process that serves them: `kill {server.pid}`",
            )


def require_one_place(branch: Branch, mounts: list[MountEntry]) -> None:
    """:raises BusyError: the branch's view is fuse-overlayfs's and shown elsewhere, too: it ends
    everywhere when it is frozen, and can be mounted anew in one place only
    """
    if mounts[0].fstype == SERVED and mounts[1:]:
        other = mounts[1]
        whose = f" of process {other.pid}" if other.pid else ""
        raise BusyError(
            f"{branch.name}, which fuse-overlayfs shows, is shown at {other.place}{whose} as well",
            hint="wait for the end of what looks at it there, or unmount it there",
        )


def note_links(context: Context, view: View) -> None:
    """Name the files that may hold what was written to another name of theirs: fuse-overlayfs takes
    all names of a file for one, and copies the first one up that it met."""
    from dsbranch._core.seal import copied_links

    found = copied_links(view)
    if found:
        more = f" and {len(found) - 1} more" if found[1:] else ""
        context.notes.append(
            f"{os.fsdecode(found[0])}{more} had other names with the same content below: what was"
            " written to one of these names fuse-overlayfs may have put into another one, so look"
            " at all of them"
        )

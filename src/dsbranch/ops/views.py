"""Where branches are mounted, as the mount tables of all namespaces tell it. Changes nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from dsbranch.errors import BusyError
from dsbranch.model.facts import Branch, MountRecord
from dsbranch.model.views import Process
from dsbranch.ops import serving
from dsbranch.ops.context import Context
from dsbranch.overlay import mountinfo, namespaces
from dsbranch.overlay.locate import mount_at
from dsbranch.overlay.mountinfo import SERVED, MountEntry
from dsbranch.overlay.plan import source
from dsbranch.overlay.processes import VANISHED, command


def layer_source(context: Context, layer: str) -> str:
    return source(context.store.id, layer=layer)


def mounts_of(context: Context, layer: str) -> list[MountEntry]:
    """Where an open layer is mounted in this namespace, bind mounts and those of parts included."""
    found = mountinfo.find(layer_source(context, layer))
    return [entry for entry in found if is_of(context, entry, layer)]


def private_views(context: Context, layer: str) -> list[MountEntry]:
    """Where an open layer is mounted in other namespaces that dsbranch made or was called in."""
    if not context.layout.dataset.is_dir():
        return []  # nobody has made one yet
    found = mountinfo.in_private_views(layer_source(context, layer), context.layout.dataset)
    return [entry for entry in found if is_of(context, entry, layer)]


def users(private: list[MountEntry]) -> tuple[Process, ...]:
    """A process in each of these namespaces, and where it sees the branch."""
    found = []
    for entry in private:
        with suppress(*VANISHED):
            found.append(Process(entry.pid, command(entry.pid), str(entry.place), "running"))
    return tuple(found)


def all_views(context: Context, layer: str) -> list[MountEntry]:
    """Where an open layer is mounted and can be taken care of, in this namespace first."""
    return [*mounts_of(context, layer), *private_views(context, layer)]


def whole(mounts: list[MountEntry]) -> list[MountEntry]:
    """Those that show the whole view."""
    return [entry for entry in mounts if entry.root == b"/"]


def is_of(context: Context, entry: MountEntry, layer: str) -> bool:
    """Whether a mount shows this workspace's layer, and not that of a copy of the workspace."""
    place = context.layout.fs(layer)
    for upper in entry.super_option(b"upperdir"):
        try:
            return os.path.samefile(upper, place)
        except FileNotFoundError:
            # The workspace has been moved since: its id is all there is to go by.
            return True
    return False


def mountpoint(context: Context, branch: Branch) -> Path | None:
    """Where the branch is mounted, its own directory in the workspace first."""
    return home_first(context, branch, whole(mounts_of(context, branch.layer)))


def home_first(context: Context, branch: Branch, mounts: list[MountEntry]) -> Path | None:
    """Where the first of a branch's views is, if there is one."""
    return first(context, branch, mounts).place if mounts else None


def first(context: Context, branch: Branch, mounts: list[MountEntry]) -> MountEntry:
    """Of a branch's views one here rather than elsewhere, and in its own directory of the workspace
    rather than in another one."""
    home = os.fsencode(context.root / branch.name)
    return min(mounts, key=lambda entry: (entry.pid, entry.path != home))


def left_behind(context: Context, branch: Branch) -> tuple[str, list[MountEntry]]:
    """The layer the branch had before its last move, and what an interrupted command left of it.

    A branch that never moved, or kept its layer, has nothing left behind.
    """
    former = context.store.former_layer(branch) or branch.layer
    return former, [] if former == branch.layer else mounts_of(context, former)


def is_unfinished(context: Context, layer: str) -> bool:
    """Whether what sealed a layer was killed before its last step, which takes the workdir away."""
    return context.layout.work(layer).is_dir() and context.store.is_sealed(layer)


def is_read_only(entry: MountEntry) -> bool:
    return b"ro" in entry.super_options.split(b",")


def is_unseen(entry: MountEntry) -> bool:
    """Whether it is a view of fuse-overlayfs that a killed command did not let be seen yet."""
    if entry.fstype != SERVED:
        return False
    from dsbranch.overlay.served import VIEW

    return entry.place.name.startswith(VIEW)


def records_here(context: Context, layers: set[str]) -> list[MountRecord]:
    """What the store remembers of mounts of some open layers in this namespace since it is up."""
    here = (mountinfo.boot_id(), mountinfo.namespace())
    found = (record for layer in layers for record in context.store.records_for_layer(layer))
    return [record for record in found if (record.boot_id, record.namespace) == here]


def mount_at_place_of(context: Context, branch: Branch, name: str) -> MountEntry | None:
    """The branch's mount at the directory of the workspace that has this name."""
    place = os.fsencode(context.root / name)
    mounts = whole(mounts_of(context, branch.layer))
    return next((entry for entry in mounts if entry.path == place), None)


def mount_of_former_name(context: Context, branch: Branch) -> MountEntry | None:
    """The mount that a rename left where the branch's former name had it."""
    former = context.store.former_name(branch)
    return None if former is None else mount_at_place_of(context, branch, former)


def require_bare(mounts: list[MountEntry]) -> None:
    """:raises BusyError: something is mounted inside or over one of them, and would go with it"""
    for pid in {entry.pid for entry in mounts}:
        there = [entry for entry in mounts if entry.pid == pid]
        namespaces.within(pid, partial(_require_bare, there))


def _require_bare(mounts: list[MountEntry]) -> None:
    ids = {entry.mount_id for entry in mounts}
    for entry in mountinfo.current():
        if entry.parent_id in ids and entry.mount_id not in ids:
            path = os.fsdecode(entry.path)
            raise BusyError(
                f"a {entry.fstype} filesystem is mounted on the branch, at {path}",
                hint=f"unmount it first: `umount {path}`",
            )
    for entry in mounts:
        reached = mount_at(entry.place)
        if reached is None or reached.mount_id not in ids:
            raise BusyError(
                f"the branch is mounted at {os.fsdecode(entry.path)}, but something else hides it",
                hint="unmount what lies over it first",
            )


def require_nowhere_else(context: Context, layer: str) -> None:
    """:raises BusyError: the layer is mounted in another mount namespace, out of our reach"""
    serving.require_unserved(context, layer)
    refuse(mounted_elsewhere(context, layer))


def mounted_elsewhere(context: Context, layer: str) -> list[Process]:
    """A process of each other mount namespace that has the layer mounted, private views among
    them."""
    return mountinfo.other_namespaces(layer_source(context, layer))


def refuse(elsewhere: Sequence[Process]) -> None:
    """:raises BusyError: there are some"""
    if elsewhere:
        holder = elsewhere[0]
        raise BusyError(
            f"the branch is mounted in another mount namespace, at {holder.path}"
            f" of {holder.command} (pid {holder.pid})",
            hint="end that process or container, then run the command again",
        )

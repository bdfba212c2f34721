"""``umount``: take a branch, or the read-only view at a path, off."""

from __future__ import annotations

import os
from pathlib import Path

from dsbranch.errors import BadPath
from dsbranch.ops import mounting, serving, views
from dsbranch.ops.context import Context
from dsbranch.ops.freezing import writers_present
from dsbranch.ops.mountpoints import clear, is_left
from dsbranch.ops.refs import is_branch
from dsbranch.overlay import mountinfo
from dsbranch.overlay.locate import mount_at
from dsbranch.overlay.mountinfo import SERVED, MountEntry
from dsbranch.overlay.plan import parse_source


def umount(context: Context, ref: str, *, lazy: bool) -> list[Path]:
    if is_branch(context, ref):
        return umount_branch(context, ref, lazy=lazy)
    path = Path(os.path.abspath(ref))
    entry = mount_at(path)
    shown = None if entry is None else parse_source(entry.source)
    if entry is None or shown is None or entry.path != os.fsencode(path):
        raise BadPath(
            f"`{ref}` is neither a branch nor a mounted view of this workspace",
            hint="`dsbranch list` shows the branches and where they are mounted",
        )
    if shown[0] != context.store.id:
        raise BadPath(
            f"{path} is a view of another workspace", hint="name that one with `-C WORKSPACE`"
        )
    if shown[1] is not None:
        owner = context.store.branch_of_layer(shown[1])
        if owner is not None:
            return umount_branch(context, owner.name, lazy=lazy)
    context.driver_of(entry).detach(path, lazy=lazy)
    _forget_path(context, path)
    return [path]


def umount_branch(context: Context, name: str, *, lazy: bool) -> list[Path]:
    # Not healed first: whoever takes a view off must not need another one to be mountable.
    with mounting.locked(context, name, "umount", healing=False) as branch:
        former, old = views.left_behind(context, branch)
        # An old view lies on top of the new one, if an interrupted command left both.
        mounts = [*old, *views.mounts_of(context, branch.layer)]
        views.require_bare(mounts)
        if mounts and mounts[0].fstype == SERVED:
            serving.require_one_place(branch, mounts)
            # It would live on there, and its server not end.
            layer_view = views.layer_source(context, branch.layer)
            views.refuse(mountinfo.other_namespaces(layer_view, staying=True))
        # Whoever stays in the old view must not write into a layer that is mounted anew.
        if lazy and mounts and not mounting.set_read_only(context, mounts[0]):
            raise writers_present(branch, mounts[0])
        gone = detach_all(context, mounts, lazy=lazy)
        if not mounts:
            gone = _clear_dead(context, {branch.layer, former})
        if not gone:
            raise BadPath(f"{name} is not mounted", hint=f"`dsbranch mount {name}` mounts it")
        for layer in {branch.layer, former}:
            mounting.forget(context, layer)
        serving.settle(context, branch.layer, [])
        return gone


def _clear_dead(context: Context, layers: set[str]) -> list[Path]:
    """Take off what is left of views whose servers have ended."""
    places = [record.path for record in views.records_here(context, layers)]
    dead = [place for place in places if is_left(place)]
    for place in dead:
        clear(place)
    return dead


def detach_all(context: Context, mounts: list[MountEntry], *, lazy: bool) -> list[Path]:
    """Take the mounts of one branch off; the caller has seen that nothing is mounted on them."""
    gone = []
    for entry in mounts:
        path = entry.place
        # Where mounts propagate, taking one off takes its peers off, too.
        # One of fuse-overlayfs may be off by having been made read-only, and not yet done with.
        if entry.fstype == SERVED or mountinfo.by_id(entry.mount_id) is not None:
            context.driver_of(entry).detach(path, lazy=lazy)
        gone.append(path)
    return gone


def _forget_path(context: Context, path: Path) -> None:
    for record in context.store.mount_records():
        if record.path == path:
            context.store.drop_mount(record.id)

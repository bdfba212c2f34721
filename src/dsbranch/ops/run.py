"""``run``: a branch where the dataset lies, for one process and those that it starts.

The process enters a mount namespace of its own and shows the branch there. Nothing is left to be
done at the end: the kernel takes the mounts off with the last process that is in the namespace.

A branch is in one superblock at most. One that is mounted is shown by a bind mount of that, and a
second private view of a branch is the first one, joined.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from dsbranch.errors import BadPath, BusyError, MountRefused, NoPrivilege
from dsbranch.model.facts import Branch
from dsbranch.ops import mounting, views
from dsbranch.ops.context import Context
from dsbranch.ops.mount import mount_locked
from dsbranch.overlay import mountinfo, namespaces
from dsbranch.overlay.mountinfo import MountEntry
from dsbranch.overlay.plan import parse_source
from dsbranch.store.faults import storage


def enter(context: Context, name: str, *, at: Path | None) -> Path:
    """Move this process, which must have one thread, to where the branch is shown; that place."""
    if context.by_fuse:
        return _serve(context, name, at)
    target = Path(os.path.abspath(at)) if at else context.store.base
    if not target.is_dir():
        raise BadPath(f"{target} is no directory", hint=f"`mkdir {target}`, or choose another one")
    with mounting.locked(context, name, "run") as branch:
        here = views.whole(views.mounts_of(context, branch.layer))
        if any(entry.path == os.fsencode(target) for entry in here):
            return target
        # With hundreds of views it is this that takes long, so it is asked once where that will do.
        elsewhere = [] if here else views.mounted_elsewhere(context, branch.layer)
        private = views.private_views(context, branch.layer) if elsewhere else []
        if views.whole(private):
            _join(branch, views.whole(private), target)
        else:
            views.refuse(elsewhere)
            _show(context, branch, here, target)
    return target


def _serve(context: Context, name: str, at: Path | None) -> Path:
    """Without a namespace of its own a process can be shown a branch at no place that others see
    something else at, the dataset's above all."""
    from dsbranch.overlay.served import CHOICE, PROGRAM

    if at is None:
        allowed = namespaces.allowed()
        why = (
            f"{CHOICE} asks for {PROGRAM}"
            if allowed
            else "this system lets no ordinary user make a user namespace"
        )
        other = f"`unset {CHOICE}`" if allowed else f"let root allow those: `{namespaces.switch()}`"
        raise NoPrivilege(
            f"{name} cannot be shown at {context.store.base} to one command alone: {why}",
            hint=f"`--at {context.root / name}` shows it there, by {PROGRAM}, until it is"
            f" unmounted; or {other}",
        )
    with mounting.locked(context, name, "run") as branch:
        done = mount_locked(context, branch, at)
    if not done.already:
        context.notes.append(f"{name} stays at {done.path} until `dsbranch umount {name}`")
    return done.path


def _join(branch: Branch, private: list[MountEntry], target: Path) -> None:
    there = next((entry for entry in private if entry.path == os.fsencode(target)), None)
    if there is None:
        where = private[0].place
        raise BusyError(
            f"{branch.name} is in use at {where}, by process {private[0].pid} and its like,"
            f" and cannot be shown at {target} besides",
            hint=f"join it there with `--at {where}`, or wait for its end",
        )
    namespaces.join(there.pid)


def _show(context: Context, branch: Branch, here: list[MountEntry], target: Path) -> None:
    keep = context.layout.dataset
    with storage(f"make {keep}"):
        keep.mkdir(exist_ok=True)
    nested = context.private
    if not here:
        plan = mounting.branch_plan(context, mounting.stack_below(context, branch), branch.layer)
    namespaces.enter_own()
    _let_go(context, branch)
    if not nested:
        # By this who comes later looks into the dataset, which the branch may hide, and knows
        # the namespace for one of ours.
        context.kernel.bind(context.store.base, keep, whole=True)
    if here:
        context.kernel.bind(here[0].place, target)
    else:
        with context.kernel.prepare(plan) as view:
            view.attach(target)


def _let_go(context: Context, branch: Branch) -> None:
    """Take the other branches' views off that this namespace got a copy of and nothing will ever
    happen to: such a copy keeps a branch from being unmounted, and shows what it was."""
    own = views.layer_source(context, branch.layer)
    for entry in reversed(mountinfo.ours()):
        shown = parse_source(entry.source)
        written = shown is not None and shown[1] is not None
        if written and entry.source != own and not entry.follows:
            # Without root no mount that was there before can be taken off.
            with suppress(MountRefused, NoPrivilege):
                context.kernel.detach(entry.place, lazy=True)

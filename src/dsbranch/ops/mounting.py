"""Putting views at paths and taking them away, for all verbs that do.

It promises that an open layer is in one superblock at most: every caller holds the branch's
lock, looks the layer up in the mount tables of all namespaces, and joins what it finds. What
an interrupted command left (a frozen mount, an old view still on top) is put right here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dsbranch.errors import (
    AlreadyExists,
    BusyError,
    DsbranchError,
    Locked,
    MountRefused,
    NoPrivilege,
    StorageError,
)
from dsbranch.model.facts import Branch, MountRecord
from dsbranch.model.views import MountPlan, Process
from dsbranch.ops import layers, serving, views
from dsbranch.ops.checkpoint import mountable
from dsbranch.ops.context import Context
from dsbranch.ops.glance import note_change
from dsbranch.ops.lowers import branch_lowers, require_base, require_layer
from dsbranch.ops.mountpoints import make_mountpoint, remove_mountpoint
from dsbranch.overlay import mountinfo, namespaces
from dsbranch.overlay.locate import mount_at
from dsbranch.overlay.mountinfo import SERVED, MountEntry
from dsbranch.overlay.plan import plan, source
from dsbranch.store.layout import is_directory
from dsbranch.store.lock import branch_lock

if TYPE_CHECKING:
    from dsbranch.overlay.driver import Prepared

_PATIENCE_SECONDS = 2.0


@contextmanager
def locked(
    context: Context,
    name: str,
    verb: str,
    *,
    healing: bool = True,
    patience: float = _PATIENCE_SECONDS,
) -> Iterator[Branch]:
    """Hold the branch's lock, with what an interrupted command left put right if `healing`.

    `patience` is how many seconds to wait for the lock.

    :raises Locked: another command works on the branch
    """
    before = context.store.branch(name)
    with branch_lock(context.layout, before.id, verb=f"{verb} {name}", timeout=patience):
        branch = context.store.branch(name)
        if branch.id != before.id:
            # Deleted and made anew while we waited: that one has another lock.
            raise Locked(
                f"another dsbranch command changed branch {name} meanwhile",
                hint="run the command again",
            )
        if healing:
            heal(context, branch)
        # Whatever failed at its end before has been seen for what it became.
        context.store.settle_doubt()
        with context.watched():
            yield branch


def heal(context: Context, branch: Branch) -> None:
    """Finish what a killed command began. The caller holds the branch's lock.

    A frozen superblock of the open layer is made writable again: the transaction never came.
    A mount that still shows the layer of before is replaced: the transaction was the last thing
    that happened. One at the place of the branch's former name is moved to that of its name.
    """
    former, left = views.left_behind(context, branch)
    if former != branch.layer:
        left += views.private_views(context, former)
    here = views.all_views(context, branch.layer)
    for entry in here:
        if views.is_unseen(entry):
            context.fuse.detach(entry.place, lazy=False)
            here = views.all_views(context, branch.layer)
    frozen = any(views.is_read_only(entry) for entry in here)
    if left or frozen:
        views.require_bare([*here, *left])
    if frozen:
        set_writable(context, here[0])
    if views.whole(left) and not here:
        views.require_nowhere_else(context, branch.layer)
        with prepare_view(context, branch, views.whole(left)) as prepared:
            replace(context, branch, former, views.whole(left), prepared)
    elif views.whole(here):
        shown = [(entry.pid, entry.path) for entry in here]
        for entry in left:
            if (entry.pid, entry.path) in shown:
                # The new view lies beneath, only the old one's removal was missed.
                detach(context, entry)
            else:
                _follow(context, entry, views.whole(here)[0])
    if not here and not left and _serve_again(context, branch, former):
        here = views.all_views(context, branch.layer)
    serving.settle(context, branch.layer, here)
    if former != branch.layer:
        forget(context, former)
        if views.is_unfinished(context, former):
            layers.finish(context, former)
    astray = views.mount_of_former_name(context, branch)
    if astray is not None:
        # Where it cannot go home it works as well, as any mount elsewhere does.
        with suppress(AlreadyExists, BusyError):
            views.require_bare([astray])
            make_mountpoint(context.root / branch.name)
            move_home(context, branch, astray)


def _serve_again(context: Context, branch: Branch, former: str) -> bool:
    """Mount again what fuse-overlayfs showed and no `umount` took off: a command was killed between
    the end of one server and the start of the next, or something else ended it."""
    if not serving.is_expected(context, branch.layer) and not serving.is_expected(context, former):
        return False
    lost = views.records_here(context, {branch.layer, former})
    if not lost:
        return False
    # Unmounted the branch is as whole as before.
    with suppress(DsbranchError):
        make_mountpoint(lost[-1].path)
        views.require_nowhere_else(context, branch.layer)
        wanted = branch_plan(context, stack_below(context, branch), branch.layer)
        with context.fuse.prepare(wanted) as view:
            serving.expect(context, branch.layer)
            attach(context, view, lost[-1].path, commit=branch.head, layer=branch.layer)
        for record in lost:
            context.store.drop_mount(record.id)
        return True
    return False


def move_home(context: Context, branch: Branch, entry: MountEntry) -> tuple[Process, ...]:
    """Move a mount of the branch to its own directory, which is empty.

    Gives the processes that stay behind in the old place, where the kernel moves no mount.
    """
    old, new = entry.place, context.root / branch.name
    standing = _who_stands_in(old)
    moved = context.driver_of(entry).move(old, new)
    known = context.store.records_for_layer(branch.layer)
    forget(context, branch.layer)
    there = mount_at(new)
    if there is not None:
        lowers = known[-1].lowers if known else branch_lowers(context, branch)
        _remember(context, _record(new, there.mount_id, lowers, branch.head, branch.layer))
    remove_mountpoint(old)
    return () if moved else standing


def forget(context: Context, layer: str, *, at: Path | None = None) -> None:
    """Drop what the store remembers of mounts of an open layer, `at` one path or anywhere.

    On a full disk it stays: a record counts only where the mount table agrees.
    """
    with suppress(StorageError):
        for record in context.store.records_for_layer(layer):
            if at is None or record.path == at:
                context.store.drop_mount(record.id)


def set_read_only(context: Context, entry: MountEntry) -> bool:
    """As the driver's, in the namespace of a mount."""
    return namespaces.within(entry.pid, lambda: context.driver_of(entry).set_read_only(entry.place))


def set_writable(context: Context, entry: MountEntry) -> None:
    namespaces.within(entry.pid, lambda: context.driver_of(entry).set_writable(entry.place))


def detach(context: Context, entry: MountEntry) -> None:
    namespaces.within(entry.pid, lambda: context.driver_of(entry).detach(entry.place, lazy=True))


def branch_plan(
    context: Context, stack: list[str], layer: str, *, private: bool = False
) -> MountPlan:
    """How to mount the open layer `layer` on the sealed layers of `stack`, newest first.

    `private`: in a private view that we are not in.

    :raises IntegrityError: the base or a layer is not there
    """
    require_base(context)
    note_change(context)
    base = context.layout.dataset if private else context.base
    return plan(
        lowers=[*(require_layer(context, id) for id in stack), base],
        upper=context.layout.fs(layer),
        work=context.layout.work(layer),
        source=views.layer_source(context, layer),
        dialect=context.store.dialect,
    )


def commit_plan(context: Context, commit: str) -> MountPlan:
    """How to mount a commit read-only.

    :raises IntegrityError: the base or a layer is not there
    """
    require_base(context)
    note_change(context)
    return plan(
        lowers=[
            *(require_layer(context, id) for id in mountable(context, commit)),
            context.base,
            context.layout.empty,
        ],
        upper=None,
        work=None,
        source=source(context.store.id, commit=commit),
        dialect=context.store.dialect,
    )


def prepare_branch(context: Context, branch: Branch) -> Prepared:
    """A superblock of the branch's open layer, which must be in none yet.

    :raises BusyError: it is mounted in another mount namespace
    """
    views.require_nowhere_else(context, branch.layer)
    return prepare_view(context, branch, [])


def prepare_view(context: Context, branch: Branch, mounts: list[MountEntry]) -> Prepared:
    """A superblock of the branch's open layer, to take the place of `mounts`."""
    return prepare_layer(context, stack_below(context, branch), branch.layer, mounts)


def stack_below(context: Context, branch: Branch) -> list[str]:
    """The sealed layers that a mount of the branch has below its open one, newest first."""
    return [*branch.pending, *mountable(context, branch.head)]


def prepare_layer(
    context: Context, stack: list[str], layer: str, mounts: list[MountEntry]
) -> Prepared:
    """A superblock of an open layer on those of `stack`, to take the place of `mounts`.

    Root makes all of them here. Others can only where these lie, in their user namespace.
    """
    pid = mounts[0].pid if mounts and os.geteuid() != 0 else 0
    driver = context.driver_of(mounts[0]) if mounts else context.driver
    if driver is not context.kernel:
        serving.expect(context, layer)
    return driver.prepare(branch_plan(context, stack, layer, private=pid != 0), pid=pid)


def require_unused(context: Context, branch: Branch) -> None:
    """:raises BusyError: the branch, which is not mounted here, is mounted out of our reach

    No table shows a mount that was detached by hand and still has users; the kernel tells, when
    asked for another superblock. Without the right to ask there can be none of ours either.
    """

    def prepare() -> None:
        with context.kernel.prepare(wanted):
            pass

    with suppress(NoPrivilege):
        views.require_nowhere_else(context, branch.layer)
        # The kernel refuses for the open layer alone; what needs the layers below tells of those.
        below = stack_below(context, branch)
        stack = [layer for layer in below if is_directory(context.layout.fs(layer))]
        wanted = branch_plan(context, stack, branch.layer)
        if os.geteuid() == 0:
            prepare()
        else:
            namespaces.within_own(prepare)


def mount_branch(context: Context, branch: Branch, target: Path) -> None:
    """Mount the branch at `target`, an existing directory. The caller holds its lock.

    :raises BusyError: it is mounted out of our reach, or a part of it still is somewhere
    """
    for entry in views.mounts_of(context, branch.layer):
        raise BusyError(
            f"a part of {branch.name} is still mounted at {os.fsdecode(entry.path)}",
            hint=f"unmount it first: `umount {os.fsdecode(entry.path)}`",
        )
    with prepare_branch(context, branch) as prepared:
        attach(context, prepared, target, commit=branch.head, layer=branch.layer)


def attach(
    context: Context,
    prepared: Prepared,
    target: Path,
    *,
    commit: str,
    layer: str | None,
    beneath: bool = False,
) -> None:
    """Attach a prepared view and remember it."""
    prepared.attach(target, beneath=beneath)
    record = record_of(context, prepared, target, commit=commit, layer=layer)
    assert record is not None
    _remember(context, record)


def record_of(
    context: Context, prepared: Prepared, target: Path, *, commit: str, layer: str | None
) -> MountRecord | None:
    """What the store is to remember of a prepared view at `target`; None: it gets its mount id when
    it is attached, as those of fuse-overlayfs do."""
    mount_id = prepared.mount_id
    if mount_id is None:
        return None
    lowers = context.layout.layers_among(prepared.plan.lowers)
    return _record(target, mount_id, lowers, commit, layer)


def _record(
    target: Path, mount_id: int, lowers: Sequence[str], commit: str, layer: str | None
) -> MountRecord:
    return MountRecord(
        id=0,
        boot_id=mountinfo.boot_id(),
        namespace=mountinfo.namespace(),
        mount_id=mount_id,
        path=target,
        commit=commit,
        layer=layer,
        lowers=tuple(lowers),
    )


def _remember(context: Context, record: MountRecord) -> None:
    # On a full disk a mount goes without its record: that only tells where to mount after a reboot.
    with suppress(StorageError):
        context.store.record_mount(record)


def settle(
    context: Context,
    before: Branch,
    mounts: list[MountEntry],
    view: Prepared | None,
    *,
    done: str,
) -> tuple[tuple[Process, ...], tuple[Process, ...]]:
    """After the transaction: show `view` where the branch was mounted as it stood `before`.

    Gives the processes that stand in the old view, and those of other namespaces that keep it.
    `done` is what the transaction did, for the message should the mount fail.
    """
    standing: tuple[Process, ...] = ()
    if view is not None:
        branch = context.store.branch(before.name)
        try:
            standing = replace(context, branch, before.layer, mounts, view)
        except MountRefused as error:
            raise error.after(
                f"{done}, but {before.name} {_still(mounts)}",
                hint=f"`dsbranch mount {before.name}` tries again to show the new one",
            ) from error
    # Asked afterwards: namespaces that mounts propagate to have followed.
    return standing, _who_keeps(views.layer_source(context, before.layer))


def _still(mounts: list[MountEntry]) -> str:
    if mountinfo.by_id(mounts[0].mount_id) is None:
        return "is not mounted any more"
    return "still shows the old view, read-only"


def replace(
    context: Context, branch: Branch, old_layer: str, old: list[MountEntry], prepared: Prepared
) -> tuple[Process, ...]:
    """Put the branch's new view where the old one is mounted; those who stand in the old one.

    The new mount goes beneath the old one, which is then taken off: the path never disappears.
    Where the kernel cannot (before 6.5), it is gone for an instant.
    """
    first = views.first(context, branch, old)
    target = first.place
    standing: tuple[Process, ...] = ()
    if first.fstype == SERVED:
        standing = context.fuse.evicted(target)
    elif first.pid == 0:
        standing = _who_stands_in(target)
    beneath = _can_mount_beneath(context, first)
    # A frozen one of fuse-overlayfs has ended, and makes way for the next without a gap.
    if not beneath and first.fstype != SERVED:
        detach(context, first)
    if first.pid == 0:
        attach(context, prepared, target, commit=branch.head, layer=branch.layer, beneath=beneath)
    else:
        # Not remembered: nobody wants it back after a reboot.
        prepared.attach(target, beneath=beneath, pid=first.pid)
    if beneath:
        detach(context, first)
    for entry in views.all_views(context, old_layer):
        _follow(context, entry, first)
    forget(context, old_layer)
    return standing


def _can_mount_beneath(context: Context, entry: MountEntry) -> bool:
    driver = context.driver_of(entry)
    return namespaces.within(entry.pid, lambda: driver.can_mount_beneath)


def _follow(context: Context, entry: MountEntry, shown: MountEntry) -> None:
    """Let a bind mount of the old view, or of a part of it, show the new one, which is where
    `shown` is.

    A part that the new view does not have is taken off: nothing is left to show.
    """
    beneath = _can_mount_beneath(context, entry)
    source = shown.place / os.fsdecode(entry.root.lstrip(b"/"))
    if namespaces.within(shown.pid, lambda: source.exists() and not source.is_symlink()):
        if not beneath:
            detach(context, entry)
        context.driver_of(shown).bind(
            source,
            entry.place,
            beneath=beneath,
            options=entry.options,
            source_pid=shown.pid,
            pid=entry.pid,
        )
        if not beneath:
            return
    detach(context, entry)


def _who_stands_in(path: Path) -> tuple[Process, ...]:
    """A courtesy, so no reason to fail: the transaction has happened."""
    from dsbranch.overlay.writers import find_standing

    try:
        return tuple(user for user in find_standing(path) if user.pid != os.getpid())
    except OSError:
        return ()


def _who_keeps(layer_view: str) -> tuple[Process, ...]:
    """A courtesy as well."""
    try:
        return tuple(mountinfo.other_namespaces(layer_view))
    except OSError:
        return ()

"""``mount``: a branch at its place or another, any commit read-only, or all branches."""

from __future__ import annotations

import os
from pathlib import Path

from dsbranch.errors import AlreadyExists, DsbranchError, UsageError
from dsbranch.model.facts import Branch
from dsbranch.model.mounts import Mounted
from dsbranch.ops import mounting, views
from dsbranch.ops.context import Context
from dsbranch.ops.create import PATIENCE_SECONDS
from dsbranch.ops.mountpoints import make_mountpoint, remove_mountpoint
from dsbranch.ops.refs import is_branch, resolve
from dsbranch.overlay import mountinfo
from dsbranch.store.lock import names_lock


def mount(context: Context, ref: str, *, at: Path | None, read_only: bool) -> Mounted:
    if is_branch(context, ref) and not read_only:
        with mounting.locked(context, ref, "mount") as branch:
            return mount_locked(context, branch, at)
    return _mount_commit(context, ref, at)


def mount_all(context: Context) -> list[Mounted]:
    """Branches that were mounted elsewhere before a reboot go back there.

    One that cannot be mounted does not keep the others from it; the first failure is raised
    at the end.
    """
    done = []
    failures: list[DsbranchError] = []
    for branch in context.store.branches():
        if views.whole(views.mounts_of(context, branch.layer)):
            continue
        try:
            done.append(_mount_one(context, branch.name))
        except DsbranchError as error:
            failures.append(error)
    if failures:
        raise failures[0]
    return done


def _mount_one(context: Context, name: str) -> Mounted:
    with mounting.locked(context, name, "mount") as branch:
        return mount_locked(context, branch, _before_reboot(context, branch))


def _before_reboot(context: Context, branch: Branch) -> Path | None:
    boot = mountinfo.boot_id()
    paths = [
        record.path
        for record in context.store.records_for_layer(branch.layer)
        if record.boot_id != boot
    ]
    return paths[-1] if paths else None


def mount_locked(context: Context, branch: Branch, at: Path | None) -> Mounted:
    """Mount a branch whose lock the caller holds; `at`: not in its own directory."""
    target = context.root / branch.name if at is None else Path(os.path.abspath(at))
    mounts = views.whole(views.mounts_of(context, branch.layer))
    here = [entry.place for entry in mounts]
    if here:
        if at is not None and target not in here:
            raise AlreadyExists(
                f"{branch.name} is mounted already, at {here[0]}",
                hint=f"`dsbranch umount {branch.name}` first, or `mount --bind {here[0]} {target}`",
            )
        return Mounted(target if target in here else here[0], branch.name, already=True)
    made = make_mountpoint(target)
    try:
        mounting.forget(context, branch.layer)
        mounting.mount_branch(context, branch, target)
    except BaseException:
        if made:
            remove_mountpoint(target)
        raise
    return Mounted(target, branch.name)


def _mount_commit(context: Context, ref: str, at: Path | None) -> Mounted:
    if at is None:
        resolve(context, ref)
        raise UsageError(
            f"a read-only view of {ref} needs a place", hint=f"`dsbranch mount {ref} --at DIR`"
        )
    target = Path(os.path.abspath(at))
    # Held until the mount is in the kernel's table, where gc looks for what is in use.
    with names_lock(context.layout, verb=f"mount {ref}", timeout=PATIENCE_SECONDS):
        commit = resolve(context, ref)
        plan = mounting.commit_plan(context, commit)
        for entry in mountinfo.find(plan.source):
            if entry.path == os.fsencode(target):
                return Mounted(target, ref, already=True, read_only=True)
        made = make_mountpoint(target)
        try:
            with context.driver.prepare(plan) as view:
                mounting.attach(context, view, target, commit=commit, layer=None)
        except BaseException:
            if made:
                remove_mountpoint(target)
            raise
    return Mounted(target, ref, read_only=True)

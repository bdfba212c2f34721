"""``create``: a new branch on an existing commit, for the price of two directories."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from dsbranch.errors import MountRefused
from dsbranch.model.branches import Created
from dsbranch.model.facts import Branch, Layer, MountRecord, Move
from dsbranch.ops import layers, mounting, views
from dsbranch.ops.checkpoint import mountable
from dsbranch.ops.context import Context, whoami
from dsbranch.ops.dirty import is_dirty
from dsbranch.ops.lowers import root_of_view
from dsbranch.ops.mountpoints import make_mountpoint, remove_mountpoint
from dsbranch.ops.names import check_name
from dsbranch.ops.refs import SHORT, require_free, resolve
from dsbranch.overlay.privilege import may_mount
from dsbranch.store.layout import FIRST_BRANCH
from dsbranch.store.lock import branch_lock, names_lock

if TYPE_CHECKING:
    from dsbranch.overlay.driver import Prepared

PATIENCE_SECONDS = 30.0


def create(context: Context, name: str, *, start: str | None, mount: bool) -> Created:
    check_name(name)
    origin = FIRST_BRANCH if start is None else start
    target = context.root / name
    here = mount and (may_mount(f"mount {target}") or context.by_fuse)
    # Looked at first: others need not wait for it.
    dirty = origin if is_dirty(context, origin) else None
    with names_lock(context.layout, verb=f"create {name}", timeout=PATIENCE_SECONDS):
        require_free(context, name)
        head = resolve(context, origin)
        if here:
            _create_mounted(context, name, head, target)
        else:
            with layers.new_layer(context, root_of_view(context, head)) as layer:
                _insert(context, _new_branch(name, head, layer), layer)
    if mount and not here:
        from dsbranch.ops.unprivileged import note_not_mounted

        note_not_mounted(context, name)
    if context.store.dialect == "user":
        from dsbranch.ops.unprivileged import note_foreign

        note_foreign(context)
    return Created(context.store.branch(name), target if here else None, dirty)


def _create_mounted(context: Context, name: str, head: str, target: Path) -> None:
    """The mount is prepared before the branch exists, so that a refusal leaves nothing."""
    made = make_mountpoint(target)
    try:
        with (
            ExitStack() as held,
            layers.new_layer(context, root_of_view(context, head)) as layer,
        ):
            view = held.enter_context(
                mounting.prepare_layer(context, mountable(context, head), layer.id, [])
            )

            def claim(id: int) -> None:
                held.enter_context(branch_lock(context.layout, id, verb=f"create {name}"))

            # With the branch, where it can be told by then: a transaction less.
            record = mounting.record_of(context, view, target, commit=head, layer=layer.id)
            branch = _new_branch(name, head, layer)
            try:
                _insert(context, branch, layer, claim, record)
                _attach(context, branch, view, target, record)
            except KeyboardInterrupt:
                # What has happened is not left half done.
                if context.store.has_layer(layer.id) and not views.mounts_of(context, layer.id):
                    _attach(context, branch, view, target, record)
                raise
    except BaseException:
        if made:
            remove_mountpoint(target)
        raise


def _attach(
    context: Context, branch: Branch, view: Prepared, target: Path, record: MountRecord | None
) -> None:
    try:
        if record is None:
            mounting.attach(context, view, target, commit=branch.head, layer=branch.layer)
        else:
            view.attach(target)
    except MountRefused as error:
        raise error.after(
            f"{branch.name} was created, but not mounted",
            hint=f"`dsbranch mount {branch.name}` tries again",
        ) from error


def _new_branch(name: str, head: str, layer: Layer) -> Branch:
    return Branch(0, name, head, layer.id, head, time.time_ns())


def _insert(
    context: Context,
    branch: Branch,
    layer: Layer,
    claim: Callable[[int], None] | None = None,
    mount: MountRecord | None = None,
) -> None:
    context.layout.sync_layer_dirs(layer.id)
    context.store.record(
        "create",
        Move(None, branch),
        author=whoami(),
        detail=f"{branch.name} at {branch.head[:SHORT]}",
        layers=[layer],
        claim=claim,
        mount=mount,
    )

"""``rollback``: a fresh open layer on an earlier (or any) commit. What it replaces is kept.

Like a commit, it is one transaction: the layer that is set aside stays as it is, and the
operation log knows it. Readers of the old view keep it until they leave.
"""

from __future__ import annotations

from contextlib import ExitStack

from dsbranch.model import RolledBack
from dsbranch.ops import layers, mounting, stacks
from dsbranch.ops.context import Context, whoami
from dsbranch.ops.diff import uncommitted
from dsbranch.ops.freezing import frozen
from dsbranch.ops.refs import SHORT, resolve


def rollback(context: Context, name: str, to: str | None, *, wait: float) -> RolledBack:
    with mounting.locked(context, name, "rollback") as branch, ExitStack() as held:
        target = branch.head if to is None else resolve(context, to)
        with frozen(context, branch, wait) as mounts:
            counts = uncommitted(context, branch, branch.head).counts()
            with layers.new_layer(context, stacks.root_of_view(context, target)) as fresh:
                view = None
                if mounts:
                    plan = mounting.branch_plan(context, context.store.stack(target), fresh.id)
                    view = held.enter_context(context.driver.prepare(plan))
                layers.sync(context)
                operation = context.store.replace_layer(
                    branch, target, fresh, author=whoami(), detail=f"{name} to {target[:SHORT]}"
                )
        stale, elsewhere = mounting.settle(
            context, branch, mounts, view, done=f"{name} was rolled back"
        )
        return RolledBack(
            branch=name,
            head=target,
            operation=operation.id,
            kept_layer=branch.layer,
            counts=counts,
            mountpoint=mounting.mountpoint(context, context.store.branch(name)),
            stale=stale,
            elsewhere=elsewhere,
        )

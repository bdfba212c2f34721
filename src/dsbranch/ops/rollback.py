"""``rollback``: a fresh open layer on an earlier (or any) commit. What it replaces is kept.

Like a commit, it is one transaction: the layer that is set aside stays as it is, and the
operation log knows it. Readers of the old view keep it until they leave.
"""

from __future__ import annotations

from collections.abc import Mapping

from dsbranch.errors import IntegrityError
from dsbranch.model.commits import RolledBack
from dsbranch.model.facts import Branch
from dsbranch.ops import mounting
from dsbranch.ops.advance import switching
from dsbranch.ops.checkpoint import mountable
from dsbranch.ops.context import Context
from dsbranch.ops.dirty import uncommitted_counts
from dsbranch.ops.lowers import require_layer, root_of_stack
from dsbranch.ops.refs import SHORT, resolve


def rollback(context: Context, name: str, to: str | None, *, wait: float) -> RolledBack:
    with mounting.locked(context, name, "rollback") as branch:
        target = branch.head if to is None else resolve(context, to)
        lowers = mountable(context, target)
        for layer in lowers:
            require_layer(context, layer)
        with switching(context, branch, wait) as switch:
            counts, damage = _counted(context, branch)
            operation = switch.to(
                "rollback",
                branch._replace(head=target, pending=()),
                lowers=lowers,
                detail=f"{name} to {target[:SHORT]}",
                done=f"{name} was rolled back",
                root_like=root_of_stack(context, lowers),
            )
    return RolledBack(
        branch=name,
        head=target,
        operation=operation.id,
        kept_layer=branch.layer,
        counts=counts,
        mountpoint=switch.mountpoint,
        stale=switch.stale,
        elsewhere=switch.elsewhere,
        damage=damage,
    )


def _counted(context: Context, branch: Branch) -> tuple[Mapping[str, int] | None, str | None]:
    """What is uncommitted, or else the damage that hides it: to go back is what helps against
    that."""
    try:
        return uncommitted_counts(context, branch), None
    except IntegrityError as error:
        return None, str(error)

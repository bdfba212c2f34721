"""``commit``: freeze the open layer.

In this order, so that a kill at any point leaves the old state or the new one:

1. the superblock is made read-only, which the kernel refuses while anybody writes;
2. the layer is scanned and hashed, its manifest written, the next layer made and its mount
   prepared, the disk synced; all of this is garbage, or harmless, without
3. the transaction;
4. what was copied up for nothing is unlinked (the manifest does not name it), and the new view
   takes the old one's place. If the latter is missed, the next command does it.
"""

from __future__ import annotations

from contextlib import ExitStack

from dsbranch._core.content import digest_files
from dsbranch._core.seal import idle_copies, remove, strip
from dsbranch._core.table import Table
from dsbranch._core.view import View
from dsbranch.errors import NothingToCommit
from dsbranch.model import Branch, Committed
from dsbranch.ops import layers, mounting, stacks
from dsbranch.ops.context import Context, whoami
from dsbranch.ops.diff import compare, count
from dsbranch.ops.freezing import frozen
from dsbranch.ops.refs import SHORT
from dsbranch.store.faults import storage


def commit(
    context: Context,
    name: str,
    message: str,
    *,
    wait: float,
    allow_empty: bool,
    hash: bool,
    author: str | None,
) -> Committed:
    message = layers.require_message(message)
    with mounting.locked(context, name, "commit") as branch, ExitStack() as held:
        place = context.layout.fs(branch.layer)
        with frozen(context, branch, wait) as mounts:
            table, idle, counts = _examine(context, branch, hash=hash)
            if not counts and not allow_empty:
                raise NothingToCommit(
                    f"nothing to commit: {name} has no uncommitted changes",
                    hint="`--allow-empty` makes a commit all the same",
                )
            open_layer = context.store.layer(branch.layer)
            sealed, checksum = layers.write_manifest(context, open_layer, table)
            made = layers.new_commit(
                sealed,
                checksum,
                parents=(branch.head,),
                message=message,
                author=author or whoami(),
            )
            with layers.new_layer(context, place) as next_layer:
                view = None
                if mounts:
                    stack = [branch.layer, *context.store.stack(branch.head)]
                    plan = mounting.branch_plan(context, stack, next_layer.id)
                    view = held.enter_context(context.driver.prepare(plan))
                with storage(f"write {place}"):
                    strip(table, dialect=open_layer.dialect)
                layers.sync(context)
                context.store.seal_and_advance(
                    branch, sealed, made, next_layer, detail=layers.subject(message)
                )
        # From here on nobody can write there any more, so what was copied up for nothing can go.
        with storage(f"write {place}"):
            remove(table, idle)
        stale, elsewhere = mounting.settle(
            context, branch, mounts, view, done=f"commit {made.id[:SHORT]} was made"
        )
        layers.drop_workdir(context, branch.layer)
        return Committed(
            commit=made,
            counts=counts,
            mountpoint=mounting.mountpoint(context, context.store.branch(name)),
            stale=stale,
            elsewhere=elsewhere,
        )


def _examine(
    context: Context, branch: Branch, *, hash: bool
) -> tuple[Table, list[bytes], dict[str, int]]:
    """Scan and hash the open layer, without what was copied up for nothing; count the changes."""
    place = context.layout.fs(branch.layer)
    below = stacks.base(context)
    stack = stacks.sealed_stack(context, branch.head)
    table = stacks.open_table(context, branch, live=False)
    with stacks.reading(place):
        idle = idle_copies(View([table, *stack], below), progress=context.report("comparing"))
        table = table.without(idle)
        if hash:
            digest_files(table, progress=context.report("hashing"))
    changed = compare(context, View(stack, below), View([table, *stack], below), renames=True)
    return table, idle, count(changed)

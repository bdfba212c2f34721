"""``commit``: freeze the open layer.

In this order, so that a kill at any point leaves the old state or the new one:

1. the superblock is made read-only, which the kernel refuses while anybody writes;
2. the layer is scanned and hashed, its manifest written, the next layer made and its mount
   prepared, the disk synced; all of this is garbage, or harmless, without
3. the transaction;
4. the kernel's notes are removed from the layer, what was copied up for nothing is unlinked (the
   manifest does not name it), and the new view takes the old one's place. What is missed of this
   the next command does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from dsbranch._core.content import digest_files
from dsbranch._core.seal import idle_copies, remove
from dsbranch._core.table import Table
from dsbranch._core.view import View
from dsbranch.errors import NothingToCommit
from dsbranch.model.commits import Committed
from dsbranch.model.facts import Branch, Layer
from dsbranch.ops import layers, mounting, serving, stacks
from dsbranch.ops.advance import switching
from dsbranch.ops.checkpoint import climb
from dsbranch.ops.context import Context, whoami
from dsbranch.ops.diff import compare, count
from dsbranch.ops.dirty import uncommitted_counts
from dsbranch.ops.lowers import lowers_of
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
    done = _commit(
        context,
        name,
        message,
        wait=wait,
        allow_empty=allow_empty,
        hash=hash,
        author=author or whoami(),
    )
    climb(context, done.commit.id)
    return done


def _commit(
    context: Context,
    name: str,
    message: str,
    *,
    wait: float,
    allow_empty: bool,
    hash: bool,
    author: str,
) -> Committed:
    with mounting.locked(context, name, "commit") as branch, ExitStack() as frozen:
        if (
            not allow_empty
            and serving.is_expected(context, branch.layer)
            and not uncommitted_counts(context, branch, renames=False)
        ):
            # Told before freezing ends the view for who stands in it.
            raise _nothing(name)
        switch = frozen.enter_context(switching(context, branch, wait))
        place = context.layout.fs(branch.layer)
        table, idle, counts = _examine(context, branch, hash=hash)
        if not counts and not allow_empty:
            raise _nothing(name)
        open_layer = context.store.layer(branch.layer)
        with layers.sealing(context, open_layer, table) as (sealed, own), ExitStack() as held:
            whole, checksum = held.enter_context(
                _one_layer(context, branch, sealed, own, table, hash=hash)
            )
            made = layers.new_commit(
                whole, checksum, parents=(branch.head,), message=message, author=author
            )
            switch.to_commit("commit", made, [sealed] if whole is sealed else [sealed, whole])

        def clean_up() -> None:
            # Nobody can write there any more, so what was copied up for nothing can go.
            layers.strip_notes(context, open_layer, table)
            with storage(f"write {place}"):
                remove(table, idle)

        switch.clean_up = clean_up
    return Committed(
        commit=made,
        counts=counts,
        mountpoint=switch.mountpoint,
        stale=switch.stale,
        elsewhere=switch.elsewhere,
    )


def _nothing(name: str) -> NothingToCommit:
    return NothingToCommit(
        f"nothing to commit: {name} has no uncommitted changes",
        hint="`--allow-empty` makes a commit all the same",
    )


@contextmanager
def _one_layer(
    context: Context, branch: Branch, sealed: Layer, checksum: str, table: Table, *, hash: bool
) -> Iterator[tuple[Layer, str]]:
    """The layer of the commit, and its manifest's checksum: the open one, now sealed, or one made
    of it and what was pending below it."""
    if not branch.pending:
        yield sealed, checksum
        return
    from dsbranch.ops.build import squashed

    with layers.new_layer(context, context.layout.fs(sealed.id), work=False) as new:
        parts = [table, *stacks.tables(context, branch.pending)]
        lowers = lowers_of(context, branch.head)
        whole, checksum, _ = squashed(context, parts, lowers, new, hash=hash)
        yield whole, checksum


def _examine(
    context: Context, branch: Branch, *, hash: bool
) -> tuple[Table, list[bytes], dict[str, int]]:
    """Scan and hash the open layer, without what was copied up for nothing; count the changes."""
    place = context.layout.fs(branch.layer)
    below = stacks.base(context)
    stack = stacks.tables(context, lowers_of(context, branch.head))
    pending = stacks.tables(context, branch.pending)
    covered = [*pending, *stack]
    table = stacks.open_table(context, branch, live=False)
    with stacks.reading(place):
        linked: list[bytes] | None = [] if serving.is_expected(context, branch.layer) else None
        idle = idle_copies(
            View([table, *covered], below),
            known=context.digests,
            linked=linked,
            progress=context.report("comparing"),
        )
        serving.note_links(context, linked or [])
        table = table.without(idle)
        for part in (table, *pending) if hash else ():
            digest_files(part, known=context.digests, progress=context.report("hashing"))
    changed = compare(context, View(stack, below), View([table, *covered], below), renames=True)
    return table, idle, count(changed)

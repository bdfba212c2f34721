"""Checkpoints: layers that stand for many commits in mounts, so that old histories stay fast.

They lie beside history, made of hard links: no data are read or copied. Any of them can be lost
and made anew, so a failure here leaves nothing but garbage, and the verb that came before it has
done its work.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from itertools import takewhile
from typing import TYPE_CHECKING

from dsbranch.errors import DsbranchError, Locked, NoPrivilege, StorageError
from dsbranch.model.facts import Checkpoint, Layer, Run
from dsbranch.ops import layers
from dsbranch.ops.context import Context
from dsbranch.ops.ladder import HEAVY, ripe
from dsbranch.ops.lowers import lowers_of
from dsbranch.overlay.plan import MAX_LOWERS
from dsbranch.store.layout import new_layer_id
from dsbranch.store.lock import checkpoint_lock

if TYPE_CHECKING:
    from dsbranch._core.squash import Step

_PATIENCE_SECONDS = 30.0
# A mount adds the base and an empty directory, and a commit another layer.
_SPARE = 3


def climb(context: Context, commit: str) -> None:
    """Make the checkpoints that are due at a new commit: the last step of the verbs that make one.

    The verb has happened, so nothing that goes wrong here is its failure: the next commit, or a
    mount that cannot do without, tries again.
    """
    with suppress(DsbranchError, KeyboardInterrupt):
        due = context.ladder.window(sum(run.span for run in context.store.runs(commit)))
        if due:
            with checkpoint_lock(context.layout, verb="commit"):
                _, foot = context.store.ancestor(commit, due)
                merge(context, stretch(context, commit, foot), ratio=HEAVY)
                merge(context, context.store.runs(commit))


def mountable(context: Context, commit: str) -> list[str]:
    """The sealed layers to mount a commit with, newest first, after making them few enough.

    :raises StorageError: they are too many to be mounted, and no checkpoint could be made
    """
    found = lowers_of(context, commit)
    if not context.ladder.is_deep(len(found)):
        return found
    try:
        with checkpoint_lock(context.layout, verb="mount", timeout=_PATIENCE_SECONDS):
            merge(context, context.store.runs(commit))
    except (StorageError, NoPrivilege, Locked):
        if len(found) + _SPARE > MAX_LOWERS:
            raise
    return lowers_of(context, commit)


def stretch(context: Context, top: str, foot: str) -> list[Run]:
    """The runs from `top` down to, but without, its ancestor `foot`, newest first."""
    found = context.store.runs(top, [foot])
    return list(takewhile(lambda run: run.top != foot, found))


def merge(context: Context, runs: Sequence[Run], *, ratio: int = 1) -> None:
    """Merge the newest of `runs` that `ripe` names, a bounded number at a time.

    The caller holds the lock on checkpoints.
    """
    rest = list(runs[: ripe([run.entries for run in runs], ratio)])
    widest = context.ladder.widest
    while len(rest) > 1:
        groups = [rest[at : at + widest] for at in range(0, len(rest), widest)]
        rest = [group[0] if len(group) == 1 else _merged(context, group) for group in groups]


def _merged(context: Context, runs: Sequence[Run]) -> Run:
    """One run in place of several neighbours, once its row is in the store."""
    from dsbranch._core.squash import plan_apart
    from dsbranch.ops import stacks

    top, bottom = runs[0].top, runs[-1].bottom
    parts = [layer for run in runs for layer in run.layers]
    aside = b".dsbranch." + new_layer_id().encode()
    with stacks.reading(context.root):
        tables = stacks.tables(context, parts)
        below = stacks.tables(context, lowers_of(context, bottom))
        steps = plan_apart(tables, below, stacks.base(context), aside)
    with ExitStack() as made:
        new = [_filled(context, made, steps, parts)]
        if steps.data_steps:
            new.append(_filled(context, made, steps.data_steps, parts))
        # On the disk before the store says so: a mount believes it.
        layers.sync(context)
        span = sum(run.span for run in runs)
        ids = [layer.id for layer in new]
        context.store.add_checkpoint(
            Checkpoint(ids[0], top, bottom, span, ids[1] if len(ids) > 1 else None), new
        )
    return Run(tuple(ids), top, bottom, span, sum(layer.entries or 0 for layer in new))


def _filled(
    context: Context, made: ExitStack, steps: Iterable[Step], parts: Sequence[str]
) -> Layer:
    """A new sealed layer of `steps`; its directory goes again if what `made` holds fails."""
    from dsbranch.ops import stacks
    from dsbranch.ops.build import built

    like = context.layout.fs(parts[0])
    new = made.enter_context(layers.new_layer(context, like, work=False))
    return built(context, steps, new, hash=False, parts=stacks.tables(context, parts))[0]

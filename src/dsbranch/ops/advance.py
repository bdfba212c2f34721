"""Moving a branch and its view together: how every verb ends that gives it another open layer.

The branch is frozen for the body. The body's last step is `Switch.to`, which makes the new
view ready, syncs the disk and runs the transaction; afterwards the view takes the old one's
place. Before the transaction nothing happened, and if the rest is missed, the next command
does it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dsbranch.errors import DirtyBranch
from dsbranch.model.facts import Branch, Commit, Layer, Move, Operation
from dsbranch.model.views import Process
from dsbranch.ops import layers as layer_steps
from dsbranch.ops import mounting, views
from dsbranch.ops.checkpoint import mountable
from dsbranch.ops.context import Context, whoami
from dsbranch.ops.dirty import changes_in_words, uncommitted_counts
from dsbranch.ops.freezing import frozen
from dsbranch.ops.refs import SHORT
from dsbranch.overlay.mountinfo import MountEntry

if TYPE_CHECKING:
    from dsbranch.overlay.driver import Prepared


class Switch:
    """A frozen branch on its way to another position.

    `clean_up` runs once nobody can write to the old layer any more, and before the new view is
    seen. `stale` and `elsewhere`, known at the end, are processes that keep the old view.
    """

    def __init__(
        self, context: Context, branch: Branch, mounts: list[MountEntry], held: ExitStack
    ) -> None:
        self.context = context
        self.branch = branch
        self.mounts = mounts
        self.held = held
        self.view: Prepared | None = None
        self.operation: Operation | None = None
        self.done = ""
        self.clean_up: Callable[[], None] | None = None
        self.stale: tuple[Process, ...] = ()
        self.elsewhere: tuple[Process, ...] = ()

    def to(
        self,
        verb: str,
        after: Branch,
        *,
        lowers: list[str],
        detail: str,
        done: str,
        root_like: Path | None,
        layers: Sequence[Layer] = (),
        commit: Commit | None = None,
        author: str | None = None,
        undoes: int | None = None,
    ) -> Operation:
        """Record the operation. `lowers` are the layers below the open one, newest first.

        `done` says what will have happened, should showing the new view then fail.
        `after` is the branch as it will be. It gets a fresh open layer whose root is like
        `root_like`; where that is None, `after` names an open layer that there is already.

        :raises Locked: the branch moved meanwhile; nothing was written
        """
        with ExitStack() as made:
            new = list(layers)
            if root_like is not None:
                fresh = made.enter_context(layer_steps.new_layer(self.context, root_like))
                new.append(fresh)
                after = after._replace(layer=fresh.id)
            if self.mounts:
                self.view = self.held.enter_context(
                    mounting.prepare_layer(self.context, lowers, after.layer, self.mounts)
                )
            layer_steps.sync(self.context)
            self.operation = self.context.store.record(
                verb,
                Move(self.branch, after),
                author=author or whoami(),
                detail=detail,
                layers=new,
                commit=commit,
                undoes=undoes,
            )
        self.done = done
        return self.operation

    def to_commit(self, verb: str, made: Commit, layers: Sequence[Layer]) -> Operation:
        """Record a commit on the branch, with nothing uncommitted; `layers` are those it made.

        :raises Locked: the branch moved meanwhile; nothing was written
        """
        assert made.layer is not None
        return self.to(
            verb,
            self.branch._replace(head=made.id, pending=()),
            lowers=[made.layer, *mountable(self.context, made.parents[0])],
            detail=layer_steps.subject(made.message),
            done=f"commit {made.id[:SHORT]} was made",
            root_like=self.context.layout.fs(made.layer),
            layers=layers,
            commit=made,
            author=made.author,
        )

    @property
    def mountpoint(self) -> Path | None:
        """Where the branch is mounted now."""
        return views.mountpoint(self.context, self.context.store.branch(self.branch.name))


@contextmanager
def switching(context: Context, branch: Branch, wait: float) -> Iterator[Switch]:
    """Freeze `branch` for the body, which may move it once; the caller holds its lock.

    `wait` is how many seconds writers may take to finish.

    :raises WritersPresent: a process writes there, and did not stop in time
    :raises BusyError: the branch is mounted in another namespace only
    """
    with ExitStack() as held:
        with frozen(context, branch, wait) as mounts:
            switch = Switch(context, branch, mounts, held)
            yield switch
        if switch.operation is None:
            raise ValueError(f"{branch.name} was frozen and not moved")
        if switch.clean_up is not None:
            switch.clean_up()
        switch.stale, switch.elsewhere = mounting.settle(
            context, branch, mounts, switch.view, done=switch.done
        )
        layer_steps.drop_workdir_if_sealed(context, branch.layer)


def commit_clean(
    context: Context, branch: Branch, verb: str, made: Commit, sealed: Layer, wait: float
) -> Switch:
    """Move a clean branch to the commit `made` of the new layer `sealed`; how it went.

    :raises DirtyBranch: it has uncommitted changes
    """
    with switching(context, branch, wait) as switch:
        # Nobody kept the branch from being written to until here.
        require_clean(context, branch, verb)
        switch.to_commit(verb, made, [sealed])
    return switch


def require_clean(
    context: Context, branch: Branch, verb: str, *, directory_times: bool = False
) -> None:
    """`directory_times` is that of `uncommitted_counts`.

    :raises DirtyBranch: it has uncommitted changes
    """
    counts = uncommitted_counts(context, branch, renames=False, directory_times=directory_times)
    if counts:
        raise DirtyBranch(
            f"{branch.name} has {changes_in_words(counts)}",
            hint=f"commit them first, or `dsbranch rollback {branch.name}` sets them aside;"
            f" then {verb} again",
        )

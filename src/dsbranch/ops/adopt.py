"""``inspect --adopt``: what a stopped container changed, as a commit on a new branch.

The container's upper directory stays as it is and goes on being the container's, so nothing of
it is linked: the new layer is made of copies, by reflink where the filesystem can. All of it is
garbage without a row until the one transaction, which does not come about if the container was
started meanwhile.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from dsbranch._core.seal import idle_copies
from dsbranch._core.squash import plan
from dsbranch._core.table import Table
from dsbranch._core.view import View
from dsbranch.errors import BusyError, ConflictError, NothingToCommit, UnsupportedError
from dsbranch.model.archives import Applied
from dsbranch.model.facts import Branch, Commit, Move
from dsbranch.model.overlays import Overlay
from dsbranch.ops import layers, stacks
from dsbranch.ops.build import built
from dsbranch.ops.context import Context, whoami
from dsbranch.ops.create import PATIENCE_SECONDS
from dsbranch.ops.diff import compare, count
from dsbranch.ops.inspect import compared, views, where_mounted
from dsbranch.ops.mount import mount as mount_branch
from dsbranch.ops.names import check_name
from dsbranch.ops.refs import require_free
from dsbranch.store.layout import FIRST_BRANCH
from dsbranch.store.lock import names_lock


def adopt(
    context: Context, name: str, overlay: Overlay, message: str | None, *, mount: bool
) -> Applied:
    check_name(name)
    text = layers.require_message(f"adopt {overlay.name}" if message is None else message)
    _require_stopped(overlay)
    if overlay.dialect != context.store.dialect:
        raise UnsupportedError(
            f"the marks in {overlay.name} are {overlay.dialect}.overlay.*, and those of this"
            f" workspace are {context.store.dialect}.overlay.*",
            hint="adopt it in a workspace of the same user",
        )
    require_free(context, name)
    progress = context.listeners[-1] if context.listeners else None
    lowers, _, table = views(overlay, live=False, progress=progress)
    below = stacks.base(context)
    _require_same(context, overlay, lowers, View([], below))
    commit, counts = _committed(context, name, overlay, table, text)
    mounted = mount_branch(context, name, at=None, read_only=False) if mount else None
    return Applied(commit, counts, None if mounted is None else mounted.path)


def _require_stopped(overlay: Overlay) -> None:
    place = where_mounted(overlay)
    if place is None:
        return
    where = f"at {place.path}"
    if place.process is not None:
        where += f" of {place.process.command} (pid {place.process.pid})"
    raise BusyError(
        f"{overlay.name} is mounted {where}, so it may be written to",
        hint="stop the container, and unmount it where it was mounted by hand",
    )


def _require_same(context: Context, overlay: Overlay, lowers: View | None, base: View) -> None:
    """What the container changed means the same on the dataset only if that is what it changed."""
    if _is_base(context.base, overlay):
        return
    progress = context.listeners[-1] if context.listeners else None
    found = compared(context.base, lowers or base, base, renames=False, progress=progress)
    if lowers is None or len(found):
        raise ConflictError(
            f"the dataset {context.base} is not what {overlay.name} lies on"
            + (f": {len(found)} differences" if lowers is not None else ", which is nothing"),
            hint="`cp -a` of what `podman image mount IMAGE` names makes a dataset that is;"
            " `dsbranch init` adopts it",
        )


def _is_base(base: Path, overlay: Overlay) -> bool:
    return len(overlay.lowers) == 1 and os.path.samefile(base, overlay.lowers[0].path)


def _committed(
    context: Context, name: str, overlay: Overlay, table: Table, text: str
) -> tuple[Commit, dict[str, int]]:
    below = stacks.base(context)
    with stacks.reading(Path("/") if overlay.upper is None else overlay.upper.path):
        idle = idle_copies(
            View([table], below),
            known=context.digests,
            progress=context.report("comparing"),
        )
        table = table.without(idle)
    counts = count(compare(context, View([], below), View([table], below)))
    if not counts:
        raise NothingToCommit(
            f"nothing to commit: {overlay.name} changed nothing",
            hint="`dsbranch inspect - --changes` shows what a container changed",
        )
    root = context.store.first_parents(context.store.branch(FIRST_BRANCH).head)[-1]
    with layers.new_layer(context, context.base, work=False) as layer:
        steps = plan([table], [], below)
        sealed, checksum, _ = built(context, steps, layer, hash=True, share=False)
        made = layers.new_commit(sealed, checksum, parents=(root,), message=text, author=whoami())
        with (
            layers.new_layer(context, context.layout.fs(layer.id)) as fresh,
            names_lock(context.layout, verb=f"adopt {name}", timeout=PATIENCE_SECONDS),
        ):
            require_free(context, name)
            _require_stopped(overlay)
            layers.sync(context)
            context.store.record(
                "adopt",
                Move(None, Branch(0, name, made.id, fresh.id, root, time.time_ns())),
                author=made.author,
                detail=f"{overlay.name} as {name}",
                layers=[sealed, fresh],
                commit=made,
            )
    return made, counts

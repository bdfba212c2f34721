"""``restore``: paths of a branch as they are in a commit again, as uncommitted changes.

Nothing is written through the mount. The open layer is sealed, and what the paths need comes
into a pending layer beside or above it, by hard links; so it happens at once, whatever its size,
and `undo` brings back what was there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from dsbranch._core.merge import decide
from dsbranch._core.replay import replay
from dsbranch._core.squash import Step, plan
from dsbranch._core.table import Table
from dsbranch._core.view import View
from dsbranch.errors import BadPath
from dsbranch.model.commits import Restored
from dsbranch.model.facts import Branch, Layer
from dsbranch.ops import layers, mounting, stacks, views
from dsbranch.ops.advance import Switch, switching
from dsbranch.ops.build import built
from dsbranch.ops.checkpoint import mountable
from dsbranch.ops.context import Context
from dsbranch.ops.diff import compare, count
from dsbranch.ops.lowers import apart, root_of_stack
from dsbranch.ops.refs import SHORT, resolve


class _Nothing(Exception):
    """The paths are as they should be."""


def restore(
    context: Context, name: str, paths: Sequence[bytes], *, start: str | None, wait: float
) -> Restored:
    with mounting.locked(context, name, "restore") as branch:
        commit = branch.head if start is None else resolve(context, start)
        try:
            with switching(context, branch, wait) as switch:
                counts = _restore(context, switch, branch, commit, paths)
        except _Nothing:
            return Restored(name, commit, {}, views.mountpoint(context, branch))
    return Restored(
        name,
        commit,
        counts,
        switch.mountpoint,
        stale=switch.stale,
        elsewhere=switch.elsewhere,
    )


def _restore(
    context: Context, switch: Switch, branch: Branch, commit: str, paths: Sequence[bytes]
) -> dict[str, int]:
    below = stacks.base(context)
    place = context.layout.fs(branch.layer)
    table = stacks.open_table(context, branch, live=False)
    head, source = apart(context, branch.head, commit)
    lowers = [*branch.pending, *head]
    now = View([table, *stacks.tables(context, lowers)], below)
    then = View(stacks.tables(context, source), below)
    _require_known(paths, now, then, commit)
    steps: Iterable[Step]
    everything = b"" in paths and commit == branch.head
    simple = commit == branch.head and not branch.pending and _shows_below(table, paths)
    if everything or simple:
        counts = count(compare(context, now, then, paths, renames=False))
    else:
        steps, counts = _replayed(context, now, then, paths)
    if not counts:
        raise _Nothing
    if everything:
        _show(context, switch, branch, (), [], _detail(paths, commit))
        return counts
    if simple:
        # Where the open layer holds nothing of a path, the commit shows through.
        steps = plan([_without(table, paths)], stacks.tables(context, lowers), below)
    # Sealed, as the new layer shares inodes with it.
    open_layer = context.store.layer(branch.layer)
    with (
        layers.sealing(context, open_layer, table) as (sealed, _),
        layers.new_layer(context, place, work=False) as new,
    ):
        layer, _, _ = built(context, steps, new, hash=False)
        pending = (layer.id,) if simple else (layer.id, sealed.id, *branch.pending)
        _show(context, switch, branch, pending, [sealed, layer], _detail(paths, commit))
    switch.clean_up = partial(layers.strip_notes, context, open_layer, table)
    return counts


def _show(
    context: Context,
    switch: Switch,
    branch: Branch,
    pending: tuple[str, ...],
    made: list[Layer],
    detail: str,
) -> None:
    lowers = [*pending, *mountable(context, branch.head)]
    switch.to(
        "restore",
        branch._replace(pending=pending),
        lowers=lowers,
        detail=detail,
        done=f"the paths of {branch.name} were restored",
        root_like=root_of_stack(context, lowers),
        layers=made,
    )


def _require_known(paths: Sequence[bytes], now: View, then: View, commit: str) -> None:
    for path in paths:
        if now.find(path) is None and then.find(path) is None:
            shown = path.decode("utf-8", "backslashreplace")
            raise BadPath(
                f"there is no {shown}, neither in the branch nor in commit {commit[:SHORT]}",
                hint="give paths relative to the branch's root, as `dsbranch diff` shows them",
            )


def _replayed(
    context: Context, now: View, then: View, paths: Sequence[bytes]
) -> tuple[list[Step], dict[str, int]]:
    """What leads from the view as it is to that of the commit, as far as the paths go; and how
    many changes that is, by letter."""
    with stacks.reading(context.root):
        merge = decide(now, now, then, paths=paths, progress=context.report("comparing"))
        return replay(merge, dialect=context.store.dialect)


def _shows_below(table: Table, paths: Sequence[bytes]) -> bool:
    """Whether what lies below an open layer at each of the paths is what the commit has there,
    and can be shown: no directory above was renamed or replaced in the layer, and none refers to
    what is to be shown again. Of two directories that show the same files, a kernel keeps one
    inode for both: what is written to one would be in the other."""
    rows = {table.path(row): row for row in range(len(table))}
    for path in paths:
        parts = path.split(b"/")
        for end in range(1, len(parts)):
            row = rows.get(b"/".join(parts[:end]))
            if row is None:
                break
            entry = table.entry(row)
            if entry.kind != "directory" or entry.flags:
                return False
    return not any(
        _within(below, paths) and not _within(path, paths)
        for path, below in _renamed_directories(table)
    )


def _renamed_directories(table: Table) -> Iterator[tuple[bytes, bytes]]:
    """Where the directories that were renamed in an open layer lie in it, and where below it."""
    below = {b"": b""}
    for row in range(1, len(table)) if table.summary()["redirects"] else ():
        entry = table.entry(row)
        if entry.kind != "directory":
            continue
        directory, _, name = entry.path.rpartition(b"/")
        if entry.redirect is None:
            source = below[directory] + b"/" + name
        elif entry.redirect.startswith(b"/"):
            source = entry.redirect
        else:
            source = below[directory] + b"/" + entry.redirect
        below[entry.path] = source.lstrip(b"/")
        if entry.redirect is not None:
            yield entry.path, below[entry.path]


def _without(table: Table, paths: Sequence[bytes]) -> Table:
    """The table without the paths and what lies below them; its root stays."""
    unwanted = []
    for row in range(1, len(table)):
        path = table.path(row)
        if _within(path, paths):
            unwanted.append(path)
    return table.without(unwanted)


def _within(path: bytes, tops: Sequence[bytes]) -> bool:
    return any(top in (b"", path) or path.startswith(top + b"/") for top in tops)


def _detail(paths: Sequence[bytes], commit: str) -> str:
    first = paths[0].decode("utf-8", "backslashreplace") or "."
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{first}{more} from {commit[:SHORT]}"

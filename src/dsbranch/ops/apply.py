"""``apply``: an archive as a commit.

The archive is unpacked into a new layer, which then loses whatever the branch shows already. All
of this is garbage without a row until the one transaction.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from dsbranch._core.content import digest_files
from dsbranch._core.delta import Delta
from dsbranch._core.table import Table
from dsbranch._core.view import View
from dsbranch.errors import BadPath, NothingToCommit
from dsbranch.model.archives import Applied
from dsbranch.model.facts import Branch, Commit, Layer
from dsbranch.ops import layers, mounting, stacks
from dsbranch.ops.advance import Switch, commit_clean, require_clean
from dsbranch.ops.archive.member import Archive
from dsbranch.ops.archive.tar_read import TarArchive
from dsbranch.ops.archive.tree_read import TreeArchive
from dsbranch.ops.archive.trim import trim
from dsbranch.ops.archive.unpack import Terms, Unpacker
from dsbranch.ops.checkpoint import climb
from dsbranch.ops.context import Context, whoami
from dsbranch.ops.diff import compare, count
from dsbranch.ops.lowers import lowers_of, root_of_view
from dsbranch.store.faults import storage


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user says about the archive: take it as a whole tree; also onto what it was not made
    for; with devices."""

    full: bool
    force: bool
    devices: bool


def apply(
    context: Context,
    file: Path,
    name: str,
    message: str | None,
    wish: Wish,
    *,
    dry_run: bool,
    wait: float,
    author: str | None,
) -> Applied:
    text = layers.require_message(f"apply {file.name}" if message is None else message)
    with mounting.locked(context, name, "apply") as branch, _opened(file) as archive:
        require_clean(context, branch, "apply")
        like = root_of_view(context, branch.head)
        with layers.new_layer(context, like, work=False) as layer:
            table, counts = _fill(context, branch, archive, layer, wish)
            if not counts:
                raise NothingToCommit(
                    f"nothing to commit: {name} already is what {file} would make of it",
                    hint=f"`dsbranch log {name}` shows what it was made of",
                )
            if dry_run:
                shutil.rmtree(context.layout.layer(layer.id))
                return Applied(None, counts)
            made, switch = _commit(context, branch, layer, table, text, wait, author)
    climb(context, made.id)
    return Applied(made, counts, switch.mountpoint, switch.stale, switch.elsewhere)


def _commit(
    context: Context,
    branch: Branch,
    layer: Layer,
    table: Table,
    text: str,
    wait: float,
    author: str | None,
) -> tuple[Commit, Switch]:
    with stacks.reading(context.layout.fs(layer.id)):
        digest_files(table, known=context.digests, progress=context.report("hashing"))
    sealed, checksum = layers.write_manifest(context, layer, table)
    made = layers.new_commit(
        sealed, checksum, parents=(branch.head,), message=text, author=author or whoami()
    )
    return made, commit_clean(context, branch, "apply", made, sealed, wait)


@contextmanager
def _opened(file: Path) -> Iterator[Archive]:
    if not file.exists():
        raise BadPath(f"there is no {file}", hint="name a .tar, a .tar.zst or a directory")
    with storage(f"read {file}"):
        stream = None if file.is_dir() else open(file, "rb")  # noqa: SIM115 - closed below
    if stream is None:
        yield TreeArchive(file)
    else:
        with stream:
            yield TarArchive(file, stream)


def _fill(
    context: Context, branch: Branch, archive: Archive, layer: Layer, wish: Wish
) -> tuple[Table, dict[str, int]]:
    """Make the layer what it must be; its table, and how many changes there are of each letter."""
    place = context.layout.fs(layer.id)
    below = stacks.base(context)
    stack = stacks.tables(context, lowers_of(context, branch.head))
    old = View(stack, below)
    full = wish.full or archive.full is True
    terms = Terms(
        full=full,
        checked=archive.full is False and not wish.force and not wish.full,
        own=archive.own,
        devices=wish.devices,
    )
    with stacks.reading(context.root):
        _unpack(context, archive, Unpacker(place, old, layer.dialect, terms))
    table = stacks.scanned(context, layer.id)
    new = View([table]) if full else View([table, *stack], below)
    deltas = compare(context, old, new, renames=False, directory_times=True)
    with storage(f"write {place}"):
        trim(place, table, deltas, old, layer.dialect)
    counts = count(deltas.only(lambda delta: not _is_time(delta)))
    return stacks.scanned(context, layer.id), counts


def _unpack(context: Context, archive: Archive, unpacker: Unpacker) -> None:
    report = context.report("unpacking")
    with closing(unpacker):
        done = 0
        for member in archive:
            unpacker.put(member)
            done += 1
            if report is not None:
                report(done, None, archive.position())
        unpacker.finish()
        if report is not None:
            report(done, done, archive.position())


def _is_time(delta: Delta) -> bool:
    """Whether it is a directory of which the time alone is new, which is no change."""
    if delta.status != "m" or delta.kind != "directory" or delta.old is None or delta.new is None:
        return False
    one, two = (table.entry(row) for table, row in (delta.old, delta.new))
    return (one.mode, one.uid, one.gid, one.xattrs) == (two.mode, two.uid, two.gid, two.xattrs)

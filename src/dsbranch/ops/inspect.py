"""``inspect``: any overlay of this machine explained, dsbranch's or not. Writes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dsbranch._core.algebra import changes
from dsbranch._core.base import Base
from dsbranch._core.delta import Deltas
from dsbranch._core.scan import scan
from dsbranch._core.table import Table
from dsbranch._core.usage import Usage
from dsbranch._core.view import View
from dsbranch.errors import BadPath, NoPrivilege, UnsupportedError
from dsbranch.model.changes import Progress
from dsbranch.model.facts import Dialect
from dsbranch.model.overlays import MountPlace, Overlay, OverlayPart
from dsbranch.model.views import Process
from dsbranch.ops import stacks
from dsbranch.ops.belonging import Belongings
from dsbranch.ops.diff import Diff, within
from dsbranch.ops.space import weigh
from dsbranch.overlay import mountinfo
from dsbranch.overlay.locate import mount_at
from dsbranch.overlay.mountinfo import MountEntry
from dsbranch.overlay.privilege import sees_trusted
from dsbranch.overlay.processes import is_of_container
from dsbranch.overlay.stack import Container, Root, Stack, of_containers, of_mount
from dsbranch.overlay.whereabouts import Whereabouts, dialect_of
from dsbranch.store.faults import from_errno

if TYPE_CHECKING:
    from dsbranch._core.jobs import Report

# Where tables go that are too large for memory: there is no workspace to take them.
_SPILL = b"/var/tmp"  # unlinked files of the core's own

_Seen = tuple[Process | None, MountEntry]


def inspect_all(*, sizes: bool, progress: Progress | None = None) -> list[Overlay]:
    """Each overlay that is mounted anywhere, once, by where it was first found."""
    inspector = Inspector(sizes=sizes, progress=progress)
    return [inspector.mounted(seen) for seen in inspector.groups.values()]


def inspect(path: Path, *, sizes: bool, progress: Progress | None = None) -> Overlay:
    """The overlay that `path` lies in.

    :raises BadPath: it lies in none
    """
    entry = mount_at(path)
    if entry is None:
        raise BadPath(
            f"there is nothing at {path} that can be reached",
            hint="`dsbranch inspect --all` shows every overlay there is",
        )
    if entry.fstype != "overlay":
        raise BadPath(
            f"{path} lies in no overlay mount: it is on {entry.fstype}",
            hint="`dsbranch inspect --all` shows every overlay there is",
        )
    inspector = Inspector(sizes=sizes, progress=progress)
    return inspector.mounted(inspector.groups.get(entry.dev) or [(None, entry)])


def inspect_containers(
    document: bytes, *, sizes: bool, progress: Progress | None = None
) -> list[Overlay]:
    """The overlays of what ``docker inspect`` or ``podman inspect`` wrote, mounted or not."""
    inspector = Inspector(sizes=sizes, progress=progress)
    return [inspector.container(container) for container in of_containers(document)]


class Inspector:
    """What is known of the mounts of this machine, and of the directories looked at so far.

    `groups` are all mounts of an overlay by the number of its superblock, in the order of the
    mount tables, this namespace first.
    """

    def __init__(self, *, sizes: bool, progress: Progress | None) -> None:
        self._sizes = sizes
        self._report: Report | None = None if progress is None else partial(progress, "counting")
        self._weights: dict[Path, tuple[int, int] | None] = {}
        self._belongings = Belongings()
        self.groups: dict[tuple[int, int], list[_Seen]] = {}
        for seen in mountinfo.overlays():
            self.groups.setdefault(seen[1].dev, []).append(seen)
        self._uppers: dict[Path, list[tuple[int, int]]] = {}
        for dev, group in self.groups.items():
            stack, find = _found(group)
            if stack.upper is not None:
                self._uppers.setdefault(find(stack.upper)[0], []).append(dev)

    def mounts_of(self, upper: Path) -> list[_Seen]:
        """The mounts of the first overlay with this upper directory; none where there is none."""
        devices = self._uppers.get(upper)
        return self.groups[devices[0]] if devices else []

    def mounted(self, group: Sequence[_Seen]) -> Overlay:
        stack, find = _found(group)
        return self._explained(group[0][1].source, _places(group), stack, find)

    def container(self, container: Container) -> Overlay:
        """A container as its engine describes it; what is mounted is what the kernel says it is."""
        name, stack = container
        if isinstance(stack, Root):
            return self.mounted(self._root_of(name, stack))._replace(name=name)
        find = Whereabouts(stack, ()).find
        assert stack.upper is not None
        path, there = find(stack.upper)
        if not there:
            raise BadPath(
                f"the upper directory of {name} is not there: {path}",
                hint="it must be read on the machine, and by the user, whose containers they are",
            )
        group = self.mounts_of(path)
        if group:
            return self.mounted(group)._replace(name=name)
        with stacks.reading(path):
            stack = stack._replace(dialect=dialect_of(path))
        return self._explained(name, (), stack, find)

    def _root_of(self, name: str, root: Root) -> list[_Seen]:
        """The mounts of what the process of a container has as its root."""
        if not is_of_container(root.pid, root.id):
            raise BadPath(
                f"process {root.pid} is not, or not visibly, one of the container {name}",
                hint="inspect it again while it runs, on the machine it runs on, as root",
            )
        entry = mountinfo.root_of(root.pid)
        group = [] if entry is None else self.groups.get(entry.dev, [])
        if not group:
            kind = "out of sight" if entry is None else f"on {entry.fstype}"
            raise UnsupportedError(
                f"the root of {name} is no overlay that can be looked at: it is {kind}",
                hint="`dsbranch inspect --all` shows every overlay there is",
            )
        return group

    def _explained(
        self,
        name: str,
        places: tuple[MountPlace, ...],
        stack: Stack,
        find: Callable[[bytes], tuple[Path, bool]],
    ) -> Overlay:
        written = [("upper", stack.upper), ("work", stack.work)]
        written += [("lower", lower) for lower in stack.lowers]
        written += [("data", lower) for lower in stack.data]
        found = [(role, *find(name)) for role, name in written if name is not None]
        self._belongings.learn(path for _, path, _ in found)
        parts = tuple(self._part(*part) for part in found)
        assert stack.dialect is not None
        overlay = Overlay(name, places, parts, stack.dialect, stack.options, stack.read_only)
        return overlay._replace(notes=tuple(self._notes(overlay)))

    def _part(self, role: str, path: Path, found: bool) -> OverlayPart:
        belongs = self._belongings.of(path) if role != "work" and found else None
        part = OverlayPart(role, path, found, belongs)  # type: ignore[arg-type]
        # A dataset may take an hour to be walked, and `seal` knows what is in it.
        large = belongs is not None and belongs.what in ("dataset", "view")
        if not found or role == "work" or large or not self._sizes:
            return part
        weight = self._weight(path)
        return part if weight is None else part._replace(bytes=weight[0], inodes=weight[1])

    def _weight(self, path: Path) -> tuple[int, int] | None:
        """Bytes and inodes; None where some of it may not be read. Images share their layers."""
        if path not in self._weights:
            usage = Usage()
            try:
                weigh(usage, path, 0)
                # Also what has names elsewhere: whiteouts share one inode with the workdir.
                sizes, inodes = zip(*usage.shares().values(), strict=True)
                self._weights[path] = sum(sizes), sum(inodes)
            except NoPrivilege:
                self._weights[path] = None
            if self._report is not None:
                self._report(len(self._weights), None, 0)
        return self._weights[path]

    def _notes(self, overlay: Overlay) -> Iterable[str]:
        upper = overlay.upper
        if any(not part.found for part in overlay.parts):
            yield (
                "a directory was not found: it is gone, or its name counts from a directory, or a"
                " mount namespace, that cannot be told from here"
            )
        if upper is None:
            if overlay.mounted:
                yield "it has no upper directory, so nothing can be written"
            return
        if overlay.read_only:
            yield "the kernel has it read-only, though it has an upper: nothing is written there"
        elif upper.found and os.statvfs(upper.path).f_flag & os.ST_RDONLY:
            yield "the filesystem of its upper directory is read-only: every write to it fails"
        if len(self._uppers.get(upper.path, ())) > 1:
            yield (
                "another overlay has the same upper directory: what is written through one breaks"
                " the other, and the kernel says nothing"
            )
        if dict(overlay.options).get("fsync") == "volatile" or "volatile" in dict(overlay.options):
            yield "it is volatile: nothing is synced, so a crash may lose or tear what was written"


def where_mounted(overlay: Overlay) -> MountPlace | None:
    """Where somebody has the upper directory of an overlay mounted now, or None."""
    upper, inspector = overlay.upper, Inspector(sizes=False, progress=None)
    places = () if upper is None else _places(inspector.mounts_of(upper.path))
    return places[0] if places else None


def _found(group: Sequence[_Seen]) -> tuple[Stack, Callable[[bytes], tuple[Path, bool]]]:
    """The directories as written in the first mount table, and what finds them."""
    process, entry = group[0]
    stack = of_mount(entry)
    roots = [Path("/")]
    if process is not None:
        roots.append(Path(f"/proc/{process.pid}/root"))
    near = [entry.place for _, entry in group]
    return stack, Whereabouts(stack, near, roots).find


def _places(group: Sequence[_Seen]) -> tuple[MountPlace, ...]:
    """A namespace in which several processes have roots of their own is told once for each."""
    return tuple(
        MountPlace(
            entry.place,
            b"ro" in entry.options.split(b","),
            process,
            Path(os.fsdecode(entry.root)),
        )
        for process, entry in group
    )


def overlay_changes(
    overlay: Overlay,
    *,
    paths: Sequence[bytes] = (),
    renames: bool = True,
    progress: Progress | None = None,
) -> Diff:
    """What the upper directory of an overlay changed against its lowers.

    Nothing is recorded of them, so the upper and all lowers but the last are walked; in the last
    only what these name is looked up.

    :raises UnsupportedError: it has no upper, or lowers that hold data only
    :raises NoPrivilege: the marks in its layers are out of the caller's sight
    :raises BadPath: a directory of it was not found
    """
    upper = _comparable(overlay)
    old, new, _ = views(overlay, live=True, progress=progress)
    deltas = compared(upper.path, old, new, renames=renames, progress=progress)
    wanted = [path.strip(b"/") for path in paths]
    if wanted and b"" not in wanted:
        deltas = deltas.only(lambda delta: within(delta, wanted))
    return Diff(None, None, deltas)


def views(
    overlay: Overlay, *, live: bool, progress: Progress | None
) -> tuple[View | None, View, Table]:
    """What an overlay's lowers show, None where it has none; what it shows; and its upper. `live`:
    somebody may write to that meanwhile. Raises what `overlay_changes` does."""
    upper = _comparable(overlay)
    scanned = [
        _scanned(part.path, overlay, live=live and part is upper, progress=progress)
        for part in (upper, *overlay.lowers[:-1])
    ]
    below = base_of(overlay.lowers[-1].path, overlay.dialect) if overlay.lowers else None
    old = None if below is None else View(scanned[1:], below)
    return old, View(scanned, below), scanned[0]


def _comparable(overlay: Overlay) -> OverlayPart:
    upper = overlay.upper
    if upper is None:
        raise UnsupportedError(
            f"{overlay.name} has no upper directory, so it changed nothing",
            hint="leave `--changes` out to see what it consists of",
        )
    if any(part.role == "data" for part in overlay.parts):
        raise UnsupportedError(
            f"{overlay.name} has lowers that hold data only, which dsbranch cannot compare",
            hint="leave `--changes` out to see what it consists of",
        )
    if overlay.dialect == "trusted" and not sees_trusted():
        raise NoPrivilege(
            f"only root sees the marks (trusted.overlay) in the layers of {overlay.name}",
            hint="run the same command as root, for example with sudo",
        )
    for part in (upper, *overlay.lowers):
        if not part.found:
            raise BadPath(
                f"the {part.role} directory {part.path} was not found",
                hint="run it where, and as the user who, mounted the overlay",
            )
    return upper


def _scanned(path: Path, overlay: Overlay, *, live: bool, progress: Progress | None) -> Table:
    with stacks.reading(path):
        return scan(
            os.fsencode(path),
            dialect=overlay.dialect,
            served=not overlay.mounted,  # by the kernel, which knows nothing of these marks
            live=live,
            spill=_SPILL,
            progress=None if progress is None else partial(progress, "scanning"),
        )


def base_of(path: Path, dialect: Dialect) -> Base:
    """A directory of anybody's, to be looked into."""
    try:
        found = Base(os.fsencode(path), dialect=dialect)
        found.spill_into(_SPILL)
    except OSError as error:
        raise from_errno(error.errno or 0, f"open {path}") from error
    return found


def compared(
    place: Path, old: View | None, new: View, *, renames: bool, progress: Progress | None
) -> Deltas:
    report = None if progress is None else partial(progress, "comparing")
    with stacks.reading(place):
        return changes(old, new, renames=renames, spill=_SPILL, progress=report)

"""``doctor``: what this machine allows, tried out where a workspace lies or could lie.

Reads of the dataset only its root and the directories in it, and writes nothing there.
"""

from __future__ import annotations

import os
import re
import resource
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from dsbranch.errors import BadPath, DsbranchError
from dsbranch.model.health import Check, Checkup
from dsbranch.ops.context import Context, open_context
from dsbranch.ops.lowers import branch_lowers, require_base
from dsbranch.overlay import features, mountinfo, namespaces, served
from dsbranch.overlay.locate import mount_at, workspace_of_mount
from dsbranch.overlay.plan import MAX_LOWERS
from dsbranch.overlay.served import PROGRAM
from dsbranch.store.faults import storage
from dsbranch.store.layout import find_workspace

_NEEDED = (6, 8)
_LARGE = 10**9
_LITTLE_SPACE = 10**9
_FEW_INODES = 10_000
_FEW_FILES = 1024
_MANY_LAYERS = MAX_LOWERS * 4 // 5
_LOOK_AT = 10_000


class _Glance(NamedTuple):
    """What lies in the dataset's root and one level below, the first thousands of it."""

    seen: int
    foreign: int
    closed: int
    large: int
    largest: int


def doctor(start: Path, dataset: Path | None) -> Checkup:
    with ExitStack() as stack:
        place, context, checks = _workspace(start)
        if context is not None:
            stack.callback(context.close)
        base, gone = _dataset(context, dataset)
        userns = features.user_namespaces()
        checks = [
            _kernel(),
            *checks,
            *gone,
            features.mounting(),
            userns,
            _fuse(userns),
        ]
        found = features.store_features(place, base)
        glance = None
        if base is not None:
            glance = _look(base)
            found = [
                _with_dataset(check, glance, together=_together(place, base)) for check in found
            ]
        checks += found
        checks += _space(place)
        if glance is not None and os.geteuid() != 0:
            checks.append(_owners(glance))
        checks += [_open_files(), _mounts(), _layers(context)]
        return Checkup(os.uname().release, place, base, tuple(checks))


def _workspace(start: Path) -> tuple[Path, Context | None, list[Check]]:
    """The workspace, opened if it can be; else the directory that there is."""
    root = workspace_of_mount(start) or find_workspace(start)
    if root is not None:
        try:
            return root, open_context(root), []
        except DsbranchError as error:
            return root, None, [Check("workspace", "fail", str(error), error.hint)]
    place = Path(os.path.realpath(start))
    while (kind := _is_directory(place)) is None:
        place = place.parent
    if not kind:
        raise BadPath(f"{place} is no directory", hint="name a directory for the workspace")
    return place, None, []


def _is_directory(path: Path) -> bool | None:
    """None: there is nothing."""
    with storage(f"look at {path}"):
        try:
            return stat.S_ISDIR(os.stat(path).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return None


def _dataset(context: Context | None, dataset: Path | None) -> tuple[Path | None, list[Check]]:
    if dataset is not None:
        base = Path(os.path.realpath(dataset))
        if not _is_directory(base):
            raise BadPath(
                f"the dataset {dataset} is no directory", hint="give the directory that holds it"
            )
        return base, []
    if context is None:
        return None, []
    try:
        require_base(context)
    except DsbranchError as error:
        return None, [Check("dataset", "fail", str(error), error.hint)]
    return context.base, []


def _kernel() -> Check:
    release = os.uname().release
    version = tuple(map(int, re.findall(r"\d+", release)[:2]))
    if version < _NEEDED:
        return Check(
            "kernel", "warn", f"Linux {release}", "dsbranch is made for Linux 6.8 or newer"
        )
    return Check("kernel", "ok", f"Linux {release}")


def _fuse(userns: Check) -> Check:
    lack = served.missing()
    if os.geteuid() == 0:
        return Check(PROGRAM, "ok", f"{lack or 'there'}; not needed by root")
    if lack is None:
        by_choice = f"there; makes mounts if {served.CHOICE}={PROGRAM} is set"
        if userns.state == "ok":
            return Check(PROGRAM, "ok", by_choice)
        return Check(
            PROGRAM,
            "warn",
            "makes the mounts of branches, and some mistakes that the kernel does not",
            f"let root allow user namespaces: `{namespaces.switch()}`",
        )
    if userns.state == "ok":
        return Check(PROGRAM, "ok", f"{lack}; not needed")
    return Check(PROGRAM, "warn", lack, f"{served.ADVICE}: it would show branches here")


def _look(base: Path) -> _Glance:
    seen = foreign = closed = large = largest = 0
    for status in _statuses(base):
        seen += 1
        if status is None:
            closed += 1
            continue
        foreign += not namespaces.knows(status)
        large += status.st_size > _LARGE
        largest = max(largest, status.st_size)
    return _Glance(seen, foreign, closed, large, largest)


def _statuses(base: Path) -> Iterator[os.stat_result | None]:
    """Of each entry; None: of one that may not be looked into, or at."""
    left, places = _LOOK_AT, [os.fsencode(base)]
    while places and left:
        place = places.pop()
        try:
            with storage(f"look into {os.fsdecode(place)}"), os.scandir(place) as entries:
                for entry in entries:
                    yield entry.stat(follow_symlinks=False)
                    left -= 1
                    if not left:
                        return
                    if place == os.fsencode(base) and entry.is_dir(follow_symlinks=False):
                        places.append(entry.path)
        except DsbranchError as error:
            if not isinstance(error.__cause__, FileNotFoundError | PermissionError):
                raise
            yield None


def _together(place: Path, base: Path) -> bool:
    """By the mount table, where the subvolumes of a btrfs are one filesystem, as for a reflink."""
    ours, theirs = mount_at(place), mount_at(base)
    return ours is not None and theirs is not None and ours.dev == theirs.dev


def _with_dataset(check: Check, glance: _Glance, *, together: bool) -> Check:
    """What could be said of the store alone, completed."""
    if check.name == features.DATASET:
        which = "the same" if together else "another"
        return check._replace(found=f"{check.found}, on {which} filesystem")
    if check.name != features.REFLINK:
        return check
    if check.state == "ok" and together:
        return check._replace(found=f"{check.found}: the first write copies none of the dataset's")
    why = check.found if together else "the dataset lies on another filesystem"
    large = (
        f"; {glance.large:,} of {glance.seen:,} looked at are over 1 GB, up to"
        f" {glance.largest / 1e9:.1f} GB"
        if glance.large
        else ""
    )
    return check._replace(
        state="warn",
        found=f"{why}: the first write copies a whole file{large}",
        advice=features.ON_ONE,
    )


def _space(place: Path) -> list[Check]:
    with storage(f"ask for the free space of {place}"):
        disk = os.statvfs(place)
    free = disk.f_bavail * disk.f_frsize
    few = bool(disk.f_files) and disk.f_favail < _FEW_INODES
    inodes = f"{disk.f_favail:,} of {disk.f_files:,} free" if disk.f_files else "as many as fit"
    return [
        Check(
            "space", "warn", f"{free / 1e9:.2f} GB free", "make room, for example by `dsbranch gc`"
        )
        if free < _LITTLE_SPACE
        else Check("space", "ok", f"{free / 1e9:,.0f} GB free"),
        Check("inodes", "warn", inodes, "remove files there: every changed file takes an inode")
        if few
        else Check("inodes", "ok", inodes),
    ]


def _owners(glance: _Glance) -> Check:
    if not glance.foreign and not glance.closed:
        return Check("owners", "ok", f"all of {glance.seen:,} entries looked at are yours")
    closed = f", {glance.closed:,} closed to you" if glance.closed else ""
    return Check(
        "owners",
        "warn",
        f"{glance.foreign:,} of {glance.seen:,} entries looked at belong to others{closed}",
        "a user namespace can read what belongs to others, but not change it: work as root",
    )


def _open_files() -> Check:
    # The command raises its soft limit to the hard one.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        return Check("open files", "ok", "as many as wanted")
    if hard < _FEW_FILES:
        return Check(
            "open files", "warn", f"at most {hard:,}", "raise it: `ulimit -Hn 4096` as root"
        )
    return Check("open files", "ok", f"at most {hard:,}")


def _mounts() -> Check:
    allowed = int(Path("/proc/sys/fs/mount-max").read_text())
    there = len(mountinfo.current())
    said = f"{there:,} of at most {allowed:,}; each mounted branch is one"
    if there > allowed * 9 // 10:
        return Check("mounts", "warn", said, "let root raise it: `sysctl fs.mount-max=200000`")
    return Check("mounts", "ok", said)


def _layers(context: Context | None) -> Check:
    name, most = "layers", f"the kernel stacks {MAX_LOWERS}"
    if context is None:
        return Check(name, "ok", f"{most}; checkpoints keep a branch far below")
    deepest = max(
        (
            (len(branch_lowers(context, branch)) + 1, branch.name)
            for branch in context.store.branches()
        ),
        default=(0, "none"),
    )
    said = f"{most}; the deepest branch, {deepest[1]}, is made of {deepest[0]}"
    if deepest[0] > _MANY_LAYERS:
        return Check(name, "warn", said, f"`dsbranch squash {deepest[1]}` makes one of many")
    return Check(name, "ok", said)

"""Room overlay: mounts that a process of fuse-overlayfs serves, as far as /proc tells; and whether
there are to be any. Read only.

Mount tables show of them where they are, and nothing of what they are made of. So whoever starts
such a process puts the plan into its environment.
"""

import json
import os
from pathlib import Path
from typing import NamedTuple

from dsbranch.errors import UnsupportedError
from dsbranch.model.views import MountPlan
from dsbranch.overlay.mountinfo import escape
from dsbranch.overlay.processes import VANISHED, pids, read

PROGRAM = "fuse-overlayfs"
CHOICE = "DSBRANCH_DRIVER"
"""The variable by which users choose it though there are user namespaces. As PATH is, it is for
whoever calls this, a library's users included."""
ADVICE = f"install {PROGRAM} and fuse3, and see that /dev/fuse is open to you"

_UNMOUNTERS = ("fusermount3", "fusermount")
_DEVICE = "/dev/fuse"
_PLAN = "DSBRANCH_PLAN"


VIEW = ".dsbranch-view-"
"""What the directories are called that are really mounted on, each once. Where a view is seen lies
a symlink to the one beside it: a mount of this kind cannot take another one's place, but a symlink
can, and there is no moment in which something would be written to what lies below."""


class Server(NamedTuple):
    """A process, the name of the directory that it mounted on, that of the symlink to it, and what
    is shown there. Names alone: what they lie in can be renamed."""

    pid: int
    view: str
    name: str
    plan: MountPlan


def missing() -> str | None:
    """What keeps fuse-overlayfs from working here, as a clause; None: nothing."""
    if program(PROGRAM) is None:
        return f"{PROGRAM} is not installed"
    if unmounter() is None:
        return f"{_UNMOUNTERS[0]} is not installed"
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        return f"{_DEVICE} may not be opened"
    return None


def chosen() -> bool:
    """Whether mounts of this process are made by fuse-overlayfs: an ordinary user's, who asked for
    it or has nothing else.

    :raises UnsupportedError: it was asked for, and is not there
    """
    if os.geteuid() == 0:
        return False
    choice = os.environ.get(CHOICE)
    if choice is None:
        from dsbranch.overlay import namespaces

        return missing() is None and not namespaces.allowed()
    if choice != PROGRAM:
        raise UnsupportedError(
            f"{CHOICE} asks for {choice}, and there is only {PROGRAM} to be asked for",
            hint=f"`unset {CHOICE}`",
        )
    lack = missing()
    if lack is not None:
        raise UnsupportedError(f"{CHOICE} asks for {PROGRAM}: {lack}", hint=ADVICE)
    return True


def unmounter() -> str | None:
    return next(filter(None, map(program, _UNMOUNTERS)), None)


def program(name: str) -> str | None:
    """Where in PATH it is. (shutil's takes longer to import than most verbs want to wait.)"""
    places = (os.path.join(directory, name) for directory in os.get_exec_path())
    return next((place for place in places if os.access(place, os.X_OK)), None)


def view_at(target: Path) -> Path | None:
    """The directory that the symlink at a place of a view leads to, or `target` if it is one
    itself, as a killed command leaves it; None: there is none."""
    if target.name.startswith(VIEW):
        return target
    try:
        link = os.readlink(target)
    except OSError:
        return None
    return target.with_name(link) if link.startswith(VIEW) and "/" not in link else None


def environment(view: Path, name: str, plan: MountPlan) -> dict[str, str]:
    """What a server of `plan` is to find in its environment."""
    told = {
        "view": view.name,
        "name": name,
        "source": plan.source,
        "lowers": [os.fspath(lower) for lower in plan.lowers],
        "upper": None if plan.upper is None else os.fspath(plan.upper),
        "work": None if plan.work is None else os.fspath(plan.work),
    }
    return {_PLAN: json.dumps(told)}


def servers() -> list[Server]:
    """Those of the caller's own that are running. What others say in theirs is not to be trusted,
    by root least of all."""
    found = []
    for pid in pids():
        try:
            # The kernel cuts names of commands off after 15 bytes, which this one does not have.
            if (
                os.stat(f"/proc/{pid}").st_uid == os.geteuid()
                and read(f"/proc/{pid}/comm").rstrip() == PROGRAM.encode()
            ):
                server = _server(pid, read(f"/proc/{pid}/environ"))
                if server is not None:
                    found.append(server)
        except VANISHED:
            continue
    return found


def _server(pid: int, variables: bytes) -> Server | None:
    sign = _PLAN.encode() + b"="
    for variable in variables.split(b"\0"):
        if variable.startswith(sign):
            break
    else:
        return None
    try:
        told = json.loads(variable.removeprefix(sign))
        plan = MountPlan(
            lowers=tuple(map(Path, told["lowers"])),
            upper=None if told["upper"] is None else Path(told["upper"]),
            work=None if told["work"] is None else Path(told["work"]),
            source=told["source"],
            options=(),
        )
        return Server(pid, told["view"], told["name"], plan)
    except (ValueError, LookupError, TypeError):
        return None  # somebody else's variable of that name


def at(target: Path) -> Server | None:
    """Who serves the mount at `target`."""
    view = view_at(target)
    if view is None:
        return None
    return next((server for server in servers() if server.view == view.name), None)


def super_options(plan: MountPlan) -> bytes:
    """What the kernel's own overlay of this plan has in a mount table."""
    options: list[tuple[bytes, Path]] = [(b"lowerdir+", lower) for lower in plan.lowers]
    if plan.upper is not None:
        options.append((b"upperdir", plan.upper))
    if plan.work is not None:
        options.append((b"workdir", plan.work))
    said = (key + b"=" + escape(os.fsencode(place), also=b",") for key, place in options)
    return b",".join([b"ro" if plan.read_only else b"rw", *said])

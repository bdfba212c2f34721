"""Room overlay: mounts that a process of fuse-overlayfs serves, as far as /proc tells. Read only.

Mount tables show of them where they are, and nothing of what they are made of. So whoever starts
such a process puts the plan into its environment.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from dsbranch.model.views import MountPlan
from dsbranch.overlay.processes import VANISHED, pids, read

PROGRAM = "fuse-overlayfs"
_PLAN = "DSBRANCH_PLAN"


class Server(NamedTuple):
    """A process, where its mount was made, and of what."""

    pid: int
    target: Path
    plan: MountPlan


def environment(target: Path, plan: MountPlan) -> dict[str, str]:
    """What a server of `plan` is to find in its environment."""
    told = {
        "target": os.fspath(target),
        "source": plan.source,
        "lowers": [os.fspath(lower) for lower in plan.lowers],
        "upper": None if plan.upper is None else os.fspath(plan.upper),
        "work": None if plan.work is None else os.fspath(plan.work),
    }
    return {_PLAN: json.dumps(told)}


def servers() -> list[Server]:
    """Those that are running and whose environment the caller may read: the caller's own."""
    found = []
    for pid in pids():
        try:
            # The kernel cuts names of commands off after 15 bytes, which this one does not have.
            if read(f"/proc/{pid}/comm").rstrip() == PROGRAM.encode():
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
        return Server(pid, Path(told["target"]), plan)
    except (ValueError, LookupError, TypeError):
        return None  # somebody else's variable of that name


def at(target: Path) -> Server | None:
    """Who serves the mount at `target`."""
    return next((server for server in servers() if server.target == target), None)


def of(source: str) -> Server | None:
    """Who serves a mount of this source, attached or not."""
    return next((server for server in servers() if server.plan.source == source), None)


def super_options(plan: MountPlan) -> bytes:
    """What the kernel's own overlay of this plan has in a mount table."""
    options: list[tuple[bytes, Path]] = [(b"lowerdir+", lower) for lower in plan.lowers]
    if plan.upper is not None:
        options.append((b"upperdir", plan.upper))
    if plan.work is not None:
        options.append((b"workdir", plan.work))
    said = (key + b"=" + _escaped(os.fsencode(place)) for key, place in options)
    return b",".join([b"ro" if plan.read_only else b"rw", *said])


def _escaped(value: bytes) -> bytes:
    return b"".join(_ESCAPES.get(byte, bytes([byte])) for byte in value)


def _octal(bytes: Iterable[int]) -> dict[int, bytes]:
    return {byte: b"\\%03o" % byte for byte in bytes}


_ESCAPES = _octal(b" \t\n\\,")

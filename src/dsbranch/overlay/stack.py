"""Room overlay: which directories an overlay consists of, by mount tables or container engines.

Pure: reads what others wrote and looks at no directory. Names are as they were written, which
may be relative to a directory that nobody wrote down (see `dsbranch.overlay.whereabouts`).
"""

from __future__ import annotations

import json
import os
import re
from typing import Any, NamedTuple

from dsbranch.errors import BadPath, UsageError
from dsbranch.model.facts import Dialect
from dsbranch.overlay.mountinfo import MountEntry, unescape

_ID = re.compile("[0-9a-f]{64}")
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_DIRECTORIES = (b"lowerdir", b"lowerdir+", b"datadir+", b"upperdir", b"workdir")
_HINT = "`docker inspect NAME` and `podman inspect NAME` write what is read here"


class Stack(NamedTuple):
    """The directories of one overlay as they were written, `lowers` from the top down.

    `data` are lowers below them that give contents only (``::``). `dialect` is None where nobody
    said it. `options` are those that are left, in their order; a value is "" for a flag.
    """

    upper: bytes | None
    work: bytes | None
    lowers: tuple[bytes, ...]
    data: tuple[bytes, ...] = ()
    dialect: Dialect | None = None
    options: tuple[tuple[str, str], ...] = ()
    read_only: bool = False


class Root(NamedTuple):
    """What a process sees as its root, of a container whose engine names no directories. `id` is
    what the engine knows the container by."""

    pid: int
    id: str


class Container(NamedTuple):
    """A container or image as its engine describes it."""

    name: str
    lies_on: Stack | Root


def of_mount(entry: MountEntry) -> Stack:
    """What mountinfo says of an overlay."""
    pairs = [part.partition(b"=") for part in entry.super_options.split(b",")]
    decoded = [(unescape(name), unescape(value)) for name, _, value in pairs]
    lowers: list[bytes] = []
    data: list[bytes] = []
    for name, value in decoded:
        if name == b"lowerdir":
            above, below = split_lowers(value)
            lowers += above
            data += below
        elif name == b"lowerdir+":
            lowers.append(value)
        elif name == b"datadir+":
            data.append(value)
    one = dict(decoded)
    options = tuple(
        (os.fsdecode(name), os.fsdecode(value))
        for name, value in decoded
        if name not in (*_DIRECTORIES, b"rw", b"ro")
    )
    return Stack(
        one.get(b"upperdir"),
        one.get(b"workdir"),
        tuple(lowers),
        tuple(data),
        "user" if b"userxattr" in one else "trusted",
        options,
        b"ro" in one,
    )


def split_lowers(value: bytes) -> tuple[list[bytes], list[bytes]]:
    """The lowers and the data-only lowers of a ``lowerdir=`` list: a colon parts two of them, two
    colons begin those that hold data only, and a backslash takes its meaning from the next byte."""
    fields: list[bytearray] = [bytearray()]
    at = 0
    while at < len(value):
        byte = value[at : at + 1]
        if byte == b":":
            fields.append(bytearray())
        else:
            at += byte == b"\\" and at + 1 < len(value)
            fields[-1] += value[at : at + 1]
        at += 1
    lowers: list[bytes] = []
    data: list[bytes] = []
    chosen = lowers
    for field in fields:
        if field:
            chosen.append(bytes(field))
        else:
            chosen = data
    return lowers, data


def unescaped(name: bytes) -> bytes:
    """A name whose backslashes are taken as the kernel takes those of ``upperdir=``."""
    return _ESCAPED.sub(rb"\1", name)


def of_containers(document: bytes) -> list[Container]:
    """The containers or images in what ``docker inspect`` or ``podman inspect`` wrote.

    :raises BadPath: it is no such document
    :raises UsageError: one of them does not lie on overlays that its engine names
    """
    try:
        read = json.loads(document)
        # Half a character of UTF-16 is none, neither in a name nor in a path.
        json.dumps(read, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise BadPath("what was given is not JSON", hint=_HINT) from None
    items = read if isinstance(read, list) else [read]
    if not items:
        raise BadPath("the JSON describes no container: it is an empty list", hint=_HINT)
    return [_container(item) for item in items]


def _container(item: Any) -> Container:
    described = item if isinstance(item, dict) else {}
    # With containerd's image store docker writes `Storage`, before 29 a GraphDriver without data.
    driver = described.get("GraphDriver") or described.get("Storage")
    if not isinstance(driver, dict):
        raise BadPath(
            "the JSON describes no container: it has neither GraphDriver nor Storage", hint=_HINT
        )
    name = str(item.get("Name") or item.get("Id") or "?").removeprefix("/")
    data = driver.get("Data")
    named = data if isinstance(data, dict) else {}
    upper, lower, work = (_text(named, key) for key in ("UpperDir", "LowerDir", "WorkDir"))
    if not upper.startswith(b"/"):
        return Container(name, _root(name, item, driver))
    lowers, below = split_lowers(lower)
    return Container(name, Stack(upper, work or None, tuple(lowers), tuple(below)))


def _text(named: dict[str, Any], key: str) -> bytes:
    value = named.get(key)
    return os.fsencode(value) if isinstance(value, str) else b""


def _root(name: str, item: dict[str, Any], driver: dict[str, Any]) -> Root:
    storage = str(driver.get("Name") or item.get("Driver") or "?")
    state, id = item.get("State"), item.get("Id")
    pid = state.get("Pid") if isinstance(state, dict) else None
    overlay = storage.startswith("overlay")
    if overlay and type(pid) is int and pid > 0 and isinstance(id, str) and _ID.fullmatch(id):
        return Root(pid, id)
    raise UsageError(
        f"{name} lies in the storage `{storage}`, which names no directories of an overlay",
        hint="start it, and the same shows what it lies on; an image, or one that does not run, can"
        " be mounted by its engine, and then `dsbranch inspect MOUNTPOINT` explains that"
        if overlay
        else "`dsbranch inspect --all` shows every overlay there is",
    )

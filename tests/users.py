"""Test foundation: acting as an ordinary user, also where the tests run as root.

Everything is done in children of this process: who gave root up does not get it back, and a
process with threads enters no namespace.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import shutil
import subprocess
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TypeVar

import pytest

import dsbranch
from dsbranch._core import syscalls
from dsbranch.errors import NoPrivilege
from dsbranch.ops import mounting
from dsbranch.overlay import namespaces
from dsbranch.overlay.probe import probe_store

_Result = TypeVar("_Result")

libc = ctypes.CDLL(None, use_errno=True)

USER = os.geteuid() or 4242


def in_child(call: Callable[[], _Result]) -> _Result:
    """What `call` returns or raises, in a fork of this process."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            try:
                answer: tuple[bool, object] = True, call()
            except BaseException as error:  # noqa: BLE001 - raised again in the parent
                error.add_note(traceback.format_exc())
                answer = False, error
            try:
                told = pickle.dumps(answer)
            except Exception:  # noqa: BLE001 - told in the parent
                told = pickle.dumps((False, AssertionError(f"{answer}: {traceback.format_exc()}")))
            with open(writer, "wb") as out:
                out.write(told)
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as stream:
        told = stream.read()
    os.waitpid(child, 0)
    assert told, "the child gave no answer: it died"
    good, value = pickle.loads(told)
    if good:
        return value  # type: ignore[no-any-return]
    raise value


def as_user(call: Callable[[], _Result], user: int = USER) -> _Result:
    """What `call` returns or raises as an ordinary user, who must be able to read the package."""
    require_sight(user)
    return _as_user(call, user)


@cache
def require_sight(user: int) -> None:
    package = Path(dsbranch.__file__).parent
    if not _as_user(lambda: os.access(package / "py.typed", os.R_OK), user):
        reason = f"an ordinary user cannot read {package}"
        missing = pytest.fail if os.environ.get("DSBRANCH_MUST_NOT_SKIP") == "1" else pytest.skip
        missing(reason)


def _as_user(call: Callable[[], _Result], user: int) -> _Result:

    def run() -> _Result:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            # As after an exec: or else /proc/self is not the user's.
            syscalls.own_proc()
        return call()

    return in_child(run)


def inside(workspace: Path, branch: str, call: Callable[[], _Result]) -> _Result:
    """What `call` returns with a branch mounted, for it only, as its current directory."""

    def run() -> _Result:
        at = Path(tempfile.mkdtemp(dir=workspace.parent))
        with dsbranch.open(workspace) as opened:
            context = opened._context
            found = context.store.branch(branch)
            plan = mounting.branch_plan(context, mounting.stack_below(context, found), found.layer)
            namespaces.enter_own()
            with context.driver.prepare(plan) as prepared:
                prepared.attach(at)
        os.chdir(at)
        try:
            drop_capabilities()
            return call()
        finally:
            os.chdir("/")

    return in_child(run)


def drop_capabilities() -> None:
    """Be what every program is that is started there: an exec takes them away as well."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)()) < 0:
        raise OSError(ctypes.get_errno(), "capset")


@contextmanager
def home() -> Iterator[Path]:
    """A directory of the user's own, gone at the end."""
    place = Path(tempfile.mkdtemp())
    os.chown(place, USER, USER if os.geteuid() == 0 else -1)
    try:
        try:
            as_user(lambda: _try_out(place))
        except NoPrivilege as error:
            if os.environ.get("DSBRANCH_MUST_NOT_SKIP") == "1":
                raise
            pytest.skip(f"needs overlays in user namespaces: {error}")
        yield place
    finally:
        subprocess.run(["chmod", "-R", "u+rwx", str(place)], check=True)
        shutil.rmtree(place)


def _try_out(place: Path) -> None:
    (place / "lower").mkdir()
    probe_store(place, place / "lower")
    (place / "lower").rmdir()

"""Test foundation: acting as an ordinary user whose mounts are made by fuse-overlayfs."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from dsbranch._core import syscalls
from dsbranch.overlay import mountinfo, served
from tests.users import as_user

_Result = TypeVar("_Result")

USER = 65534
"""nobody: fusermount wants a user with a name."""

DEVICE = Path("/dev/fuse")


def as_served(call: Callable[[], _Result]) -> _Result:
    """What `call` returns or raises as that user. Whatever it leaves mounted is taken off."""

    def run() -> _Result:
        os.environ[served.CHOICE] = served.PROGRAM
        ours = os.fsencode(tempfile.gettempdir()) + b"/"
        try:
            return call()
        finally:
            # Also what a server left that has crashed.
            for server in served.servers():
                if os.fsencode(server.plan.lowers[0]).startswith(ours):
                    os.kill(server.pid, signal.SIGTERM)
            for entry in mountinfo.parse(mountinfo.table()):
                if entry.fstype == mountinfo.SERVED and entry.path.startswith(ours):
                    subprocess.run(["fusermount3", "-uz", entry.path], check=False)

    return as_user(run, USER)


@contextmanager
def home() -> Iterator[Path]:
    """A directory of the user's own, gone at the end; and /dev/fuse is open to all, as udev has it,
    in the mount namespace of this process."""
    if shutil.which(served.PROGRAM) is None or not DEVICE.exists():
        if os.environ.get("DSBRANCH_MUST_NOT_SKIP") == "1":
            pytest.fail(f"{served.PROGRAM} or {DEVICE} is missing")
        pytest.skip(f"needs {served.PROGRAM} and {DEVICE}")
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    device = place / "fuse"
    os.mknod(device, 0o666 | stat.S_IFCHR, DEVICE.stat().st_rdev)
    device.chmod(0o666)
    own = place / "own"
    own.mkdir()
    os.chown(own, USER, USER)
    bound = False
    try:
        subprocess.run(["mount", "--bind", device, DEVICE], check=True)
        bound = True
        yield own
    finally:
        if bound:
            syscalls.umount(os.fsencode(DEVICE), lazy=True)
        subprocess.run(["chmod", "-R", "u+rwx", str(place)], check=True)
        shutil.rmtree(place)

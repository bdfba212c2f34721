"""Room ``cli``: ``dsbranch demo``: the whole story, told by this very program.

Every command shown is run as shown, in a shell, in a temporary directory that is removed with
all its mounts, also after Ctrl-C or a failure.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from dsbranch.cli import render
from dsbranch.cli.call import Call
from dsbranch.cli.demo_data import write_dataset
from dsbranch.cli.demo_story import CHECKSUM, STORY, Step
from dsbranch.cli.quote import one_line
from dsbranch.errors import (
    DsbranchError,
    IntegrityError,
    Interrupted,
    NoPrivilege,
    UnsupportedError,
)
from dsbranch.workspace import init

EXAMPLE = "sudo dsbranch demo"

# The dataset, one copied-up change of its large file and the exports, with room to spare.
_NEEDED_BYTES = 512 * 1024 * 1024

_INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Handler = Callable[[int, FrameType | None], object] | signal.Handlers

# For killed processes to go; they can be within a system call.
_PATIENCE_SECONDS = 5.0

# In a container the first may be an overlay, which cannot hold branches.
_PARENTS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - parents for mkdtemp, not names


def run(call: Call) -> None:  # noqa: ARG001 - as every verb
    """Run the whole story on a small generated dataset.

    It takes less than 20 seconds, needs root and leaves nothing behind.
    """
    started = time.monotonic()
    try:
        with _place() as place:
            _tell_all(place)
    except KeyboardInterrupt:
        raise Interrupted("the demo was interrupted; its mounts and files are removed") from None
    _say(f"Done in {time.monotonic() - started:.1f} s; {place} is removed.")


def _tell_all(place: Path) -> None:
    write_dataset(place / "dataset")
    before = _answer(place)
    for step in STORY:
        _tell(place, step)
    if _answer(place) != before:
        raise IntegrityError("the dataset's checksum changed during the demo")
    _say("The dataset is as it was: the two checksums are equal.")


def _say(text: str) -> None:
    render.line("")
    render.line(f"# {text}")
    render.flush()


def _tell(place: Path, step: Step) -> None:
    if step.remark:
        _say(step.remark)
    first, *rest = step.command.splitlines()
    render.line(f"$ {first}")
    render.lines(f"  {line}" for line in rest)
    render.flush()
    code, _ = _shell(step.command, place / step.directory)
    if code != 0:
        raise DsbranchError(f"the demo stopped: `{one_line(step.command)}` failed")


def _answer(place: Path) -> bytes:
    """The dataset's checksum, as the story shows it."""
    code, out = _shell(CHECKSUM, place, stdout=subprocess.PIPE)
    if code != 0:
        raise IntegrityError("the dataset of the demo could not be read")
    return out


def _shell(command: str, directory: Path, stdout: int | None = None) -> tuple[int, bytes]:
    """Run `command`, in which ``dsbranch`` is this program, and whatever it starts, to the end."""
    program = f"{shlex.quote(sys.executable)} -P -m dsbranch"
    script = f'set -e\ndsbranch() {{ {program} "$@"; }}\n{command}\n'
    process: subprocess.Popen[bytes] | None = None
    try:
        with _interruption_held():
            process = subprocess.Popen(
                ["sh", "-c", script],
                cwd=directory,
                env=os.environ | {"PWD": str(directory)},
                stdout=stdout,
                # So that an interrupted step can be ended with all it has started.
                start_new_session=True,
            )
        out, _ = process.communicate()
        return process.returncode, out
    except BaseException:
        if process is not None:
            _end(process)
        raise


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a step with all its processes, and wait until none of them is left."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    try:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(0.01)
    except ProcessLookupError:
        return


@contextmanager
def _interruption_held() -> Iterator[None]:
    """Raise an interruption at the end of the block instead of within it."""
    held: list[int] = []
    with _handled_by(lambda number, _frame: held.append(number)):
        yield
    if held:
        raise KeyboardInterrupt


@contextmanager
def _place() -> Iterator[Path]:
    """A temporary directory that can hold branches, removed at the end with all mounts in it."""
    place = _find_place()
    try:
        yield place
    finally:
        # A second Ctrl-C would leave mounts behind.
        with _handled_by(signal.SIG_IGN):
            _clear(place)


def _find_place() -> Path:
    refused: UnsupportedError | None = None
    for parent in dict.fromkeys([tempfile.gettempdir(), *_PARENTS]):
        if not os.path.isdir(parent) or _free(parent) < _NEEDED_BYTES:
            continue
        place = Path(tempfile.mkdtemp(prefix="dsbranch-demo-", dir=parent)).resolve()
        try:
            _try(place)
        except NoPrivilege:
            _clear(place)
            _refuse_without_root()
        except UnsupportedError as error:
            _clear(place)
            refused = refused or error
        except BaseException:
            _clear(place)
            raise
        else:
            return place
    if refused is not None:
        raise refused
    raise UnsupportedError(
        f"no temporary directory has {_NEEDED_BYTES // 1024**2} MiB free for the demo",
        hint="name one with TMPDIR=DIR",
    )


def _free(directory: str) -> int:
    space = os.statvfs(directory)
    return space.f_bavail * space.f_frsize


def _try(place: Path) -> None:
    # Adopting an empty dataset proves by doing that branches can live here.
    dataset = place / "dataset"
    dataset.mkdir()
    with init(dataset, place / "ws") as made:
        (main,) = made.list()
        if main.mounted:
            made.umount(main.name)
    _remove_tree(place / "ws")
    dataset.rmdir()
    if not main.mounted:
        raise NoPrivilege("an ordinary user's branches are not mounted for all to see")


def _refuse_without_root() -> NoReturn:
    called = sys.argv[0]
    as_module = [sys.executable, "-m", "dsbranch"]
    program = shlex.join(as_module if called.endswith("__main__.py") else [called])
    raise NoPrivilege(
        "the demo mounts branches, which needs root", hint=f"run `sudo {program} demo`"
    ) from None


def _clear(place: Path) -> None:
    # Newest first, so that what lies within another mount goes before it.
    for mountpoint in reversed(_mounts_below(place)):
        subprocess.run(["umount", "--lazy", "--no-canonicalize", mountpoint], check=True)
    # Removing files through a mount that is still there would not stop at the demo's own.
    left = _mounts_below(place)
    if left:
        raise IntegrityError(
            f"{len(left)} mounts of the demo could not be removed", hint=f"see `findmnt -R {place}`"
        )
    _remove_tree(place)


def _mounts_below(place: Path) -> list[bytes]:
    prefix = os.fsencode(place) + b"/"
    lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    # The kernel writes blanks, newlines and backslashes as octal escapes.
    paths = [re.sub(rb"\\(\d{3})", _unescaped, line.split(b" ")[4]) for line in lines]
    return [path for path in paths if path.startswith(prefix)]


def _unescaped(match: re.Match[bytes]) -> bytes:
    return bytes([int(match[1], 8)])


def _remove_tree(path: Path) -> None:
    subprocess.run(["rm", "-rf", "--one-file-system", path], check=True)


@contextmanager
def _handled_by(handler: Handler) -> Iterator[None]:
    # nohup, say, has some ignored on purpose.
    heeded = [n for n in _INTERRUPTIONS if signal.getsignal(n) is not signal.SIG_IGN]
    previous = [signal.signal(number, handler) for number in heeded]
    try:
        yield
    finally:
        for number, before in zip(heeded, previous, strict=True):
            signal.signal(number, before)

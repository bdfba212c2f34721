"""Runs what README.md and docs/tutorial.md show: ``sudo python docs/run_tutorial.py``.

Every command of a ```console block is run in one shell per page, in an empty directory, and
its real output is written below it. Only what differs from one run to the next is replaced:
the directory, the host, dates, process ids, and the ids that dsbranch draws.
"""

from __future__ import annotations

import hashlib
import os
import re
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

DOCS = Path(__file__).resolve().parent
PAGES = (DOCS.parent / "README.md", DOCS / "tutorial.md")

SHOWN_PLACE = "/srv/tour"
SHOWN_HOST = "lab"
PATIENCE_SECONDS = 120.0

BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^\$ .*\n(?:> .*\n)*", re.MULTILINE)
MARK = b"\x1e"

# Ids of layers and workspaces where only those can stand, then those of commits, long or short.
IDS = re.compile(
    r"(?<=layers/)([0-9a-z]{10})\b"
    r"|(?<=dsbranch:)([0-9a-z]{10}):([0-9a-z]{10})\b"
    r"|\b([0-9a-f]{10})([0-9a-f]{30})?\b"
)


class Shell:
    """A bash that lives through one page. Standard error goes where standard output does."""

    def __init__(self, place: Path) -> None:
        keep = ("PATH", "TMPDIR")
        environment = {name: os.environ[name] for name in keep if name in os.environ}
        found = find_spec("dsbranch")
        assert found is not None
        assert found.origin is not None
        # A relative path that leads to it here leads nowhere in `place`.
        environment["PYTHONPATH"] = str(Path(found.origin).resolve().parent.parent)
        self._bash = subprocess.Popen(
            ["bash"],
            cwd=place,
            env=environment | {"HOME": str(place), "LC_ALL": "C.UTF-8", "TZ": "UTC"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # So that what a command leaves running can be ended with it.
            start_new_session=True,
        )
        python = shlex.quote(sys.executable)
        self.run(f'umask 022; dsbranch() {{ {python} -P -m dsbranch "$@"; }}')

    def run(self, command: str) -> str:
        """Run `command` and give what it printed.

        :raises RuntimeError: it failed, or did not end
        """
        assert self._bash.stdin is not None
        mark = MARK.decode()
        script = f"{{ {command}\n}} </dev/null\nprintf '{mark}%d{mark}' $?\n"
        self._bash.stdin.write(script.encode())
        self._bash.stdin.flush()
        printed, code = self._answer(command)
        if code != 0:
            raise RuntimeError(f"`{command}` failed with exit code {code}:\n{printed}")
        return printed

    def _answer(self, command: str) -> tuple[str, int]:
        assert self._bash.stdout is not None
        got = b""
        deadline = time.monotonic() + PATIENCE_SECONDS
        with selectors.DefaultSelector() as ready:
            ready.register(self._bash.stdout, selectors.EVENT_READ)
            while got.count(MARK) < 2:
                if not ready.select(deadline - time.monotonic()):
                    raise RuntimeError(f"`{command}` does not end")
                piece = os.read(self._bash.stdout.fileno(), 1 << 16)
                if not piece:
                    raise RuntimeError(f"`{command}` ended the shell:\n{got.decode()}")
                got += piece
        printed, code, _ = got.split(MARK)
        return printed.decode(), int(code)

    def end(self) -> None:
        os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.communicate()


@contextmanager
def shell(place: Path) -> Iterator[Shell]:
    """A shell in `place`; at the end nothing of it runs and nothing in `place` is mounted."""
    bash = Shell(place)
    try:
        yield bash
    finally:
        bash.end()
        table = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
        paths = [line.split(" ")[4] for line in table.splitlines()]
        for path in reversed([path for path in paths if path.startswith(f"{place}/")]):
            subprocess.run(["umount", "--lazy", path], check=True)


def normaliser(place: Path) -> Callable[[str], str]:
    """What makes two runs in two places print the same."""
    known: dict[str, str] = {}

    def shown(id: str) -> str:
        if id not in known:
            known[id] = hashlib.sha256(f"{len(known) + 1}".encode()).hexdigest()
        return known[id]

    def one(match: re.Match[str]) -> str:
        layer, workspace, its_layer, short, rest = match.groups()
        if layer:
            return shown(layer)[:10]
        if workspace:
            return f"{shown(workspace)[:10]}:{shown(its_layer)[:10]}"
        return shown(short)[: 40 if rest else 10]

    def normalise(text: str) -> str:
        text = text.replace(str(place), SHOWN_PLACE)
        text = text.replace(f"root@{socket.gethostname()}", f"root@{SHOWN_HOST}")
        text = re.sub(r"\b20\d\d-\d\d-\d\d \d\d:\d\d\b", "2026-03-02 10:00", text)
        text = re.sub(r"(?<= 10:00):\d\d(?= \+0000)", ":00", text)
        text = re.sub(r"\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", "2026-03-02T10:00:00Z", text)
        text = re.sub(r"(?<=Run-Seconds: )\d+\.\d{3}", "0.250", text)
        text = re.sub(r"^(\S+-\d+ +\d+ +)\d\.\d(?= )", r"\g<1>0.3", text, flags=re.MULTILINE)
        text = re.sub(r"^  \d+  (?=\S.* \([a-z ]+\)$)", "  4242  ", text, flags=re.MULTILINE)
        return IDS.sub(one, text)

    return normalise


def run_page(page: str, place: Path) -> str:
    """The page, with the output that its commands have when run in `place`.

    :raises RuntimeError: a command fails
    """
    normalise = normaliser(place)
    with shell(place) as bash:

        def rerun(block: re.Match[str]) -> str:
            lines = []
            for command in COMMAND.findall(block[0]):
                printed = bash.run(re.sub(r"^[$>] ", "", command, flags=re.MULTILINE).rstrip())
                lines += [command, normalise(printed)]
            return "".join(lines)

        return BLOCK.sub(rerun, page)


def main() -> None:
    for path in PAGES:
        with tempfile.TemporaryDirectory(prefix="dsbranch-tour-") as name:
            place = Path(name).resolve()
            path.write_text(run_page(path.read_text(encoding="utf-8"), place), encoding="utf-8")


if __name__ == "__main__":
    main()

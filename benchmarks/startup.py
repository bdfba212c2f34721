"""What each verb imports, and how long a call of it takes: ``python -m benchmarks.startup``.

Needs root, as most verbs mount. The dataset is three files, so that hardly anything is left but
the start itself. Each call is a process of its own; calls take turns with ``python -c pass`` and
``python -c 'import typer'``, and the fastest of several rounds is shown.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.process import DSBRANCH
from benchmarks.scratch import scratch

# In this order each finds what it needs; `{ws}` is the workspace, `{tmp}` a directory beside it.
CALLS = {
    "--version": "--version",
    "--help": "--help",
    "init": "init {tmp}/data {ws}",
    "create": "-C {ws} create exp",
    "list": "-C {ws} list",
    "status": "-C {ws} status exp",
    "diff": "-C {ws} diff exp",
    "commit": "-C {ws} commit exp -m one",
    "diff of two commits": "-C {ws} diff main exp",
    "log": "-C {ws} log exp -n 5",
    "log of a path": "-C {ws} log exp -- 1",
    "show": "-C {ws} show exp",
    "op log": "-C {ws} op log",
    "tag": "-C {ws} tag v1 exp",
    "create beside it": "-C {ws} create other",
    "status of it": "-C {ws} status other",
    "restore": "-C {ws} restore 1 --branch exp --from main",
    "undo": "-C {ws} undo",
    "commit again": "-C {ws} commit exp -m two --allow-empty",
    "squash": "-C {ws} squash exp",
    "merge": "-C {ws} merge exp --into other",
    "rollback": "-C {ws} rollback exp --to main",
    "umount": "-C {ws} umount exp",
    "mount": "-C {ws} mount exp",
    "rename": "-C {ws} rename exp again",
    "export": "-C {ws} export other -o {tmp}/other.tar.zst",
    "apply": "-C {ws} apply {tmp}/other.tar.zst again --full -m applied",
    "delete": "-C {ws} delete again --force",
    "delete of a clean one": "-C {ws} delete main",
    "du": "-C {ws} du",
    "gc": "-C {ws} gc",
    "verify": "-C {ws} verify",
}

# Each takes a millisecond or more, or brings in much else. Not a module, but a process's first
# compile() of text takes two: named tuples do it where their annotations are strings.
COMPILED = "compile()"
HEAVY = (
    "arro3",
    "asyncio",
    "backports.zstd",
    COMPILED,
    "concurrent.futures",
    "dataclasses",
    "datetime",
    "dsbranch._core.algebra",
    "dsbranch.ops.mounting",
    "dsbranch.overlay.kernel",
    "dsbranch.store.manifest",
    "hashlib",
    "ipaddress",
    "json",
    "multiprocessing",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "rich",
    "signal",
    "socket",
    "sqlite3",
    "tarfile",
    "typer",
    "xxhash",
)

_LOADED = f"""
import builtins
import sys
found = set()
compiling = compile
def compile(source, *rest, **named):
    if isinstance(source, str):
        found.add({COMPILED!r})
    return compiling(source, *rest, **named)
builtins.compile = compile
import dsbranch.__main__
from dsbranch.cli import main
sys.argv[0] = "dsbranch"
out = open(sys.argv.pop(1), "w")
code = main()
found.update(name for name, module in sys.modules.items() if module)
print(*sorted(found), file=out, flush=True)
sys.exit(code)
"""


@contextmanager
def workspace_to_be() -> Iterator[dict[str, Path]]:
    """A dataset and the place for its workspace."""
    with scratch() as tmp:
        (tmp / "data").mkdir()
        for number in range(3):
            (tmp / "data" / str(number)).write_bytes(os.urandom(4000))
        yield {"tmp": tmp, "ws": tmp / "ws"}


def arguments(call: str, places: dict[str, Path]) -> list[str]:
    return [word.format(**places) for word in CALLS[call].split()]


def before(call: str, places: dict[str, Path]) -> None:
    """What a user does before a call: there is to be something to see, and to commit."""
    if call == "status":
        (places["ws"] / "exp" / "1").write_bytes(os.urandom(5000))
    if call == "export":
        (places["tmp"] / "other.tar.zst").unlink(missing_ok=True)


def loaded(call: str, places: dict[str, Path]) -> list[str]:
    """Make a call, and give the modules it imported."""
    listing = places["tmp"] / "loaded"
    subprocess.run(
        [sys.executable, "-c", _LOADED, str(listing), *arguments(call, places)],
        check=True,
        capture_output=True,
    )
    return listing.read_text().split()


def _milliseconds(*command: str) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return (time.perf_counter() - start) * 1000


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    floors = {
        "python": [sys.executable, "-c", "pass"],
        "import typer": [sys.executable, "-c", "import typer"],
    }
    fastest: dict[str, float] = {}
    modules: dict[str, list[str]] = {}

    def timed(name: str, command: list[str]) -> None:
        took = _milliseconds(*command)
        fastest[name] = min(fastest.get(name, took), took)

    for number in range(rounds + 1):
        with workspace_to_be() as places:
            for call in CALLS:
                before(call, places)
                if number == 0:
                    modules[call] = loaded(call, places)
                    continue
                if call in ("status", "commit", "squash"):
                    for name, command in floors.items():
                        timed(name, command)
                timed(call, [DSBRANCH, *arguments(call, places)])
    print(f"{'':22}{'ms':>6}{'× typer':>9}{'modules':>9}{'ours':>6}  heavy ones")
    for name, took in fastest.items():
        found = modules.get(name, [])
        ours = sum(module.startswith("dsbranch") for module in found)
        heavy = " ".join(name for name in HEAVY if name in found)
        ratio = took / fastest["import typer"]
        print(f"{name:22}{took:6.0f}{ratio:9.2f}{len(found):9}{ours:6}  {heavy}")


if __name__ == "__main__":
    main()

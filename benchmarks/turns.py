"""A branch by dsbranch and by buildah and podman, made in turns, many times.

Where two tools take about as long, one run each says little: a machine is faster at one time than
at another. Here each makes the N-th branch right after the other, mounted, of the same dataset on
one filesystem; whole processes, started by a shell.
"""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime
from operator import truediv
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import page, process
from benchmarks.peer_tools import BUILDAH_HERE, PODMAN, PODMAN_HERE
from benchmarks.scratch import disk, machine, new_files

OURS = "**dsbranch create**"
WAYS = {
    OURS: "$DSBRANCH -C $W/ws create b$N",
    "buildah from, buildah mount": (
        f"{BUILDAH_HERE} from --name c$N localhost/ds:1; {BUILDAH_HERE} mount c$N"
    ),
    "podman create, podman mount": (
        f"{PODMAN_HERE} create --name p$N localhost/ds:1 /x; {PODMAN_HERE} mount p$N"
    ),
}
_PER_DIRECTORY = 100
_GIGABYTES = 8

Result = dict[str, Any]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--files", type=int, default=20_000, help="in the dataset (20000)")
    parser.add_argument("--turns", type=int, default=40, help="branches that each makes (40)")


def measure(place: Path, options: argparse.Namespace) -> Result:
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    with disk(place, "ext4", _GIGABYTES) as filesystem:
        for fd in new_files(filesystem / "data", options.files, _PER_DIRECTORY):
            os.write(fd, b"x" * 1000)
        environment = {**os.environ, "DSBRANCH": process.DSBRANCH, "W": str(filesystem)}
        environment["SRC"] = f"{filesystem}/data"
        process.untimed(f"$DSBRANCH init $SRC $W/ws; {PODMAN.verbs['track']}", environment)
        try:
            for turn in range(options.turns):
                for way, script in WAYS.items():
                    done = process.run(script, filesystem, env={**environment, "N": str(turn)})
                    if done.code != 0:
                        raise RuntimeError(f"{way}: {done.errors}")
                    taken[way].append(done.seconds)
        finally:
            process.untimed(PODMAN.teardown, environment, check=False)
    return {
        "machine": machine(place),
        "date": datetime.now(UTC).date().isoformat(),
        "files": options.files,
        "seconds": taken,
    }


def sections(result: Result) -> dict[str, str]:
    ours = result["seconds"][OURS]
    cells = [("ms, mounted", "fastest", "median", "dsbranch takes of it")]
    for way, taken in result["seconds"].items():
        share = "" if way == OURS else f"{median(map(truediv, ours, taken)):.2f}"
        cells.append((way, f"{min(taken) * 1e3:.1f}", f"{median(taken) * 1e3:.1f}", share))
    facts = (
        f"{len(ours)} turns on {result['files']:,} files; the share is the median of those of each"
        f" turn; {result['date']}; {result['machine']}."
    )
    return {"turns": f"{facts}\n\n{page.table(cells)}"}

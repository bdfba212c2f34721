"""The most memory each verb needs on a large change, and whether it fits into 512 MB.

Every command runs in a control group that may not hold more, page cache included. If it is killed
there it runs once more outside, so that it is known how much it wants, and the next has something
to work on. The peak is that of the process itself, with its libraries, which may be in the page
cache of others, and with the pages of its files, which the kernel drops or writes back when memory
is short; what is anonymous it cannot. What it works on: a commit of many new files, all holes of
4 KB, and then what one does with such a commit; and a commit of one large sparse file, which is
read and hashed whole. A dataset of as many files is sealed in another workspace.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import page, process
from benchmarks.group import group
from benchmarks.scratch import disk, machine, new_files

PER_DIRECTORY = 1000

Result = dict[str, Any]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--files", type=int, default=1_000_000, help="new files (1000000)")
    parser.add_argument("--gigabytes", type=float, default=20, help="of the large file (20)")
    parser.add_argument("--limit", type=int, default=512, metavar="MB", help="memory (512)")


def measure(place: Path, options: argparse.Namespace) -> Result:
    rows = []
    python = [sys.executable, "-m", "dsbranch"]
    # The new files, the dataset, and the directories of both; mkfs makes four million by itself.
    inodes = str(max(4_000_000, int(2.1 * options.files)))
    with disk(place, "ext4", 64, "-N", inodes) as filesystem, group() as limited:
        limited.limit(options.limit)
        base, root = filesystem / "base", filesystem / "ws"
        base.mkdir()

        def run(name: str, *words: str, inside: str = "") -> None:
            command, cwd = [*python, *words], root / inside if inside else None
            taken = process.run(command, filesystem, group=limited.path, cwd=cwd)
            fits = taken.code != -signal.SIGKILL
            if not fits:
                taken = process.run(command, filesystem, cwd=cwd)
            print(f"{name:40} {taken.peak_mb:8.0f} MB {taken.seconds:8.1f} s {fits}", flush=True)
            if taken.code != 0:
                raise RuntimeError(f"{name}: {taken.errors}")
            rows.append({"verb": name, "fits": fits} | asdict(taken))

        run("init", "init", str(base), str(root))
        on = ["-C", str(root)]
        many, large = f"{options.files:,} new files", f"{options.gigabytes:g} GB in one file"
        _make(root / "main", options.files)
        run(f"status, {many}", *on, "status", "main")
        run(f"diff, {many}", "diff", "--name-status", inside="main")
        run(f"commit, {many}", *on, "commit", "main", "-m", "many")
        run(f"create on {many}", *on, "create", "one")
        run(f"diff of two commits, {many} between", *on, "diff", "--stat", "main~1", "main")
        for name, what in (("export", "main"), ("export of what changed", "main~1..main")):
            run(f"{name}, {many}", *on, "export", what, "-o", str(filesystem / "whole.tar"))
            (filesystem / "whole.tar").unlink(missing_ok=True)
        run(f"verify --full, {many}", *on, "verify", "--full")
        (root / "main" / "more").write_bytes(b"more")
        run("commit, 1 new file", *on, "commit", "main", "-m", "more")
        run(f"squash with {many}", *on, "squash", "main", "--since", "main~2")
        with (root / "one" / "large").open("wb") as file:
            file.truncate(int(options.gigabytes * 1e9))
        run(f"commit, {large}", *on, "commit", "one", "-m", "large")
        run(f"rollback from {many}", *on, "rollback", "main", "--to", "one~2")
        run(f"gc, {many}", *on, "gc", "--keep", "0")
        run("du", *on, "du")
        dataset, other = filesystem / "dataset", filesystem / "other"
        dataset.mkdir()
        _make(dataset, options.files)
        run("init on many files", "init", str(dataset), str(other))
        for words in ("seal", "verify", "seal --hash", "verify --full"):
            run(
                f"{words}, {options.files:,} files of the dataset", "-C", str(other), *words.split()
            )
    return {
        "machine": machine(place),
        "date": datetime.now(UTC).date().isoformat(),
        "limit_mb": options.limit,
        "floor_mb": process.floor_mb(),
        "rows": rows,
    }


def _make(tree: Path, files: int) -> None:
    for fd in new_files(tree, files, PER_DIRECTORY):
        os.ftruncate(fd, 4096)


# What the page shows


def sections(result: Result) -> dict[str, str]:
    limit = f"{result['limit_mb']} MB"
    # Older results have none.
    watched = all("anonymous_mb" in row for row in result["rows"])
    head = ("verb", "peak MB", "anonymous", "seconds", f"within {limit}")
    cells = [head if watched else (*head[:2], *head[3:])]
    for row in result["rows"]:
        fits = "yes" if row["fits"] else "**no**"
        anonymous = (f"{row['anonymous_mb'] or 0:.0f}",) if watched else ()
        peak, seconds = f"{row['peak_mb']:.0f}", page.digits(row["seconds"])
        cells.append((row["verb"], peak, *anonymous, seconds, fits))
    facts = (
        f"In a control group of {limit}, page cache included; {result['date']};"
        f" {result['machine']}."
    )
    return {"memory": f"{facts}\n\n{page.table(cells)}"}

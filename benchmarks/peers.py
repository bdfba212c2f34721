"""The same dataset and the same change, verb by verb, in each of the tools of `peer_tools`.

Every tool starts on a new filesystem of its own, on a loop device with direct I/O, with a copy of
the dataset. Before a command and after it the filesystem is synced; what the latter took is kept
apart. `status` and `diff` run three times. After `rollback` the tree is compared with the dataset,
and at the end the dataset with what it was.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import page, process
from benchmarks.peer_tools import DSBRANCH, OVERLAY, PEERS, Peer
from benchmarks.scratch import disk, machine

VERBS = ("track", "branch", "status", "commit", "diff", "rollback", "squash")
READING = ("status", "diff")
GIGABYTES = 32
_HERE = Path(__file__).resolve().parent

Result = dict[str, Any]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--files", type=int, default=200_000, help="files in the dataset (200000)")
    parser.add_argument("--cycles", type=int, default=3, help="times each tool runs it all (3)")
    parser.add_argument("--peers", help="comma-separated names; default: all that are installed")
    parser.add_argument(
        "--venv",
        type=Path,
        default=Path(os.environ.get("PEERS", "/opt/peers")),
        help="the virtual environment of dvc and oxenai; default: $PEERS, /opt/peers",
    )
    parser.add_argument(
        "--add",
        action="store_true",
        help="keep the last result's figures of tools that are not measured now",
    )
    parser.add_argument(
        "--once",
        type=float,
        default=120,
        metavar="SECONDS",
        help="a tool that takes longer for it all is run once (120)",
    )
    parser.add_argument(
        "--prefault",
        type=float,
        default=0,
        metavar="GB",
        help="memory touched before each writing verb; for virtual machines that give theirs back",
    )


def measure(place: Path, options: argparse.Namespace) -> Result:
    wanted = options.peers.split(",") if options.peers else [peer.name for peer in PEERS]
    data = place / "data"
    _trees("make", str(data), str(options.files))
    os.sync()  # the first tool would share the disk with what is still to be written
    result: Result = {
        "machine": machine(place),
        "date": datetime.now(UTC).date().isoformat(),
        "files": options.files,
        "floor_mb": process.floor_mb(),
        "peers": {},
    }
    if options.add:
        earlier = page.load("peers")
        if earlier["files"] != options.files:
            raise SystemExit(f"--add: the last result is of {earlier['files']:,} files")
        result["peers"] = {
            peer.name: earlier["peers"][peer.name]
            for peer in PEERS
            if peer.name in earlier["peers"]
        }
    peers = []
    for peer in PEERS:
        if peer.name not in wanted:
            continue
        if missing := peer.missing({**os.environ, "PEERS": str(options.venv)}):
            print(f"{peer.name}: not installed: {', '.join(missing)}", flush=True)
            continue
        peers.append(peer)
        found = {"version": _version(peer, options.venv), "verbs": {}, "failed": ""}
        result["peers"][peer.name] = found
    # A machine is faster at one time than at another: the tools take turns.
    for _ in range(options.cycles):
        for peer in tuple(peers):
            seconds = _round(peer, place, options, result["peers"][peer.name])
            if seconds is None or seconds > options.once:
                peers.remove(peer)
            if not options.dry:
                page.save("peers", result)  # the rest takes long, and may not come to its end
    return result


def _round(peer: Peer, place: Path, options: argparse.Namespace, found: Result) -> float | None:
    """Measure all verbs of a tool once; the seconds of all of it, None if it failed."""
    started = time.perf_counter()
    try:
        with disk(place, peer.filesystem, GIGABYTES) as filesystem:
            for verb, taken in _Cycle(peer, filesystem, place / "data", options).run():
                found["verbs"].setdefault(verb, []).append(taken)
    except (RuntimeError, subprocess.CalledProcessError) as error:
        found["failed"] = str(error)  # the page says so; the other tools are measured
        print(f"{peer.name}: {error}", flush=True)
        return None
    return time.perf_counter() - started


class _Cycle:
    """All verbs of one peer, once."""

    def __init__(
        self, peer: Peer, filesystem: Path, data: Path, options: argparse.Namespace
    ) -> None:
        self.peer, self.data, self.options = peer, data, options
        self.work = filesystem / "w"
        self.plan = f"{data}.json"
        self.environment = {
            **os.environ,
            **_names(options.venv),
            "W": str(self.work),
            "SRC": self._path(peer.source),
        }
        for name, value in peer.environment.items():
            filled = value.replace("$W", str(self.work))
            self.environment[name] = filled.replace("$PEERS", str(options.venv))

    def run(self) -> Iterator[tuple[str, Result]]:
        source = Path(self.environment["SRC"])
        self.work.mkdir()
        source.parent.mkdir(exist_ok=True)
        subprocess.run(["cp", "-a", self.data, source], check=True)
        self._untimed(self.peer.setup)
        try:
            for verb in VERBS:
                for way in (
                    way for way in self.peer.verbs if way == verb or way.startswith(f"{verb}:")
                ):
                    yield way, self._timed(way)
                if verb == "branch":
                    replace = ["--replace"] if self.peer.replaces else []
                    _trees("change", self._path(self.peer.tree), self.plan, *replace)
                if verb == "rollback":
                    _trees("check", self._path(self.peer.back), str(self.data), self.plan)
        finally:
            self._untimed(self.peer.teardown, check=False)

    def _timed(self, verb: str) -> Result:
        self._untimed(self.peer.before.get(verb, ""))
        reading = verb.startswith(READING)
        taken = []
        for _ in range(3 if reading else 1):
            if self.options.prefault and not reading:
                _touch(self.options.prefault)
            script = self.peer.verbs[verb]
            taken.append(process.run(script, self.work.parent, env=self.environment, cwd=self.work))
            if taken[-1].code != 0:
                raise RuntimeError(f"{self.peer.name}: {verb}: {taken[-1].errors}")
        found = sorted(taken, key=lambda one: one.seconds)[len(taken) // 2]
        print(
            f"{self.peer.name:20} {verb:22} {found.seconds:8.3f} s + {found.sync_seconds:7.3f} s"
            f" {found.peak_mb:8.1f} MB {found.added_mb:+10.3f} MB",
            flush=True,
        )
        return asdict(found)

    def _untimed(self, script: str, *, check: bool = True) -> None:
        if script:
            process.untimed(script, self.environment, cwd=self.work, check=check)

    def _path(self, text: str) -> str:
        return text.replace("$W", str(self.work))


def _names(venv: Path) -> dict[str, str]:
    return {"DSBRANCH": process.DSBRANCH, "PEERS": str(venv), "HERE": str(_HERE)}


def _version(peer: Peer, venv: Path) -> str:
    if not peer.version:
        return ""
    script = ["bash", "-c", peer.version]
    done = subprocess.run(
        script, env=os.environ | _names(venv), stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.strip()


def _trees(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "benchmarks.trees", *words], cwd=_HERE.parent, check=True)


def _touch(gigabytes: float) -> None:
    """Where memory given back to a hypervisor is slow to get again, have it before, not during."""
    code = (
        "import mmap; mmap.mmap(-1, %d,"
        " flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)"
    )
    subprocess.run([sys.executable, "-c", code % int(gigabytes * 2**30)], check=True)


# What the page shows


def sections(result: Result) -> dict[str, str]:
    return {
        "peers": "\n\n".join((_facts(result), _seconds(result), _notes(result))),
        "peers-bytes": _numbers(result, "added_mb", "MB added"),
        "peers-memory": (
            f"Below {result['floor_mb']:.0f} MB nothing can be told apart.\n\n"
            + _numbers(result, "peak_mb", "peak MB")
        ),
        "peers-faster": _faster(result),
    }


def _facts(result: Result) -> str:
    versions = [peer["version"] for peer in result["peers"].values() if peer["version"]]
    rounds = {name: max(map(len, peer["verbs"].values())) for name, peer in result["peers"].items()}
    most = max(rounds.values())
    often = ", ".join(name for name, count in rounds.items() if count == most)
    how = f"median of {most} rounds for {often}, the others once" if most > 1 else "one round"
    return (
        f"{result['files']:,} files; {how}; {result['date']}; {result['machine']}."
        f" {', '.join(versions)}."
    )


def _middle(rows: list[Result] | None, value: Callable[[Result], float]) -> float | None:
    return median(value(row) for row in rows) if rows else None


def _grid(result: Result, head: str, cell: Callable[[str, dict[str, Any]], str]) -> str:
    cells = [(head, *VERBS)]
    for name, peer in result["peers"].items():
        shown = f"**{name}**" if name == DSBRANCH.name else name
        cells.append((shown, *(cell(verb, peer["verbs"]) for verb in VERBS)))
    return page.table(cells)


def _seconds(result: Result) -> str:
    def cell(verb: str, verbs: dict[str, list[Result]]) -> str:
        found = page.digits(_middle(verbs.get(verb), lambda row: row["seconds"]))
        # Tools that do not wait for the disk themselves have written nothing yet.
        synced = _middle(verbs.get(verb), lambda row: row["seconds"] + row["sync_seconds"])
        return f"{found} / {page.digits(synced)}" if verb == "commit" and found else found

    return _grid(result, "seconds; commit: / and on the disk", cell)


def _notes(result: Result) -> str:
    lines = []
    for peer in PEERS:
        if peer.name in result["peers"]:
            found = result["peers"][peer.name]["verbs"]
            others = [
                f"`{verb}` {page.digits(_middle(found[verb], lambda row: row['seconds']))} s"
                for verb in found
                if ":" in verb
            ]
            also = f" ({', '.join(others)})" if others else ""
            failed = result["peers"][peer.name]["failed"]
            end = f"; failed: {' '.join(failed.split())}" if failed else ""
            lines.append(f"- {peer.name}: {peer.note}{also}{end}")
    return "\n".join(lines)


def _numbers(result: Result, key: str, head: str) -> str:
    def cell(verb: str, verbs: dict[str, list[Result]]) -> str:
        return page.digits(_middle(verbs.get(verb), lambda row: row[key]))

    return _grid(result, head, cell)


def _faster(result: Result) -> str:
    """Who beats dsbranch at what, by how much: a table that cannot leave anything out."""
    ours = result["peers"][DSBRANCH.name]["verbs"]
    cells = [("verb", "faster than dsbranch, and its share of dsbranch's time")]
    for verb in VERBS:
        mine = _middle(ours[verb], lambda row: row["seconds"])
        assert mine is not None
        found = []
        for name, peer in result["peers"].items():
            theirs = _middle(peer["verbs"].get(verb), lambda row: row["seconds"])
            if theirs is not None and theirs < mine:
                found.append((theirs / mine, name))
        cells.append((verb, ", ".join(f"{name} {share:.2f}" for share, name in sorted(found))))
    return page.table(cells)


def draw(result: Result, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    names = {DSBRANCH.name: ("D", "black"), OVERLAY.name: ("x", "grey")}
    for number, (name, peer) in enumerate(result["peers"].items()):
        at = [verb for verb in VERBS if verb in peer["verbs"]]
        axes.plot(
            [_middle(peer["verbs"][verb], lambda row: row["seconds"]) for verb in at],
            [len(VERBS) - VERBS.index(verb) for verb in at],
            linestyle="",
            label=name,
            marker=names.get(name, ("osv^<>phP*X"[number % 11],))[0],
            color=names[name][1] if name in names else f"C{number % 10}",
            zorder=3 if name == DSBRANCH.name else 2,
            markersize=9 if name == DSBRANCH.name else 6,
        )
    axes.set_xscale("log")
    axes.set_xlabel(f"seconds, whole process; {result['files']:,} files, 2% changed")
    axes.set_yticks(range(len(VERBS), 0, -1), VERBS)
    axes.grid(visible=True, axis="both", alpha=0.3)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small")
    page.save_plot(figure, path)

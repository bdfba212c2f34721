"""Test foundation: one of many processes that work on a workspace at once, and what it saw.

It runs commands as a user would, each a program of its own with an exit code and two streams:
forked from a process that has loaded it, as starting takes ten times as long as the work. It keeps
three sorts of branches:

- its own, ``o3``, whose tree it knows to the byte whatever the others do;
- ledgers, on which everybody appends to a file of their own, and everybody commits;
- ``c0`` to ``c3``, to which everybody does everything, kill -9 in the middle included.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import select
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from errno import EROFS
from pathlib import Path
from typing import NamedTuple

from dsbranch.cli import main

LEDGERS = "commits", "squashes"
TOSSED = "c0", "c1", "c2", "c3"
STUCK_SECONDS = 150.0
REUSED_SECONDS = 60.0
"""How long at least the kernel gives the number of a process to no other."""

# What a user may be told, by verb; code 0 is always right.
TOLD = {
    "commit": (1, 4),
    "squash": (1, 4),
    "merge": (3, 4),
    "undo": (3, 4),
    "delete": (3, 4),
    "rename": (3, 4),
    "restore": (1, 4),
}
_BUSY = re.compile(
    r"another dsbranch command (works on|changed|keeps writing)|is not there any more"
    r"|hold(s)? files? of|holds? |pid [0-9]+"
)
_FILES = 12


class Outcome(NamedTuple):
    words: tuple[str, ...]
    code: int
    stdout: str
    stderr: str


class Member:
    """The member `number` of the crowd in the workspace `place`."""

    def __init__(self, place: Path, number: int, seed: str) -> None:
        self.place = place
        self.me = f"o{number}"
        self.rng = random.Random(f"{seed} {number}")
        self.done: Counter[str] = Counter()
        self.written = dict.fromkeys(LEDGERS, 0)
        self.committed: list[str] = []
        self.tree: dict[str, str] = {}
        self.history: list[dict[str, str]] = []
        self.killed: dict[int, float] = {}
        self.complaints: list[str] = []

    # Running

    def run(self, *words: str, may: tuple[int, ...] | None = None, kill: bool = False) -> Outcome:
        """The outcome of a command; `may` are the codes other than 0 that it may end with."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            pid = os.fork()
            if pid == 0:
                _become(["-C", str(self.place), *words], out.fileno(), err.fileno())
            code = self._wait(pid, words, self.rng.uniform(0, 0.25) if kill else None)
            out.seek(0)
            err.seek(0)
            outcome = Outcome(words, code, out.read(), err.read())
        verb = words[0]
        self.done[f"{verb} {code}"] += 1
        if code == -signal.SIGKILL:
            self.killed[pid] = time.monotonic()
        else:
            try:
                self._judge(outcome, TOLD.get(verb, (4,)) if may is None else may)
            except AssertionError as error:
                # The others are to be heard, too.
                self.complaints.append(str(error))
        return outcome

    def _wait(self, pid: int, words: tuple[str, ...], kill_after: float | None) -> int:
        watch = os.pidfd_open(pid)
        try:
            left = STUCK_SECONDS if kill_after is None else kill_after
            if not select.select([watch], [], [], left)[0]:
                os.kill(pid, signal.SIGKILL)
                if kill_after is None:
                    os.waitpid(pid, 0)
                    raise AssertionError(f"stuck: {words}")
        finally:
            os.close(watch)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def _judge(self, outcome: Outcome, may: tuple[int, ...]) -> None:
        assert "Traceback" not in outcome.stderr, outcome
        assert "database is locked" not in outcome.stderr, outcome
        assert outcome.code == 0 or outcome.code in may, outcome
        if outcome.code:
            assert outcome.stderr.startswith("error: "), outcome
            assert "\nhint: " in outcome.stderr, outcome
        if outcome.code == 4:
            assert _BUSY.search(outcome.stderr), outcome
            held = re.search(r"another dsbranch command.*\(pid ([0-9]+)\)", outcome.stderr)
            # Later the number may be another process's.
            killed = self.killed.get(int(held[1]), -math.inf) if held else -math.inf
            assert time.monotonic() - killed > REUSED_SECONDS, ("held by the dead", outcome)

    # A branch of one's own

    def found(self) -> None:
        self.run("create", self.me, may=())
        self.tree = read(self.place / self.me)
        self.history = [dict(self.tree)]

    def own(self) -> None:
        """One thing done to the branch, and what must have come of it."""
        act = self.rng.choice(
            [self.edit] * 3 + [self.commit] * 3 + [self.squash, self.roll_back, self.start_again]
        )
        act()
        assert read(self.place / self.me) == self.tree, act.__name__
        told = self.run("status", self.me, "--json", may=())
        counts = {
            letter: count for letter, count in json.loads(told.stdout)["counts"].items() if count
        }
        assert counts == _changes(self.history[-1], self.tree), told

    def edit(self) -> None:
        for _ in range(self.rng.randrange(1, 4)):
            name = f"f{self.rng.randrange(_FILES)}"
            path = self.place / self.me / name
            if name in self.tree and self.rng.random() < 0.3:
                path.unlink()
                del self.tree[name]
            else:
                text = f"{self.me} {self.rng.random()}"
                path.write_text(text)
                self.tree[name] = text

    def commit(self) -> None:
        changed = self.tree != self.history[-1]
        outcome = self.run("commit", self.me, "-m", f"{self.me}", may=() if changed else (1,))
        assert (outcome.code == 0) == changed, outcome
        if changed:
            self.history.append(dict(self.tree))

    def squash(self) -> None:
        if len(self.history) > 3:
            self.run("squash", self.me, "--since", f"{self.me}~2", may=())
            del self.history[-2]

    def roll_back(self) -> None:
        back = self.rng.randrange(min(3, len(self.history)))
        self.run("rollback", self.me, "--to", f"{self.me}~{back}", may=())
        del self.history[len(self.history) - back :]
        self.tree = dict(self.history[-1])

    def start_again(self) -> None:
        if self.rng.random() < 0.3:
            self.run("delete", self.me, "--force", may=())
            self.found()

    # Ledgers

    def record(self) -> None:
        ledger = self.rng.choice(LEDGERS)
        number = self.written[ledger] + 1
        _append(self.place / ledger / self.me, f"{number}\n")
        self.written[ledger] = number
        if self.rng.random() < 0.5:
            message = f"{self.me} {number}"
            if self.run("commit", ledger, "-m", message, "--wait", "5").code == 0:
                self.committed += [message] if ledger == "commits" else []
        elif self.rng.random() < 0.3:
            back = self.rng.randrange(2, 5)
            self.run("squash", "squashes", "--since", f"squashes~{back}", may=(1, 2, 4))

    # Everybody's

    def toss(self) -> None:
        one, other = self.rng.sample(TOSSED, 2)
        gone = not (self.place / one).exists()
        more = ["create"] * 20 if gone else ["commit", "merge", "undo", "mount"] * 2
        verb = self.rng.choice([*self._tosses(), *more])
        # Any of them may be gone by now, or there again.
        may = (2, *TOLD.get(verb, (4,)))
        self.run(verb, *self._tosses()[verb](one, other), may=may, kill=self.rng.random() < 0.1)

    def _tosses(self) -> dict[str, Callable[[str, str], list[str]]]:
        return {
            "create": lambda one, other: [one, "--from", self.rng.choice([other, "main", self.me])],
            "mount": lambda one, _: [one],
            "umount": lambda one, _: [one],
            "commit": lambda one, _: [self._scribbled(one), "-m", f"by {self.me}"],
            "rollback": lambda one, _: [one, "--to", f"{one}~{self.rng.randrange(2)}"],
            "squash": lambda one, _: [one, "--since", f"{one}~2"],
            "merge": lambda one, other: [other, "--into", one, "--strategy", "theirs"],
            "restore": lambda one, other: ["a", "--from", other, "--branch", one],
            "undo": lambda one, _: [self._operation(one)],
            "delete": lambda one, _: [one, "--force"],
            "rename": lambda one, other: [one, other],
            "tag": lambda one, _: ["t", one, "--force"],
        }

    def _scribbled(self, name: str) -> str:
        with suppress(OSError):  # gone, frozen or not mounted: that is what they are there for
            fd = os.open(self.place / name, os.O_PATH | os.O_DIRECTORY)
            try:
                # What lies below a mount that just comes or goes would be in the way of the next.
                if os.fstat(fd).st_dev != self.place.stat().st_dev:
                    inside = Path(f"/proc/self/fd/{fd}")
                    (inside / self.rng.choice("abc")).write_text(f"{self.rng.random()}")
            finally:
                os.close(fd)
        return name

    def _operation(self, name: str) -> str:
        told = self.run("op", "log", name, "--json", "-n", "4", may=(2,))
        found = json.loads(told.stdout)["operations"] if told.code == 0 else []
        return str(self.rng.choice(found)["id"] if found else 1)

    def look(self) -> None:
        name = self.rng.choice([*TOSSED, *LEDGERS, self.me])
        words = self.rng.choice(
            [["status", name], ["log", name], ["diff", name], ["list"], ["du"], ["show", name]]
        )
        told = self.run(*words, "--json", may=(2,) if name in TOSSED else ())
        assert told.code or json.loads(told.stdout)["schema"] == 1, told

    def collect(self) -> None:
        self.run("gc", "--keep", self.rng.choice(["0s", "1h"]))

    def act(self) -> None:
        acts = [self.own] * 6 + [self.record] * 4 + [self.toss] * 6 + [self.look] * 4
        self.rng.choice([*acts, self.collect])()


def _become(arguments: list[str], out: int, err: int) -> None:
    """Be the program, and never return."""
    code = 1
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout, sys.stderr = (os.fdopen(fd, "w") for fd in (1, 2))
        sys.argv = ["dsbranch", *arguments]
        code = main()
    except BaseException:  # noqa: BLE001 - told as Python tells it, and that is the end
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _append(path: Path, text: str) -> None:
    """As a program does that tries again while a commit has its branch frozen."""
    deadline = time.monotonic() + STUCK_SECONDS
    while True:
        try:
            with path.open("a") as file:
                file.write(text)
        except OSError as error:
            if error.errno != EROFS or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def read(tree: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in tree.iterdir()}


def _changes(old: dict[str, str], new: dict[str, str]) -> Counter[str]:
    return +Counter(
        A=len(new.keys() - old.keys()),
        D=len(old.keys() - new.keys()),
        M=sum(old[name] != new[name] for name in old.keys() & new.keys()),
    )


def work(place: str, number: int, seed: str, steps: int, seconds: float) -> None:
    """Be a member for so many steps, or seconds if that is longer; print what there is to know."""
    member = Member(Path(place), number, seed)
    member.found()
    deadline = time.monotonic() + seconds
    while steps > 0 or time.monotonic() < deadline:
        steps -= 1
        member.act()
    report = {
        "done": member.done,
        "written": member.written,
        "committed": member.committed,
        "tree": member.tree,
        "log": len(member.history),
        "complaints": member.complaints,
    }
    print(json.dumps(report))

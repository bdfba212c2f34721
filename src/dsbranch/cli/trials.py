"""Room ``cli``: commands in branches of their own, one or many side by side, and what becomes of
these branches.

Each is a ``dsbranch run`` of its own, so that nothing of this process gets into the view. What a
run was is told by trailers of its commit's message, as git has them.
"""

from __future__ import annotations

import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from dsbranch.cli.becoming import INDEX
from dsbranch.cli.quote import one_line
from dsbranch.cli.wording import aligned, count_words, human_size, short, utc
from dsbranch.errors import DsbranchError
from dsbranch.workspace import Workspace


class Policy(NamedTuple):
    """What becomes of a branch after its run. A run has failed whose exit code is not 0.

    `commit` is what succeeded with `message`, or the command itself, and sets aside the branches
    of what failed; `discard` sets aside all. `keep_failed` keeps those of what failed.
    """

    commit: bool
    message: str | None
    discard: bool
    keep_failed: bool


class Trial(NamedTuple):
    """A command's run in a branch. `bytes` is what it left on the disk, `commit` what was made of
    that. `trouble` is what kept the branch from becoming what it should."""

    branch: str
    code: int
    started_ns: int
    seconds: float
    changes: dict[str, int]
    bytes: int
    commit: str | None = None
    kept: bool = True
    trouble: DsbranchError | None = None


def names(wanted: str | None, count: int | None) -> list[str]:
    """Of the new branches: `wanted` or one drawn by lot, with a number each if there is a count."""
    name = wanted or f"run-{secrets.token_hex(3)}"
    return [name] if count is None else [f"{name}-{number}" for number in range(count)]


def create(workspace: Workspace, branches: Sequence[str], start: str | None) -> None:
    """Make all branches, or none."""
    made: list[str] = []
    try:
        for branch in branches:
            workspace.create(branch, start=start, mount=False)
            made.append(branch)
    except BaseException:
        for branch in made:
            workspace.delete(branch)
        raise


def run(
    workspace: Workspace,
    branches: Sequence[str],
    command: Sequence[str],
    policy: Policy,
    *,
    at: Path | None,
    numbered: bool,
    answer: int | None = None,
) -> list[Trial]:
    """Run `command` in each branch, all at once, and do with them as `policy` says.

    `numbered`: each finds its number in the environment, and no input. `answer` is a descriptor
    for what they print, instead of our own output.
    """
    words = [sys.executable, "-P", "-m", "dsbranch", "-C", os.fspath(workspace.root), "run"]
    where = [] if at is None else ["--at", os.fspath(at)]
    begun = time.time_ns()
    running: list[subprocess.Popen[bytes]] = []
    with _signals_passed_on(running):
        for number, branch in enumerate(branches):
            running.append(
                subprocess.Popen(
                    [*words, branch, *where, "--", *command],
                    env=os.environ | ({INDEX: str(number)} if numbered else {}),
                    stdin=subprocess.DEVNULL if numbered else None,
                    stdout=answer,
                )
            )
        ended = dict(_ends(running))
    record = _Record(command)
    trials: list[Trial] = []
    for branch, process in zip(branches, running, strict=True):
        seconds = (ended[process.pid] - begun) / 1e9
        # As shells count those that a signal ended.
        code = process.returncode if process.returncode >= 0 else 128 - process.returncode
        index = len(trials) if numbered else None
        trial = Trial(branch, code, begun, seconds, {}, 0)
        trials.append(_conclude(workspace, trial, policy, record.message(trial, policy, index)))
    return trials


def _ends(running: Sequence[subprocess.Popen[bytes]]) -> Iterator[tuple[int, int]]:
    """As they come: which process ended, and when."""
    left = {process.pid: process for process in running}
    while left:
        info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        assert info is not None
        process = left.pop(info.si_pid, None)
        if process is None:
            os.waitpid(info.si_pid, 0)  # an orphan that was given to us
            continue
        process.wait()
        yield process.pid, time.time_ns()


@contextmanager
def _signals_passed_on(running: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """The runs decide what a signal means. A terminal sends Ctrl-C to them as well."""

    def pass_on(number: int, _frame: object) -> None:
        for process in running:
            process.send_signal(number)

    def leave(_number: int, _frame: object) -> None:
        """It has arrived where it should."""

    former = {
        number: signal.signal(number, handler)
        for number, handler in (
            (signal.SIGINT, leave),
            (signal.SIGTERM, pass_on),
            (signal.SIGHUP, pass_on),
        )
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


class _Record:
    """What is told of each run alike."""

    def __init__(self, command: Sequence[str]) -> None:
        self.command = one_line(shlex.join(command))
        self.place = os.getcwd()
        self.git = _git_commit(self.place)

    def message(self, trial: Trial, policy: Policy, index: int | None) -> str:
        facts = {
            "Command": self.command,
            "Directory": one_line(self.place),
            "Exit-Code": trial.code,
            "Started": utc(trial.started_ns),
            "Seconds": f"{trial.seconds:.3f}",
            "Index": index,
            "Git-Commit": self.git,
        }
        trailers = [f"Run-{key}: {value}" for key, value in facts.items() if value is not None]
        return "\n".join([policy.message or self.command, "", *trailers])


def _git_commit(place: str) -> str | None:
    """The commit of a git repository that `place` lies in, and ``-dirty`` if files of it differ."""
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=place,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None  # no git, or no repository: there is nothing to tell
    return done.stdout.strip()


def _conclude(workspace: Workspace, trial: Trial, policy: Policy, message: str) -> Trial:
    branch, failed = trial.branch, trial.code != 0
    try:
        trial = trial._replace(
            changes=dict(workspace.status(branch).counts),
            bytes=workspace.du(branch).branches[0].uncommitted,
        )
        if policy.discard or (policy.commit and failed):
            if not (failed and policy.keep_failed):
                workspace.delete(branch, force=True)
                trial = trial._replace(kept=False)
        elif policy.commit and trial.changes:
            trial = trial._replace(commit=workspace.commit(branch, message).commit.id)
    except DsbranchError as error:
        trial = trial._replace(trouble=error)
    return trial


def table(trials: Sequence[Trial]) -> Iterator[str]:
    rows = [("BRANCH", "EXIT", "SECONDS", "SIZE", "COMMIT", "CHANGES")]
    for trial in trials:
        fate = short(trial.commit) if trial.commit else "-" if trial.kept else "set aside"
        rows.append(
            (
                trial.branch,
                str(trial.code),
                f"{trial.seconds:.1f}",
                human_size(trial.bytes),
                fate,
                count_words(trial.changes) or "none",
            )
        )
    return map("  ".join, aligned(rows))


def sentence(trial: Trial) -> str:
    """What became of a single one."""
    done = count_words(trial.changes) or "no change"
    if trial.commit:
        fate = f"committed as {short(trial.commit)}"
    elif not trial.kept:
        fate = "set aside; `dsbranch undo` brings it back"
    else:
        fate = "uncommitted" if trial.changes else "nothing to commit"
    return f"{trial.branch}: exit code {trial.code}; {done}, {fate}"

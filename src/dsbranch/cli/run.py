"""Room ``cli``: ``dsbranch run``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from dsbranch.cli import render
from dsbranch.cli.becoming import BRANCH, become
from dsbranch.cli.call import Call, Option
from dsbranch.cli.faults import describe
from dsbranch.cli.parameters import BranchName, Json, NewMessage, ref_option
from dsbranch.cli.scope import branch_or_current, from_here, here, open_workspace
from dsbranch.errors import BadPath, UsageError

if TYPE_CHECKING:
    from dsbranch.cli.trials import Policy, Trial

EXAMPLE = "dsbranch run exp1 -- python train.py --data /data/images"

TAIL = "-- COMMAND..."

NAMING = "--new"

At = Annotated[
    Path | None,
    Option("--at", metavar="PATH", help="Where the branch is shown; default: the dataset's path."),
]


def run(
    call: Call,
    name: BranchName = None,
    at: At = None,
    new: Annotated[
        bool,
        Option(
            "--new",
            help="Make the branch NAME for this, also given as --new=NAME; without one, a name is"
            " drawn.",
        ),
    ] = False,
    start: Annotated[
        str | None, ref_option("--from", "REF", "Where a new branch starts; default: main.")
    ] = None,
    fan_out: Annotated[
        int | None,
        Option(
            "--fan-out",
            metavar="N",
            minimum=1,
            help="Run it N times side by side, each in a new branch NAME-0, NAME-1 and so on, with"
            " that number in DSBRANCH_INDEX.",
        ),
    ] = None,
    commit_on_success: Annotated[
        bool,
        Option(
            "--commit-on-success",
            help="Commit what it changed if it exits with 0; set a new branch aside if not.",
        ),
    ] = False,
    message: NewMessage = None,
    discard: Annotated[bool, Option("--discard", help="Set the new branch aside at the end.")] = (
        False
    ),
    keep_on_failure: Annotated[
        bool, Option("--keep-on-failure", help="But keep it if the command fails.")
    ] = False,
    json: Json = False,
) -> int:
    """Run a command that sees the branch where the dataset lies.

    Only the command and what it starts see that, in a mount namespace of their own; user,
    directory, environment and terminal are as they were, and the exit code is the command's. No
    root is needed. A branch that is in use is joined. `undo` brings back what was set aside.
    """
    if not call.paths:
        raise UsageError(
            "there is no command to run", hint="it stands behind `--`: `dsbranch run NAME -- ls`"
        )
    fresh = new or fan_out is not None
    _require_sense(fresh, start, commit_on_success, message, discard, keep_on_failure, json)
    if not fresh and not commit_on_success:
        branch = enter(call, name, at)
        return become(call.paths, {**os.environ, BRANCH: branch})
    from dsbranch.cli.trials import Policy

    # What was there before is not set aside.
    keep = keep_on_failure or not fresh
    policy = Policy(commit_on_success, message, discard, keep)
    return _try(call, name, at, fresh, start, fan_out, policy, json)


def _require_sense(
    fresh: bool,
    start: str | None,
    commit: bool,
    message: str | None,
    discard: bool,
    keep: bool,
    json: bool,
) -> None:
    if not fresh and (start is not None or discard or keep):
        raise UsageError(
            "--from, --discard and --keep-on-failure are for new branches",
            hint="add `--new`, or `--fan-out N`",
        )
    if message is not None and not commit:
        raise UsageError("nothing is to be committed", hint="add `--commit-on-success`")
    if commit and discard:
        raise UsageError(
            "--commit-on-success and --discard exclude each other", hint="leave one of them out"
        )
    if keep and not commit and not discard:
        raise UsageError("a branch is kept anyway", hint="`--discard` would set it aside")
    if json and not fresh and not commit:
        raise UsageError(
            "there is nothing to tell: the answer is the command's own",
            hint="`--json` goes with `--new`, `--fan-out` and `--commit-on-success`",
        )


def enter(call: Call, name: str | None, at: Path | None) -> str:
    """Go where the branch that is meant is shown; its name."""
    place = here()
    with open_workspace(call) as workspace:
        branch = branch_or_current(call, workspace, name)
        workspace.enter(branch, at=None if at is None else from_here(at))
    try:
        os.chdir(place)
    except OSError as error:
        raise BadPath(
            f"{branch} has no directory {place}, in which the command is to run:"
            f" {os.strerror(error.errno or 0)}",
            hint="`cd` to one that it has, or show the branch elsewhere with `--at`",
        ) from error
    return branch


def _try(
    call: Call,
    name: str | None,
    at: Path | None,
    fresh: bool,
    start: str | None,
    fan_out: int | None,
    policy: Policy,
    json: bool,
) -> int:
    from dsbranch.cli import shapes, trials

    with open_workspace(call) as workspace:
        if fresh:
            branches = trials.names(name, fan_out)
            trials.create(workspace, branches, start)
        else:
            branches = [branch_or_current(call, workspace, name)]
        found = trials.run(
            workspace,
            branches,
            call.paths,
            policy,
            at=None if at is None else from_here(at),
            numbered=fan_out is not None,
            # What the commands print is not the answer.
            answer=2 if json else None,
        )
    if json:
        render.as_json(shapes.trials(found))
    elif fan_out is not None:
        render.lines(trials.table(found))
    else:
        render.note(trials.sentence(found[0]))
    return _exit_code(found)


def _exit_code(found: list[Trial]) -> int:
    """The commands' highest, or that of what went wrong after them."""
    troubles = [describe(trial.trouble) for trial in found if trial.trouble is not None]
    for fault in troubles:
        if fault is not None:
            render.fault(fault)
    codes = [fault.exit_code for fault in troubles if fault is not None]
    return max(trial.code for trial in found) or max(codes, default=0)

"""Room ``cli``: ``dsbranch commit``."""

from __future__ import annotations

import sys
from typing import Annotated

from dsbranch.cli import render
from dsbranch.cli.call import Call, Option
from dsbranch.cli.notes import note_old_views, others
from dsbranch.cli.parameters import BranchName, Json, NewMessage, Wait
from dsbranch.cli.quote import one_line
from dsbranch.cli.scope import branch_or_current, open_workspace
from dsbranch.cli.wording import count_words, short
from dsbranch.errors import NothingToCommit, UsageError
from dsbranch.workspace import Workspace

EXAMPLE = "dsbranch commit exp1 -m 'drop blurred images'"


def run(
    call: Call,
    name: BranchName = None,
    message: NewMessage = None,
    wait: Wait = 0.0,
    allow_empty: Annotated[
        bool, Option("--allow-empty", help="Commit even if nothing changed.")
    ] = False,
    no_hash: Annotated[
        bool, Option("--no-hash", help="Do not read the files; leave their digests open.")
    ] = False,
    json: Json = False,
) -> None:
    """Freeze the changes of a branch as a commit.

    The branch stays mounted and readers go on reading. If a process still writes, it is named
    and nothing changes (exit code 4). Without -m, your editor is opened.
    """
    with open_workspace(call) as workspace:
        branch = branch_or_current(call, workspace, name)
        if message is None:
            message = _ask(workspace, branch, allow_empty=allow_empty)
        committed = workspace.commit(
            branch, message, wait=wait, allow_empty=allow_empty, hash=not no_hash
        )
    committed = committed._replace(stale=others(committed.stale))
    if json:
        from dsbranch.cli import shapes

        render.as_json(shapes.committed(branch, committed))
    else:
        subject = committed.commit.message.split("\n", 1)[0]
        counts = count_words(committed.counts) or "no changes"
        head = render.paint_commit(short(committed.commit.id))
        render.line(f"[{branch} {head}] {one_line(subject)} ({counts})")
    note_old_views(branch, committed.stale, committed.elsewhere)


def _ask(workspace: Workspace, branch: str, *, allow_empty: bool) -> str:
    from dsbranch.cli.editor import ask_message

    if not sys.stdin.isatty():
        raise UsageError("a commit needs a message", hint="give one with `-m MESSAGE`")
    status = workspace.status(branch)
    if status.clean and not allow_empty:
        raise NothingToCommit(
            f"nothing to commit on {branch}", hint="`--allow-empty` commits all the same"
        )
    return ask_message(
        "Write the message of this commit; lines that start with # are left out,\n"
        "and an empty message commits nothing.\n"
        f"On branch {branch}: {count_words(status.counts) or 'no changes'}"
    )

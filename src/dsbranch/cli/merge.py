"""Room ``cli``: ``dsbranch merge``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

from dsbranch.cli import render
from dsbranch.cli.call import Call, Option
from dsbranch.cli.notes import note_old_views, others
from dsbranch.cli.parameters import Json, NewMessage, Wait, ref_argument, ref_option
from dsbranch.cli.quote import one_line, quote_path
from dsbranch.cli.scope import branch_or_current, open_workspace
from dsbranch.cli.wording import count_words, human_size, plural, short
from dsbranch.errors import ConflictError, MergeConflict
from dsbranch.model.merges import Conflict, Merged, Preference, Seen

EXAMPLE = "dsbranch merge exp1 --into main --prefer 'labels/**=theirs'"


class Strategy(StrEnum):
    """What becomes of a conflict."""

    fail = "fail"
    ours = "ours"
    theirs = "theirs"


def preference(value: str) -> Preference:
    glob, _, side = value.rpartition("=")
    if not glob or side not in ("ours", "theirs"):
        raise ValueError("it is not GLOB=ours or GLOB=theirs")
    return Preference(os.fsencode(glob), "ours" if side == "ours" else "theirs")


def run(
    call: Call,
    other: Annotated[
        str,
        ref_argument("OTHER", "The branch, or any other ref, whose changes are wanted."),
    ],
    into: Annotated[
        str | None,
        ref_option(
            "--into",
            "NAME",
            "The branch that gets them; default: the branch you stand in.",
            "branches",
        ),
    ] = None,
    message: NewMessage = None,
    strategy: Annotated[
        Strategy,
        Option("--strategy", help="Whose side to take where both changed the same."),
    ] = Strategy.fail,
    prefer: Annotated[
        list[Preference] | None,
        Option(
            "--prefer",
            metavar="GLOB=SIDE",
            parse=preference,
            help="Take `ours` or `theirs` at paths that match; the first that does counts.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    wait: Wait = 0.0,
    json: Json = False,
) -> int:
    """Merge what another branch changed, as a commit with two parents.

    What only one side changed since the common ancestor is taken from it. Where both changed the
    same differently, the conflicts are listed and nothing is changed (exit code 3), unless
    --prefer or --strategy takes a side. In globs `*` stops at a slash and `**` does not.
    """
    with open_workspace(call) as workspace:
        branch = branch_or_current(call, workspace, into)
        try:
            merged = workspace.merge(
                other,
                into=branch,
                message=message,
                strategy=strategy.value,
                prefer=prefer or (),
                dry_run=dry_run,
                wait=wait,
            )
        except MergeConflict as error:
            _list(error.conflicts, json=json)
            raise
    merged = merged._replace(stale=others(merged.stale))
    if json:
        from dsbranch.cli import shapes

        render.as_json(shapes.merged(merged))
    else:
        render.lines(_lines(other, merged))
    if merged.dirty_source is not None:
        render.note(f"uncommitted changes of {merged.dirty_source} are not in the merge")
    note_old_views(branch, merged.stale, merged.elsewhere)
    if merged.conflicts:
        return ConflictError.exit_code
    return 0


def _list(conflicts: Iterable[Conflict], *, json: bool) -> None:
    if json:
        from dsbranch.cli import shapes

        render.as_json(shapes.conflicts(conflicts))
    else:
        render.lines(map(_line, conflicts))


def _lines(other: str, merged: Merged) -> Iterable[str]:
    yield from map(_line, merged.conflicts)
    counts = count_words(merged.counts) or "no changes"
    if merged.up_to_date:
        yield one_line(f"already up to date: {merged.branch} has all of {other}")
    elif merged.conflicts:
        many = plural(len(merged.conflicts), "conflict")
        yield one_line(f"{other} cannot be merged into {merged.branch}: {many}")
    elif merged.commit is None:
        yield one_line(f"{other} can be merged into {merged.branch}: {counts}")
    else:
        files = f"{plural(merged.linked, 'file')} linked"
        if merged.copied:
            files += f", {merged.copied:,} copied ({human_size(merged.copied_bytes)})"
        subject = merged.commit.message.split("\n", 1)[0]
        head = render.paint_commit(short(merged.commit.id))
        yield f"[{merged.branch} {head}] {one_line(subject)} ({counts}); {files}"


def _line(item: Conflict) -> str:
    """``path: modified / deleted (base 12 B, ours 15 B, theirs absent)``."""
    sides = (("base", item.base), ("ours", item.ours), ("theirs", item.theirs))
    shown = ", ".join(f"{name} {_side(side, item.path)}" for name, side in sides)
    return f"{quote_path(item.path or b'.')}: {item.reason} ({shown})"


def _side(side: Seen | None, path: bytes) -> str:
    if side is None:
        return "absent"
    text = side.kind if side.size is None else human_size(side.size)
    return text if side.path == path else f"{text} at {quote_path(side.path)}"

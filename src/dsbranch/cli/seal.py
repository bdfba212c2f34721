"""Room ``cli``: ``dsbranch seal``."""

from __future__ import annotations

from typing import Annotated

from dsbranch.cli import render
from dsbranch.cli.call import Call, Option
from dsbranch.cli.parameters import Json
from dsbranch.cli.quote import one_line, quote_path
from dsbranch.cli.scope import open_workspace
from dsbranch.cli.wording import plural
from dsbranch.errors import IntegrityError

EXAMPLE = "dsbranch seal --hash"


def run(
    call: Call,
    hash: Annotated[
        bool,
        Option("--hash", help="Read every file, too, so that `verify --full` can compare."),
    ] = False,
    json: Json = False,
) -> None:
    """Record what the dataset is now, so that `verify` can tell what changed.

    Files that were hashed before and are unchanged are not read again, so it may be interrupted
    and called again. What changed since the last seal is accepted: run `verify` first. --hash also
    hashes what was committed with --no-hash.
    """
    with open_workspace(call) as workspace:
        base = workspace.base
        sealed = workspace.seal(hash=hash)
    seal = sealed.seal
    if json:
        from dsbranch.cli import shapes

        render.as_json(shapes.sealed(sealed))
    else:
        hashed = f"{seal.digested:,} of {plural(seal.files, 'file')} hashed"
        now = f", {sealed.hashed:,} of them now" if hash else ""
        entries = plural(seal.entries, "entry", "entries")
        render.line(one_line(f"sealed {base}: {entries}; {hashed}{now}"))
        if sealed.in_layers:
            files = plural(sealed.in_layers, "file")
            render.line(f"{files} of commits made with --no-hash hashed, too")
    for problem in sealed.problems:
        render.note(one_line(f"{quote_path(problem.path)} cannot be read: {problem.what}"))
    if sealed.problems:
        paths = plural(len(sealed.problems), "path")
        raise IntegrityError(
            f"{paths} could not be read; all else is sealed",
            hint="see `dmesg` for a failing disk; `dsbranch seal` tries them again",
        )

"""Room ``cli``: ``dsbranch tag``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

from dsbranch.cli import render
from dsbranch.cli.call import Argument, Call, Option
from dsbranch.cli.parameters import Json, Ref, utf8
from dsbranch.cli.scope import branch_or_current, open_workspace
from dsbranch.cli.wording import columns, local_time, short
from dsbranch.errors import UsageError
from dsbranch.model.facts import Tag
from dsbranch.workspace import Workspace

EXAMPLE = "dsbranch tag v1 exp1~1"


def run(
    call: Call,
    name: Annotated[str | None, Argument("NAME", help="The new tag.", parse=utf8)] = None,
    ref: Ref = None,
    delete: Annotated[
        str | None,
        Option(
            "-d --delete",
            metavar="TAG",
            help="Remove this tag.",
            offer="tags",
            parse=utf8,
        ),
    ] = None,
    force: Annotated[bool, Option("--force", help="Move the tag if there is one already.")] = False,
    json: Json = False,
) -> None:
    """Name a commit for good; without a name, list the tags.

    A tag stays at its commit when branches move on, and what it names is kept.
    """
    if delete is not None and (name is not None or force):
        raise UsageError("--delete excludes a new tag", hint="give one of the two")
    with open_workspace(call) as workspace:
        if delete is not None:
            _delete(workspace, delete, json=json)
        elif name is not None:
            _make(workspace, name, branch_or_current(call, workspace, ref), force=force, json=json)
        elif json:
            from dsbranch.cli import shapes

            render.as_json(shapes.tags(workspace.tags()))
        else:
            render.lines(_table(workspace.tags()))


def _make(workspace: Workspace, name: str, ref: str, *, force: bool, json: bool) -> None:
    done = workspace.tag(name, ref, force=force)
    if json:
        from dsbranch.cli import shapes

        render.as_json(shapes.tagged(done))
    else:
        moved = "" if done.replaced is None else f", moved from {short(done.replaced)}"
        render.line(f"tagged commit {short(done.tag.commit)} as {name}{moved}")
    if done.dirty_source is not None:
        render.note(
            f"uncommitted changes of {done.dirty_source} are not in {name}, "
            f"which is its last commit {short(done.tag.commit)}"
        )


def _delete(workspace: Workspace, name: str, *, json: bool) -> None:
    done = workspace.untag(name)
    if json:
        from dsbranch.cli import shapes

        render.as_json(shapes.untagged(done))
    else:
        at = short(done.tag.commit)
        render.line(f"deleted tag {name}, which was at {at}; `dsbranch undo` brings it back")


def _table(tags: Sequence[Tag]) -> Iterator[str]:
    width = max((columns(tag.name) for tag in tags), default=0)
    for tag in tags:
        blank = " " * (width - columns(tag.name))
        yield f"{tag.name}{blank}  {short(tag.commit)}  {local_time(tag.created_ns)}"

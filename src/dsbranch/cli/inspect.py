"""Room ``cli``: ``dsbranch inspect``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

from dsbranch import workspace
from dsbranch.cli import render, shapes
from dsbranch.cli.bar import drawn
from dsbranch.cli.call import Argument, Call, Option
from dsbranch.cli.forms import Form, form, print_diff
from dsbranch.cli.parameters import (
    Json,
    NameStatus,
    NewMessage,
    NoMount,
    NoRenames,
    Null,
    Stat,
    utf8,
)
from dsbranch.cli.quote import one_line, quote_path
from dsbranch.cli.scope import from_here, here, open_workspace
from dsbranch.cli.wording import columns, count_words, human_size, plural, short
from dsbranch.errors import UsageError
from dsbranch.model.changes import Progress
from dsbranch.model.overlays import Belonging, MountPlace, Overlay, OverlayPart
from dsbranch.model.views import Process

EXAMPLE = "dsbranch inspect /var/lib/containers/storage/overlay/ID/merged --changes"

TAIL = "[-- PATH...]"


def run(
    call: Call,
    mountpoint: Annotated[
        str | None,
        Argument(
            "MOUNTPOINT",
            help="Where an overlay is mounted, or anything in it; `-` reads what `docker inspect` "
            "or `podman inspect` writes; default: where you stand.",
        ),
    ] = None,
    all: Annotated[
        bool, Option("--all", help="Every overlay of this machine, in other namespaces, too.")
    ] = False,
    changes: Annotated[
        bool, Option("--changes", help="Show what its upper directory changed, as `diff` does.")
    ] = False,
    no_sizes: Annotated[
        bool, Option("--no-sizes", help="Do not walk the directories to tell their sizes.")
    ] = False,
    stat: Stat = False,
    name_status: NameStatus = False,
    null: Null = False,
    json: Json = False,
    no_renames: NoRenames = False,
    adopt: Annotated[
        str | None,
        Option(
            "--adopt",
            help="Make what a stopped container changed a commit on the new branch NAME.",
            metavar="NAME",
            parse=utf8,
        ),
    ] = None,
    message: NewMessage = None,
    no_mount: NoMount = False,
) -> None:
    """Explain an overlay mount or a container, dsbranch's or not.

    Shows the directories it consists of from the top down, and for each of dsbranch's which
    branch or commit it is. A container need not run: `podman inspect NAME | dsbranch inspect -`.
    Needs no workspace and writes nothing.

    With --changes: what the upper directory changed against the lowers, true to content, with
    renames and metadata. PATHs, counted from its root, limit that. All layers but the lowest are
    walked; of the lowest, only what they name is looked up.

    With --adopt: the workspace is found as by other verbs, and its dataset must be what the
    container lies on. The container stays as it is.
    """
    asked = form(stat=stat, name_status=name_status, null=null, json=json)
    if not changes and (asked not in ("listing", "json") or no_renames or call.paths):
        raise UsageError(
            "--stat, --name-status, -z, --no-renames and paths are about changes",
            hint="add `--changes`",
        )
    if all and (mountpoint is not None or changes):
        raise UsageError(
            "--all excludes " + ("--changes" if changes else "a mount point"),
            hint="`dsbranch inspect MOUNTPOINT --changes` shows those of one overlay",
        )
    if adopt is None and (message is not None or no_mount):
        raise UsageError("-m and --no-mount are about a new branch", hint="add `--adopt NAME`")
    if adopt is not None:
        if all or changes:
            raise UsageError(
                f"--adopt excludes {'--all' if all else '--changes'}",
                hint="`podman inspect NAME | dsbranch inspect - --adopt BRANCH`",
            )
        found = _inspected(mountpoint, None, sizes=False)
        _adopt(call, _only(found, "--adopt takes"), adopt, message, json=json, mount=not no_mount)
        return
    with drawn() as bar:
        sizes = not (changes or no_sizes)
        if all:
            found = workspace.inspect_all(sizes=sizes, progress=bar)
        else:
            found = _inspected(mountpoint, bar, sizes=sizes)
        if changes:
            _print_changes(found, call.paths, asked, bar, renames=not no_renames)
            return
    if json:
        render.as_json(shapes.overlays(found))
        return
    for number, overlay in enumerate(found):
        if number:
            render.line("")
        render.lines(_explained(overlay))
        for note in overlay.notes:
            render.note(note)
    if not found:
        render.note("no overlay is mounted that you can see")


def _inspected(mountpoint: str | None, bar: Progress | None, *, sizes: bool) -> list[Overlay]:
    if mountpoint == "-":
        return workspace.inspect_containers(sys.stdin.buffer.read(), sizes=sizes, progress=bar)
    place = here() if mountpoint is None else from_here(Path(mountpoint))
    return [workspace.inspect(place, sizes=sizes, progress=bar)]


def _print_changes(
    found: Sequence[Overlay],
    paths: Sequence[str],
    asked: Form,
    bar: Progress | None,
    *,
    renames: bool,
) -> None:
    overlay = _only(found, "--changes shows those of")
    wanted = [os.path.normpath(os.fsencode(path)).lstrip(b"/") for path in paths]
    wanted = [b"" if path == b"." else path for path in wanted]
    diff = workspace.overlay_changes(overlay, paths=wanted, renames=renames, progress=bar)
    print_diff(diff, asked, head={"overlay": shapes.overlay(overlay)})


def _only(found: Sequence[Overlay], what: str) -> Overlay:
    if len(found) != 1:
        raise UsageError(
            f"{what} one container, and the JSON describes {len(found)}",
            hint="name one container: `podman inspect NAME | dsbranch inspect -`",
        )
    return found[0]


def _adopt(
    call: Call, overlay: Overlay, name: str, message: str | None, *, json: bool, mount: bool
) -> None:
    with open_workspace(call) as workspace:
        done = workspace.adopt(name, overlay, message, mount=mount)
    assert done.commit is not None
    if json:
        render.as_json(shapes.applied(name, done))
        return
    subject = done.commit.message.partition("\n")[0]
    where = "" if done.mountpoint is None else f", mounted at {done.mountpoint}"
    head = f"[{name} {short(done.commit.id)}] {subject}"
    render.line(one_line(f"{head} ({count_words(done.counts)}){where}"))


def _explained(overlay: Overlay) -> Iterator[str]:
    yield one_line(overlay.name) + (", read-only" if overlay.read_only else "")
    rows = [("mounted", text) for text in _places(overlay.mounted)] or [("mounted", "no")]
    options = [f"{key}={value}" if value else key for key, value in overlay.options]
    rows.append(("xattrs", f"{overlay.dialect}.overlay.*"))
    if options:
        rows.append(("options", one_line(",".join(options))))
    for label, text in rows:
        yield f"  {label:<8} {text}"
    yield from _parts(overlay.parts)


def _places(places: Sequence[MountPlace]) -> Iterator[str]:
    """One text for each path: services that have a namespace of their own see what all see."""
    seen: dict[MountPlace, list[Process]] = {}
    for place in places:
        others = seen.setdefault(place._replace(process=None), [])
        if place.process is not None:
            others.append(place.process)
    here = {place for place in places if place.process is None}
    for place, others in seen.items():
        text = quote_path(os.fsencode(place.path)) + ("  (read-only)" if place.read_only else "")
        if place.root != Path("/"):
            text += f"  (only {quote_path(os.fsencode(place.root))} of it)"
        if others:
            count = plural(len(others), "other mount namespace")
            text += f"{', and' if place in here else ','} in {count}, as of process "
            text += f"{others[0].pid}: {one_line(others[0].command)}"
        yield text


def _parts(parts: Sequence[OverlayPart]) -> Iterator[str]:
    sizes = ["-" if part.bytes is None else human_size(part.bytes) for part in parts]
    counts = ["" if part.inodes is None else plural(part.inodes, "inode") for part in parts]
    wide = max(map(columns, sizes), default=0)
    many = max(map(columns, counts), default=0)
    for part, size, count in zip(parts, sizes, counts, strict=True):
        text = f"  {part.role:<8} {size:>{wide}}  {count:>{many}}  "
        text += quote_path(os.fsencode(part.path))
        if not part.found:
            text += "  (not found)"
        yield text
        if part.belongs is not None:
            yield " " * 11 + one_line(_belonging(part.belongs))


def _belonging(item: Belonging) -> str:
    where = f"of {item.workspace}"
    commit = "" if item.commit is None else short(item.commit)
    match item.what:
        case "dataset":
            return f"the dataset {where}"
        case "empty":
            return f"empty, as a read-only view {where} needs"
        case "open":
            return f"uncommitted changes of branch {item.branch} {where}"
        case "pending":
            return f"changes of branch {item.branch} {where} whose commit was undone"
        case "commit":
            subject = (item.message or "").partition("\n")[0]
            return f"commit {commit} {where}: {subject}"
        case "checkpoint":
            return f"a checkpoint down from commit {commit} {where}"
        case "view" if item.commit is not None:
            return f"in the mounted commit {commit} {where}"
        case "view":
            return f"in the mounted branch {item.branch or '?'} {where}"
        case _:
            return f"layer {item.layer} {where}, which no branch or commit has"

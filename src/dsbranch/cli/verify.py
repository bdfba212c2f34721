"""Room ``cli``: ``dsbranch verify``."""

from __future__ import annotations

from typing import Annotated

from dsbranch.cli import render
from dsbranch.cli.call import Call, Option
from dsbranch.cli.parameters import Json
from dsbranch.cli.quote import one_line, quote_path
from dsbranch.cli.scope import chosen_directory, here, open_workspace
from dsbranch.cli.wording import plural
from dsbranch.errors import IntegrityError
from dsbranch.model.health import Finding
from dsbranch.workspace import recover

EXAMPLE = "dsbranch verify --full"


def run(
    call: Call,
    full: Annotated[
        bool, Option("--full", help="Read every file, and compare its content, too.")
    ] = False,
    repair: Annotated[
        bool,
        Option(
            "--repair",
            help="First make again what can be: the database, manifests, indexes, workdirs.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Check that everything committed is as it was recorded.

    Each thing that is wrong is one line, and the exit code is then 5. Without --repair nothing is
    changed, and with it nothing deleted. The dataset is compared with what `seal` recorded of it;
    uncommitted changes are recorded nowhere.
    """
    recovered = recover(chosen_directory(call) or here()) if repair else None
    with open_workspace(call) as workspace:
        verified = workspace.verify(full=full, repair=repair)
    if recovered is not None:
        verified = verified._replace(repaired=(recovered, *verified.repaired))
    if json:
        from dsbranch.cli import shapes

        render.as_json(shapes.verified(verified))
    else:
        render.lines(map(_line, verified.findings))
    for done in verified.repaired:
        render.note(done)
    if verified.garbage:
        render.note(
            f"{plural(verified.garbage, 'directory belongs', 'directories belong')} to no layer;"
            " `dsbranch gc` removes what interrupted commands left"
        )
    dataset = verified.dataset
    found_in = {one.where for one in verified.findings}
    if dataset is None and not found_in & {"the dataset", "the store"}:
        render.note(
            "the dataset was never sealed, so nobody can tell whether it changed;"
            " `dsbranch seal` records what it is now"
        )
    if full and dataset is not None and dataset.undigested:
        render.note(
            f"{plural(dataset.undigested, 'file')} of the dataset"
            f" {'has' if dataset.undigested == 1 else 'have'} no recorded digest;"
            " `dsbranch seal --hash` adds it"
        )
    if full and verified.undigested:
        render.note(
            f"{plural(verified.undigested, 'file has', 'files have')} no recorded digest, so"
            f" {'its' if verified.undigested == 1 else 'their'} content was not compared;"
            " `dsbranch seal --hash` adds it"
        )
    entries = verified.entries + (dataset.seal.entries if dataset else 0)
    digested = verified.digested + (dataset.digested if dataset else 0)
    places = plural(verified.layers, "layer") + (" and the dataset" if dataset else "")
    checked = f"{places}, {plural(entries, 'entry', 'entries')}"
    if verified.findings:
        found = plural(len(verified.findings), "thing is not", "things are not")
        raise IntegrityError(
            f"{found} as recorded, in {checked}",
            hint="the lines above say what each means, and what can be saved",
        )
    if not json:
        content = f", {plural(digested, 'content')}" if full else ""
        render.line(f"{checked}{content} are as recorded")


def _line(item: Finding) -> str:
    path = "" if item.path is None else f" {quote_path(item.path or b'.')}:"
    return one_line(f"{item.where}:{path} {item.what}; {item.means}")

"""Room ``cli``: the arguments and options that several verbs share."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dsbranch.cli.completion import branch_names


def utf8(value: str | None) -> str | None:
    """Names and messages are text; only paths may be any bytes."""
    if value is not None and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise typer.BadParameter("it is not UTF-8") from None
    return value


def ref_argument(metavar: str, help: str) -> Any:
    """An argument that names a branch or another ref."""
    return typer.Argument(metavar=metavar, help=help, autocompletion=branch_names, callback=utf8)


def ref_option(flag: str, metavar: str, help: str) -> Any:
    """An option that names a branch or another ref."""
    return typer.Option(
        flag, metavar=metavar, help=help, autocompletion=branch_names, callback=utf8
    )


_IMPLIED = "default: the branch you stand in"

BranchName = Annotated[str | None, ref_argument("NAME", f"The branch; {_IMPLIED}.")]

Ref = Annotated[
    str | None,
    ref_argument("REF", f"A branch, tag, commit, REF~N or BRANCH@{{N}}; {_IMPLIED}."),
]

NewMessage = Annotated[
    str | None,
    typer.Option("-m", "--message", metavar="MSG", help="The new commit's message.", callback=utf8),
]

Wait = Annotated[
    float,
    typer.Option(
        "--wait",
        metavar="S",
        min=0,
        show_default=False,
        help="Wait up to S seconds for writers to finish; default: do not wait.",
    ),
]

Limit = Annotated[
    int | None, typer.Option("-n", metavar="N", min=0, help="Show at most N of them.")
]

Json = Annotated[bool, typer.Option("--json", help="Answer in JSON.")]

NoMount = Annotated[bool, typer.Option("--no-mount", help="Do not mount the branch.")]

Stat = Annotated[bool, typer.Option("--stat", help="Sizes and totals; whole trees in one line.")]

NameStatus = Annotated[
    bool, typer.Option("--name-status", help="Letter, tab, path; one change a line.")
]

Null = Annotated[
    bool, typer.Option("-z", help="As --name-status, unquoted, each field ended by NUL.")
]

NoRenames = Annotated[
    bool, typer.Option("--no-renames", help="Show renames as deletions and additions.")
]

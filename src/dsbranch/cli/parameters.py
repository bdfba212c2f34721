"""Room ``cli``: the arguments and options that several verbs share."""

from __future__ import annotations

from typing import Annotated

from dsbranch.cli.call import Argument, Offer, Option


def utf8(value: str) -> str:
    """Names and messages are text; only paths may be any bytes."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("it is not UTF-8") from None
    return value


def ref_argument(metavar: str, help: str, offer: Offer = "refs") -> Argument:
    """An argument that names a branch or another ref."""
    return Argument(metavar, help, offer=offer, parse=utf8)


def ref_option(flag: str, metavar: str, help: str, offer: Offer = "refs") -> Option:
    """An option that names a branch or another ref."""
    return Option(flag, help, metavar, offer=offer, parse=utf8)


_IMPLIED = "default: the branch you stand in"

BranchName = Annotated[str | None, ref_argument("NAME", f"The branch; {_IMPLIED}.", "branches")]

Ref = Annotated[
    str | None,
    ref_argument("REF", f"A branch, tag, commit, REF~N or BRANCH@{{N}}; {_IMPLIED}."),
]

NewMessage = Annotated[
    str | None,
    Option("-m --message", metavar="MSG", help="The new commit's message.", parse=utf8),
]

Wait = Annotated[
    float,
    Option(
        "--wait",
        metavar="S",
        minimum=0,
        show_default=False,
        help="Wait up to S seconds for writers to finish; default: do not wait.",
    ),
]

Limit = Annotated[int | None, Option("-n", metavar="N", minimum=0, help="Show at most N of them.")]

Json = Annotated[bool, Option("--json", help="Answer in JSON.")]

NoMount = Annotated[bool, Option("--no-mount", help="Do not mount the branch.")]

Stat = Annotated[bool, Option("--stat", help="Sizes and totals; whole trees in one line.")]

NameStatus = Annotated[bool, Option("--name-status", help="Letter, tab, path; one change a line.")]

Null = Annotated[bool, Option("-z", help="As --name-status, unquoted, each field ended by NUL.")]

NoRenames = Annotated[bool, Option("--no-renames", help="Show renames as deletions and additions.")]

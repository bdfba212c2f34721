"""Room ``cli``: what a verb declares that it takes, and what it is told of the call itself.

The ``run`` of a verb takes a `Call` and then parameters, each annotated with its type and an
`Argument` or `Option`. `dsbranch.cli.quick` reads well-formed calls by these declarations, and
`dsbranch.cli.typed` makes Typer's commands of them for everything else. A leaf of the room:
it knows neither, and importing it costs next to nothing.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, UnionType
from typing import Any, Literal, NamedTuple, get_args, get_origin


class Call(NamedTuple):
    """What ``-C`` named, and what stood behind ``--`` where a verb takes something there."""

    workspace: Path | None = None
    paths: tuple[str, ...] = ()


Parse = Callable[[str], Any]
"""Makes a value of a word, or raises ValueError with what is wrong with it."""

Offer = Literal["branches", "tags", "refs"]
"""Whose names the shell is offered for the beginning of a word."""


class Argument(NamedTuple):
    metavar: str
    help: str
    parse: Parse | None = None
    offer: Offer | None = None
    minimum: int | None = None


class Option(NamedTuple):
    """`flags` are one or two, with a space between them. `metavar` is None for what takes no value,
    and where the choices are named in its place."""

    flags: str
    help: str
    metavar: str | None = None
    parse: Parse | None = None
    offer: Offer | None = None
    minimum: int | None = None
    show_default: bool = True


class Parameter(NamedTuple):
    """`kind` is the type of one value; `many` of them make a list."""

    name: str
    kind: Any
    many: bool
    declared: Argument | Option
    required: bool
    default: Any


def parameters(run: Callable[..., Any]) -> Iterator[Parameter]:
    """What the ``run`` of a verb takes beside the `Call`, in its order."""
    names = run.__code__.co_varnames[1 : run.__code__.co_argcount]
    defaults = run.__defaults__ or ()
    first = len(names) - len(defaults)
    for number, name in enumerate(names):
        # typing.get_type_hints compiles them, and the first compile() of a process takes 2 ms.
        annotation = eval(run.__annotations__[name], run.__globals__)  # noqa: S307 - our own source
        kind, declared = get_args(annotation)
        if isinstance(kind, UnionType):
            kind = get_args(kind)[0]  # Kind | None
        many = get_origin(kind) is list
        required = number < first
        default = None if required else defaults[number - first]
        yield Parameter(
            name, get_args(kind)[0] if many else kind, many, declared, required, default
        )


def tail(verb: ModuleType) -> str | None:
    """What a verb takes behind ``--``, after its other arguments, as the help shows it: paths as
    git's do, or a command."""
    found: str | None = getattr(verb, "TAIL", None)
    return found

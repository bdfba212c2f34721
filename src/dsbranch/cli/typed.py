"""Room ``cli``: the verbs as Typer's commands, for help, refusals, completion, and calls that
`dsbranch.cli.quick` does not read.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer
import typer.main
from typer.core import TyperCommand, TyperGroup

from dsbranch import __version__
from dsbranch.cli import render
from dsbranch.cli.call import Argument, Call, Offer, Parameter, Parse, parameters, tail
from dsbranch.cli.perform import READER_GONE, perform
from dsbranch.cli.verbs import GROUPS, VERBS, module
from dsbranch.errors import Interrupted, UsageError

FIRST_WORDS = tuple(dict.fromkeys(verb.partition(" ")[0] for verb in VERBS))

_PATHS = "dsbranch.paths"

_Parameter = inspect.Parameter


class TailCommand(TyperCommand):
    """Sets aside what stands behind ``--``, which the parser would take for arguments."""

    tail = ""
    naming = ""
    """A flag to which a name may be tied, as in ``--new=NAME``, which Typer has no word for."""

    def _apart(self, word: str) -> list[str]:
        flag, equals, name = word.partition("=")
        return [flag, name] if equals and flag == self.naming else [word]

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if "--" in args:
            split = args.index("--")
            ctx.meta[_PATHS] = args[split + 1 :]
            args = args[:split]
        if self.naming:
            args = [word for arg in args for word in self._apart(arg)]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        return [*super().collect_usage_pieces(ctx), self.tail]


class Program(TyperGroup):
    """Makes a verb when it is asked for."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings | {"commands": dict.fromkeys(FIRST_WORDS)})

    def get_command(self, ctx: Any, name: str) -> Any:
        if name in FIRST_WORDS and not self.commands[name]:
            self.commands[name] = command(name)
        return super().get_command(ctx, name)


app = typer.Typer(
    cls=Program,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        render.line(f"dsbranch {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def program(
    ctx: typer.Context,
    workspace: Annotated[  # noqa: ARG001 - `_call` reads it from the context
        Path | None,
        typer.Option(
            "-C",
            "--workspace",
            metavar="DIR",
            help="The workspace, or a directory in it; default: found upward from where you are.",
        ),
    ] = None,
    version: Annotated[  # noqa: ARG001 - its callback has answered
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_version, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Git-like branches for large datasets, on the Linux kernel's own OverlayFS.

    A dataset is adopted where it lies and never written again; a branch of it is a mount that
    costs milliseconds and no bytes. `dsbranch demo` shows it all.
    """
    if ctx.invoked_subcommand is None:
        render.usage(ctx.get_help())
        raise typer.Exit(2)


def run(words: Sequence[str]) -> int:
    """Do what a command line without the program's name asks for, and give the exit code.

    :raises UsageError: it asks for nothing that there is
    """
    try:
        code = app(list(words), prog_name="dsbranch", standalone_mode=False)
        render.flush()
    except typer.Abort:
        raise KeyboardInterrupt from None
    except BrokenPipeError:
        return READER_GONE
    except OSError:
        # If these are Typer's own words, they wait to be written still, and it says where to.
        render.flush()
        raise
    except SystemExit as end:
        # What Typer makes of a pipe whose reader is gone; completion has others.
        if isinstance(end.__context__, BrokenPipeError):
            return READER_GONE
        raise
    except typer.TyperException as error:
        message = error.format_message().rstrip(".").replace("\n\t", " ").replace("\n", " ")
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "dsbranch"
        raise UsageError(
            message[:1].lower() + message[1:], hint=f"`{path} --help` shows how it is called"
        ) from None
    if code == Interrupted.exit_code:
        # What Typer makes of a Ctrl-C, without a word. No verb returns that.
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


def command(word: str) -> TyperCommand | TyperGroup:
    """The command that is called by `word`, one of `FIRST_WORDS`, or the group of those that are
    called by it and another one."""
    made = typer.Typer(
        name=word, help=GROUPS.get(word), add_completion=False, rich_markup_mode=None
    )
    if word in GROUPS:
        made.callback()(_nothing)
    for verb in VERBS:
        first, _, second = verb.partition(" ")
        if first == word:
            found = module(verb)
            made.command(
                second or first,
                cls=_class(found),
                help=inspect.cleandoc(found.run.__doc__),
                short_help=found.run.__doc__.splitlines()[0],
                epilog=f"Example: {found.EXAMPLE}",
            )(_callback(found))
    command = typer.main.get_command(made)
    assert isinstance(command, TyperCommand | TyperGroup)
    return command


def _class(verb: ModuleType) -> type[TyperCommand]:
    if tail(verb) is None:
        return TyperCommand
    settings = {"tail": tail(verb), "naming": getattr(verb, "NAMING", "")}
    return type("Command", (TailCommand,), settings)


def _nothing() -> None:
    """What a group does before its command."""


def _callback(verb: ModuleType) -> Callable[..., int | None]:
    """What Typer calls with the values of a verb; it reads its signature to know them."""

    def callback(ctx: typer.Context, **values: Any) -> int | None:
        return perform(verb.run, _call(ctx), values)

    taken = [_Parameter("ctx", _Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    for item in parameters(verb.run):
        default = _Parameter.empty if item.required else item.default
        taken.append(
            _Parameter(
                item.name, _Parameter.KEYWORD_ONLY, default=default, annotation=_annotation(item)
            )
        )
    callback.__signature__ = inspect.Signature(taken)  # type: ignore[attr-defined]
    callback.__annotations__ = {item.name: item.annotation for item in taken}
    return callback


def _call(ctx: typer.Context) -> Call:
    return Call(ctx.find_root().params["workspace"], tuple(ctx.meta.get(_PATHS, ())))


def _annotation(parameter: Parameter) -> Any:
    declared = parameter.declared
    settings: dict[str, Any] = {
        "help": declared.help,
        "metavar": declared.metavar,
        "min": declared.minimum,
        "callback": declared.parse and _checked(declared.parse),
        "autocompletion": declared.offer and _completed(declared.offer),
    }
    kind = str if declared.parse else parameter.kind
    if parameter.many:
        kind = list[kind]  # type: ignore[valid-type]
    if not parameter.required and parameter.default is None:
        kind = kind | None
    if isinstance(declared, Argument):
        return Annotated[kind, typer.Argument(**settings)]
    settings["show_default"] = declared.show_default
    return Annotated[kind, typer.Option(*declared.flags.split(), **settings)]


def _checked(parse: Parse) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        try:
            return list(map(parse, value)) if isinstance(value, list) else value and parse(value)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    return check


def _completed(offer: Offer) -> Callable[[typer.Context, str], list[str]]:
    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        from dsbranch.cli.completion import names

        return names(_call(ctx), offer, incomplete)

    return complete

"""Room ``cli``: reads a well-formed call without Typer, whose import takes longer than most verbs.

Pure. Whatever there is to be said about a call, help and refusals among it, is Typer's to say:
`read` gives None for it, as for the rarer ways of writing one (``-Cdir``, ``-nz``). A test holds
both to the same answers.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dsbranch.cli.call import Argument, Call, Option, Parameter, parameters, tail
from dsbranch.cli.verbs import GROUPS, VERBS, module


class Ready(NamedTuple):
    """A verb's ``run``, and what it is to be called with."""

    run: Callable[..., int | None]
    call: Call
    values: dict[str, Any]


class _Unclear(Exception):
    pass


def read(words: Sequence[str]) -> Ready | None:
    """What a command line without the program's name asks for, or None."""
    rest = list(words)
    workspace = None
    while len(rest) > 1 and rest[0] in ("-C", "--workspace"):
        workspace = Path(rest[1])
        del rest[:2]
    length = 2 if rest[:1] and rest[0] in GROUPS else 1
    verb = " ".join(rest[:length])
    if verb not in VERBS:
        return None
    found = module(verb)
    del rest[:length]
    paths: list[str] = []
    if "--" in rest:
        if tail(found) is None:
            return None
        split = rest.index("--")
        paths = rest[split + 1 :]
        del rest[split:]
    try:
        values = _values(list(parameters(found.run)), rest)
    except (_Unclear, ValueError):
        return None
    return Ready(found.run, Call(workspace, tuple(paths)), values)


def _values(declared: Sequence[Parameter], words: Iterable[str]) -> dict[str, Any]:
    options = {
        flag: parameter
        for parameter in declared
        if isinstance(parameter.declared, Option)
        for flag in parameter.declared.flags.split()
    }
    given: dict[str, list[Any]] = {}
    plain: list[str] = []
    left = iter(words)
    for word in left:
        name, equals, value = word.partition("=")
        if word == "-" or not word.startswith("-"):
            plain.append(word)
        elif word in options and options[word].kind is bool:
            given[options[word].name] = [True]
        elif word in options:
            _add(given, options[word], next(left, None))
        elif equals and name.startswith("--") and name in options:
            _add(given, options[name], value)
        else:
            raise _Unclear
    for parameter in declared:
        if isinstance(parameter.declared, Argument):
            taken = len(plain) if parameter.many else 1
            for word in plain[:taken]:
                _add(given, parameter, word)
            del plain[:taken]
    if plain:
        raise _Unclear
    return {parameter.name: _value(parameter, given) for parameter in declared}


def _add(given: dict[str, list[Any]], parameter: Parameter, word: str | None) -> None:
    if word is None or parameter.kind is bool:
        raise _Unclear
    given.setdefault(parameter.name, []).append(_made(parameter, word))


def _made(parameter: Parameter, word: str) -> Any:
    kind, declared = parameter.kind, parameter.declared
    if declared.parse is not None:
        return declared.parse(word)
    if kind in (int, float):
        if not (word.isascii() and word.isdecimal()):
            raise _Unclear
        if declared.minimum is not None and kind(word) < declared.minimum:
            raise _Unclear
    return kind(word)


def _value(parameter: Parameter, given: dict[str, list[Any]]) -> Any:
    made = given.get(parameter.name)
    if made is None and parameter.required:
        raise _Unclear
    if made is None:
        return parameter.default
    return made if parameter.many else made[-1]

"""Room ``cli``: commands whose parameters take a plain value as it is.

Typer hands every value to pydantic, be it None or text that stays text, and importing that
takes longer than most verbs. What needs no more than a constructor is made here; all else, and
every value that is refused, goes Typer's way, with its messages.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

_ELSE = object()


class DirectCommand(TyperCommand):
    def get_params(self, ctx: Any) -> list[Any]:
        return _taking_directly(super().get_params(ctx))


class DirectGroup(TyperGroup):
    def get_params(self, ctx: Any) -> list[Any]:
        return _taking_directly(super().get_params(ctx))


def _taking_directly(params: list[Any]) -> list[Any]:
    """The parameters of a command, made to leave out Typer's conversion where it changes nothing.

    Versions of Typer that describe types in another way have nothing to be spared.
    """
    for param in params:
        if hasattr(param, "type_descriptor"):
            vars(param).setdefault("process_value", _process(param))
    return params


def _process(param: TyperArgument | TyperOption) -> Callable[[Any, Any], Any]:
    convert = param.process_value

    def process(ctx: Any, value: Any) -> Any:
        made = _made(param, value)
        if made is _ELSE:
            return convert(ctx, value)
        return made if param.callback is None else param.callback(ctx, param, made)

    return process


def _made(param: TyperArgument | TyperOption, value: Any) -> Any:
    """The value of a parameter, if it takes no judgement."""
    kind = param.type_descriptor.annotation
    many = param.nargs != 1 or getattr(param, "multiple", False)
    if value is None or (many and not value):
        nothing = () if many else None
        return _ELSE if param.required else nothing
    if many:
        return value if kind == list[str] else _ELSE
    if isinstance(kind, type) and isinstance(value, kind):
        return value
    if kind is Path:
        return Path(value)
    if kind in (int, float) and str(value).isascii() and str(value).isdecimal():
        number = kind(value)
        low, high = param.min, param.max
        if (low is None or number >= low) and (high is None or number <= high):
            return number
    return _ELSE

"""Room ``cli``: prints a diff in the form that the options of ``diff`` and ``show`` ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from dsbranch.cli import changes, render, shapes
from dsbranch.errors import UsageError

if TYPE_CHECKING:
    from dsbranch import Diff

Form = Literal["listing", "stat", "name-status", "z", "json", "json-stat"]


def form(*, stat: bool, name_status: bool, null: bool, json: bool) -> Form:
    """:raises UsageError: options that exclude each other"""
    if json:
        if name_status or null:
            raise UsageError("--json excludes --name-status and -z")
        return "json-stat" if stat else "json"
    if stat:
        if name_status or null:
            raise UsageError("--stat excludes --name-status and -z")
        return "stat"
    if null:
        return "z"
    return "name-status" if name_status else "listing"


def print_diff(diff: Diff, form: Form, *, head: dict[str, Any] | None = None) -> None:
    """`head` is put before the JSON's own fields."""
    if form == "listing":
        render.lines(changes.listing(diff, render.paint_letter))
    elif form == "stat":
        render.lines(changes.stat(diff, render.paint_letter))
    elif form == "name-status":
        render.lines(changes.name_status(diff))
    elif form == "z":
        render.chunks(changes.raw(diff))
    else:
        first = shapes.SCHEMA | (head or {}) | {"from": diff.from_, "to": diff.to}
        if form == "json":
            render.as_json_list(first, "changes", map(shapes.change, diff))
        else:
            render.as_json(first | shapes.totals(changes.totals_of(diff)))

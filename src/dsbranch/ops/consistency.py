"""Whether what the store says fits together. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from dsbranch.model.facts import Branch, Checkpoint, Commit
from dsbranch.model.health import Finding
from dsbranch.model.history import History
from dsbranch.ops.refs import SHORT

_LOST = "what it names cannot be shown; a backup of `.dsbranch/store.db` may still have it"
_DISPOSABLE = "only mounts use it, not history: nothing is lost"


def contradictions(history: History) -> Iterator[Finding]:
    """What is wrong with the rows of the store."""
    for commit in history.commits.values():
        yield from _commit(history, commit)
    roots = [id for id, commit in history.commits.items() if not commit.parents]
    if len(roots) != 1:
        yield Finding("the store", None, f"it has {len(roots)} root commits instead of one", _LOST)
    for branch in history.branches:
        yield from _branch(history, branch)
    for tag in history.tags:
        yield from _exists(history, f"tag {tag.name}", [tag.commit])
    for checkpoint in history.checkpoints:
        yield from _checkpoint(history, checkpoint)


def span(history: History, checkpoint: Checkpoint) -> list[Commit] | None:
    """The commits that a checkpoint stands for, newest first; None: they do not connect."""
    found: list[Commit] = []
    id = checkpoint.top
    while id != checkpoint.bottom:
        commit = history.commits.get(id)
        if commit is None or not commit.parents or commit.layer is None:
            return None
        found.append(commit)
        id = commit.parents[0]
    return found if len(found) == checkpoint.span and id in history.commits else None


def name_of(commit: Commit) -> str:
    return f"commit {commit.id[:SHORT]}"


def _commit(history: History, commit: Commit) -> Iterator[Finding]:
    where = name_of(commit)
    yield from _exists(history, where, commit.parents)
    if bool(commit.parents) != (commit.layer is not None):
        yield Finding(where, None, "it has a parent or a layer, but not both", _LOST)
    if commit.layer is not None:
        yield from _layers(history, where, [commit.layer], "sealed")


def _branch(history: History, branch: Branch) -> Iterator[Finding]:
    where = f"branch {branch.name}"
    yield from _exists(history, where, [branch.head, branch.fork])
    yield from _layers(history, where, [branch.layer], "open")
    yield from _layers(history, where, branch.pending, "sealed")


def _checkpoint(history: History, checkpoint: Checkpoint) -> Iterator[Finding]:
    where = f"checkpoint {checkpoint.layer}"
    yield from _layers(history, where, checkpoint.layers, "sealed")
    if span(history, checkpoint) is None:
        what = f"it does not stand for {checkpoint.span} commits down from {checkpoint.top[:SHORT]}"
        yield Finding(where, None, what, _DISPOSABLE)


def _exists(history: History, where: str, ids: tuple[str, ...] | list[str]) -> Iterator[Finding]:
    for id in ids:
        if id not in history.commits:
            yield Finding(where, None, f"commit {id[:SHORT]} is not in the store", _LOST)


def _layers(
    history: History, where: str, ids: tuple[str, ...] | list[str], state: str
) -> Iterator[Finding]:
    for id in ids:
        layer = history.layers.get(id)
        if layer is None:
            yield Finding(where, None, f"its layer {id} is not in the store", _LOST)
        elif layer.state != state:
            yield Finding(where, None, f"its layer {id} is {layer.state}, not {state}", _LOST)

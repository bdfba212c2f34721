"""A workspace that answers from a script and remembers what it was asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from dsbranch.model.changes import Change
from dsbranch.model.mounts import BranchInfo


class FakeDiff:
    def __init__(self, *changes: Change, pending: str | None = None) -> None:
        self.changes = changes
        self.from_ = "main"
        self.to = "exp1"
        self.pending = pending

    def __iter__(self) -> Iterator[Change]:
        return iter(self.changes)

    def counts(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for change in self.changes:
            counts[change.status] = counts.get(change.status, 0) + 1
        return counts


class FakeWorkspace:
    """`answers` holds what each method returns, or the exception it raises; `asked` the calls."""

    root = Path("/ws")
    base = Path("/data")
    notes: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {"list": [], "current_branch": None, "last_words": None}
        self.asked: list[tuple[Any, ...]] = []
        self.start: Path | None = None

    def opened_at(self, start: Path) -> FakeWorkspace:
        self.start = start
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def branch_at(self, name: str, mountpoint: Path | None) -> None:
        self.answers["list"].append(
            BranchInfo(name, "a" * 40, mountpoint is not None, mountpoint, depth=1)
        )

    def __getattr__(self, name: str) -> Any:
        def method(*arguments: Any, **keywords: Any) -> Any:
            if name not in ("list", "current_branch", "last_words"):
                self.asked.append((name, *arguments, keywords))
            answer = self.answers[name]
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return method

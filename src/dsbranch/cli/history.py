"""Room ``cli``: a commit as lines of text, as git shows it. Pure; prints nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dsbranch.cli.quote import one_line
from dsbranch.cli.wording import local_time, short
from dsbranch.model.facts import Commit


def full(commit: Commit, paint: Callable[[str], str]) -> Iterator[str]:
    yield paint(f"commit {commit.id}")
    if len(commit.parents) > 1:
        yield f"Merge:  {' '.join(map(short, commit.parents))}"
    yield f"Author: {one_line(commit.author)}"
    yield f"Date:   {local_time(commit.time_ns)}"
    yield ""
    for line in commit.message.splitlines() or [""]:
        yield f"    {one_line(line.expandtabs())}".rstrip()


def oneline(commit: Commit, paint: Callable[[str], str]) -> str:
    subject = commit.message.split("\n", 1)[0]
    return f"{paint(short(commit.id))} {one_line(subject)}"

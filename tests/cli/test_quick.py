"""What is read without Typer is what Typer would have made of it."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsbranch.cli import typed
from dsbranch.cli.call import Call, Option, parameters
from dsbranch.cli.quick import Ready, read
from dsbranch.cli.verbs import GROUPS, VERBS, module
from dsbranch.errors import UsageError


def by_typer(words: Sequence[str]) -> Ready | str:
    """What Typer would call, or its refusal."""
    asked: list[Ready] = []

    def note(run: Callable[..., int | None], call: Call, values: dict[str, Any]) -> int:
        asked.append(Ready(run, call, values))
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typed, "perform", note)
        try:
            typed.run(words)
        except UsageError as error:
            return str(error)
    (ready,) = asked
    return ready


def plain(ready: Ready | str | None) -> object:
    """With the types of all values, since 1 == 1.0 == True."""
    if not isinstance(ready, Ready):
        return ready
    return ready.run, ready.call, sorted((k, v, type(v)) for k, v in ready.values.items())


WELL_FORMED = [
    "status",
    "-C ws status exp",
    "--workspace /x/../y list --json",
    "-C '' status",
    "-C a -C b status",
    "init data",
    "init data ws --no-mount",
    "create exp --from main --json",
    "create '' --from ''",
    "create größe",
    "commit exp -m 'a message' --no-hash",
    "commit exp --message=one=two --wait 3",
    "commit -m -x",
    "commit -m a -m b",
    "diff",
    "diff a b --stat -- x -y --",
    "diff a..b -z --",
    "log exp -n 03 --graph",
    "merge exp --strategy theirs",
    "merge exp --prefer 'a=ours' --prefer 'b=c=theirs'",
    "undo",
    "undo 3 --dry-run",
    "op log exp -n 5",
    "restore a b --from exp~2",
    "export a..b -o x.tar",
    "mount --all",
    "mount exp --at relative",
    "rename old new",
    "rename new",
    "du",
    "du a b",
    "gc --keep 2w",
    "demo",
    "doctor",
    "doctor there --base data --json",
]


@pytest.mark.parametrize("line", WELL_FORMED)
def test_a_well_formed_call(line: str) -> None:
    words = shlex.split(line)
    ready = read(words)
    assert ready is not None
    assert plain(ready) == plain(by_typer(words))


@pytest.mark.parametrize("verb", VERBS)
def test_the_example_of_each_verb(verb: str) -> None:
    words = shlex.split(module(verb).EXAMPLE.removeprefix("sudo "))[1:]
    ready = read(words)
    assert ready is not None
    assert plain(ready) == plain(by_typer(words))


NOT_READ = [
    "",
    "-h",
    "--version",
    "comit",
    "op",
    "op nope",
    "-C",
    "-Cdir status",
    "status --help",
    "status --nope",
    "status a b",
    "status \udcff",
    "create",
    "create -- x",
    "commit -m",
    "commit --no-hash=yes",
    "commit --wait -1",
    "commit --wait nan",
    "commit --wait ٣",
    "log -n5",
    "log -n 2.0",
    "diff -zh",
    "undo 0",
    "export a",
    "merge a --strategy neither",
    "merge a --prefer nothing",
    "gc --keep forever",
]


@pytest.mark.parametrize("line", NOT_READ)
def test_what_there_is_something_to_say_about(line: str) -> None:
    assert read(shlex.split(line)) is None


def words_of(verb: str) -> st.SearchStrategy[list[str]]:
    flags = [
        flag
        for parameter in parameters(module(verb).run)
        if isinstance(parameter.declared, Option)
        for flag in parameter.declared.flags.split()
    ]
    values = ["", "-", "--", "a", "7", "-1", "1.5", "ours", "x=ours", "3d", "é", "\udcff", "-m"]
    word = st.sampled_from([*flags, *(flag + "=" for flag in flags), *values])
    joined = st.tuples(st.sampled_from([*flags, "a"]), st.sampled_from(values)).map("=".join)
    return st.lists(word | joined, max_size=5).map(lambda words: [*verb.split(), *words])


@given(st.sampled_from(VERBS).flatmap(words_of))
def test_any_words(words: list[str]) -> None:
    ready = read(words)
    if ready is not None:
        assert plain(ready) == plain(by_typer(words))


def test_groups_are_the_first_words_of_verbs_of_two() -> None:
    assert set(GROUPS) == {verb.split()[0] for verb in VERBS if " " in verb}


def test_a_well_formed_call_does_without_typer() -> None:
    code = """
import sys
from dsbranch.cli import main
sys.argv = ["dsbranch", "-C", "/proc", "status", "exp", "--json"]
print(main(), "typer" in sys.modules, "pydantic" in sys.modules)
sys.argv.append("--nope")
print(main(), "typer" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["2 False False", "2 True"]

"""The core by itself, against what the system's own tools need for the same work."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from benchmarks.conftest import Comparison, Data, command, edit
from dsbranch._core.algebra import changes
from dsbranch._core.base import Base
from dsbranch._core.build import build
from dsbranch._core.content import digest_files
from dsbranch._core.scan import scan
from dsbranch._core.seal import strip
from dsbranch._core.squash import plan
from dsbranch._core.table import Table
from dsbranch._core.view import View
from tests import tables
from tests.overlays import Overlay

LAYERS = 10
DEEP = 100
THREADS = "2"  # as many as the core starts


@pytest.mark.parametrize("xattrs", [False, True], ids=["bare", "xattrs"])
def test_walk(data: Data, compare: Comparison, xattrs: bool) -> None:
    root = data.base / "small"
    compare(
        f"walk, {'with' if xattrs else 'without'} xattrs",
        lambda: scan(os.fsencode(root), xattrs=xattrs),
        {
            "`find -printf '%s %T@ %m %i'`": command("find", root, "-printf", "%s %T@ %m %i\n"),
            "`du`": command("du", "-s", root),
        },
        amount=len(data.small) / 1e3,
        unit="k files",
    )


@pytest.mark.parametrize("size", ["small", "large"])
def test_hash(data: Data, compare: Comparison, size: str) -> None:
    paths = data.small if size == "small" else data.large
    names = data.place / f"{size}.names"
    names.write_bytes(b"".join(os.fsencode(data.base / path) + b"\0" for path in paths))
    at_once = str(max(1, min(500, len(paths) // 8)))
    xargs = ["xargs", "-0", "-P", THREADS, "-n", at_once, "-a", names]
    floors: dict[str, Callable[[], None]] = {f"`xargs -P{THREADS} cat`": command(*xargs, "cat")}
    if shutil.which("xxhsum"):
        floors[f"`xargs -P{THREADS} xxhsum -H2`"] = command(*xargs, "xxhsum", "-H2")
    compare(
        f"hash {size} files, warm",
        digest_files,
        floors,
        prepare=lambda: [scan(os.fsencode(data.base / size))],
        amount=(data.small_bytes if size == "small" else data.large_bytes) / 1e9,
        unit="GB",
    )


@pytest.fixture(scope="module")
def stack(data: Data, needs_mounts: None) -> Overlay:  # noqa: ARG001 - asked for its effect
    """Layers as a kernel writes them, newest first, each with its own edits of the dataset."""
    with Overlay(data.place, None) as overlay:
        for number in range(LAYERS):
            edit(overlay.mountpoint, data, number, data.edits)
            overlay.freeze()
    for layer in overlay.lowers:
        strip(scan(os.fsencode(layer)))
    return overlay


def test_changes(data: Data, stack: Overlay, compare: Comparison) -> None:
    """All that a diff of an open layer does, from its directory to the list of changes."""
    layer = stack.lowers[-1]
    copied = [path for path in data.small if (layer / path).is_file()]
    both = [os.fsencode(side / path) for path in copied for side in (data.base, layer)]
    names = data.place / "copied.names"
    names.write_bytes(b"".join(path + b"\0" for path in both))

    def diff() -> None:
        base = Base(os.fsencode(data.base))
        found = changes(View([], base), View([scan(os.fsencode(layer))], base))
        assert len(found) == data.edits

    floors = {
        "`find` in the layer": command("find", layer, "-printf", "%s %T@ %m %i\n"),
        "`cat` of both sides": command("xargs", "-0", "-a", names, "cat"),
    }
    with Overlay(data.place, None, lowers=(layer,)) as mounted:
        if shutil.which("rsync"):
            sides = [f"{mounted.mountpoint}/", f"{data.base}/"]
            floors["`rsync -na` of everything"] = command("rsync", "-na", "--delete", *sides)
        compare(
            f"changes of {data.edits:,} edits",
            diff,
            floors,
            amount=data.edits / 1e3,
            unit="k edits",
        )


def test_squash(data: Data, stack: Overlay, compare: Comparison) -> None:
    """Plan and build; reading the manifests before and writing one after are not in it."""
    tables = [scan(os.fsencode(layer)) for layer in stack.lowers]
    numbers = count()

    def fresh() -> list[Path]:
        target = data.place / f"squashed-{next(numbers)}"
        target.mkdir()
        return [target]

    def run(target: Path) -> None:
        steps = plan(tables, [], Base(os.fsencode(data.base)))
        build(steps, os.fsencode(target))

    def copy() -> None:
        command("cp", "-al", *(f"{layer}/." for layer in reversed(stack.lowers)), *fresh())()

    compare(
        f"squash {LAYERS} layers of {data.edits:,}",
        run,
        {"`cp -al` of the layers": copy},
        prepare=fresh,
        amount=sum(len(table) for table in tables) / 1e3,
        unit="k entries",
    )


# The algebra by itself: no file is read. Each is compared with a fourth of it: 4 is linear.


def made(count: int, *, edition: int = 0, home: str = "d", at: int = 0, of: int = 1) -> Table:
    """`count` files with digests, 1,000 to a directory; every hundredth is of an `edition`.

    The tables `at` different places `of` several have no name in common.
    """
    rows = [tables.entry(b"", "directory")]
    for number in range(count):
        if number % 1000 == 0:
            directory = f"{home}{number // 1000:06}".encode()
            rows.append(tables.entry(directory, "directory"))
        content = number * 64 + (edition if number % 100 == 0 else 0)
        path = b"%s/%07d.jpg" % (directory, number * of + at)
        rows.append(tables.entry(path, size=4096, digest=content.to_bytes(16, "little")))
    return tables.table(rows)


@pytest.fixture(scope="module")
def entries(request: pytest.FixtureRequest) -> int:
    """How many there are in a view: five times `--files`."""
    return 5 * request.config.getoption("--files")


def against_a_fourth(
    compare: Comparison, what: str, entries: int, make: Callable[[int], Callable[[], int]]
) -> None:
    whole, fourth = make(entries), make(entries // 4)
    assert whole() >= fourth() > 0
    compare(what, whole, {"a fourth of it": fourth}, amount=entries / 1e3, unit="k entries")


def test_changes_of_two_tables(entries: int, compare: Comparison) -> None:
    def make(count: int) -> Callable[[], int]:
        old, new = View([made(count)]), View([made(count, edition=1)])
        return lambda: len(changes(old, new))

    what = f"changes of two tables of {entries:,}, 1 in 100 differs"
    against_a_fourth(compare, what, entries, make)


def test_changes_on_top_of_a_shared_table(entries: int, compare: Comparison) -> None:
    def make(count: int) -> Callable[[], int]:
        shared = made(count)
        old, new = View([shared]), View([made(count // 100, edition=1, at=1), shared])
        return lambda: len(changes(old, new))

    what = f"changes of {entries // 100:,} files over {entries:,} shared"
    against_a_fourth(compare, what, entries, make)


@pytest.mark.parametrize("names", ["distinct", "alike"])
def test_resolve(entries: int, compare: Comparison, names: str) -> None:
    def make(count: int) -> Callable[[], int]:
        of = DEEP if names == "distinct" else 1
        view = View([made(count // DEEP, at=at % of, of=of) for at in range(DEEP)])
        return lambda: sum(1 for _ in view.tree(b""))

    what = f"a view of {DEEP} layers of {entries // DEEP:,}, names {names}"
    against_a_fourth(compare, what, entries, make)


def test_renames(entries: int, compare: Comparison) -> None:
    def make(count: int) -> Callable[[], int]:
        old, new = View([made(count, home="old")]), View([made(count, home="new")])
        return lambda: changes(old, new).counts()["R"]

    against_a_fourth(compare, f"renames of {entries:,} files", entries, make)

"""What is gone through is made on the way: a million entries never become a million objects."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from dsbranch._core.algebra import changes
from dsbranch._core.content import compare_files
from dsbranch._core.scan import scan
from dsbranch._core.squash import plan
from dsbranch._core.table import Table
from dsbranch._core.view import View
from dsbranch.ops.archive.items import plan_full
from tests._core.test_table import columns
from tests.tables import from_columns

ENTRIES = 20_000


def peak(make: Callable[[], Iterable[object]]) -> tuple[int, int]:
    """How many things it makes, and how many bytes of objects exist at once meanwhile."""
    tracemalloc.start()
    try:
        count = sum(1 for _ in make())
        return count, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def table() -> Table:
    rows = [(b"%05d" % number, "file") for number in range(ENTRIES)]
    return from_columns(columns([(b"", "directory"), *rows]))


def test_the_steps_of_a_squash(table: Table) -> None:
    below = from_columns(columns([(b"", "directory")]))
    count, most = peak(lambda: plan([table], [below], None))
    assert count == ENTRIES + 1
    assert most < ENTRIES


def test_a_plan_can_be_gone_through_again(table: Table) -> None:
    steps = plan([table], [from_columns(columns([(b"", "directory")]))], None)
    first = [(step.action, step.path, step.source) for step in steps]
    assert [(step.action, step.path, step.source) for step in steps] == first
    assert len(first) == ENTRIES + 1


def test_the_items_of_an_archive(table: Table) -> None:
    deltas = changes(None, View([table]))
    count, most = peak(lambda: plan_full(deltas))
    assert count == ENTRIES + 1
    assert most < ENTRIES


def test_the_inodes_of_a_scan(tmp_path: Path) -> None:
    for number in range(2000):
        (tmp_path / f"{number}").touch()
        os.link(tmp_path / f"{number}", tmp_path / f"{number}-again")
    tables: list[Table] = []
    _, most = peak(lambda: tables.append(scan(os.fsencode(tmp_path))) or ())
    (found,) = tables
    assert {found.entry(row).nlink_group for row in range(1, len(found))} == set(range(1, 2001))
    assert most < 2000 * 32


def test_questions_about_contents(tmp_path: Path) -> None:
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(content)
    found = scan(os.fsencode(tmp_path))
    told: list[tuple[int, int | None, int]] = []

    def questions() -> Iterator[tuple[Table, int, Table, int]]:
        for number in range(ENTRIES):
            yield found, 1, found, 2 + number % 2

    answers = compare_files(
        questions(), total=ENTRIES, threads=2, progress=lambda *facts: told.append(facts)
    )
    assert answers == [True, False] * (ENTRIES // 2)
    assert told[-1][:2] == (ENTRIES, ENTRIES)
    assert told == sorted(told)

"""Tables through columns and back, and the malformed columns that must be refused."""

from __future__ import annotations

import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dsbranch._core.columnar import to_columns
from dsbranch._core.columns import Columns
from dsbranch._core.digest import digest_bytes
from dsbranch._core.table import KINDS, Table
from tests import core, trees
from tests import edits as e
from tests.cases import BASE, LONG, MANY
from tests.tables import from_columns
from tests.trees import Dir, File

Row = tuple[bytes, str]


def columns(rows: list[Row], **changed: Any) -> Columns:
    """Columns of bare rows, path and kind; `changed` replaces whole columns."""
    n = len(rows)
    offsets = [0]
    for path, _ in rows:
        offsets.append(offsets[-1] + len(path))
    nothing = struct.pack(f"<{n + 1}q", *[0] * (n + 1))
    values: dict[str, Any] = {
        "length": n,
        "path_offsets": struct.pack(f"<{n + 1}q", *offsets),
        "path_data": b"".join(path for path, _ in rows),
        "kind": bytes(KINDS.index(kind) for _, kind in rows),
        "flags": bytes(n),
        "mode": bytes(2 * n),
        **{name: bytes(4 * n) for name in ("uid", "gid", "nlink_group")},
        **{name: bytes(8 * n) for name in ("rdev", "size", "mtime_ns")},
        **{name: bytes(16 * n) for name in ("xattrs", "digest")},
        **{f"{name}_offsets": nothing for name in ("target", "redirect", "origin")},
        **{f"{name}_data": b"" for name in ("target", "redirect", "origin")},
        **{
            f"{name}_valid": bytes(n)
            for name in ("target", "redirect", "origin", "xattrs", "digest")
        },
    }
    return Columns(**{**values, **changed})


GOOD: list[Row] = [
    (b"", "directory"),
    (b"a", "directory"),
    (b"a/b", "directory"),
    (b"a/b/c", "file"),
    (b"a/d", "whiteout"),
    (b"a\x01", "file"),
    (b"a-b", "fifo"),
]


def test_good_rows_are_taken() -> None:
    table = from_columns(columns(GOOD))
    assert [(entry.path, entry.kind) for entry in core.entries(table)] == GOOD


@pytest.mark.parametrize("tree", [BASE, MANY, LONG, Dir()], ids=["base", "names", "long", "empty"])
def test_there_and_back(tree: Dir, tmp_path: Path) -> None:
    trees.make(tree, tmp_path / "t")
    table = core.scan(tmp_path / "t")
    again = from_columns(to_columns(table))
    assert core.entries(again) == core.entries(table)
    assert to_columns(again) == to_columns(table)


def marked(place: Path) -> Table:
    """The table of a small layer in which every marker occurs."""
    trees.make(Dir({"d": Dir(), "f": File(b"x", xattrs={"user.a": b""})}), place / "t")
    for edit in (
        e.opaque("d"),
        e.marker("d", "redirect", b"/\xff\n"),
        e.marker("f", "metacopy", b""),
        e.marker("f", "origin", b"\0\xfb\x1d"),
        e.whiteout("w"),
    ):
        edit(place / "t")
    return core.scan(place / "t")


@pytest.mark.root
def test_markers_there_and_back(tmp_path: Path) -> None:
    table = marked(tmp_path)
    again = core.entries(from_columns(to_columns(table)))
    assert again == core.entries(table)
    by_path = {entry.path: entry for entry in again}
    assert (by_path[b"d"].flags, by_path[b"d"].redirect) == (2 | 4, b"/\xff\n")
    assert (by_path[b"f"].flags, by_path[b"f"].origin) == (8, b"\0\xfb\x1d")
    assert by_path[b"f"].xattrs is not None
    assert (by_path[b"w"].flags, by_path[b"w"].kind) == (1, "whiteout")


MALFORMED: dict[str, list[Row]] = {
    "no-root": [(b"a", "file")],
    "root-is-a-file": [(b"", "file")],
    "two-roots": [(b"", "directory"), (b"", "directory")],
    "duplicate": [(b"", "directory"), (b"a", "file"), (b"a", "file")],
    "out-of-order": [(b"", "directory"), (b"b", "file"), (b"a", "file")],
    "slash-not-lowest": [
        (b"", "directory"),
        (b"a", "directory"),
        (b"a-b", "file"),
        (b"a/b", "file"),
    ],
    "parent-missing": [(b"", "directory"), (b"a/b", "file")],
    "parent-missing-after-its-like": [(b"", "directory"), (b"a", "directory"), (b"ab/c", "file")],
    "grandparent-only": [(b"", "directory"), (b"a", "directory"), (b"a/b/c", "file")],
    "parent-is-a-file": [(b"", "directory"), (b"a", "file"), (b"a/b", "file")],
    "parent-is-a-whiteout": [(b"", "directory"), (b"a", "whiteout"), (b"a/b", "file")],
    "absolute": [(b"", "directory"), (b"/a", "file")],
    "trailing-slash": [(b"", "directory"), (b"a", "directory"), (b"a/", "directory")],
    "empty-component": [(b"", "directory"), (b"a", "directory"), (b"a//b", "file")],
    "dot": [(b"", "directory"), (b".", "directory")],
    "dot-inside": [(b"", "directory"), (b"a", "directory"), (b"a/.", "file")],
    "dot-dot": [(b"", "directory"), (b"..", "directory"), (b"../x", "file")],
    "nul": [(b"", "directory"), (b"a\0b", "file")],
}


@pytest.mark.parametrize("rows", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_rows_are_refused(rows: list[Row]) -> None:
    with pytest.raises(ValueError):
        from_columns(columns(rows))


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError):
        from_columns(columns([]))


def test_a_negative_size_is_refused() -> None:
    size = (-1).to_bytes(8, "little", signed=True) * len(GOOD)
    with pytest.raises(ValueError, match="a negative size"):
        from_columns(columns(GOOD, size=size))


@pytest.mark.parametrize("kind", [8, 255])
def test_an_unknown_kind_is_refused(kind: int) -> None:
    with pytest.raises(ValueError):
        from_columns(columns(GOOD, kind=bytes([1, 1, 1, kind, 7, 0, 3])))


SIZED = [name for name in Columns._fields if not name.endswith("_data")][1:]


@pytest.mark.parametrize("name", SIZED)
def test_a_short_column_is_refused(name: str) -> None:
    good = columns(GOOD, ctime_ns=bytes(8 * len(GOOD)))
    short = {name: bytes(getattr(good, name))[:-1]}
    with pytest.raises(ValueError, match=f"column {name}: "):
        good._replace(**short)
    # Nor does the core trust one.
    with pytest.raises(ValueError, match="are due"):
        from_columns(SimpleNamespace(**good._asdict() | short))


@pytest.mark.parametrize(
    "offsets",
    [
        [0, 0, 1, 4, 9, 12, 14, 999],
        [0, 0, 1, 4, 9, 12, -14, 17],
        [0, 0, 1, 4, 2, 12, 14, 17],
        [0, 0, 1, 4, 1 << 62, 12, 14, 17],
        [5, 0, 1, 4, 9, 12, 14, 17],
    ],
    ids=["past-the-end", "negative", "backwards", "huge", "not-from-0"],
)
def test_offsets_out_of_bounds_are_refused(offsets: list[int]) -> None:
    with pytest.raises(ValueError):
        from_columns(columns(GOOD, path_offsets=struct.pack("<8q", *offsets)))


@pytest.mark.parametrize("number", [-1, 7, 1 << 40])
def test_a_row_that_is_not_there(number: int) -> None:
    table = from_columns(columns(GOOD))
    with pytest.raises((IndexError, OverflowError)):
        table.entry(number)


def test_digests_survive(tmp_path: Path) -> None:
    digest = digest_bytes(b"content")
    valid = bytes([0, 0, 0, 1, 0, 0, 0])
    table = from_columns(columns(GOOD, digest=bytes(48) + digest + bytes(48), digest_valid=valid))
    found = [entry.digest for entry in core.entries(table)]
    assert found == [None, None, None, digest, None, None, None]

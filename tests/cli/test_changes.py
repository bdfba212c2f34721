from __future__ import annotations

from dsbranch.cli import changes, shapes
from dsbranch.model.changes import Change

MIB = 1024 * 1024

CHANGES = [
    Change("m", b"", "directory"),
    Change("A", b"new", "directory"),
    Change("A", b"new/a", "file", size=2 * MIB),
    Change("A", b"new/deep", "directory"),
    Change("A", b"new/deep/b", "symlink"),
    Change("A", b"new-file", "file", size=10),
    Change("M", b"data.csv", "file", size=3072, old_size=1024),
    Change("D", b"old", "directory"),
    Change("D", b"old/x", "file", old_size=MIB),
    Change("R", b"pictures", "directory", old_path=b"images"),
    Change("M", b"pictures/1.jpg", "file", old_path=b"images/1.jpg", size=7, old_size=7),
    Change("T", b"was-a-tree", "file", size=1),
    Change("D", b"was-a-tree/x", "file", old_size=4),
    Change("A", b"odd\n\xff", "file", size=0),
]


TOTALS = (
    "6 added, 2 modified, 1 metadata only, 3 deleted, 1 renamed, 1 type changed; +2.0 MiB -1.0 MiB"
)


def plain(letter: str) -> str:
    return letter


def test_listing() -> None:
    assert list(changes.listing(CHANGES, plain)) == [
        "m  ./",
        "A  new/",
        "A  new/a",
        "A  new/deep/",
        "A  new/deep/b",
        "A  new-file",
        "M  data.csv",
        "D  old/",
        "D  old/x",
        "R  images/ → pictures/",
        "M  pictures/1.jpg",
        "T  was-a-tree",
        "D  was-a-tree/x",
        r'A  "odd\n\377"',
    ]


def test_listing_paints_the_letter_alone() -> None:
    assert list(changes.listing(CHANGES[:1], lambda letter: f"<{letter}>")) == ["<m>  ./"]


def test_name_status() -> None:
    lines = list(changes.name_status(CHANGES))
    assert lines[0] == "m\t."
    assert lines[9:11] == ["R\timages\tpictures", "M\tpictures/1.jpg"]
    assert lines[-1] == 'A\t"odd\\n\\377"'


def test_raw_ends_every_field_with_nul_and_quotes_nothing() -> None:
    out = b"".join(changes.raw(CHANGES))
    fields = out.split(b"\0")
    assert fields[:2] == [b"m", b"."]
    assert b"\0R\0images\0pictures\0M\0pictures/1.jpg\0" in out
    assert fields[-3:] == [b"A", b"odd\n\xff", b""]


def test_stat_shows_whole_trees_in_one_line_and_the_totals() -> None:
    assert list(changes.stat(CHANGES, plain)) == [
        " m  ./                   metadata",
        " A  new/                 3 entries, +2.0 MiB",
        " A  new-file             +10 B",
        " M  data.csv             1.0 KiB → 3.0 KiB",
        " D  old/                 1 entry, -1.0 MiB",
        " R  images/ → pictures/",
        " M  pictures/1.jpg       7 B",
        " T  was-a-tree           type changed, 1 entry below, +1 B -4 B",
        ' A  "odd\\n\\377"',
        f" {TOTALS}",
    ]


def test_stat_of_nothing_is_nothing() -> None:
    assert list(changes.stat([], plain)) == []


def test_a_sibling_that_shares_a_prefix_is_not_within_the_tree() -> None:
    lines = list(
        changes.stat(
            [
                Change("D", b"a", "directory"),
                Change("D", b"a/x", "file", old_size=1),
                Change("D", b"a.txt", "file", old_size=2),
            ],
            plain,
        )
    )
    assert lines[:2] == [" D  a/     1 entry, -1 B", " D  a.txt  -2 B"]


def test_what_moved_into_a_new_tree_stands_by_itself() -> None:
    lines = list(
        changes.stat(
            [
                Change("A", b"n", "directory"),
                Change("A", b"n/a", "file", size=1),
                Change("R", b"n/b", "file", old_path=b"b", size=5, old_size=5),
                Change("A", b"n/c", "file", size=1),
            ],
            plain,
        )
    )
    assert lines[:2] == [" A  n/       2 entries, +2 B", " R  b → n/b  5 B"]


def test_totals_count_growth_and_shrinkage() -> None:
    totals = changes.totals_of(CHANGES)
    assert totals.counts == {"m": 1, "A": 6, "M": 2, "D": 3, "R": 1, "T": 1}
    assert totals.added_bytes == 2 * MIB + 10 + 2048 + 1
    assert totals.removed_bytes == MIB + 4


def test_json_shape() -> None:
    assert shapes.change(CHANGES[6]) == {
        "status": "M",
        "path": "data.csv",
        "kind": "file",
        "size": 3072,
        "old_size": 1024,
    }
    assert shapes.change(CHANGES[9]) == {
        "status": "R",
        "path": "pictures",
        "old_path": "images",
        "kind": "directory",
        "size": None,
        "old_size": None,
    }
    odd = shapes.change(CHANGES[-1])
    assert odd["path"] == "odd\n\ufffd"
    assert odd["path_b64"] == "b2RkCv8="

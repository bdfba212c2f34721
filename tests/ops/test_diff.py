"""``diff``: what changed between the open layer, commits and branches, true to content."""

from __future__ import annotations

import pytest

from dsbranch import errors
from tests import edits as e
from tests.cases import ODD_NAMES
from tests.trees import Dir, File, Symlink

from .conftest import one_sentence, said

pytestmark = pytest.mark.root


def test_uncommitted(bench):
    bench.commit(e.append("g", b"1"))
    bench.edit(e.append("f", b"2"), e.add("new", Dir({"in": File(b"in")})), e.rmtree("e"))
    diff = bench.ws.diff(branch="main")
    assert said(diff) == ["D e", "D e/d", "D e/d/deep", "D e/m", "M f", "A new", "A new/in"]
    assert (diff.from_, diff.to, diff.pending) == (bench.head(), None, None)
    assert len(diff) == 7
    assert diff.counts() == {"A": 2, "M": 1, "D": 4}


def test_all_that_a_branch_changed_since_it_forked(bench):
    bench.commit(e.append("f", b"on main"))
    bench.ws.create("exp1")
    bench.commit(e.append("g", b"1"), branch="exp1")
    bench.edit(e.unlink("d/x"), branch="exp1")
    bench.commit(e.append("h1", b"later on main"))
    diff = bench.ws.diff("exp1")
    assert said(diff) == ["D d/x", "M g"]
    assert diff.from_ == bench.ws.log("main")[1].id


def test_two_sides(bench):
    bench.ws.create("exp1")
    bench.commit(e.append("f", b"main"), e.unlink("g"))
    bench.commit(e.append("d/x", b"exp1"), branch="exp1")
    assert bench.lines("main", "exp1") == ["M d/x", "M f", "A g"]
    assert bench.lines("exp1", "main") == ["M d/x", "M f", "D g"]
    assert bench.lines("main..exp1") == ["M d/x", "M f", "A g"]
    assert bench.lines("main...exp1") == ["M d/x"]
    assert bench.lines("exp1...main") == ["M f", "D g"]
    assert bench.lines("main", "main") == []
    diff = bench.ws.diff("main~1", "main")
    assert (diff.from_, diff.to) == (bench.ws.log("main")[1].id, bench.head())


def test_uncommitted_changes_of_the_second_side_are_not_in_it_and_it_says_so(bench):
    bench.ws.create("exp1")
    bench.edit(e.append("f", b"x"), branch="exp1")
    assert bench.ws.diff("main", "exp1").pending == "exp1"
    assert bench.ws.diff("main..exp1").pending == "exp1"
    assert bench.lines("main", "exp1") == []
    assert bench.ws.diff("exp1", "main").pending is None
    bench.edit(e.recreate("f", File(b"one\n")), branch="exp1")
    assert bench.ws.diff("main", "exp1").pending is None


def test_a_commit_against_the_branch_as_it_is(bench):
    root = bench.head()
    bench.commit(e.append("f", b"1"))
    bench.edit(e.append("g", b"2"))
    assert bench.lines(root, branch="main") == ["M f", "M g"]
    with pytest.raises(errors.UsageError, match="is no branch") as caught:
        bench.ws.diff(root)
    one_sentence(caught.value)
    with pytest.raises(errors.UsageError, match="which branch") as caught:
        bench.ws.diff()
    one_sentence(caught.value)


def test_after_a_rollback_the_fork_is_where_the_histories_part(bench):
    bench.commit(e.append("f", b"1"))
    bench.ws.create("exp1")
    bench.commit(e.append("g", b"2"), branch="exp1")
    bench.ws.rollback("exp1", "main~1")
    bench.edit(e.append("h1", b"3"), branch="exp1")
    assert bench.lines("exp1") == ["M h1"]


def test_true_to_content(bench):
    bench.edit(
        e.open_and_close("d/x"),
        e.rewrite("f"),
        e.recreate("g", File(b"two\n", mode=0o600)),
        e.utime("h1", 5),
        e.sequence(e.chmod("d/y", 0), e.chmod("d/y", 0o644)),
        e.recreate("dangling", Symlink("nowhere")),
    )
    assert bench.lines() == ["M f", "m h1"]


def test_sizes_and_kinds(bench):
    bench.edit(e.append("f", b"12345"), e.recreate("d/x", Dir()), e.unlink("dangling"))
    by_path = {change.path: change for change in bench.ws.diff(branch="main")}
    assert (by_path[b"f"].kind, by_path[b"f"].old_size, by_path[b"f"].size) == ("file", 4, 9)
    typed = by_path[b"d/x"]
    assert (typed.status, typed.kind, typed.old_size, typed.size) == ("T", "directory", 1, None)
    gone = by_path[b"dangling"]
    assert (gone.status, gone.kind, gone.size, gone.old_path) == ("D", "symlink", None, None)


def test_renames(bench):
    bench.edit(e.rename("e", "d/e"), e.append("d/e/m", b"more"))
    assert bench.lines() == ["R d/e < e", "M d/e/m < e/m"]
    assert bench.lines(branch="main", renames=False) == [
        "A d/e",
        "A d/e/d",
        "A d/e/d/deep",
        "A d/e/m",
        "D e",
        "D e/d",
        "D e/d/deep",
        "D e/m",
    ]


def test_renames_of_files(bench):
    bench.edit(e.append("f", b"12"), e.rename("f", "e/f"), e.rename("g", "g2"), e.rename("h1", "h"))
    expected = ["R e/f < f", "R g2 < g", "R h < h1"]
    assert bench.lines() == expected
    assert bench.lines(branch="main", paths=[b"f"]) == expected[:1]
    renamed = next(iter(bench.ws.diff(branch="main")))
    assert (renamed.kind, renamed.old_size, renamed.size) == ("file", 4, 6)
    without = ["A e/f", "D f", "D g", "A g2", "A h", "D h1"]
    assert bench.lines(branch="main", renames=False) == without
    bench.commit()
    assert bench.lines("main") == expected
    assert bench.lines("main", "main~1") == ["R f < e/f", "R g < g2", "R h1 < h"]
    bench.commit(e.append("e/f", b"3"), e.rename("e/f", "f3"))
    assert bench.lines("main~1", "main") == ["R f3 < e/f"]
    assert bench.lines("main")[0] == "R f3 < f"


def test_a_file_that_was_copied_and_deleted_is_known_by_its_digest(bench):
    bench.commit(e.add("n", File(b"new")))
    bench.edit(e.add("m", File(b"new")), e.unlink("n"))
    assert bench.lines() == ["A m", "D n"]
    bench.commit()
    assert bench.lines("main~1", "main") == ["R m < n"]


ALL = ["D d/sub/p", "M d/x", "R n < e", "M n/m < e/m"]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([b"d"], ALL[:2]),
        ([b"d/"], ALL[:2]),
        ([b"d/x", b"d/sub"], ALL[:2]),
        ([b"d/su"], []),
        ([b"nothing"], []),
        ([b"e"], ALL[2:]),
        ([b"e/m"], ALL[3:]),
        ([b"n"], ALL[2:]),
        ([b""], ALL),
        ([], ALL),
    ],
)
def test_paths(bench, paths, expected):
    bench.edit(
        e.append("d/x", b"1"), e.unlink("d/sub/p"), e.rename("e", "n"), e.append("n/m", b"1")
    )
    assert bench.lines(branch="main", paths=paths) == expected


def test_odd_names(bench):
    bench.edit(*(e.add(name, File(b"x")) for name in ODD_NAMES))
    assert {change.path for change in bench.ws.diff("main")} == set(ODD_NAMES)


def test_as_a_table(bench):
    bench.edit(e.rename("f", b"\xff"), e.append("g", b"1"), e.unlink("dangling"))
    diff = bench.ws.diff(branch="main")
    table = diff.to_arrow()
    assert table.column_names == ["status", "path", "old_path", "kind", "size", "old_size"]
    rows = table.to_pylist()
    assert rows == [
        {
            "status": c.status,
            "path": c.path,
            "old_path": c.old_path,
            "kind": c.kind,
            "size": c.size,
            "old_size": c.old_size,
        }
        for c in diff
    ]
    assert bench.ws.diff("main", "main").to_arrow().num_rows == 0


def test_without_mounts(bench):
    bench.edit(e.append("f", b"1"))
    bench.ws.umount("main")
    assert bench.lines() == ["M f"]


def test_again_gives_the_same(bench):
    bench.edit(e.append("f", b"1"), e.rename("d", "moved"))
    assert bench.lines() == bench.lines()
    before = bench.traces()
    bench.lines("main")
    assert bench.traces() == before


@pytest.mark.parametrize("sides", [("mian",), ("main", "nope"), ("nope..main",), ("main..",)])
def test_what_is_refused(bench, sides):
    with pytest.raises(errors.UsageError) as caught:
        bench.ws.diff(*sides, branch="main")
    one_sentence(caught.value)


def test_a_sealed_layer_that_was_tampered_with(bench):
    head = bench.commit(e.append("f", b"1"))
    layer = bench.ws.show(head)[0].layer
    manifest = bench.manifest(layer)
    manifest.write_bytes(manifest.read_bytes()[:-9])
    bench.reopen()
    with pytest.raises(errors.IntegrityError, match=str(manifest)) as caught:
        bench.lines("main")
    assert "\n" not in str(caught.value)
    manifest.unlink()
    bench.reopen()
    with pytest.raises(errors.IntegrityError, match=layer):
        bench.lines("main")

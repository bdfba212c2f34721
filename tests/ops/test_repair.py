"""``verify --repair``: what can be made again is, what was there stays, and all of it is told."""

from __future__ import annotations

import os

import pyarrow.parquet
import pytest

from dsbranch.errors import IntegrityError, Locked, StorageError
from dsbranch.ops import repair as repairing
from dsbranch.store.lock import gc_lock
from tests import edits as e
from tests.ops.test_verify import BY_MOUNT, forge
from tests.trees import Dir, File

from .conftest import command, python

pytestmark = pytest.mark.root


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def flip(path):
    """A bit of the footer's length: elsewhere one may be of no account to who reads it."""
    data = bytearray(path.read_bytes())
    data[-7] ^= 1
    path.write_bytes(data)


def write_otherwise(path):
    """Whatever is wrong with the manifest, it can be read."""
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(path), path, compression="gzip")


def empty(path):
    path.write_bytes(b"")


DAMAGES = [os.unlink, truncate, flip, empty]


@pytest.fixture
def layer(bench):
    """The layer of a commit that copied something up, and so has hints that nothing can rebuild."""
    bench.commit(
        e.append("f", b"1"),
        e.rename("e", "moved"),
        e.unlink("g"),
        e.add("n", Dir({"a": File(b"a", xattrs={"user.x": b"1"})})),
        e.link("n/a", "n/linked"),
    )
    return bench.ws._context.store.commit(bench.head()).layer


def test_nothing_to_repair(bench, layer):
    before = bench.traces()
    checked = bench.ws.verify(full=True, repair=True)
    assert (checked.findings, checked.repaired) == ((), ())
    assert bench.traces() == before


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_manifest(bench, layer, damage):
    shown = bench.see()
    changed = bench.lines("main~1", "main")
    damage(bench.manifest(layer))
    damaged = bench.manifest(layer).read_bytes() if bench.manifest(layer).exists() else None
    bench.reopen()
    (done,) = bench.ws.verify(repair=True).repaired
    assert done.startswith(f"layer {layer} of commit ")
    assert done.endswith("its manifest was rebuilt from its files")
    kept = bench.manifest(layer).with_name("manifest.parquet.damaged-1")
    assert (kept.read_bytes() if kept.exists() else None) == damaged
    bench.reopen()
    assert bench.lines("main~1", "main") == changed
    assert bench.see() == shown
    # It works, and nobody claims that it is what it was.
    checked = bench.ws.verify(full=True, repair=True)
    assert checked.repaired == ()
    assert [one.what for one in checked.findings] == ["its manifest was rebuilt from its files"]
    assert checked.digested == 3


@pytest.mark.parametrize("damage", [*DAMAGES, write_otherwise])
def test_a_manifest_that_the_commit_vouches_for(adopt, damage):
    bench = adopt(Dir({"f": File(b"f")}))
    bench.commit(e.unlink("f"))
    layer = bench.ws._context.store.commit(bench.head()).layer
    before = bench.manifest(layer).read_bytes()
    damage(bench.manifest(layer))
    bench.reopen()
    checked = bench.ws.verify(repair=True)
    assert len(checked.repaired) == 1
    assert bench.manifest(layer).read_bytes() == before
    assert checked.findings == ()


def test_a_manifest_that_can_be_read_stays_where_nothing_better_can_be_made(bench, layer):
    write_otherwise(bench.manifest(layer))
    before = bench.manifest(layer).read_bytes()
    bench.reopen()
    checked = bench.ws.verify(repair=True)
    assert [done for done in checked.repaired if "manifest" in done] == []
    assert "its id is not that of what it says and holds" in [one.what for one in checked.findings]
    assert bench.manifest(layer).read_bytes() == before
    assert sorted(os.listdir(bench.fs(layer).parent)) == ["fs", "index", "manifest.parquet"]


@pytest.mark.parametrize("case", BY_MOUNT, ids=lambda case: case.id)
def test_every_case_can_be_rebuilt(adopt, case):
    bench = adopt(case.base)
    for number, steps in enumerate(case.layers):
        bench.edit(*steps)
        bench.ws.commit("main", str(number), allow_empty=True)
    shown = bench.see()
    layers = bench.ws._context.store.stack(bench.head())
    for layer in layers:
        os.unlink(bench.manifest(layer))
        bench.index(layer).unlink()
    bench.reopen()
    checked = bench.ws.verify(full=True, repair=True)
    assert len(checked.repaired) == len(layers)
    assert {one.what for one in checked.findings} <= {"its manifest was rebuilt from its files"}
    bench.ws.umount("main")
    bench.ws.mount("main")
    assert bench.see() == shown
    assert bench.ws.status("main").clean


def test_files_that_went_with_the_manifest_are_noticed(bench, layer):
    os.unlink(bench.manifest(layer))
    os.unlink(bench.fs(layer) / "n" / "linked")
    said = [one.what for one in bench.ws.verify(repair=True).findings]
    assert any("entries, the store says" in what for what in said)


def test_an_index(bench, layer):
    place = bench.index(layer)
    os.chmod(place, 0o644)
    flip(place)
    assert len(bench.ws.verify().findings) == 1
    checked = bench.ws.verify(repair=True)
    assert checked.repaired == (f"layer {layer}: its index was made again",)
    assert checked.findings == ()


def test_a_workdir(bench):
    bench.ws.umount("main")
    command(["rm", "-r", bench.upper().parent / "work"])
    checked = bench.ws.verify(repair=True)
    assert len(checked.repaired) == 1
    assert checked.findings == ()
    bench.ws.mount("main")
    bench.edit(e.append("f", b"1"))


def test_what_cannot_be_repaired_stays_found(bench, layer):
    os.rename(bench.fs(layer), bench.fs(layer).with_name("elsewhere"))
    checked = bench.ws.verify(repair=True)
    assert checked.repaired == ()
    assert [one.what for one in checked.findings] == ["its directory is gone"]


VERBS = {
    "status": lambda ws: ws.status("main"),
    "mount": lambda ws: ws.mount("main"),
    "mount of a commit": lambda ws: ws.mount("main~0", at=ws.root.parent / "look"),
    "create": lambda ws: ws.create("exp", start="main"),
    "commit": lambda ws: ws.commit("main", "more", allow_empty=True),
    "diff": lambda ws: ws.diff("main~2", "main").counts(),
    "squash": lambda ws: ws.squash("main"),
    "merge": lambda ws: ws.merge("main", into="early"),
    "restore": lambda ws: ws.restore("early", [b"f"], start="main"),
    "show": lambda ws: ws.show("main"),
    "rollback to it": lambda ws: ws.rollback("main"),
    "export": lambda ws: ws.export("main", ws.root.parent / "out.tar"),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("topmost", [False, True])
@pytest.mark.parametrize("taken", [False, True])
def test_a_layer_that_is_gone_is_told_of_by_whatever_needs_it(bench, layer, verb, topmost, taken):
    above = bench.commit(e.append("f", b"2"))
    if topmost:
        layer = bench.ws._context.store.commit(above).layer
    bench.ws.create("early", start="main~2")
    bench.ws.umount("main")
    away = bench.root / "away"
    os.rename(bench.fs(layer).parent, away)
    if taken:
        bench.fs(layer).parent.write_bytes(b"a file")
    (bench.root / "look").mkdir()
    bench.reopen()
    with pytest.raises(IntegrityError, match=f"^the directory of layer {layer} is gone$") as caught:
        VERBS[verb](bench.ws)
    assert caught.value.exit_code == 5
    assert "`dsbranch verify`" in caught.value.hint
    if taken:
        bench.fs(layer).parent.unlink()
    os.rename(away, bench.fs(layer).parent)
    bench.reopen()
    assert bench.ws.verify(full=True).findings == ()
    assert [row.name for row in bench.ws.list()] == ["early", "main"]
    assert bench.head() == above


@pytest.mark.parametrize("mounted", [False, True])
def test_a_branch_of_which_a_layer_is_gone_can_be_deleted(bench, layer, mounted):
    bench.ws.create("other", start="main~1")
    if not mounted:
        bench.ws.umount("main")
    os.rename(bench.fs(layer).parent, bench.root / "away")
    bench.reopen()
    bench.ws.delete("main", force=True)
    assert [row.name for row in bench.ws.list()] == ["other"]
    os.rename(bench.root / "away", bench.fs(layer).parent)


@pytest.mark.parametrize("mounted", [False, True])
def test_a_rollback_leaves_what_is_damaged(bench, layer, mounted):
    was = bench.view("main~1")
    bench.edit(e.append("f", b"2"))
    if not mounted:
        bench.ws.umount("main")
    os.rename(bench.fs(layer).parent, bench.root / "away")
    bench.reopen()
    done = bench.ws.rollback("main", "main~1")
    assert (done.counts, done.damage) == (None, f"the directory of layer {layer} is gone")
    if not mounted:
        bench.ws.mount("main")
    assert bench.see() == was
    os.rename(bench.root / "away", bench.fs(layer).parent)
    bench.ws.undo()
    assert bench.ws.status("main").counts == {"M": 1}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_manifest_that_is_gone_or_damaged_says_what_helps(bench, layer, damage):
    os.chmod(bench.manifest(layer), 0o644)
    damage(bench.manifest(layer))
    os.unlink(bench.index(layer))
    bench.reopen()
    with pytest.raises(IntegrityError, match=r"manifest") as caught:
        bench.lines("main~1", "main")
    assert "`dsbranch verify --repair`" in caught.value.hint
    bench.ws.verify(repair=True)
    assert bench.lines("main~1", "main") != []


def test_a_damaged_store_is_told_of(bench, layer):
    forge(bench, "UPDATE moves SET after = '{'")
    checked = bench.ws.verify(repair=True)
    assert checked.repaired == ()
    assert "the store" in {one.where for one in checked.findings}


def test_a_fault_of_the_moment_is_no_damage(bench, layer, monkeypatch):
    before = bench.manifest(layer).read_bytes()

    def read(_path, **_):
        raise StorageError("too many open files", errno=24)

    monkeypatch.setattr(repairing.manifest, "read", read)
    with pytest.raises(StorageError):
        bench.ws.verify(repair=True)
    assert bench.manifest(layer).read_bytes() == before


def test_not_beside_gc(bench):
    with gc_lock(bench.ws._context.layout, verb="gc"), pytest.raises(Locked):
        bench.ws.verify(repair=True)


def test_the_program_says_it(bench, layer):
    truncate(bench.manifest(layer))
    code = "from dsbranch.cli import main; import sys; sys.exit(main())"
    done = python(code, "-C", str(bench.place), "verify", "--repair")
    assert done.returncode == 5
    assert f"note: layer {layer} of commit " in done.stderr
    assert "its manifest was rebuilt from its files; they work, but" in done.stdout

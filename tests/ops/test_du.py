"""``du``: agrees with du(1) and with what gc then frees, to the block."""

from __future__ import annotations

import json
import os
import time

import pytest

from dsbranch import errors
from dsbranch.model.facts import Checkpoint, Move
from dsbranch.ops import layers as layer_steps
from dsbranch.ops import stacks
from dsbranch.ops.build import squashed
from tests import edits as e
from tests.trees import Dir, File

from .conftest import command, python

pytestmark = pytest.mark.root

BIG = bytes(range(256)) * 500


def used(path) -> int:
    return int(command(["du", "-s", "--block-size=1", path]).split()[0])


def agrees(bench):
    """The answer, whose parts are the whole, which is what du(1) says."""
    space = bench.ws.du()
    parts = (
        space.history,
        space.uncommitted,
        space.log,
        space.checkpoints,
        space.manifests,
        space.database,
        space.garbage,
    )
    assert min(parts) >= 0
    assert sum(parts) == space.total == used(bench.place / ".dsbranch")
    return space


def of(space, name):
    (found,) = [one for one in space.branches if one.name == name]
    return found


def goes(bench, name):
    """What gc frees once a branch is deleted, the log having been cleared before."""
    bench.ws.gc(keep=0)
    said = of(bench.ws.du(), name).alone
    bench.ws.delete(name, force=True)
    assert bench.ws.gc(keep=0).bytes == said
    agrees(bench)
    return said


@pytest.fixture
def busy(bench):
    """Commits of two branches, a squash that shares files with what it replaced, a rollback."""
    bench.commit(e.add("shared", File(BIG)))
    bench.ws.create("exp1")
    for number in range(3):
        bench.commit(e.add(f"n{number}", Dir({"a": File(BIG), "b": File(b"b")})), branch="exp1")
    bench.edit(e.add("uncommitted", File(BIG)), e.link("uncommitted", "twice"), branch="exp1")
    bench.commit(e.append("f", BIG))
    bench.commit(e.append("f", BIG))
    bench.edit(e.add("set aside", File(BIG)))
    bench.ws.rollback("main", "main~1")
    return bench


def test_the_parts_are_the_whole(busy):
    space = agrees(busy)
    assert space.garbage == 0
    assert of(space, "main").uncommitted < len(BIG) <= of(space, "exp1").uncommitted
    assert of(space, "exp1").uncommitted < 2 * len(BIG)
    # One version of f, and what was set aside.
    assert 3 * len(BIG) <= space.log < 4 * len(BIG)
    assert [one.name for one in space.branches] == ["exp1", "main"]
    busy.ws.squash("exp1")
    # Its mount goes on with the old layers, as something is uncommitted.
    again = agrees(busy)
    assert again.log + again.checkpoints == space.log + space.checkpoints
    busy.ws.umount("exp1")
    # All data are still in commits; the directories of the old layers are not.
    assert 0 < agrees(busy).log - space.log < len(BIG)


def test_the_log_holds_what_gc_then_frees(busy):
    space = agrees(busy)
    assert space.log == busy.ws.gc(keep=0, dry_run=True).bytes
    assert busy.ws.gc(keep=0).bytes == space.log
    assert agrees(busy).log == 0


def test_a_branch_holds_alone_what_its_end_frees(busy):
    busy.ws.squash("exp1")
    assert 4 * len(BIG) <= goes(busy, "exp1") < 6 * len(BIG)


def test_a_branch_that_others_are_made_from(busy):
    busy.ws.create("exp2", start="exp1")
    space = busy.ws.du()
    assert of(space, "exp1").alone < 2 * len(BIG)
    assert of(space, "exp2").alone < len(BIG) // 2
    assert of(space, "exp2").shared >= 4 * len(BIG)
    assert goes(busy, "exp2") < len(BIG) // 2
    assert goes(busy, "exp1") >= 4 * len(BIG)


def test_links_across_branches_hold_each_other(busy):
    """A squash of one branch shares inodes with the layers that another one still has."""
    busy.ws.create("exp2", start="exp1")
    busy.ws.rollback("exp1")
    busy.ws.squash("exp1")
    assert goes(busy, "exp1") < len(BIG) // 2
    assert goes(busy, "exp2") >= 3 * len(BIG)


def test_names_outside_of_the_store_keep_what_they_name(busy):
    layer = busy.fs(busy.ws._context.store.commit(busy.head("exp1")).layer)
    kept = busy.root / "kept"
    os.link(layer / "n2" / "a", kept)
    assert goes(busy, "exp1") < 5 * len(BIG)
    assert kept.read_bytes() == BIG


def test_commits_of_a_branch(busy):
    space = busy.ws.du("exp1")
    assert [one.name for one in space.branches] == ["exp1"]
    assert [one.commit.id for one in space.commits] == [c.id for c in busy.ws.log("exp1")]
    *made, shared, root = space.commits
    assert all(one.alone >= len(BIG) and one.shared == 0 for one in (*made, shared))
    assert (root.alone, root.shared) == (0, 0)
    busy.ws.create("exp2", start="exp1")
    busy.ws.squash("exp1", since="exp1~3")
    squash, *_ = busy.ws.du("exp1").commits
    assert squash.shared >= 3 * len(BIG)
    assert squash.alone < len(BIG) // 2
    with pytest.raises(errors.UnknownRef):
        busy.ws.du("nobody")


def test_pending_layers_are_uncommitted(bench):
    bench.commit(e.add("new", File(BIG)))
    store = bench.ws._context.store
    branch = store.branch("main")
    layer = store.commit(branch.head).layer
    undone = branch._replace(head=bench.ws.log("main")[-1].id, pending=(layer,))
    store.record("undo", Move(branch, undone), author="ada", detail="d")
    space = agrees(bench)
    assert of(space, "main").uncommitted == of(space, "main").alone >= len(BIG)
    assert space.uncommitted >= len(BIG)


def test_a_checkpoint_costs_its_directories(bench, monkeypatch):
    root = bench.head()
    bench.commit(e.add("a", Dir({"x": File(BIG)})))
    top = bench.commit(e.add("b", Dir({"x": File(BIG)})))
    context = bench.ws._context
    with layer_steps.new_layer(context, bench.data, work=False) as new:
        line = context.store.first_parents(top)[:2]
        parts = [stacks.sealed(context, context.store.commit(id).layer) for id in line]
        sealed, _, _ = squashed(context, parts, [], new)
        context.store.add_checkpoint(
            Checkpoint(new.id, top, root, 2), [sealed._replace(sealed_ns=time.time_ns())]
        )
    space = agrees(bench)
    # Its own directory, fs, a and b, the manifest and its index.
    assert space.checkpoint_inodes == 6
    beside = (bench.manifest(new.id), bench.index(new.id))
    assert space.checkpoints == 4 * 4096 + sum(path.stat().st_blocks for path in beside) * 512
    assert of(space, "main").alone >= 2 * len(BIG)
    assert len(bench.ws.du("main").commits) == 3
    assert all(one.alone >= len(BIG) for one in bench.ws.du("main").commits[:2])


def test_garbage_is_nobodys(bench):
    place = bench.place / ".dsbranch" / "layers" / "0000000000"
    place.mkdir()
    (place / "file").write_bytes(BIG)
    assert agrees(bench).garbage == used(place)


def test_the_program(busy):
    code = "from dsbranch.cli import main; import sys; sys.exit(main())"
    done = python(code, "-C", str(busy.place), "du", "exp1", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["schema"] == 1
    assert answer["total"] == sum(answer["parts"].values())
    assert [one["id"] for one in answer["commits"]] == [c.id for c in busy.ws.log("exp1")]
    done = python(code, "-C", str(busy.place), "du")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["ALONE", "SHARED", "UNCOMMITTED", "BRANCH"]
    assert lines[1].endswith("  exp1")
    assert lines[-1].endswith("  in all")

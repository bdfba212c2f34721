"""Checkpoints: long histories in few layers, the same view, no data read or copied."""

from __future__ import annotations

import errno
import os
import random
import time
from pathlib import Path

import pytest

from dsbranch import errors
from dsbranch._core.scan import scan
from dsbranch._core.squash import plan
from dsbranch.model.facts import Move
from dsbranch.ops import layers, stacks
from dsbranch.ops.ladder import Ladder
from dsbranch.ops.lowers import apart, lowers_of
from dsbranch.store.lock import checkpoint_lock
from tests import edits as e
from tests.steps import START, perform_all, random_layers
from tests.trees import Dir, File, assert_same, snapshot

from .conftest import one_sentence

pytestmark = pytest.mark.root

DEPTH = int(os.environ.get("DSBRANCH_TEST_DEPTH", "240"))
HISTORIES = int(os.environ.get("DSBRANCH_TEST_HISTORIES", "12")) // 2


def ladder(bench, **numbers) -> None:
    """Let checkpoints be made by other numbers."""
    bench.ws._context.ladder = Ladder(**numbers)


def store(bench):
    return bench.ws._context.store


def checkpoints(bench):
    """All of them, the oldest first."""
    tops = [commit.id for commit in reversed(bench.ws.log("main"))]
    return [checkpoint for top in tops for checkpoint in store(bench).checkpoints(top)]


def lowers(bench, ref="main"):
    return lowers_of(bench.ws._context, bench.ws.show(ref)[0].id)


def inodes(top: Path) -> dict[bytes, int]:
    """Of every regular file below a layer's directory that holds data of its own."""
    found = {}
    for directory, _, names in os.walk(os.fsencode(top)):
        for name in names:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            plain = os.path.isfile(path) and not os.path.islink(path)
            if plain and "trusted.overlay.metacopy" not in os.listxattr(path):
                found[os.path.relpath(path, os.fsencode(top))] = status.st_ino
    return found


def usage(bench, ids) -> int:
    """Bytes on the disk that the layers' files take together, each inode once."""
    sizes = {}
    for id in ids:
        for directory, _, names in os.walk(os.fsencode(bench.fs(id))):
            for name in names:
                status = os.lstat(os.path.join(directory, name))
                sizes[status.st_ino] = status.st_blocks * 512
    return sum(sizes.values())


def test_a_long_history_of_the_same_directories(adopt):
    data = Dir({f"d{n}": Dir({f"f{m}": File(b"old") for m in range(8)}) for n in range(4)})
    bench = adopt(data)
    ws = bench.ws
    plain = bench.root / "plain"
    os.system(f"cp -a {bench.data} {plain}")
    chosen = random.Random(7)
    kept = {}
    for number in range(1, DEPTH + 1):
        edits = [e.append(f"d{n}/f{chosen.randrange(8)}", b"%d\n" % number) for n in range(4)]
        edits.append(e.add(f"d{number % 4}/n{number}", File(b"%d" % number)))
        if number > 20 and number % 3 == 0:
            edits.append(e.unlink(f"d{(number - 9) % 4}/n{number - 9}"))
        for edit in edits:
            edit(plain)
        commit = bench.commit(*edits)
        assert len(lowers(bench)) <= 12
        if number % 10 == 0:
            assert_same(bench.see(), snapshot(plain), ignore=("mtime_ns",))
            kept[commit] = bench.see()
    ws.umount("main")
    ws.mount("main")
    assert_same(bench.see(), kept[bench.head()])
    assert len(store(bench).stack(bench.head())) == DEPTH
    assert ws.list()[0].depth <= 13
    for commit in chosen.sample(list(kept), min(8, len(kept))):
        assert_same(bench.view(commit), kept[commit])
    commit = chosen.choice(list(kept)[:-1])
    ws.export(commit, bench.root / "out")
    assert_same(snapshot(bench.root / "out"), kept[commit])
    changed = {change.path for change in ws.diff(commit, "main")}
    before, after = kept[commit], kept[bench.head()]
    truth = {
        path
        for path in before.keys() | after.keys()
        if (path in before) != (path in after)
        or (before[path].kind == "file" and before[path] != after[path])
    }
    assert changed == truth
    ws.rollback("main", commit)
    assert_same(bench.see(), kept[commit])


def test_every_version_of_a_file_is_on_the_disk_once(bench):
    for number in range(16):
        bench.commit(e.append("d/x", os.urandom(9000)), e.add(f"n{number}", File(os.urandom(9000))))
    own = store(bench).stack(bench.head())
    made = [checkpoint.layer for checkpoint in checkpoints(bench)]
    assert len(made) >= 4
    versions = {inode for layer in own for inode in inodes(bench.fs(layer)).values()}
    for layer in made:
        assert set(inodes(bench.fs(layer)).values()) <= versions
    # Whiteouts are nodes of their own, and take no blocks.
    assert usage(bench, [*own, *made]) == usage(bench, own)


def test_no_data_are_read(bench):
    for number in range(3):
        bench.commit(e.add(f"n{number}", File(b"%d" % number)), e.append("f", b"1"))
    for layer in store(bench).stack(bench.head()):
        for path in bench.fs(layer).rglob("*"):
            if path.is_file():
                os.utime(path, ns=(1, path.stat().st_mtime_ns))
    bench.commit(e.add("n3", File(b"3")))
    (made,) = checkpoints(bench)
    assert (made.span, made.data) == (4, None)
    place = bench.fs(made.layer)
    assert {name: (place / name).stat().st_atime_ns for name in ("n0", "n1", "n2", "f")} == {
        "n0": 1, "n1": 1, "n2": 1, "f": 1
    }  # fmt: skip


def test_metadata_of_one_commit_and_data_of_another_are_not_copied_together(bench):
    big = os.urandom(300_000)
    bench.commit(
        e.add("n", Dir({"big": File(big), "two": File(big[:5000])})), e.link("n/two", "n/too")
    )
    bench.commit(e.chmod("n/big", 0o600), e.chmod("n/two", 0o640), e.chmod("f", 0o700))
    bench.commit(e.rename("n/big", "moved"), e.chown("moved", 5, 6))
    state = {bench.commit(e.setxattr("moved", "user.k", b"v")): bench.see()}
    (made,) = checkpoints(bench)
    assert made.data is not None
    assert lowers(bench) == [made.layer, made.data]
    versions = {
        inode
        for layer in store(bench).stack(bench.head())
        for inode in inodes(bench.fs(layer)).values()
    }
    for layer in (made.layer, made.data):
        assert set(inodes(bench.fs(layer)).values()) <= versions
    for number in range(12):
        commit = bench.commit(e.chmod("moved", 0o600 + number), e.append("g", b"%d" % number))
        state[commit] = bench.see()
        assert len(lowers(bench)) <= 8
    own = store(bench).stack(bench.head())
    every = [id for made in checkpoints(bench) for id in (made.layer, made.data) if id]
    # A metadata-only copy that has to say where its data are now is a file of its own, of a block.
    assert usage(bench, [*own, *every]) - usage(bench, own) < 100_000 < len(big)
    for commit, seen in state.items():
        assert_same(bench.view(commit), seen)
    assert snapshot(bench.path())[b"moved"].size == len(big)
    assert bench.lines("main~12", "main") == ["M g", "m moved"]
    bench.ws.export("main", bench.root / "out")
    assert_same(snapshot(bench.root / "out"), bench.see())
    # One layer for all: there the two have to become one file.
    bench.ws.squash("main", since="main~16")
    assert_same(bench.view("main"), list(state.values())[-1])


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_random_histories_look_the_same_with_and_without(adopt, seed):
    bench = adopt(START)
    ladder(bench, batch=2)
    ws = bench.ws
    states = {bench.head(): bench.see()}
    for steps in random_layers(seed + 500, 13, 5):
        perform_all(bench.path(), steps)
        commit = ws.commit("main", "x", allow_empty=True).commit
        states[commit.id] = bench.see()
    assert len(lowers(bench)) <= 5
    for commit, state in states.items():
        assert_same(bench.view(commit), state)
    chosen = random.Random(seed)
    pairs = [chosen.sample(list(states), 2) for _ in range(12)]
    ws.rollback("main", chosen.choice(list(states)))
    perform_all(bench.path(), random_layers(seed, 1, 6)[0])
    side = ws.commit("main", "side", allow_empty=True).commit.id
    pairs += [[side, chosen.choice(list(states))] for _ in range(6)]
    with_them = [bench.lines(a, b) for a, b in pairs]
    store(bench)._db.run("DELETE FROM checkpoints")
    assert [bench.lines(a, b) for a, b in pairs] == with_them


def test_a_renamed_directory_of_the_history_is_still_seen_as_such(bench):
    bench.commit(e.add("n", Dir({"a": File(b"a"), "b": File(b"b")})))
    start = bench.head()
    for number in range(6):
        bench.commit(e.append("f", b"%d" % number))
    bench.commit(e.rename("n", "m"))
    for number in range(9):
        bench.commit(e.append("f", b"%d" % number))
    assert len(lowers(bench)) < 8
    assert bench.lines(start, "main") == ["M f", "R m < n"]
    assert bench.lines("main", start) == ["M f", "R n < m"]


def test_views_to_be_compared_share_what_lies_below_where_their_lines_meet(bench):
    for number in range(9):
        bench.commit(e.append("f", b"%d" % number))
    bench.ws.create("side", start="main~2")
    fork = bench.ws.show("main~2")[0].id
    for number in range(9):
        bench.commit(e.append("g", b"%d" % number))
        bench.commit(e.append("d/x", b"%d" % number), branch="side")
    context = bench.ws._context
    assert store(bench).meetings([bench.head(), bench.head("side")]) == [fork]
    below = lowers_of(context, fork)
    one, two = apart(context, bench.head(), bench.head("side"))
    assert one[-len(below) :] == two[-len(below) :] == below
    assert not set(one[: -len(below)]) & set(two[: -len(below)])
    three = apart(context, fork, bench.head(), bench.head("side"))
    assert three == [below, one, two]
    assert bench.lines("main", "side") == ["M d/x", "M f", "M g"]
    assert [len(view.find(b"f")) for view in stacks.trio(context, *[fork] * 3)] == [2, 2, 2]


def test_squash_takes_checkpoints_for_their_commits(bench):
    commits = [bench.commit(e.append("f", b"%d" % number)) for number in range(9)]
    before = bench.see()
    done = bench.ws.squash("main", since=commits[0])
    assert (done.replaced, done.copied) == (8, 0)
    assert_same(bench.view("main"), before)
    assert lowers(bench) == [done.commit.layer, *lowers(bench, commits[0])]


# --- when it goes wrong ---


def full(*arguments, **keywords):
    raise errors.StorageError("cannot make it: No space left on device", errno=errno.ENOSPC)


def interrupted(*arguments, **keywords):
    raise KeyboardInterrupt


STEPS = [
    "dsbranch._core.squash.plan_apart",
    "dsbranch.ops.build.built",
    "dsbranch.store.manifest.write",
    "dsbranch.store.database.Store.add_checkpoint",
    "dsbranch.store.writes.insert_checkpoint",
]


@pytest.mark.parametrize("failure", [full, interrupted])
@pytest.mark.parametrize("step", STEPS)
def test_a_checkpoint_that_fails_fails_no_commit(bench, monkeypatch, step, failure):
    for number in range(3):
        bench.commit(e.append("f", b"%d" % number))
    bench.edit(e.append("f", b"last"))
    real = bench.ws._context.store.runs
    armed = []

    def runs(*arguments):
        # Asked for the first time once the commit is made.
        if not armed and len(bench.ws.log("main")) == 5:
            armed.append(True)
            monkeypatch.setattr(step, failure)
        return real(*arguments)

    monkeypatch.setattr(bench.ws._context.store, "runs", runs)
    made = bench.ws.commit("main", "fourth").commit
    assert armed
    monkeypatch.undo()
    assert bench.head() == made.id
    assert checkpoints(bench) == []
    known = {row[0] for row in store(bench)._db.rows("SELECT id FROM layers")}
    assert set(os.listdir(bench.place / ".dsbranch" / "layers")) == known
    for number in range(4):
        bench.commit(e.append("g", b"%d" % number))
    assert len(lowers(bench)) == 1
    bench.ws.umount("main")
    bench.ws.mount("main")
    assert (bench.path() / "f").read_bytes().endswith(b"012last")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "step",
    [
        "dsbranch.ops.build:built",
        "dsbranch.ops.layers:write_manifest",
        "dsbranch.store.writes:insert_checkpoint",
        "dsbranch.store.database:Store.add_checkpoint",
    ],
)
def test_kill_9_while_a_checkpoint_is_made(bench, step, when):
    for number in range(3):
        bench.commit(e.append("f", b"%d" % number))
    bench.edit(e.append("f", b"last"), e.unlink("g"))
    before = bench.see()
    target = step
    if step.endswith("write_manifest"):
        # The first is the commit's own: dies at the second, by way of what only it calls.
        target = "dsbranch.ops.build:inherit"
    bench.killed("commit('main', 'fourth')", target, when)
    assert len(bench.ws.log("main")) == 5
    assert bench.ws.status("main").clean
    assert_same(bench.see(), before)
    assert_same(bench.view("main"), before)
    assert len(checkpoints(bench)) == (step.endswith("Store.add_checkpoint") and when == "after")
    for number in range(4):
        bench.commit(e.append("h1", b"%d" % number))
    assert len(lowers(bench)) <= 2


def test_while_another_process_makes_some_a_commit_makes_none(bench):
    with checkpoint_lock(bench.ws._context.layout, verb="commit"):
        start = time.monotonic()
        for number in range(4):
            bench.commit(e.append("f", b"%d" % number))
        assert time.monotonic() - start < 20
    assert checkpoints(bench) == []
    for number in range(4):
        bench.commit(e.append("f", b"%d" % number))
    assert len(lowers(bench)) == 1


# --- histories without checkpoints, and the kernel's limit ---


def stacked(bench, count: int) -> None:
    """`count` commits, each a file of its own, made in bulk below an unmounted branch."""
    context = bench.ws._context
    for number in range(count):
        branch = context.store.branch("main")
        with layers.new_layer(context, bench.data, work=False) as layer:
            place = context.layout.fs(layer.id)
            (place / f"n{number}").write_bytes(b"%d" % number)
            table = scan(os.fsencode(place), dialect=layer.dialect)
            sealed, checksum = layers.write_manifest(context, layer, table)
            made = layers.new_commit(
                sealed, checksum, parents=(branch.head,), message=f"{number}", author="ada"
            )
            context.store.record(
                "commit",
                Move(branch, branch._replace(head=made.id)),
                author="ada",
                detail="",
                layers=[sealed],
                commit=made,
            )


def shown(bench, ref: str) -> int:
    """How many of the files of `stacked` a commit shows, by a mount of its own."""
    return sum(path.startswith(b"n") for path in bench.view(ref))


def test_case_24_up_to_the_kernels_limit_and_beyond(adopt, monkeypatch):
    bench = adopt(Dir({"f": File(b"f")}))
    bench.ws.umount("main")
    stacked(bench, 501)
    ladder(bench, batch=0)
    for depth in (1, 2, 127, 128, 498):
        assert shown(bench, f"main~{501 - depth}") == depth
    # The base and an empty directory lie below a read-only view.
    for depth in (499, 500, 501):
        with pytest.raises(errors.UnsupportedError, match="the kernel stacks 500") as caught:
            bench.view(f"main~{501 - depth}")
        one_sentence(caught.value)
    bench.ws.create("most", start="main~2")
    assert len(list(bench.path("most").iterdir())) == 500
    with pytest.raises(errors.UnsupportedError, match="the kernel stacks 500"):
        bench.ws.create("more", start="main~1")
    assert checkpoints(bench) == []

    ladder(bench)
    with monkeypatch.context() as disk:
        disk.setattr("dsbranch.ops.build.built", full)
        assert shown(bench, "main~100") == 401
        with pytest.raises(errors.StorageError, match="No space left"):
            bench.view("main")
        with pytest.raises(errors.StorageError, match="No space left"):
            bench.ws.mount("main")
    assert shown(bench, "main") == 501
    assert len(lowers(bench)) == 1
    bench.ws.mount("main")
    assert len(list(bench.path().iterdir())) == 502
    assert bench.lines("main~500", "main") == sorted(f"A n{number}" for number in range(1, 501))
    assert shown(bench, "main~1") == 500
    bench.ws.squash("main", since="main~501")
    assert shown(bench, "main") == 501


def test_what_is_mounted_is_remembered_as_it_is(bench):
    for number in range(4):
        bench.commit(e.append("f", b"%d" % number))
    (record,) = [r for r in store(bench).mount_records() if r.layer]
    # The checkpoint came when the view was shown already.
    assert record.lowers == tuple(store(bench).stack(bench.head()))
    bench.ws.umount("main")
    bench.ws.mount("main")
    (record,) = [r for r in store(bench).mount_records() if r.layer]
    assert record.lowers == tuple(lowers(bench)) == (checkpoints(bench)[0].layer,)


def test_what_one_branch_is_asked_does_not_depend_on_how_many_there_are(bench, monkeypatch):
    read = []
    rows = store(bench)._db.rows
    monkeypatch.setattr(
        store(bench)._db, "rows", lambda *a: (found := rows(*a), read.extend(found))[0]
    )

    def effort(name: str) -> tuple[int, int]:
        del read[:]
        bench.ws.status("main")
        looked = len(read)
        bench.ws.create(name, mount=False)
        return looked, len(read) - looked

    few = effort("first")
    for number in range(60):
        bench.ws.create(f"b{number}", mount=False)
    assert effort("last") == few
    assert len(bench.ws.list()) == 63


def test_a_checkpoint_is_what_squash_would_make(bench):
    """The plan is the same, as long as nothing has to be put aside."""
    commits = [bench.commit(e.rename("d", "m"))]
    commits.append(bench.commit(e.append("m/x", b"1"), e.unlink("f")))
    commits.append(bench.commit(e.rename("m", "d"), e.add("f", Dir({"in": File(b"in")}))))
    commits.append(bench.commit(e.rmtree("e")))
    context = bench.ws._context
    parts = stacks.tables(context, store(bench).stack(bench.head()))
    expected = [step.path for step in plan(parts, [], stacks.base(context))]
    (made,) = checkpoints(bench)
    place = os.fsencode(bench.fs(made.layer))
    found = [b""] + [
        os.path.relpath(os.path.join(directory, name), place)
        for directory, inner, names in os.walk(place)
        for name in [*inner, *names]
    ]
    assert sorted(found) == sorted(expected)

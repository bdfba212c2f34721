"""``init``: what it makes, and what it refuses without a trace."""

from __future__ import annotations

import gc
import os
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

import dsbranch
from dsbranch import errors
from tests.cases import BASE
from tests.overlays import Overlay
from tests.trees import Dir, File, Symlink, acl, assert_same, make, put, snapshot

from .conftest import mount_filesystem, mounts, one_sentence, python

pytestmark = pytest.mark.root

ROOT_META = Dir(
    {"f": File(b"f")},
    mode=0o2750,
    uid=1234,
    gid=4321,
    mtime_ns=1_234_567_890_123_456_789,
    xattrs={"user.colour": b"blue", "system.posix_acl_access": acl(77, 5)},
)


def test_what_it_makes(bench):
    base = snapshot(bench.data)
    assert_same(bench.see(), base)
    assert sorted(os.listdir(bench.place)) == [".dsbranch", "main"]
    assert (bench.ws.root, bench.ws.base) == (bench.place, bench.data)
    (branch,) = bench.ws.list()
    assert (branch.name, branch.mountpoint, branch.depth) == ("main", bench.path(), 1)
    (root,) = bench.ws.log("main")
    assert (root.layer, root.parents) == (None, ())
    assert str(bench.data) in root.message
    assert abs(root.time_ns - time.time_ns()) < 60e9
    assert os.listdir(bench.upper()) == []


def test_the_dataset_is_not_touched_even_by_writing(bench):
    before = snapshot(bench.data), os.stat(bench.data).st_ctime_ns
    (bench.path() / "f").write_bytes(b"other")
    (bench.path() / "d" / "x").unlink()
    assert (snapshot(bench.data), os.stat(bench.data).st_ctime_ns) == before


def test_nothing_of_the_dataset_is_read_but_its_root(swept):
    data = swept / "data"
    make(BASE, data)
    (data / "d").chmod(0)
    opened = set()
    for path in [*data.rglob("*")]:
        if not path.is_symlink():
            os.utime(path, ns=(1, path.stat().st_mtime_ns))
            opened.add(path)
    dsbranch.init(data, swept / "ws").close()
    # A directory that is listed or a file that is read has a new access time.
    assert {path for path in opened if path.stat().st_atime_ns != 1} == set()


def test_the_root_of_the_view_has_the_metadata_of_the_dataset(adopt):
    bench = adopt(ROOT_META)
    assert bench.see()[b""] == snapshot(bench.data)[b""]
    assert bench.path().stat().st_mtime_ns == ROOT_META.mtime_ns
    assert bench.lines() == []


def test_the_workspace_lies_beside_the_dataset_by_default(swept):
    make(BASE, swept / "data")
    with dsbranch.init(swept / "data") as ws:
        assert ws.root == swept / "data.ws"
        assert (swept / "data.ws" / "main" / "f").read_bytes() == b"one\n"


def test_missing_parents_are_made_and_an_empty_directory_serves(swept):
    make(BASE, swept / "data")
    dsbranch.init(swept / "data", swept / "a" / "b" / "ws").close()
    assert (swept / "a/b/ws/main/f").exists()
    (swept / "empty").mkdir()
    dsbranch.init(swept / "data", swept / "empty").close()
    assert (swept / "empty/main/f").exists()


def test_without_a_mount(swept):
    make(BASE, swept / "data")
    with dsbranch.init(swept / "data", swept / "ws", mount=False) as ws:
        assert mounts(swept) == []
        assert os.listdir(swept / "ws") == [".dsbranch"]
        assert [branch.mounted for branch in ws.list()] == [False]
        ws.mount("main")
    assert (swept / "ws/main/f").exists()


def test_a_dataset_behind_a_symlink_is_adopted_where_it_lies(swept):
    make(BASE, swept / "data")
    (swept / "link").symlink_to("data")
    with dsbranch.init(swept / "link", swept / "ws") as ws:
        assert ws.base == swept / "data"


def test_relative_paths(swept, monkeypatch):
    make(BASE, swept / "data")
    monkeypatch.chdir(swept)
    with dsbranch.init("data", "ws") as ws:
        assert (ws.root, ws.base) == (swept / "ws", swept / "data")


def test_a_dataset_of_an_odd_name(swept):
    name = os.fsdecode(b"da:t,a\\ \n\xff\"'")
    make(BASE, swept / name)
    with dsbranch.init(swept / name, swept / (name + "ws")) as ws:
        assert snapshot(ws.root / "main") == snapshot(swept / name)
        (ws.root / "main" / "f").write_bytes(b"x")
        ws.commit("main", "x")
        (ws.root / "main" / "g").write_bytes(b"x")
        assert [change.path for change in ws.diff("main")] == [b"f", b"g"]
        assert ws.current_branch(ws.root / "main" / "d") == "main"


def test_a_read_only_dataset_and_one_on_another_filesystem(swept):
    data = mount_filesystem("tmpfs", swept / "data")
    make(BASE, data)
    subprocess.run(["mount", "-o", "remount,ro", data], check=True)
    with dsbranch.init(data, swept / "ws") as ws:
        (ws.root / "main" / "f").write_bytes(b"other")
        ws.commit("main", "other")
        assert (data / "f").read_bytes() == b"one\n"


def test_what_a_killed_init_left_is_removed(swept):
    make(BASE, swept / "data")
    (swept / "ws" / ".dsbranch.0123456789" / "layers").mkdir(parents=True)
    dsbranch.init(swept / "data", swept / "ws").close()
    assert sorted(os.listdir(swept / "ws")) == [".dsbranch", "main"]


@pytest.mark.parametrize(
    ("dataset", "workspace", "kind", "words"),
    [
        ("missing", "ws", errors.BadPath, "missing does not exist"),
        ("missing/deeper", "ws", errors.BadPath, "does not exist"),
        ("data/f", "ws", errors.BadPath, "is no directory"),
        ("data/f/deeper", "ws", errors.BadPath, "data/f/deeper"),
        ("loop", "ws", errors.BadPath, "loop"),
        ("dangling", "ws", errors.BadPath, "does not exist"),
        ("data", "data", errors.BadPath, "cannot be the dataset itself"),
        ("data", "data/ws", errors.BadPath, "lies inside the dataset"),
        ("data", "data/d/new/ws", errors.BadPath, "lies inside the dataset"),
        ("data", "inside/ws", errors.BadPath, "lies inside the dataset"),
        ("data", ".", errors.BadPath, "lies inside the workspace"),
        ("data/d/sub", "data", errors.BadPath, "lies inside the workspace"),
        ("data", "full", errors.AlreadyExists, "is not empty"),
        ("data", "data.file", errors.BadPath, "is no directory"),
        ("data", "data.file/ws", errors.BadPath, "data.file"),
        ("/", "ws", errors.BadPath, "root directory"),
    ],
)
def test_what_cannot_serve(swept, monkeypatch, dataset, workspace, kind, words):
    tree = {
        "data": BASE,
        "full": Dir({"file": File()}),
        "data.file": File(),
        "loop": Symlink("loop"),
        "dangling": Symlink("nowhere"),
        "inside": Symlink("data/d"),
    }
    for name, literal in tree.items():
        put(literal, swept, os.fsencode(name))
    monkeypatch.chdir(swept)
    # What earlier tests left to the collector is to go now, not in between.
    gc.collect()
    before = snapshot(swept), sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(kind, match=words) as caught:
        dsbranch.init(dataset, workspace)
    one_sentence(caught.value)
    assert caught.value.exit_code == 2
    assert (snapshot(swept), sorted(os.listdir("/proc/self/fd"))) == before
    assert mounts(swept) == []


def test_a_workspace_is_not_made_twice(bench):
    before = bench.traces()
    with pytest.raises(errors.AlreadyExists, match="is a workspace already") as caught:
        dsbranch.init(bench.data, bench.place)
    assert str(bench.place) in one_sentence(caught.value)
    assert bench.traces() == before


def test_a_workspace_on_another_overlay(swept):
    make(BASE, swept / "data")
    (swept / "o").mkdir()
    with Overlay(swept / "o", Dir({})) as other:
        before = snapshot(swept)
        with pytest.raises(errors.UnsupportedError, match="lies on an overlay itself") as caught:
            dsbranch.init(swept / "data", other.mountpoint / "ws")
        assert one_sentence(caught.value)
        assert caught.value.exit_code == 6
        assert snapshot(swept) == before


def test_a_workspace_inside_a_branch(bench):
    make(BASE, bench.root / "other")
    before = bench.traces()
    with pytest.raises(errors.UnsupportedError, match="overlay"):
        dsbranch.init(bench.root / "other", bench.path() / "d" / "ws")
    assert bench.see() == snapshot(bench.data)
    after = bench.traces()
    # Making and removing the directory copies its parent up.
    assert after["rows"] == before["rows"]
    assert bench.lines() == []


def test_a_workspace_on_a_read_only_filesystem(swept):
    make(BASE, swept / "data")
    mount_filesystem("tmpfs", swept / "ro", "-o", "ro")
    with pytest.raises(errors.DsbranchError, match=r"[Rr]ead-only") as caught:
        dsbranch.init(swept / "data", swept / "ro" / "ws")
    one_sentence(caught.value)
    with pytest.raises(errors.UnsupportedError, match="read-only") as caught:
        dsbranch.init(swept / "data", swept / "ro")
    one_sentence(caught.value)
    assert caught.value.exit_code == 6
    assert os.listdir(swept / "ro") == []


def test_a_filesystem_that_holds_no_upper(swept):
    make(BASE, swept / "data")
    mount_filesystem("ramfs", swept / "ram")
    with pytest.raises(errors.UnsupportedError, match="ramfs") as caught:
        dsbranch.init(swept / "data", swept / "ram" / "ws")
    one_sentence(caught.value)
    assert os.listdir(swept / "ram") == []


def test_not_a_workspace(swept):
    with pytest.raises(errors.NotAWorkspace, match="no dsbranch workspace") as caught:
        dsbranch.open(swept)
    assert str(swept) in one_sentence(caught.value)
    assert os.listdir(swept) == []


def test_a_store_of_a_newer_format(bench):
    bench.ws.close()
    with closing(sqlite3.connect(bench.place / ".dsbranch" / "store.db")) as db:
        db.execute("PRAGMA user_version = 3")
        db.commit()
    with pytest.raises(errors.NewerFormat) as caught:
        dsbranch.open(bench.place)
    one_sentence(caught.value)
    assert caught.value.exit_code == 6
    with closing(sqlite3.connect(bench.place / ".dsbranch" / "store.db")) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (3,)


def test_open_finds_the_workspace_from_inside(bench, monkeypatch):
    for start in (bench.place, bench.path() / "d" / "sub", bench.place / ".dsbranch" / "layers"):
        monkeypatch.chdir(start)
        with dsbranch.open() as ws:
            assert ws.root == bench.place
    bench.ws.mount("main", at=bench.root / "view", read_only=True)
    with dsbranch.open(bench.root / "view" / "d") as ws:
        assert ws.root == bench.place


def test_a_refused_mount_leaves_no_workspace(swept, monkeypatch):
    make(BASE, swept / "data")

    def refuse(*arguments, **keywords):
        raise errors.MountRefused("cannot mount", errno=22, hint="no")

    monkeypatch.setattr("dsbranch.ops.mounting.prepare_branch", refuse)
    with pytest.raises(errors.MountRefused):
        dsbranch.init(swept / "data", swept / "new" / "ws")
    assert os.listdir(swept) == ["data"]


def test_importing_is_light():
    done = python(
        "import sys, dsbranch; print([m for m in ('typer', 'pyarrow') if m in sys.modules])"
    )
    assert done.stdout == "[]\n", done


def test_the_base_gone(bench):
    bench.data.rename(bench.root / "moved")
    with pytest.raises(errors.IntegrityError, match=r"base .* is gone") as caught:
        bench.ws.status("main")
    one_sentence(caught.value)
    assert not Path(bench.data).exists()


@pytest.mark.parametrize(
    "left",
    [("main",), (".dsbranch.0123456789", "main"), (".dsbranch-probe-mdd71j7g", "main")],
)
def test_what_else_a_killed_init_leaves_is_in_nobodys_way(swept, left):
    make(BASE, swept / "data")
    for name in left:
        (swept / "ws" / name).mkdir(parents=True)
        if name != "main":
            (swept / "ws" / name / "upper").mkdir()
            # Old enough to be nobody's who is at it just now.
            os.utime(swept / "ws" / name, (0, 0))
    dsbranch.init(swept / "data", swept / "ws").close()
    assert sorted(os.listdir(swept / "ws")) == [".dsbranch", "main"]
    assert (swept / "ws" / "main" / "f").exists()


def test_what_only_looks_like_a_leftover_is_kept(swept):
    make(BASE, swept / "data")
    make(Dir({"main": Dir({"mine": File()})}), swept / "ws")
    before = snapshot(swept)
    with pytest.raises(errors.AlreadyExists, match="not empty"):
        dsbranch.init(swept / "data", swept / "ws")
    assert snapshot(swept) == before


def test_a_workspace_of_a_name_too_long(swept):
    make(BASE, swept / "data")
    with pytest.raises(errors.DsbranchError, match="too long") as caught:
        dsbranch.init(swept / "data", swept / ("n" * 256))
    one_sentence(caught.value)
    assert os.listdir(swept) == ["data"]


def test_another_init_works_there(swept, hold):
    make(BASE, swept / "data")
    (swept / "ws" / ".dsbranch.0123456789").mkdir(parents=True)
    hold(
        "import fcntl\nheld = os.open(sys.argv[1], os.O_RDONLY)\nfcntl.flock(held, fcntl.LOCK_EX)",
        swept / "ws",
    )
    with pytest.raises(errors.Locked, match="another dsbranch command is making a workspace"):
        dsbranch.init(swept / "data", swept / "ws")
    assert os.listdir(swept / "ws") == [".dsbranch.0123456789"]

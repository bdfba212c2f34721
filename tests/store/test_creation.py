import os
import signal
import subprocess

import pytest

from dsbranch.errors import AlreadyExists, Locked, StorageError
from dsbranch.store.creation import is_leftover
from dsbranch.store.database import Store
from dsbranch.store.identity import commit_id
from dsbranch.store.layout import Layout, find_workspace

KILLED_WHILE_PREPARING = """
import os, sys
from pathlib import Path
from dsbranch.store.database import Store
def prepare(fs):
    print("prepared", flush=True)
    if sys.argv[3] == "die":
        os.kill(os.getpid(), 9)
    sys.stdin.readline()
Store.create(Path(sys.argv[1]), Path(sys.argv[2]), "trusted", author="ada", prepare=prepare)
"""


def test_a_new_workspace_is_complete(store, root, base):
    assert store.base == base
    assert store.base_identity == (base.stat().st_dev, base.stat().st_ino)
    assert store.dialect == "trusted"
    branch = store.branch("main")
    assert [b.name for b in store.branches()] == ["main"]
    commit = store.commit(branch.head)
    assert (
        commit.id
        == branch.fork
        == commit_id(
            author="ada",
            layer=store.id,
            manifest_sha256=None,
            message=commit.message,
            parents=(),
            time_ns=commit.time_ns,
        )
    )
    assert (commit.parents, commit.layer) == ((), None)
    assert store.stack(branch.head) == []
    layer = store.layer(branch.layer)
    assert (layer.state, layer.dialect, layer.sealed_ns) == ("open", "trusted", None)
    (operation,) = store.operations(10)
    assert (operation.verb, operation.author) == ("init", "ada")
    (move,) = operation.moves
    assert (move.name, move.before) == ("main", None)
    assert move.after is not None
    assert (move.after.head, move.after.layer) == (branch.head, branch.layer)

    layout = store.layout
    assert layout == Layout(root)
    assert sorted(os.listdir(layout.layer(branch.layer))) == ["fs", "work"]
    assert sorted(os.listdir(root)) == [".dsbranch"]
    for directory in (layout.locks, layout.empty):
        assert os.listdir(directory) == []
    assert layout.config.is_file()


def test_the_layer_is_prepared_before_anything_shows(root, base):
    def prepare(fs):
        assert find_workspace(root) is None
        (fs / "made").mkdir()

    with_layer = Store.create(root, base, "user", author="ada", prepare=prepare)
    assert (with_layer.layout.fs(with_layer.branch("main").layer) / "made").is_dir()
    assert with_layer.dialect == "user"
    with_layer.close()


def test_a_failing_preparation_leaves_nothing(root, base):
    def prepare(fs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Store.create(root, base, "trusted", author="ada", prepare=prepare)
    assert os.listdir(root) == []


def test_a_missing_base_leaves_nothing(root, tmp_path):
    with pytest.raises(StorageError, match="No such file"):
        Store.create(root, tmp_path / "missing", "trusted", author="ada")
    assert os.listdir(root) == []


def test_a_second_workspace_in_the_same_place_is_refused(store, root, base):
    before = store.branch("main")
    with pytest.raises(AlreadyExists):
        Store.create(root, base, "trusted", author="bob")
    assert os.listdir(root) == [".dsbranch"]
    assert store.branch("main") == before


def test_a_killed_attempt_leaves_no_workspace_and_is_swept(root, base, program):
    process = program(KILLED_WHILE_PREPARING, root, base, "die")
    assert process.wait(20) == -signal.SIGKILL
    (left,) = os.listdir(root)
    assert is_leftover(left)
    assert find_workspace(root) is None
    Store.create(root, base, "trusted", author="ada").close()
    assert os.listdir(root) == [".dsbranch"]


def test_two_attempts_at_once(root, base, program):
    process = program(KILLED_WHILE_PREPARING, root, base, "wait")
    assert process.stdout.readline() == "prepared\n"
    with pytest.raises(Locked):
        Store.create(root, base, "trusted", author="bob")
    process.communicate("\n", timeout=20)
    assert process.returncode == 0
    assert os.listdir(root) == [".dsbranch"]
    store = Store.open(root)
    assert store.operations(1)[0].author == "ada"
    store.close()


@pytest.mark.parametrize(
    ("name", "leftover"),
    [
        (".dsbranch.0123456789", True),
        (".dsbranch", False),
        (".dsbranch.0123456789x", False),
        (".dsbranch.backup", False),
        ("xdsbranch.0123456789", False),
    ],
)
def test_only_our_own_names_are_leftovers(name, leftover):
    assert is_leftover(name) is leftover


def test_bytes_that_are_no_utf8(tmp_path):
    root, base = tmp_path / os.fsdecode(b"w\xff s?%20#"), tmp_path / os.fsdecode(b"d\xfe")
    root.mkdir()
    base.mkdir()
    store = Store.create(root, base, "trusted", author="ada")
    assert store.base == base
    assert store.commit(store.branch("main").head).message == f"adopt {tmp_path}/d\\xfe"
    store.close()


def test_the_store_is_safe_against_power_loss(store):
    assert store._db.row("PRAGMA journal_mode") == ("wal",)
    assert store._db.row("PRAGMA synchronous") == (2,)
    assert store._db.row("PRAGMA foreign_keys") == (1,)
    assert store._db.row("PRAGMA user_version") == (2,)


@pytest.mark.root
def test_a_full_disk_leaves_nothing(small_disk, base):
    root = small_disk / "ws"
    root.mkdir()
    (small_disk / "filler").write_bytes(bytes((1 << 20) - (48 << 10)))
    with pytest.raises(StorageError, match="No space left on device") as caught:
        Store.create(root, base, "trusted", author="ada")
    assert caught.value.hint
    assert os.listdir(root) == []
    (small_disk / "filler").unlink()
    Store.create(root, base, "trusted", author="ada").close()


@pytest.mark.root
def test_a_read_only_disk_says_so(small_disk, base):
    root = small_disk / "ws"
    root.mkdir()
    Store.create(root, base, "trusted", author="ada").close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StorageError, match="Read-only file system"):
        Store.open(root)
    other = small_disk / "other"
    with pytest.raises(StorageError):
        Store.create(other, base, "trusted", author="ada")

import os
from pathlib import Path

import pytest

from dsbranch.errors import StorageError
from dsbranch.store.layout import Layout, _holds_store, find_workspace, new_layer_id


def place_store(root: Path) -> Path:
    (root / ".dsbranch").mkdir(parents=True)
    (root / ".dsbranch/store.db").touch()
    return root


def test_paths():
    layout = Layout(Path("/ws"))
    assert layout.db == Path("/ws/.dsbranch/store.db")
    assert layout.config == Path("/ws/.dsbranch/config.toml")
    assert layout.locks == Path("/ws/.dsbranch/locks")
    assert layout.empty == Path("/ws/.dsbranch/empty")
    assert layout.layer("a") == Path("/ws/.dsbranch/layers/a")
    assert layout.fs("a") == Path("/ws/.dsbranch/layers/a/fs")
    assert layout.work("a") == Path("/ws/.dsbranch/layers/a/work")
    assert layout.manifest("a") == Path("/ws/.dsbranch/layers/a/manifest.parquet")
    assert layout.index_file("a") == Path("/ws/.dsbranch/layers/a/index")


@pytest.mark.parametrize("work", [True, False])
def test_layer_directories(tmp_path, work):
    layout = Layout(tmp_path)
    layout.layers.mkdir(parents=True)
    id = new_layer_id()
    layout.make_layer_dirs(id, work=work)
    assert sorted(os.listdir(layout.layer(id))) == (["fs", "work"] if work else ["fs"])
    with pytest.raises(StorageError, match="File exists"):
        layout.make_layer_dirs(id, work=work)


def test_a_layer_without_a_workspace_is_a_storage_error(tmp_path):
    with pytest.raises(StorageError, match="No such file"):
        Layout(tmp_path).make_layer_dirs("0123456789", work=True)


@pytest.mark.parametrize("below", [".", "main", "main/a/b", "not/there", "file/below"])
def test_the_workspace_is_found_from_below(tmp_path, below):
    root = place_store(tmp_path / "ws")
    (root / "main/a/b").mkdir(parents=True)
    (root / "file").touch()
    assert find_workspace(root / below) == root


def test_the_nearest_workspace_wins(tmp_path):
    place_store(tmp_path)
    inner = place_store(tmp_path / "a/b")
    assert find_workspace(inner / "c") == inner
    assert find_workspace(tmp_path / "a") == tmp_path


def test_no_workspace(tmp_path):
    (tmp_path / ".dsbranch").mkdir()  # without a store: a directory of that name, no more
    assert find_workspace(tmp_path) is None


def test_above_is_meant_physically(tmp_path):
    place_store(tmp_path / "lexical")
    real = place_store(tmp_path / "real")
    (real / "inner").mkdir()
    (tmp_path / "lexical/link").symlink_to(real / "inner")
    assert find_workspace(tmp_path / "lexical/link") == real


@pytest.mark.parametrize("what", [".dsbranch", ".dsbranch/store.db"])
def test_a_symlinked_store_is_passed_over(tmp_path, what):
    outer = place_store(tmp_path / "outer")
    inner = outer / "inner"
    (inner / ".dsbranch").mkdir(parents=True)
    if what == ".dsbranch":
        (inner / ".dsbranch").rmdir()
    (inner / what).symlink_to(outer / what)
    assert find_workspace(inner) == outer


def test_names_too_long_are_no_workspace(tmp_path):
    root = place_store(tmp_path / "ws")
    assert find_workspace(root / ("n" * 300)) == root


def test_a_relative_start(tmp_path, monkeypatch):
    root = place_store(tmp_path / "ws")
    monkeypatch.chdir(root)
    assert find_workspace(Path("main/x")) == root


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_a_store_closed_to_us_is_still_the_workspace(tmp_path, monkeypatch):
    root = place_store(tmp_path / "ws")
    (root / ".dsbranch").chmod(0o700)
    monkeypatch.chdir(root)  # as the directories of pytest above it are closed, too
    os.seteuid(65534)
    try:
        assert _holds_store(Path())
    finally:
        os.seteuid(0)

"""What doctor says, as whoever runs the tests; those marked need disks of their own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

import dsbranch
from dsbranch.errors import BadPath
from dsbranch.model.health import Check, Checkup
from dsbranch.ops import doctor as module
from dsbranch.overlay.probe import filesystem
from tests.overlay.conftest import become_nobody, in_child
from tests.trees import Dir, File, make, snapshot

from .conftest import mount_filesystem, mounts


def named(found: Checkup) -> dict[str, Check]:
    assert all("\n" not in text for check in found.checks for text in check[2:] if text)
    # The same name twice would hide one.
    assert len({check.name for check in found.checks}) == len(found.checks)
    return {check.name: check for check in found.checks}


def examine(place: Path, dataset: Path | None = None) -> dict[str, Check]:
    """After a look that nothing was left behind."""
    before = snapshot(place), mounts(place)
    checks = named(dsbranch.doctor(place, dataset=dataset))
    assert (snapshot(place), mounts(place)) == before
    return checks


def test_anybody_may_ask(tmp_path: Path) -> None:
    checks = examine(tmp_path)
    assert {"kernel", "mounting", "user namespaces", "fuse-overlayfs", "store"} <= set(checks)
    assert {"space", "inodes", "open files", "mounts", "layers"} <= set(checks)
    assert "owners" not in checks


def test_a_directory_that_is_not_made_yet(tmp_path: Path) -> None:
    found = dsbranch.doctor(tmp_path / "not" / "yet")
    assert (found.place, found.dataset) == (tmp_path, None)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_directory(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(BadPath, match="file is no directory"):
        dsbranch.doctor(file)
    with pytest.raises(BadPath, match="file is no directory"):
        dsbranch.doctor(tmp_path, dataset=file)
    with pytest.raises(BadPath, match="gone is no directory"):
        dsbranch.doctor(tmp_path, dataset=tmp_path / "gone")


def test_the_dataset_stays_as_it_is(tmp_path: Path) -> None:
    data, place = tmp_path / "data", tmp_path / "place"
    make(Dir({"a": File(b"1"), "d": Dir({"b": File(b"2")})}), data)
    place.mkdir()
    before = snapshot(data), os.stat(data).st_mtime_ns
    found = dsbranch.doctor(place, dataset=data)
    assert found.dataset == data
    assert (snapshot(data), os.stat(data).st_mtime_ns) == before


def test_large_files_are_counted_to_the_second_level(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name, size in {"large": 3 * 10**9, "d/large": 2 * 10**9, "d/e/large": 4 * 10**9}.items():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).touch()
        os.truncate(data / name, size)
    assert module._look(data) == (4, 0, 0, 2, 3 * 10**9)


def test_no_more_is_looked_at_than_is_quick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(Dir({str(name): File(b"") for name in range(9)}), tmp_path / "data")
    monkeypatch.setattr(module, "_LOOK_AT", 5)
    assert module._look(tmp_path / "data").seen == 5


def test_an_old_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.os, "uname", lambda: SimpleNamespace(release="6.7.12-generic"))
    assert module._kernel().state == "warn"
    monkeypatch.setattr(module.os, "uname", lambda: SimpleNamespace(release="6.10.0"))
    assert module._kernel().state == "ok"


def test_limits_that_will_bite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {module._mounts().state, module._open_files().state} == {"ok"}
    monkeypatch.setattr(module.mountinfo, "current", lambda: range(10**9))
    assert "mount-max" in str(module._mounts().advice)
    monkeypatch.setattr(module.resource, "getrlimit", lambda _: (100, 200))
    assert "200" in module._open_files().found
    assert "ulimit" in str(module._open_files().advice)
    monkeypatch.setattr(module.resource, "getrlimit", lambda _: (100, -1))
    assert module._open_files().state == "ok"


@pytest.mark.root
def test_in_a_workspace(bench) -> None:
    before = bench.traces()
    checks = named(dsbranch.doctor(bench.place))
    assert bench.traces() == before
    assert checks["layers"].found.endswith("main, is made of 1")
    bench.commit(lambda path: (path / "new").touch())
    for place in (bench.place / "main", bench.place / ".dsbranch"):
        found = dsbranch.doctor(place)
        assert (found.place, found.dataset, found.failed) == (bench.place, bench.data, ())
        assert named(found)["layers"].found.endswith("main, is made of 2")
    assert dsbranch.doctor(bench.place, dataset="/usr").dataset == Path("/usr")


@pytest.mark.root
def test_a_deep_branch_is_to_be_squashed(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MANY_LAYERS", 0)
    check = named(dsbranch.doctor(bench.place))["layers"]
    assert (check.state, check.advice) == ("warn", "`dsbranch squash main` makes one of many")


@pytest.mark.root
def test_a_dataset_that_is_gone(bench) -> None:
    bench.ws.umount("main")
    bench.data.rename(bench.root / "elsewhere")
    found = dsbranch.doctor(bench.place)
    assert [check.name for check in found.failed] == ["dataset"]
    assert "is gone" in found.failed[0].found
    assert found.dataset is None


@pytest.mark.root
def test_a_store_that_cannot_be_opened(bench) -> None:
    bench.ws.umount("main")
    (bench.place / ".dsbranch" / "store.db").write_bytes(b"nonsense" * 1000)
    found = dsbranch.doctor(bench.place)
    assert [check.name for check in found.failed] == ["workspace"]


@pytest.mark.root
@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_reflinks_are_of_use_on_one_filesystem_only(swept: Path, kind: str) -> None:
    image, disk = swept / "image", swept / "disk"
    with image.open("wb") as file:
        file.truncate(400 << 20)
    made = subprocess.run(["mkfs", "-t", kind, "-q", image], capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"no mkfs.{kind}: {made.stderr.decode(errors='replace')}")
    mount_filesystem(kind, disk, "-o", "loop", source=image)
    place, data, elsewhere = disk / "place", disk / "data", swept / "data"
    for directory in (place, data, elsewhere):
        directory.mkdir()
    both = [examine(place, base) for base in (data, elsewhere)]
    assert [checks["dataset"].found for checks in both] == [
        f"{kind} can lie below them, on the same filesystem",
        f"{filesystem(elsewhere)} can lie below them, on another filesystem",
    ]
    here, apart = (checks["reflink"] for checks in both)
    assert here.state == ("warn" if kind == "ext4" else "ok")
    assert here.found.startswith(kind)
    assert apart.state == "warn"
    assert "another filesystem" in apart.found
    assert examine(place)["reflink"].state == here.state
    (data / "large").touch()
    os.truncate(data / "large", 2 * 10**9)
    assert (
        "1 of 1 looked at are over 1 GB, up to 2.0 GB" in examine(place, data)["reflink"].found
    ) == (kind == "ext4")
    assert ("as many as fit" in examine(place)["inodes"].found) == (kind == "btrfs")


@pytest.mark.root
def test_little_room(swept: Path) -> None:
    checks = examine(mount_filesystem("tmpfs", swept / "disk", "-o", "size=8m,nr_inodes=100"))
    assert [checks[name].state for name in ("store", "space", "inodes")] == ["ok", "warn", "warn"]
    full = mount_filesystem("tmpfs", swept / "full", "-o", "size=4k,nr_inodes=1")
    assert examine(full)["store"].state == "fail"


@pytest.fixture
def open_to_all(tmp_path: Path) -> None:
    """Else what lies there can be reached by nobody but root."""
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o755)


@pytest.mark.root
@pytest.mark.usefixtures("open_to_all")
def test_as_an_ordinary_user(tmp_path: Path) -> None:
    ours, place = tmp_path / "ours", tmp_path / "place"
    make(Dir({"a": File(b"1"), "closed": Dir({"b": File(b"2")})}), ours)
    (ours / "closed").chmod(0o700)
    place.mkdir()
    os.chown(place, 65534, 65534)
    answer = in_child(become_nobody, lambda: dsbranch.doctor(place, dataset=ours))
    assert isinstance(answer, Checkup), answer
    checks = named(answer)
    _, state, said, advice = checks["owners"]
    assert (state, said) == (
        "warn",
        "2 of 3 entries looked at belong to others, 1 closed to you",
    )
    assert "root" in str(advice)
    assert checks["mounting"].state == "warn"
    assert list(place.iterdir()) == []


@pytest.mark.root
@pytest.mark.usefixtures("open_to_all")
def test_as_an_ordinary_user_in_a_workspace_of_root(bench) -> None:
    answer = in_child(become_nobody, lambda: dsbranch.doctor(bench.place))
    assert isinstance(answer, Checkup), answer
    assert [check.name for check in answer.failed] == ["workspace", "store"]


@pytest.mark.root
def test_what_an_ordinary_user_cannot_reach(tmp_path: Path) -> None:
    place = tmp_path / "closed" / "place"
    place.mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    for ask in (lambda: dsbranch.doctor(place), lambda: dsbranch.doctor("/", dataset=place)):
        answer = in_child(become_nobody, ask)
        assert isinstance(answer, tuple)
        name, said, hint = answer
        assert name == "NoPrivilege"
        assert str(place) in said
        assert "root" in hint

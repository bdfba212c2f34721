"""``inspect``: any overlay explained, and what its upper changed; the kernel is the judge."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from dsbranch import errors, workspace
from dsbranch.model.overlays import Overlay as Explained
from dsbranch.ops import adopt
from dsbranch.overlay.kernel import KernelDriver
from tests import edits as e
from tests import leaks, truth
from tests.cases import BASE, CASES, USER_CASES, Case, Raw
from tests.overlay.conftest import become_nobody, in_child
from tests.overlays import OPTIONS, Overlay
from tests.trees import Dir, File, assert_same, snapshot

from .conftest import one_sentence, said

pytestmark = pytest.mark.root

# Layers that the kernel itself cannot read (ESTALE).
UNREADABLE = "18-"
WORKABLE = [case for case in CASES if not case.id.startswith(UNREADABLE)]
TRUSTED = [(case, "trusted") for case in WORKABLE]
USER = [(case, "user") for case in USER_CASES if not case.id.startswith(UNREADABLE)]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Overlay]:
    with Overlay(tmp_path, BASE) as overlay:
        yield overlay


def stacked(overlay: Overlay, case: Case) -> None:
    """The case's layers, the last one the upper."""
    for number, layer in enumerate(case.layers):
        if isinstance(layer, Raw):
            overlay.unmount()
            for edit in layer.edits(overlay.dialect):
                edit(overlay.upper)
            overlay.mount()
            continue
        if number:
            overlay.freeze()
        overlay.edit(*layer)


def changed(overlay: Overlay, **options: object) -> list[str]:
    explained = workspace.inspect(overlay.mountpoint, sizes=False)
    return said(workspace.overlay_changes(explained, **options))


@pytest.mark.parametrize(
    ("case", "dialect"), TRUSTED + USER, ids=[f"{c.id}-{dialect}" for c, dialect in TRUSTED + USER]
)
def test_changes_are_what_the_mount_shows(case, dialect, tmp_path):
    with Overlay(tmp_path, case.base, dialect=dialect) as overlay:
        stacked(overlay, case)
        expected = truth.by_path(overlay.snapshot_below(), overlay.snapshot())
        explained = workspace.inspect(overlay.mountpoint, sizes=False)
        found = list(workspace.overlay_changes(explained, renames=False))
        assert truth.plain(found) == expected
        if len(overlay.lowers) == 0:
            assert changed(overlay) == list(case.expected)


def test_an_overlay_explained(stack):
    stack.edit(e.append("f", b"more"), e.unlink("g"), e.chmod("h1", 0o600))
    stack.freeze()
    stack.edit(e.add("new", File(b"n" * 10_000)))
    found = workspace.inspect(stack.mountpoint / "d")
    assert found.name == "dsbranch-test"
    assert [place.path for place in found.mounted if place.process is None] == [stack.mountpoint]
    assert [(part.role, part.path) for part in found.parts] == [
        ("upper", stack.upper),
        ("work", stack.upper.parent / "work"),
        ("lower", stack.lowers[0]),
        ("lower", stack.base),
    ]
    assert all(part.found and part.belongs is None for part in found.parts)
    assert (found.dialect, found.read_only, found.notes) == ("trusted", False, ())
    assert ("metacopy", "on") in found.options
    for part in found.parts:
        if part.role != "work":
            assert part.bytes == blocks(part.path)
            assert part.inodes == sum(1 for _ in inodes(part.path))
    bare = workspace.inspect(stack.mountpoint, sizes=False)
    assert {(part.bytes, part.inodes) for part in bare.parts} == {(None, None)}


def inodes(root: Path) -> dict[int, os.stat_result]:
    paths = [root, *root.rglob("*")]
    return {path.lstat().st_ino: path.lstat() for path in paths}


def blocks(root: Path) -> int:
    return sum(status.st_blocks * 512 for status in inodes(root).values())


def test_userxattr_is_told(tmp_path):
    with Overlay(tmp_path, BASE, dialect="user") as overlay:
        found = workspace.inspect(overlay.mountpoint)
    assert found.dialect == "user"
    assert ("userxattr", "") in found.options


def test_changes_are_limited_to_paths(stack):
    stack.edit(e.rename("d/x", "moved"), e.append("e/m", b"1"), e.unlink("g"))
    assert changed(stack) == ["M e/m", "D g", "R moved < d/x"]
    assert changed(stack, paths=[b"e", b"d/"]) == ["M e/m", "R moved < d/x"]
    assert changed(stack, paths=[b"g", b""]) == ["M e/m", "D g", "R moved < d/x"]


def test_a_touched_file_is_no_change_and_one_with_its_old_times_is(stack):
    when = (stack.base / "f").stat().st_mtime_ns
    stack.edit(e.open_and_close("g"), e.rewrite("f", b"eno\n"), e.utime("f", when))
    assert (stack.upper / "g").exists()
    assert changed(stack) == ["M f"]


def test_nothing_is_written(stack, tmp_path):
    stack.edit(e.unlink("g"), e.rename("d", "dd"))
    before = snapshot(tmp_path)
    assert changed(stack) == ["R dd < d", "D g"]
    assert snapshot(tmp_path) == before


def test_a_read_only_view_has_no_changes(stack):
    stack.freeze()
    point = stack.root / "look"
    point.mkdir()
    lowers = f"lowerdir={stack.lowers[0]}:{stack.base}"
    with stack._mounted(lowers, point):
        found = workspace.inspect(point)
        assert found.upper is None
        assert "no upper directory" in found.notes[0]
        with pytest.raises(errors.UnsupportedError) as caught:
            workspace.overlay_changes(found)
        assert "no upper" in one_sentence(caught.value)


def test_lowers_that_hold_data_only_are_not_compared(stack):
    point, upper = stack.root / "look", stack.root / "u" / "fs"
    for path in (point, upper, upper.parent / "work", stack.root / "data"):
        path.mkdir(parents=True)
    options = (
        f"lowerdir={stack.base}::{stack.root / 'data'},upperdir={upper},"
        f"workdir={upper.parent / 'work'},metacopy=on,redirect_dir=on"
    )
    with stack._mounted(options, point):
        found = workspace.inspect(point)
        assert [part.role for part in found.parts] == ["upper", "work", "lower", "data"]
        with pytest.raises(errors.UnsupportedError) as caught:
            workspace.overlay_changes(found)
        assert "data only" in one_sentence(caught.value)


def test_an_upper_that_was_made_read_only_is_noted(stack):
    KernelDriver().set_read_only(stack.mountpoint)
    found = workspace.inspect(stack.mountpoint)
    assert found.read_only
    assert "read-only, though it has an upper" in found.notes[0]


def test_two_mounts_of_one_upper_are_noted(stack):
    stack.edit(e.unlink("g"))
    assert workspace.inspect(stack.mountpoint).notes == ()
    second = stack.root / "second"
    second.mkdir()
    options = f"lowerdir={stack.base},upperdir={stack.upper},workdir={stack.upper.parent}/work"
    with stack._mounted(options + ",index=off,uuid=null", second):
        assert "the same upper directory" in workspace.inspect(stack.mountpoint).notes[0]
        assert "the same upper directory" in workspace.inspect(second).notes[0]


def test_what_is_no_overlay(tmp_path):
    for path in (tmp_path, tmp_path / "absent", Path("/proc")):
        with pytest.raises(errors.BadPath) as caught:
            workspace.inspect(path)
        assert str(path) in one_sentence(caught.value)


def test_all_groups_the_mounts_of_one_superblock(stack, hold):
    bound = stack.root / "bound"
    bound.mkdir()
    subprocess.run(["mount", "--bind", stack.mountpoint / "d", bound], check=True)
    try:
        other = hold("", before=["unshare", "-m"])
        found = [
            one for one in workspace.inspect_all() if one.upper and one.upper.path == stack.upper
        ]
        (ours,) = found
        here = [(p.path, p.root) for p in ours.mounted if p.process is None]
        there = [p.path for p in ours.mounted if p.process and p.process.pid == other.pid]
        assert here == [(stack.mountpoint, Path("/")), (bound, Path("/d"))]
        assert there == [stack.mountpoint, bound]
    finally:
        subprocess.run(["umount", bound], check=True)


def test_a_mount_that_only_another_namespace_has(stack, hold):
    point = stack.root / "hidden"
    for path in (point, stack.root / "u" / "fs", stack.root / "u" / "work"):
        path.mkdir(parents=True)
    options = f"lowerdir={stack.base},upperdir=u/fs,workdir=u/work"
    script = (
        "import subprocess\n"
        "subprocess.run(['mount', '-t', 'overlay', '-o', sys.argv[1], 'hidden', 'hidden'],"
        " cwd=sys.argv[2], check=True)"
    )
    other = hold(script, options, stack.root, before=["unshare", "-m"])
    (found,) = [one for one in workspace.inspect_all() if one.name == "hidden"]
    (place,) = found.mounted
    assert place.process is not None
    assert (place.path, place.process.pid) == (point, other.pid)
    assert found.upper is not None
    assert (found.upper.path, found.upper.found) == (stack.root / "u" / "fs", True)
    assert said(workspace.overlay_changes(found)) == []


def test_the_layers_of_a_workspace_are_told(bench):
    first = bench.commit(e.append("f", b"1"), message="first one\n\nbody")
    bench.edit(e.unlink("g"))
    found = workspace.inspect(bench.path())
    told = [part.belongs for part in found.parts if part.role != "work"]
    assert all(one is not None and one.workspace == bench.place for one in told)
    assert [(one.what, one.branch, one.commit) for one in told if one] == [
        ("open", "main", None),
        ("commit", None, first),
        ("dataset", None, None),
    ]
    assert found.parts[-1].bytes is None
    assert said(workspace.overlay_changes(found)) == bench.lines() == ["D g"]


def test_a_read_only_view_and_an_undone_commit(bench):
    look = bench.root / "look"
    bench.ws.mount(bench.head(), at=look, read_only=True)
    found = workspace.inspect(look)
    assert [part.belongs and part.belongs.what for part in found.parts] == ["dataset", "empty"]
    bench.ws.umount(str(look))
    bench.commit(e.append("f", b"1"))
    bench.ws.undo()
    lowers = workspace.inspect(bench.path()).lowers
    assert [part.belongs and part.belongs.what for part in lowers] == ["commit", "dataset"]
    bench.ws.gc(keep=0)
    lowers = workspace.inspect(bench.path()).lowers
    assert [part.belongs and part.belongs.what for part in lowers] == ["pending", "dataset"]


def test_a_store_that_cannot_be_read_is_no_obstacle(bench):
    store = bench.place / ".dsbranch" / "store.db"
    bench.commit(e.append("f", b"1"))
    bench.ws.close()
    store.write_bytes(b"no store" * 1000)
    found = workspace.inspect(bench.path())
    assert [part.belongs and part.belongs.what for part in found.lowers] == ["kept", None]
    assert found.upper is not None
    assert found.upper.belongs is not None
    assert found.upper.belongs.workspace == bench.place


def test_a_branch_below_something_else(bench, swept):
    for name in ("u", "w", "m"):
        (bench.root / name).mkdir()
    options = f"lowerdir={bench.path()},upperdir={bench.root}/u,workdir={bench.root}/w"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "above", bench.root / "m"], check=True)
    found = workspace.inspect(bench.root / "m")
    (lower,) = found.lowers
    assert lower.belongs is not None
    assert (lower.belongs.what, lower.belongs.branch) == ("view", "main")


# Containers


def document(overlay: Overlay) -> bytes:
    data = {
        "LowerDir": ":".join(
            str(path).replace(":", "\\:") for path in [*overlay.lowers, overlay.base]
        ),
        "UpperDir": str(overlay.upper),
        "WorkDir": str(overlay.upper.parent / "work"),
    }
    driver = {"Name": "overlay2", "Data": data}
    return json.dumps([{"Name": "/web", "GraphDriver": driver}]).encode()


def container(document: bytes) -> Explained:
    (found,) = workspace.inspect_containers(document)
    return found


@pytest.mark.parametrize("dialect", ["trusted", "user"])
def test_a_container_that_is_stopped_and_one_that_runs(dialect, tmp_path):
    with Overlay(tmp_path, BASE, dialect=dialect) as overlay:
        overlay.edit(e.unlink("d/x"))
        overlay.freeze()
        overlay.edit(e.add("new", File(b"new")), e.unlink("g"), e.recreate("e", Dir()))
        running = container(document(overlay))
        expected = said(workspace.overlay_changes(running))
        assert overlay.mountpoint in [place.path for place in running.mounted]
        assert expected == ["D e/d", "D e/d/deep", "D e/m", "D g", "A new"]
        overlay.unmount()
        stopped = container(document(overlay))
        assert stopped.mounted == ()
        assert (stopped.name, stopped.dialect) == ("web", dialect)
        assert [part._replace(bytes=None, inodes=None) for part in stopped.parts] == [
            part._replace(bytes=None, inodes=None) for part in running.parts
        ]
        assert said(workspace.overlay_changes(stopped)) == expected


@pytest.fixture
def cgroup(tmp_path: Path) -> Iterator[Path]:
    """A control group with a name like an engine's."""
    place = tmp_path / "cgroup"
    place.mkdir()
    subprocess.run(["mount", "-t", "cgroup2", "none", place], check=True)
    with ExitStack() as made:
        made.callback(subprocess.run, ["umount", place], check=True)
        group = place / f"docker-{os.urandom(32).hex()}.scope"
        group.mkdir()
        made.callback(group.rmdir)
        yield group
        for pid in (group / "cgroup.procs").read_text().split():
            (place / "cgroup.procs").write_text(pid)


def test_a_container_whose_engine_names_no_directories(stack, hold, cgroup):
    stack.edit(e.add("new", File(b"new")))
    inside = hold(
        "os.chroot(sys.argv[1]); os.chdir('/')", stack.mountpoint, before=["unshare", "-m"]
    )
    beside = hold("")
    id = cgroup.name[len("docker-") : -len(".scope")]

    def document(pid: int) -> bytes:
        storage = {"RootFS": {"Snapshot": {"Name": "overlayfs"}}}
        item = {"Id": id, "Driver": "overlayfs", "Storage": storage, "State": {"Pid": pid}}
        return json.dumps([item]).encode()

    with pytest.raises(errors.BadPath, match="is not, or not visibly, one of the container"):
        container(document(inside.pid))
    for process in (inside, beside):
        (cgroup / "cgroup.procs").write_text(str(process.pid))
    found = container(document(inside.pid))
    assert found.name == id
    assert stack.mountpoint in [place.path for place in found.mounted]
    assert said(workspace.overlay_changes(found)) == ["A new"]
    with pytest.raises(errors.UnsupportedError, match="no overlay that can be looked at: it is on"):
        container(document(beside.pid))


def test_an_image_of_one_layer_is_all_added(tmp_path):
    layer = tmp_path / "diff"
    layer.mkdir()
    (layer / "f").write_bytes(b"f")
    data = {"UpperDir": str(layer)}
    found = container(json.dumps({"Id": "x", "GraphDriver": {"Data": data}}).encode())
    assert said(workspace.overlay_changes(found)) == ["A .", "A f"]


def test_a_container_of_another_machine(stack):
    text = document(stack).replace(bytes(stack.upper), b"/var/lib/absent/diff")
    with pytest.raises(errors.BadPath) as caught:
        container(text)
    assert "/var/lib/absent/diff" in one_sentence(caught.value)


def test_a_lower_that_is_gone_is_told_and_not_compared(stack):
    stack.unmount()
    text = document(stack).replace(bytes(stack.base), b"/var/lib/absent/diff")
    found = container(text)
    assert not found.lowers[0].found
    assert "not found" in found.notes[0]
    with pytest.raises(errors.BadPath) as caught:
        workspace.overlay_changes(found)
    assert "/var/lib/absent/diff" in one_sentence(caught.value)


def test_who_does_not_see_the_marks_gets_no_wrong_answer(stack):
    def prepare() -> None:
        os.chdir(stack.mountpoint)  # whose parents let nobody else in
        become_nobody()

    def act() -> object:
        return workspace.overlay_changes(workspace.inspect("."))

    name, message, hint = in_child(prepare, act)
    assert name == "NoPrivilege"
    assert "only root sees the marks" in message
    assert "sudo" in hint


# Adopting one


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[tuple[Overlay, workspace.Workspace]]:
    """A container that is stopped, and a workspace whose dataset is its only lower."""
    with Overlay(tmp_path, BASE) as overlay:
        ws = workspace.init(overlay.base, tmp_path / "ws", mount=False)
        try:
            yield overlay, ws
        finally:
            ws.close()
            for point in leaks.mounts(tmp_path / "ws"):
                subprocess.run(["umount", "-l", point], check=True)


# `cp`, which makes a dataset of several lowers, stops at PATH_MAX.
ADOPTABLE = [case for case in WORKABLE if case.id != "22-path-longer-than-path-max-renamed"]


@pytest.mark.parametrize("case", ADOPTABLE, ids=lambda case: case.id)
def test_what_is_adopted_is_what_the_container_showed(case, tmp_path):
    with Overlay(tmp_path, case.base) as overlay:
        stacked(overlay, case)
        shown = overlay.snapshot()
        overlay.unmount()
        before = [snapshot(path) for path in overlay.layers]
        below = tmp_path / "below"
        if overlay.lowers:
            copied(overlay, below)
        ws = workspace.init(below if overlay.lowers else overlay.base, tmp_path / "ws", mount=False)
        try:
            done = ws.adopt("web", container(document(overlay)))
            assert done.mountpoint == tmp_path / "ws" / "web"
            assert_same(snapshot(done.mountpoint), shown)
            assert ws.status("web").clean
            assert ws.verify(full=True).findings == ()
            assert [snapshot(path) for path in overlay.layers] == before
        except errors.NothingToCommit:
            assert workspace.overlay_changes(container(document(overlay))).counts() == {}
        finally:
            ws.close()
            for point in leaks.mounts(tmp_path / "ws"):
                subprocess.run(["umount", "-l", point], check=True)


def copied(overlay: Overlay, target: Path) -> None:
    """What the lowers of an overlay show, in a directory of its own."""
    point = overlay.root / "lowers"
    point.mkdir()
    stack = ":".join(overlay._short(path) for path in [*overlay.lowers, overlay.base])
    with overlay._mounted(f"lowerdir={stack},{OPTIONS[overlay.dialect]}", point):
        subprocess.run(["cp", "-a", point, target], check=True)


def test_nothing_of_a_container_is_shared_with_its_commit(shop):
    overlay, ws = shop
    overlay.edit(e.add("new", File(b"new")), e.link("new", "again"), e.symlink("new", "to"))
    overlay.edit(e.unlink("g"), e.open_and_close("f"))
    overlay.unmount()
    done = ws.adopt("web", container(document(overlay)), "as it was", mount=False)
    assert done.commit is not None
    assert done.commit.message == "as it was"
    assert done.counts == {"A": 3, "D": 1}
    assert said(ws.diff("web")) == ["A again", "D g", "A new", "A to"]
    assert done.commit.layer is not None
    layer = ws.root / ".dsbranch" / "layers" / done.commit.layer / "fs"
    ours, theirs = set(inodes(layer)), set(inodes(overlay.upper))
    assert not ours & theirs
    assert (layer / "new").stat().st_ino == (layer / "again").stat().st_ino
    assert not (layer / "f").exists(), "copied up for nothing"
    ws.undo()
    assert [branch.name for branch in ws.list()] == ["main"]


def test_a_container_that_runs_is_not_adopted(shop, monkeypatch):
    overlay, ws = shop
    overlay.edit(e.unlink("g"))
    explained = container(document(overlay))
    with pytest.raises(errors.BusyError) as caught:
        ws.adopt("web", explained)
    assert "web is mounted" in one_sentence(caught.value)
    overlay.unmount()
    made = adopt.built

    def started(*arguments: object, **keywords: object) -> object:
        overlay.mount()
        return made(*arguments, **keywords)

    monkeypatch.setattr(adopt, "built", started)
    with pytest.raises(errors.BusyError):
        ws.adopt("web", explained)
    assert [branch.name for branch in ws.list()] == ["main"]
    assert len(list((ws.root / ".dsbranch" / "layers").iterdir())) == 1


def test_a_dataset_that_is_not_what_the_container_lies_on(shop):
    overlay, ws = shop
    overlay.edit(e.append("f", b"lower"))
    overlay.freeze()
    overlay.edit(e.unlink("g"))
    overlay.unmount()
    with pytest.raises(errors.ConflictError) as caught:
        ws.adopt("web", container(document(overlay)))
    assert "1 differences" in one_sentence(caught.value)
    image = json.dumps({"Id": "x", "GraphDriver": {"Data": {"UpperDir": str(overlay.upper)}}})
    with pytest.raises(errors.ConflictError, match="nothing"):
        ws.adopt("web", container(image.encode()))
    assert [branch.name for branch in ws.list()] == ["main"]


def test_what_cannot_be_adopted(shop):
    overlay, ws = shop
    overlay.unmount()
    explained = container(document(overlay))
    with pytest.raises(errors.NothingToCommit):
        ws.adopt("web", explained)
    with pytest.raises(errors.AlreadyExists):
        ws.adopt("main", explained)
    with pytest.raises(errors.BadName):
        ws.adopt("a/b", explained)
    with pytest.raises(errors.UnsupportedError) as caught:
        ws.adopt("web", explained._replace(dialect="user"))
    assert "user.overlay" in one_sentence(caught.value)


# With the engine itself

PODMAN = shutil.which("podman") and shutil.which("buildah")


class Engine:
    """Podman and buildah with a storage of their own."""

    def __init__(self, root: Path, runroot: str) -> None:
        self.storage = ["--root", f"{root}/root", "--runroot", runroot]
        self.storage += ["--storage-driver", "overlay"]

    def __call__(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [program, *self.storage, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (program, arguments, done.stderr)
        return done.stdout.strip()


@pytest.fixture
def engine(swept: Path) -> Iterator[Engine]:
    if not PODMAN:
        pytest.skip("podman and buildah are not installed")
    # Podman wants it to be of 50 characters at most.
    with tempfile.TemporaryDirectory(prefix="dsb-", dir="/tmp") as runroot:
        engine = Engine(swept, runroot)
        try:
            yield engine
        finally:
            engine("podman", "rm", "--all", "--force")
            engine("buildah", "rm", "--all")


def test_a_real_container(engine, swept):
    context = swept / "context"
    (context / "data").mkdir(parents=True)
    for name in ("a", "b", "c", "d"):
        (context / "data" / name).write_text(name * 100)
    image = engine("buildah", "from", "scratch")
    engine("buildah", "copy", image, str(context), "/")
    engine("buildah", "config", "--cmd", "/none", image)
    engine("buildah", "commit", image, "first")
    (context / "data" / "a").unlink()
    (context / "data" / "e").write_text("second layer")
    again = engine("buildah", "from", "localhost/first")
    engine("buildah", "copy", again, str(context), "/")
    engine("buildah", "commit", again, "second")
    engine("podman", "create", "--name", "web", "--network", "none", "localhost/second")
    point = Path(engine("podman", "mount", "web"))
    before = snapshot(point)
    (point / "data" / "b").unlink()
    (point / "new").write_text("new")
    (point / "data" / "c").chmod(0o600)
    (point / "data" / "e").rename(point / "data" / "f")
    touched = (point / "data" / "d").stat().st_mtime_ns
    (point / "data" / "d").write_text("d" * 100)
    os.utime(point / "data" / "d", ns=(touched, touched))
    expected = ["D data/b", "m data/c", "R data/f < data/e", "A new"]

    running = container(engine("podman", "inspect", "web").encode())
    assert point in [place.path for place in running.mounted]
    assert len(running.lowers) == 2
    assert said(workspace.overlay_changes(running)) == expected
    plain = list(workspace.overlay_changes(running, renames=False))
    assert truth.plain(plain) == truth.by_path(before, snapshot(point))
    engine("podman", "umount", "--force", "web")
    stopped = container(engine("podman", "inspect", "web").encode())
    assert stopped.mounted == ()
    assert said(workspace.overlay_changes(stopped)) == expected

    image = engine("podman", "image", "mount", "localhost/second")
    subprocess.run(["cp", "-a", image, swept / "image"], check=True)
    engine("podman", "image", "umount", "localhost/second")
    with workspace.init(swept / "image", swept / "ws", mount=False) as ws:
        ws.adopt("web", stopped)
        found = list(ws.diff("main", "web", renames=False))
        assert truth.plain(found) == truth.plain(plain)

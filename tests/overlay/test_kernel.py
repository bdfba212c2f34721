from __future__ import annotations

import errno
import gc
import os
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from dsbranch._core import syscalls
from dsbranch.errors import MountInUse, MountRefused, NoPrivilege, UnsupportedError
from dsbranch.overlay import mountinfo
from dsbranch.overlay.kernel import KernelDriver
from dsbranch.overlay.plan import plan

from .conftest import become_nobody, in_child, mounts_below

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def collected():
    """What earlier tests left to the collector is to go now, not in between."""
    gc.collect()


def descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


def test_a_mount_shows_what_was_planned(place):
    (place.base / "file").write_text("base")
    mount_id = place.mount(place.plan("l1"))
    (entry,) = mountinfo.find("dsbranch:w:l1")
    assert (entry.mount_id, entry.path) == (mount_id, os.fsencode(place.target))
    assert entry.super_option(b"lowerdir+") == [os.fsencode(place.base)]
    assert entry.super_option(b"upperdir") == [os.fsencode(place.layer("l1"))]
    for option in (b"redirect_dir=on", b"metacopy=on", b"uuid=null"):
        assert option in entry.super_options.split(b",")
    (place.target / "file").write_text("branch")
    assert (place.base / "file").read_text() == "base"
    assert (place.layer("l1") / "file").read_text() == "branch"


def test_nothing_is_visible_before_attach_and_nothing_stays_without(place):
    open_before = descriptors()
    with place.driver.prepare(place.plan("l1")) as prepared:
        assert not mounts_below(place.root)
        os.mkdir("made", dir_fd=prepared.fd)
    assert descriptors() == open_before
    assert not mounts_below(place.root)
    assert (place.layer("l1") / "made").is_dir()


def test_a_rename_and_a_chmod_cost_nothing(place):
    (place.base / "tree/inner").mkdir(parents=True)
    (place.base / "large").write_bytes(bytes(1 << 20))
    place.mount(place.plan("l1"))
    (place.target / "tree").rename(place.target / "moved")
    (place.target / "large").chmod(0o600)
    upper = place.layer("l1")
    assert os.getxattr(upper / "moved", "trusted.overlay.redirect") == b"tree"
    assert os.getxattr(upper / "large", "trusted.overlay.metacopy") is not None
    # One block may hold the xattrs.
    assert (upper / "large").stat().st_blocks * 512 <= 4096


def test_the_user_dialect_writes_user_xattrs(place):
    (place.base / "tree").mkdir()
    place.mount(place.plan("l1", dialect="user"))
    (place.target / "tree").rmdir()
    (place.target / "tree").mkdir()
    assert os.getxattr(place.layer("l1") / "tree", "user.overlay.opaque") == b"y"


def test_a_read_only_view(place):
    (place.base / "file").write_text("base")
    place.mount(place.plan(None))
    (entry,) = mountinfo.find("dsbranch:w:@c0ffee")
    assert entry.super_options.startswith(b"ro,")
    assert (place.target / "file").read_text() == "base"
    with pytest.raises(OSError) as caught:
        (place.target / "file").write_text("no")
    assert caught.value.errno == errno.EROFS


@pytest.mark.parametrize("count", [1, 2, 127, 128, 499, 500])
def test_many_layers(place, count):
    lowers = [place.layer(f"n{number}") for number in range(count - 1)]
    for number, lower in enumerate(lowers):
        (lower / f"f{number}").touch()
        (lower / "same").write_text(str(number))
    (place.base / "bottom").touch()
    place.mount(place.plan("top", lowers))
    names = {entry.name for entry in place.target.iterdir()}
    wanted = {f"f{number}" for number in range(count - 1)} | {"bottom"}
    assert names == wanted | ({"same"} if lowers else set())
    if lowers:
        assert (place.target / "same").read_text() == "0"


@pytest.fixture
def before_6_13(monkeypatch):
    """A kernel that takes no descriptors: it complains in the context, as the real one does."""

    def refuse(fd, key, value):
        syscalls.fsconfig_flag(fd, b"no-descriptors")

    monkeypatch.setattr(syscalls, "fsconfig_fd", refuse)


def test_before_6_13_directories_are_given_as_strings(place, before_6_13):
    (place.base / "file").write_text("base")
    long = place.directory("/".join(["x" * 100] * 3))
    (long / "deep").touch()
    place.mount(place.plan("l1", [long]))
    assert {entry.name for entry in place.target.iterdir()} == {"file", "deep"}
    (entry,) = mountinfo.find("dsbranch:w:l1")
    assert entry.super_option(b"upperdir") == [os.fsencode(place.layer("l1"))]


def test_before_6_13_odd_names_survive(place, before_6_13):
    (place.base / "file").write_text("base")
    place.root = place.directory("odd:,=\\ name\n\udcff")
    (place.layer("n1") / "odd").touch()
    place.mount(place.plan("l1", [place.layer("n1")]))
    (place.target / "new").touch()
    assert {entry.name for entry in place.target.iterdir()} == {"file", "odd", "new"}
    assert [entry.name for entry in place.layer("l1").iterdir()] == ["new"]


def test_before_6_13_only_the_last_complaint_is_told(place, before_6_13):
    with pytest.raises(MountRefused) as caught:
        place.driver.prepare(place.plan("l1", [place.directory("base/inner")]))
    assert "overlapping" in str(caught.value)
    assert not any("no-descriptors" in line for line in caught.value.kernel)


def test_a_missing_layer_is_named(place):
    gone = place.root / "gone"
    before = descriptors()
    with pytest.raises(MountRefused, match="gone") as caught:
        place.driver.prepare(place.plan("l1", [gone]))
    assert caught.value.errno == errno.ENOENT
    assert descriptors() == before


def test_the_kernels_reason_reaches_the_error(place):
    inner = place.directory("base/inner")
    before = descriptors()
    with pytest.raises(MountRefused, match="overlapping lowerdir path") as caught:
        place.driver.prepare(place.plan("l1", [inner]))
    assert caught.value.errno == errno.ELOOP
    assert "e overlay: overlapping lowerdir path" in caught.value.kernel
    assert "dsbranch:w:l1" in str(caught.value)
    assert descriptors() == before


def test_the_contexts_words_reach_the_error(place):
    upper_on_overlay = place.directory("view")
    place.mount(place.plan("l1"))
    (upper_on_overlay / "fs").mkdir()
    (upper_on_overlay / "work").mkdir()
    nested = plan(
        lowers=[place.base],
        upper=upper_on_overlay / "fs",
        work=upper_on_overlay / "work",
        source="dsbranch:w:l2",
        dialect="trusted",
    )
    with pytest.raises(MountRefused) as caught:
        place.driver.prepare(nested)
    assert any(line.startswith("e overlay: ") for line in caught.value.kernel)
    assert caught.value.kernel[0].removeprefix("e overlay: ") in str(caught.value)


def test_a_target_that_is_not_there(place):
    with place.driver.prepare(place.plan("l1")) as prepared:
        with pytest.raises(MountRefused, match="nowhere"):
            prepared.attach(place.root / "nowhere")
        with pytest.raises(MountRefused, match="beneath"):
            prepared.attach(place.target, beneath=True)
    assert not mounts_below(place.root)


def test_without_privilege_it_says_so(place):
    made = place.plan("l1")
    for act in (
        lambda: place.driver.prepare(made),
        lambda: KernelDriver().can_mount_beneath,
        lambda: place.driver.set_read_only(Path("/")),
        lambda: place.driver.detach(Path("/proc"), lazy=False),
    ):
        name, message, hint = in_child(become_nobody, act)
        assert name == NoPrivilege.__name__
        assert "only root may mount" in message
        assert "sudo" in hint


def test_read_only_and_back(place):
    place.mount(place.plan("l1"))
    (place.target / "file").write_text("one")
    with (place.target / "file").open("a"):
        assert not place.driver.set_read_only(place.target)
        (place.target / "still").touch()
    # A failed try must not spoil the next one.
    assert place.driver.set_read_only(place.target)
    assert place.driver.set_read_only(place.target)
    with pytest.raises(OSError) as caught:
        (place.target / "file").open("a")
    assert caught.value.errno == errno.EROFS
    place.driver.set_writable(place.target)
    (place.target / "file").write_text("two")


def test_read_only_of_what_is_no_mount(place):
    for change in (place.driver.set_read_only, place.driver.set_writable):
        with pytest.raises(MountRefused, match="view"):
            change(place.target)


def test_detach(place):
    place.mount(place.plan("l1"))
    place.driver.detach(place.target, lazy=False)
    assert not mounts_below(place.root)
    with pytest.raises(MountRefused, match="no mount point"):
        place.driver.detach(place.target, lazy=False)


def test_detach_of_a_used_mount_names_its_users(place, hold):
    place.mount(place.plan("l1"))
    holder = hold("os.chdir(sys.argv[1])", place.target)
    with pytest.raises(MountInUse, match=f"\\({holder.pid}\\)") as caught:
        place.driver.detach(place.target, lazy=False)
    (process,) = caught.value.processes
    assert (process.pid, process.what) == (holder.pid, "working directory")
    assert mounts_below(place.root)
    place.driver.detach(place.target, lazy=True)
    assert not mounts_below(place.root)


def test_detach_with_a_mount_inside(place):
    place.mount(place.plan("l1"))
    inner = place.filesystem("tmpfs", "view/inner")
    with pytest.raises(MountInUse, match="inner is mounted inside"):
        place.driver.detach(place.target, lazy=False)
    place.driver.detach(inner, lazy=False)
    place.driver.detach(place.target, lazy=False)


def swap(place) -> int:
    """The live commit: read-only, the new stack beneath, the old mount off."""
    assert place.driver.set_read_only(place.target)
    with place.driver.prepare(place.plan("l2", [place.layer("l1")])) as prepared:
        # It has it before it is attached: a store can tell of it in time.
        mount_id = prepared.mount_id
        prepared.attach(place.target, beneath=True)
        assert mountinfo.find("dsbranch:w:l1")[0].path == os.fsencode(place.target)
    place.driver.detach(place.target, lazy=True)
    return mount_id


READER = """
os.chdir(sys.argv[1])
held = open('file')
print('ready', flush=True)
while sys.stdin.readline() == 'go\\n':
    held.seek(0)
    try:
        open('relative', 'w')
        wrote = True
    except OSError as error:
        wrote = error.errno
    print(held.read(), open('file').read(), open(sys.argv[1] + '/file').read(), wrote, flush=True)
sys.exit()
"""


def test_live_swap_keeps_readers_and_never_loses_the_path(place, hold):
    (place.base / "file").write_text("base")
    place.mount(place.plan("l1"))
    (place.target / "file").write_text("old")
    reader = hold(READER, place.target)
    mount_id = swap(place)
    (place.target / "file").write_text("new")

    reader.process.stdin.write(b"go\n")
    reader.process.stdin.flush()
    answer = reader.process.stdout.readline().decode().split()
    # The held file and the old working directory show the old view, the path shows the new.
    assert answer == ["old", "old", "new", str(errno.EROFS)]

    (entry,) = mountinfo.find("dsbranch:w:l2")
    assert (entry.mount_id, entry.path) == (mount_id, os.fsencode(place.target))
    assert mountinfo.find("dsbranch:w:l1") == []
    assert (place.layer("l1") / "file").read_text() == "old"
    assert (place.layer("l2") / "file").read_text() == "new"


def test_live_swap_while_another_process_looks_all_the_time(place, hold):
    (place.base / "file").write_text("base")
    place.mount(place.plan("l1"))
    looker = hold(
        "import threading\nseen = []\ndef look():\n"
        "    while not stop: seen.append(os.path.exists(sys.argv[1] + '/file'))\n"
        "stop = []\nt = threading.Thread(target=look)\nt.start()\nprint('ready', flush=True)\n"
        "sys.stdin.readline()\nstop.append(1)\nt.join()\n"
        "print(len(seen), all(seen), flush=True)\nsys.exit()",
        place.target,
    )
    for _ in range(20):
        swap(place)
        assert place.driver.set_read_only(place.target)
        with place.driver.prepare(place.plan("l1")) as prepared:
            prepared.attach(place.target, beneath=True)
        place.driver.detach(place.target, lazy=True)
    looker.process.stdin.write(b"stop\n")
    looker.process.stdin.flush()
    count, present = looker.process.stdout.readline().decode().split()
    assert int(count) > 100
    assert present == "True"


def test_live_swap_under_a_shared_parent(place, hold):
    parent = place.filesystem("tmpfs", "shared")
    subprocess.run(["mount", "--make-shared", parent], check=True)
    place.target = place.directory("shared/view")
    (place.base / "file").write_text("base")
    peer = hold("", before=["unshare", "-m", "--propagation", "unchanged"])
    place.mount(place.plan("l1"))
    swap(place)
    assert [e.path for e in mountinfo.find("dsbranch:w:l2")] == [os.fsencode(place.target)]
    assert mountinfo.find("dsbranch:w:l1") == []
    assert (place.target / "file").read_text() == "base"
    inside = mountinfo.parse(mountinfo.table(peer.pid))
    assert [e.source for e in inside if e.path == os.fsencode(place.target)] == ["dsbranch:w:l2"]


def test_a_mount_moves_with_whoever_is_in_it(place, hold):
    (place.base / "file").write_text("base")
    mount_id = place.mount(place.plan("l1"))
    holder = hold("os.chdir(sys.argv[1])", place.target)
    there = place.directory("there")
    before = descriptors()
    assert place.driver.move(place.target, there)
    assert descriptors() == before
    (entry,) = mountinfo.find("dsbranch:w:l1")
    assert (entry.mount_id, entry.path) == (mount_id, os.fsencode(there))
    assert os.readlink(f"/proc/{holder.pid}/cwd") == str(there)


def test_a_mount_below_a_shared_one_is_replaced_by_one_of_the_same_superblock(place):
    parent = place.filesystem("tmpfs", "shared")
    subprocess.run(["mount", "--make-shared", parent], check=True)
    place.target = place.directory("shared/view")
    there = place.directory("shared/there")
    place.mount(place.plan("l1"))
    with (place.target / "file").open("w") as file:
        assert not place.driver.move(place.target, there)
        file.write("written")
    assert [entry.path for entry in mountinfo.find("dsbranch:w:l1")] == [os.fsencode(there)]
    assert (there / "file").read_text() == "written"


def test_what_is_no_mount_or_has_no_place_is_not_moved(place):
    with pytest.raises(MountRefused, match=r"move the mount at .*/plain .*Invalid"):
        place.driver.move(place.directory("plain"), place.directory("there"))
    assert mounts_below(place.root) == []
    place.mount(place.plan("l1"))
    with pytest.raises(MountRefused, match="No such file"):
        place.driver.move(place.target, place.root / "missing")
    assert len(mountinfo.find("dsbranch:w:l1")) == 1


def test_beneath_is_refused_where_the_kernel_cannot(place, monkeypatch):
    place.mount(place.plan("l1"))
    monkeypatch.setattr(syscalls, "knows_beneath", lambda: False)
    driver = KernelDriver()
    assert not driver.can_mount_beneath
    with (
        driver.prepare(place.plan("l2")) as prepared,
        pytest.raises(UnsupportedError, match=r"6\.5"),
    ):
        prepared.attach(place.target, beneath=True)


def test_whiteouts_are_devices(place):
    (place.base / "file").touch()
    place.mount(place.plan("l1"))
    (place.target / "file").unlink()
    status = (place.layer("l1") / "file").lstat()
    assert stat.S_ISCHR(status.st_mode)
    assert status.st_rdev == 0


@pytest.mark.parametrize("heard", [True, False])
@pytest.mark.parametrize("dialect", ["trusted", "user"])
def test_an_upper_in_use_is_refused_with_the_log_and_without(place, monkeypatch, heard, dialect):
    """Mounted nowhere that a table shows, and the log is not everybody's to read."""
    if not heard:
        monkeypatch.setattr("dsbranch.overlay.log._LOG", "/dev/nothing")
    made = place.plan("l1", dialect=dialect)
    with place.driver.prepare(made), pytest.raises(MountInUse, match="in use by another mount"):
        place.driver.prepare(made)
    names = sorted(os.listdir(place.layer("l1").parent))
    with place.driver.prepare(made):
        pass
    assert sorted(os.listdir(place.layer("l1").parent)) == names
    assert os.listdir(place.layer("l1")) == []
    assert [name for name in os.listxattr(place.layer("l1")) if "overlay" in name] in (
        [],
        [f"{dialect}.overlay.impure"],
    )


@pytest.mark.parametrize("heard", [True, False])
def test_an_upper_that_is_let_go_of_soon_is_waited_for(place, monkeypatch, heard):
    """Whoever was just looking a name up in a view taken off has it for some milliseconds more."""
    if not heard:
        monkeypatch.setattr("dsbranch.overlay.log._LOG", "/dev/nothing")
    held = place.driver.prepare(place.plan("l1"))
    closing = threading.Timer(0.1, os.close, (held.fd,))
    closing.start()
    with place.driver.prepare(place.plan("l1")):
        closing.join()


@pytest.mark.parametrize("layer", ["l1", None])
def test_what_the_log_has_of_another_mount_is_no_news(place, monkeypatch, layer):
    """A view that nobody writes to has no upper that could be in use; of others it is asked."""
    said = "w overlay: upperdir is in-use as upperdir/workdir of another mount, ..."

    def lines(_log):
        return [said]

    monkeypatch.setattr("dsbranch.overlay.log.KernelLog.lines", lines)
    slept = []
    monkeypatch.setattr("time.sleep", slept.append)
    with place.driver.prepare(place.plan(layer)) as prepared:
        assert stat.S_ISDIR(os.fstat(prepared.fd).st_mode)
    assert sum(slept) == 0


def test_another_namespace_for_which_no_process_can_be_started(place, monkeypatch):
    def refuse() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refuse)
    before = descriptors()
    with pytest.raises(MountRefused, match="cannot start a process for another mount namespace"):
        place.driver.prepare(place.plan("l1"), pid=os.getpid())
    assert descriptors() == before

"""All of it as an ordinary user, whose branches are mounted in user namespaces only."""

from __future__ import annotations

import errno
import os
import select
import signal
import stat
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest

import dsbranch
from dsbranch import errors
from dsbranch._core import syscalls
from dsbranch.ops.mounting import branch_plan
from dsbranch.overlay import mountinfo, namespaces
from dsbranch.overlay import served as served_by
from tests import edits as e
from tests import served
from tests.cases import BASE, CASES, Case, Raw
from tests.edits import Edit
from tests.trees import Dir, Fifo, File, Snapshot, Symlink, assert_same, make, snapshot
from tests.users import USER, as_user, home, in_child, inside

from .conftest import killed, layers, said

_Result = TypeVar("_Result")

HERE = Path()


@pytest.fixture
def place() -> Iterator[Path]:
    with home() as directory:
        yield directory


class Own:
    """A user's dataset and workspace. Made and used in the user's process."""

    def __init__(self, place: Path, base: Dir) -> None:
        self.data, self.root = place / "data", place / "ws"
        if not self.data.exists():
            make(base, self.data)
        self.ws = dsbranch.init(self.data, self.root)

    def within(self, branch: str, call: Callable[[], _Result]) -> _Result:
        """What `call` returns with the branch as its current directory."""
        place = self.root / branch
        if not os.path.ismount(os.path.realpath(place)):
            return inside(self.root, branch, call)

        def run() -> _Result:
            os.chdir(place)
            return call()

        return in_child(run)

    def edit(self, *edits: Edit, branch: str = "main") -> None:
        self.within(branch, lambda: [edit(HERE) for edit in edits] and None)

    def see(self, branch: str = "main") -> Snapshot:
        return self.within(branch, lambda: snapshot(HERE))

    def lines(self, *arguments: str) -> list[str]:
        return said(self.ws.diff(*arguments))

    def upper(self) -> Path:
        """The directory of main's open layer."""
        layer = self.ws._context.store.branch("main").layer
        return self.root / ".dsbranch/layers" / layer / "fs"

    def layers(self) -> list[str]:
        return sorted(os.listdir(self.root / ".dsbranch/layers"))


def own(place: Path, test: Callable[[Own], None], base: Dir = BASE) -> None:
    """Run a test as the user."""
    as_user(lambda: _run(place, test, base))


def _run(place: Path, test: Callable[[Own], None], base: Dir) -> None:
    bench = Own(place, base)
    try:
        test(bench)
    finally:
        bench.ws.close()


class Anyhow(NamedTuple):
    """Runs a test as a user with mounts in namespaces of their own, or by fuse-overlayfs."""

    place: Path
    act: Callable[[Callable[[], None]], None]

    def __call__(self, test: Callable[[Own], None], base: Dir = BASE) -> None:
        self.act(lambda: _run(self.place, test, base))


@pytest.fixture(params=["namespaces", pytest.param("fuse-overlayfs", marks=pytest.mark.root)])
def anyhow(request: pytest.FixtureRequest) -> Iterator[Anyhow]:
    if request.param == "namespaces":
        with home() as directory:
            yield Anyhow(directory, as_user)
    else:
        yield request.getfixturevalue("by_fuse")


@pytest.fixture
def by_fuse() -> Iterator[Anyhow]:
    with served.home() as directory:
        yield Anyhow(directory, served.as_served)


def test_init_and_create_mount_nothing_and_say_where_branches_are_seen(place):
    def test(bench: Own) -> None:
        ws = bench.ws
        (note,) = ws.notes
        assert note.startswith("main is not mounted, as only root mounts for all to see")
        assert "`dsbranch shell main`" in note
        assert "`dsbranch run main -- COMMAND`" in note
        created = ws.create("exp1")
        assert created.mountpoint is None
        assert "exp1 is not mounted" in ws.notes[1]
        assert len(ws.notes) == 2
        assert [(one.name, one.mounted) for one in ws.list()] == [("exp1", False), ("main", False)]
        assert os.listdir(bench.root) == [".dsbranch"]
        assert ws._context.store.dialect == "user"
        assert not mountinfo.find(f"dsbranch:{ws._context.store.id}:")

    own(place, test)


def test_without_a_mount_wanted_nothing_is_said(place):
    def run() -> None:
        make(BASE, place / "data")
        with dsbranch.init(place / "data", place / "ws", mount=False) as ws:
            ws.create("exp1", mount=False)
            assert ws.notes == ()

    as_user(run)


def test_from_init_to_merge(anyhow):
    def test(bench: Own) -> None:
        ws = bench.ws
        ws.create("exp1")
        new = e.add("new", Dir({"a": File(b"a"), "link": Symlink("a"), "fifo": Fifo()}))
        bench.edit(e.append("f", b"more"), e.unlink("d/x"), new, branch="exp1")
        assert bench.lines("exp1") == [
            "D d/x",
            "M f",
            "A new",
            "A new/a",
            "A new/fifo",
            "A new/link",
        ]
        assert ws.status("exp1").counts == {"A": 4, "M": 1, "D": 1}
        shown = bench.see("exp1")
        ws.commit("exp1", "one")
        assert ws.status("exp1").clean
        assert_same(bench.see("exp1"), shown)

        bench.edit(e.rename("new/a", "new/b"), e.chmod("f", 0o600), branch="exp1")
        assert said(ws.diff(branch="exp1")) == ["m f", "D new/a", "A new/b"]
        ws.commit("exp1", "two")
        shown = bench.see("exp1")
        ws.squash("exp1")
        assert_same(bench.see("exp1"), shown)

        bench.edit(e.add("ours", File(b"o")))
        ws.commit("main", "ours")
        ours = bench.see()[b"ours"]
        ws.merge("exp1", into="main")
        assert_same(bench.see(), {**shown, b"ours": ours})

        ws.rollback("main", to="main~1")
        ws.undo()
        ws.restore("main", [b"d/x"], start="main~2")
        assert said(ws.diff(branch="main")) == ["A d/x"]
        ws.tag("v1", "main")
        ws.rename("exp1", "exp2")
        ws.delete("exp2")
        ws.seal(hash=True)
        assert not ws.verify(full=True).findings
        ws.gc(keep=0)
        assert not ws.verify(full=True, repair=True).findings
        assert ws.du().branches
        assert ws.verify().garbage == 0
        assert len(bench.layers()) == 6

    anyhow(test)


CLOSED = Dir(
    {"c": Dir({"f": File(b"f", mode=0o444), "in": Dir({"g": File(b"g")}, mode=0o555)}, mode=0o555)}
)


def opened(*edits: Edit) -> tuple[Edit, ...]:
    """What needs the closed directories open for a while."""
    ways = ("c", "c/in")
    return (
        *(e.chmod(way, 0o755) for way in ways),
        *edits,
        *(e.chmod(way, 0o555) for way in reversed(ways)),
    )


def test_closed_directories_and_files_go_through_every_verb(place):
    def test(bench: Own) -> None:
        ws = bench.ws
        ws.create("exp1")
        bench.edit(
            *opened(
                e.add("c/n", File(b"n", xattrs={"user.note": b"x"}, mode=0o644)),
                e.chmod("c/n", 0o400),
                e.add("c/new", Dir({"h": File(b"h")}, xattrs={"user.note": b"y"})),
                e.chmod("c/new", 0o500),
                e.unlink("c/in/g"),
                e.chmod("c/f", 0o644),
                e.append("c/f", b"+"),
                e.chmod("c/f", 0o444),
            ),
            branch="exp1",
        )
        ws.commit("exp1", "one")
        bench.edit(*opened(e.add("c/in/i", File(b"i", mode=0o444))), branch="exp1")
        ws.commit("exp1", "two")
        shown = bench.see("exp1")
        assert shown[b"c"].mode & 0o777 == 0o555
        ws.squash("exp1")
        assert_same(bench.see("exp1"), shown)
        ws.merge("exp1", into="main")
        bench.edit(e.add("other", File(b"o")), branch="exp1")
        ws.commit("exp1", "three")
        bench.edit(*opened(e.add("c/m", File(b"m"))))
        ws.commit("main", "four")
        ws.merge("main", into="exp1")
        assert bench.see("exp1").keys() == shown.keys() | {b"other", b"c/m"}
        shown = bench.see("exp1")

        ws.restore("exp1", [b"c"], start="exp1~3")
        assert {b"c/in/g", b"c/f"} < bench.see("exp1").keys()
        ws.rollback("exp1")
        assert_same(bench.see("exp1"), shown)

        for output in ("view.tar", "view.tar.zst", "view"):
            ws.export("exp1", place / output)
            ws.create(f"from-{output}", start="main~2")
            ws.apply(f"from-{output}", place / output)
            assert_same(bench.see(f"from-{output}"), shown)
            assert bench.lines("exp1", f"from-{output}") == []
            ws.delete(f"from-{output}", force=True)
        ws.export("main..exp1", place / "range.tar")
        ws.create("range")
        ws.apply("range", place / "range.tar")
        assert bench.lines("exp1", "range") == []

        bench.edit(*opened(e.add("c/left", File(b"l"))), branch="exp1")
        ws.delete("exp1", force=True)
        ws.delete("range", force=True)
        ws.gc(keep=0)
        # Of main's open layer, its two commits and the one it merged, and nothing else.
        assert len(bench.layers()) == 4
        assert ws.verify().garbage == 0
        assert not ws.verify(full=True).findings

    own(place, test, CLOSED)


def test_what_a_closed_directory_copied_up_for_nothing_may_stay(place):
    def test(bench: Own) -> None:
        bench.edit(e.open_and_close("c/in/g"))
        assert (bench.upper() / "c/in/g").exists()
        assert bench.ws.status("main").clean
        bench.edit(e.add("n", File()))
        layer = bench.upper()
        bench.ws.commit("main", "n")
        assert bench.lines("main~1", "main") == ["A n"]
        assert (layer / "c/in/g").exists()
        assert stat.S_IMODE((layer / "c/in").stat().st_mode) == 0o555
        assert not bench.ws.verify().findings

    own(place, test, CLOSED)


def test_a_commit_leaves_no_workdir_which_the_kernel_closed(place):
    def test(bench: Own) -> None:
        bench.edit(e.add("n", File()))
        layer = bench.upper().parent
        assert stat.S_IMODE((layer / "work/work").stat().st_mode) == 0
        bench.ws.commit("main", "n")
        assert not (layer / "work").exists()

    own(place, test)


@pytest.mark.parametrize(
    ("name", "tree", "bits"),
    [("secret", File(b"s", mode=0o200), "u+r"), ("hidden", Dir(mode=0o300), "u+rx")],
)
def test_what_its_owner_may_not_read_is_named(place, name, tree, bits):
    def test(bench: Own) -> None:
        bench.edit(e.add(name, tree))
        with pytest.raises(errors.NoPrivilege) as caught:
            bench.ws.commit("main", "x")
        assert str(caught.value) == f"{bench.upper() / name} is yours, and closed to you"
        assert caught.value.hint == f"open it in the branch: `chmod {bits} {name}`"
        bench.edit(e.chmod(name, 0o700))
        bench.ws.commit("main", "x")

    own(place, test)


def test_what_is_closed_to_its_owner_is_counted_and_removed(anyhow):
    def test(bench: Own) -> None:
        inner = Dir({"f": File(b"f"), "deep": Dir({"g": File(b"g")})})
        bench.ws.create("exp1")
        bench.edit(
            e.add("hidden", inner), e.chmod("hidden/deep", 0), e.chmod("hidden", 0), branch="exp1"
        )
        assert bench.ws.du().branches
        with pytest.raises(errors.NoPrivilege, match="is yours, and closed to you"):
            bench.ws.status("exp1")
        bench.ws.delete("exp1", force=True)
        bench.ws.gc(keep=0)
        assert len(bench.layers()) == 1

    anyhow(test)


def test_a_device_in_an_archive_is_refused_by_name(anyhow):
    def test(bench: Own) -> None:
        with tarfile.open(anyhow.place / "dev.tar", "w") as tar:
            member = tarfile.TarInfo("null")
            member.type, member.devmajor, member.devminor = tarfile.CHRTYPE, 1, 3
            tar.addfile(member)
        with pytest.raises(errors.NoPrivilege, match="null of the archive"):
            bench.ws.apply("main", anyhow.place / "dev.tar", allow_devices=True)

    anyhow(test)


def test_what_an_archive_says_is_of_others_becomes_the_users(anyhow):
    def test(bench: Own) -> None:
        with tarfile.open(anyhow.place / "others.tar", "w") as tar:
            member = tarfile.TarInfo("program")
            member.uid, member.gid, member.mode = 4321, 4321, 0o6755
            tar.addfile(member)
        bench.ws.apply("main", anyhow.place / "others.tar")
        found = bench.see()[b"program"]
        assert (found.uid, stat.S_IMODE(found.mode)) == (os.geteuid(), 0o755)

    anyhow(test)


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSPC])
def test_where_user_namespaces_are_forbidden_nothing_is_left(place, monkeypatch, number):
    def forbidden(_users: bool) -> None:
        raise OSError(number, os.strerror(number))

    def run() -> None:
        make(BASE, place / "data")
        with pytest.raises(errors.NoPrivilege, match="no ordinary user make a user namespace"):
            dsbranch.init(place / "data", place / "ws")
        assert os.listdir(place) == ["data"]

    monkeypatch.setattr(syscalls, "own_mounts", forbidden)
    as_user(run)


def test_what_a_killed_init_left_goes_at_the_next(place):
    def run() -> None:
        make(BASE, place / "data")
        left = place / "ws/.dsbranch-probe-x"
        (left / "work/work").mkdir(parents=True)
        (left / "work/work").chmod(0)
        os.utime(left, (0, 0))
        dsbranch.init(place / "data", place / "ws").close()
        assert os.listdir(place / "ws") == [".dsbranch"]

    as_user(run)


MIXED = Dir({"ours": Dir({"a": File(b"a"), "root's": File(b"r")}), "f": File(b"f"), "d": Dir()})


@pytest.fixture
def mixed(place: Path) -> Path:
    """A dataset of root's with a directory of the user's in it."""
    make(MIXED, place / "data")
    for path in ("data/ours", "data/ours/a"):
        os.chown(place / path, USER, USER)
    os.setxattr(place / "data", "trusted.note", b"x")
    os.setxattr(place / "data", "user.note", b"x")
    (place / "data").chmod(0o2555)
    return place


@pytest.mark.root
def test_whose_files_a_namespace_knows(mixed):
    """The kernel copies no file up that has a group other than the user's first."""
    other_group = mixed / "data" / "ours" / "a"
    os.chown(other_group, USER, USER + 1)

    def test(bench: Own) -> None:
        def change() -> int:
            with pytest.raises(OSError) as caught:
                e.append("ours/a", b"+")(HERE)
            return caught.value.errno or 0

        assert inside(bench.root, "main", change) == errno.EOVERFLOW
        assert not namespaces.knows(other_group.stat())
        assert namespaces.knows(other_group.parent.stat())
        inside(bench.root, "main", lambda: e.add("ours/b", File(b"b"))(HERE))

    own(mixed, test)


@pytest.mark.root
def test_that_the_root_of_a_branch_is_the_users_is_no_change(mixed):
    def test(bench: Own) -> None:
        ws = bench.ws
        assert (bench.see()[b""].uid, bench.data.stat().st_uid) == (USER, 0)
        assert dict(bench.see()[b""].xattrs) == {"user.note": b"x"}
        assert bench.see()[b""].mode & 0o7777 == 0o2555
        assert ws.status("main").clean
        bench.edit(e.chmod("", 0o755), e.add("new", File(b"n")), e.chmod("", 0o2555))
        assert said(ws.diff(branch="main")) == ["A new"]
        ws.commit("main", "new")
        assert said(ws.diff("main~1", "main")) == ["A new"]
        ws.create("exp1", start="main~1")
        bench.edit(e.append("ours/a", b"+"), branch="exp1")
        ws.commit("exp1", "a")
        ws.merge("exp1", into="main")
        assert said(ws.diff("main~2", "main")) == ["A new", "M ours/a"]
        ws.commit("main", "nothing", allow_empty=True)
        ws.squash("main", since="main~3")
        assert said(ws.diff(ws.log("main")[-1].id, "main")) == ["A new", "M ours/a"]
        ws.restore("main", [b""], start="main~1")
        assert not ws.verify(full=True).findings

    own(mixed, test)


@pytest.mark.root
def test_what_belongs_to_others_is_told_and_can_be_read_and_deleted_only(mixed):
    def refused(edit: Edit) -> int:
        with pytest.raises(OSError) as caught:
            edit(HERE)
        assert caught.value.errno is not None
        return caught.value.errno

    def look() -> None:
        assert Path("f").read_bytes() == b"f"
        for edit in (
            e.append("ours/root's", b"+"),
            e.chmod("ours/root's", 0o600),
            e.rename("ours/root's", "ours/mine"),
            e.link("ours/root's", "ours/too"),
            e.add("d/new", File()),
            e.rename("d", "d2"),
        ):
            assert refused(edit) in (errno.EACCES, errno.EPERM, errno.EOVERFLOW, errno.EXDEV)
        e.unlink("ours/root's")(HERE)
        Path("ours/copy").write_bytes(Path("f").read_bytes())

    def test(bench: Own) -> None:
        told = [note for note in bench.ws.notes if "belongs to root" in note]
        assert len(told) == 1
        assert "can be read in a branch" in told[0]
        inside(bench.root, "main", look)
        assert said(bench.ws.diff(branch="main")) == ["A ours/copy", "D ours/root's"]
        bench.ws.commit("main", "mine")
        assert said(bench.ws.diff("main~1", "main")) == ["A ours/copy", "D ours/root's"]
        with pytest.raises(errors.NoPrivilege, match=r"^ours/root's belongs to somebody else"):
            bench.ws.restore("main", [b"ours/root's"], start="main~1")
        bench.ws.rollback("main", to="main~1")
        bench.edit(e.unlink("ours/root's"))
        bench.ws.restore("main", [b"ours/root's"])
        assert bench.ws.status("main").clean

    own(mixed, test)


@pytest.mark.root
def test_a_directory_exported_by_a_user_is_theirs(mixed):
    def test(bench: Own) -> None:
        bench.ws.export("main", mixed / "out")
        found = (mixed / "out/ours/root's").stat()
        assert (found.st_uid, found.st_gid) == (USER, USER)

    (mixed / "data/ours/root's").chmod(0o4755)
    own(mixed, test)
    assert stat.S_IMODE((mixed / "out/ours/root's").stat().st_mode) == 0o755


@pytest.mark.root
def test_a_workspace_of_roots_shows_no_user_a_wrong_tree(place):
    """Even one that may write to all of the store sees no marker in ``trusted.``."""
    make(BASE, place / "data")
    with dsbranch.init(place / "data", place / "ws") as ws:
        e.rename("d", "t")(place / "ws/main")
        ws.commit("main", "renamed")
        e.rmtree("e")(place / "ws/main")
        ws.umount("main")
    dot = place / "ws/.dsbranch"
    for path in (place / "ws", dot, *dot.glob("store.db*"), *dot.glob("locks/*"), dot / "locks"):
        os.chown(path, USER, USER)
    refused: list[Callable[[dsbranch.Workspace], object]] = [
        lambda ws: ws.status("main"),
        lambda ws: list(ws.diff(branch="main")),
        lambda ws: list(ws.diff("main~1", "main")),
        lambda ws: list(ws.show("main")[1]),
        lambda ws: ws.create("exp1"),
        lambda ws: ws.commit("main", "x"),
        lambda ws: ws.rollback("main"),
        lambda ws: ws.restore("main", [b"f"]),
        lambda ws: ws.export("main", place / "out.tar"),
        lambda ws: ws.seal(),
        lambda ws: ws.verify(),
        lambda ws: ws.mount("main"),
    ]

    def run() -> None:
        with dsbranch.open(place / "ws") as ws:
            for call in refused:
                with pytest.raises(errors.NoPrivilege) as caught:
                    call(ws)
                assert "for root's eyes only" in str(caught.value)
            with pytest.raises(errors.NoPrivilege):
                inside(place / "ws", "main", lambda: None)
            assert next(iter(ws.log("main"))).message == "renamed"
            assert [one.name for one in ws.list()] == ["main"]

    as_user(run)


@pytest.mark.root
def test_root_is_told_whose_a_users_workspace_is(place):
    own(place, lambda bench: bench.edit(e.add("n", File())))
    before = layers(place / "ws")
    with pytest.raises(errors.NoPrivilege) as caught:
        dsbranch.open(place / "ws")
    assert f"{place / 'ws'} is {USER}'s, made without root" in str(caught.value)
    assert layers(place / "ws") == before


# Layers that the kernel itself cannot read; devices, which no user makes; and a file of a terabyte
# that is copied up, as only root changes metadata without the data.
UNWORKABLE = (
    *("18-", "15-rename-empty-and-special-files"),
    *("23-special-files-of-the-base", "23-terabyte-hole"),
)
WORKABLE = [case for case in CASES if not case.id.startswith(UNWORKABLE)]


# Layers that are made by hand below fuse-overlayfs, which keeps in mind what it has seen and knows
# no xattr whiteouts; and files with several names, which it takes for one.
UNSERVABLE = (
    *("08-whiteout-over-nothing-in-new", "08-opaque-over-nothing", "09-xattr-whiteout"),
    *("10-opaque-root", "14-append-to-one", "14-chmod-one", "14-link-to-base-file-write-by-layers"),
    *("14-two-new-links-one-renamed-by", "15-rename-hard-linked", "15-rename-both-of-two-links"),
)


SERVABLE = [case for case in WORKABLE if not case.id.startswith(UNSERVABLE)]
if os.environ.get("DSBRANCH_TEST_CASES") != "all":
    SERVABLE = SERVABLE[::3]


def done(layer: Sequence[Edit], root: Path = HERE) -> bool:
    try:
        for edit in layer:
            edit(root)
    except OSError:
        return False
    return True


def can_be_built(bench: Own, case: Case) -> bool:
    """Make the case's layers commits, the last one uncommitted; False: it cannot happen here."""
    for number, layer in enumerate(case.layers):
        if isinstance(layer, Raw):
            if not done(layer.edits("user"), bench.upper()):
                return False
            continue
        if number:
            bench.ws.commit("main", f"layer {number}", allow_empty=True)
        if not bench.within("main", partial(done, layer)):
            return False
    return True


def without_renames(lines: Sequence[str]) -> list[str]:
    """As the kernel tells no ordinary user what was copied up from where."""
    found: list[str] = []
    for line in lines:
        new, renamed, old = line.removeprefix("R ").partition(" < ")
        found += [f"A {new}", f"D {old}"] if renamed else [line]
    return sorted(found)


@pytest.mark.parametrize("case", WORKABLE, ids=lambda case: case.id)
def test_a_case(place, case):
    own(place, partial(_try_case, case), case.base)


@pytest.mark.root
@pytest.mark.parametrize("case", SERVABLE, ids=lambda case: case.id)
def test_a_case_by_fuse_overlayfs(by_fuse, case):
    by_fuse(partial(_try_case, case), case.base)


def _try_case(case: Case, bench: Own) -> None:
    ws = bench.ws
    root = ws.branch("main").head
    if not can_be_built(bench, case):
        return
    view = bench.see()
    expected = without_renames(case.expected)
    assert sorted(said(ws.diff("main", renames=False))) == expected
    ws.commit("main", "last", allow_empty=True)
    assert_same(bench.see(), view)
    assert sorted(said(ws.diff(root, "main", renames=False))) == expected
    assert ws.status("main").clean
    ws.commit("main", "nothing", allow_empty=True)
    ws.squash("main", since=root)
    assert_same(bench.see(), view)
    assert sorted(said(ws.diff(root, "main", renames=False))) == expected
    assert not ws.verify(full=True).findings


@pytest.mark.root
def test_what_fuse_overlayfs_may_have_put_into_another_name_is_told(by_fuse):
    def test(bench: Own) -> None:
        bench.edit(e.append("f", b"+"))
        bench.ws.commit("main", "f")
        assert not bench.ws.notes
        bench.edit(e.append("h2", b"+"))
        bench.ws.commit("main", "h2")
        (note,) = bench.ws.notes
        assert "fuse-overlayfs may have put into another one" in note
        (changed,) = said(bench.ws.diff("main~1", "main"))
        assert note.startswith(f"{changed[2:]} had other names")

    by_fuse(test)


def test_what_fuse_overlayfs_left_in_the_dataset_hides_nothing(place):
    """The kernel copies a mark of its up with a directory, and knows nothing of it."""

    def test(bench: Own) -> None:
        for name in ("d", "."):
            os.setxattr(bench.data / name, "user.fuseoverlayfs.opaque", b"y")
        (bench.data / "d" / ".wh..wh..opq").touch()
        bench.edit(e.append("d/x", b"+"))
        assert "user.fuseoverlayfs.opaque" in os.listxattr(bench.upper() / "d")
        shown = bench.see()
        assert bench.lines("main") == ["M d/x"]
        bench.ws.commit("main", "x")
        bench.edit(e.append("d/.wh..wh..opq", b"+"))
        assert bench.lines("main") == ["M d/.wh..wh..opq", "M d/x"]
        bench.ws.commit("main", "a file of that name")
        bench.ws.squash("main")
        assert {*bench.see()} == {*shown}
        assert bench.ws.verify(full=True).findings == ()

    own(place, test)


@pytest.mark.root
def test_fuse_overlayfs_and_the_kernel_take_turns(by_fuse):
    """What the one left in an open layer, the other shows."""

    def test(bench: Own) -> None:
        ws = bench.ws
        bench.edit(e.rmtree("d"), e.add("d", Dir({"new": File(b"n")})), e.unlink("g"))
        shown = bench.see()
        layer = bench.upper()
        assert os.listxattr(layer / "d") == ["user.fuseoverlayfs.opaque"]
        ws.umount("main")
        assert os.listxattr(layer / "d") == ["user.overlay.opaque"]
        assert os.listdir(layer / "d") == ["new"]
        del os.environ[served_by.CHOICE]
        with dsbranch.open(bench.root) as opened:
            assert_same(inside(bench.root, "main", lambda: snapshot(HERE)), shown)
            inside(bench.root, "main", lambda: e.add("d/more", File(b"m"))(HERE))
            assert opened.status("main").counts["A"] == 2
        os.environ[served_by.CHOICE] = "fuse-overlayfs"
        ws.mount("main")
        assert bench.see().keys() == shown.keys() | {b"d/more"}
        ws.commit("main", "all")
        assert not ws.verify(full=True).findings

    by_fuse(test)


@pytest.mark.root
def test_a_private_view_of_what_fuse_overlayfs_shows(by_fuse):
    def test(bench: Own) -> None:
        ready, end = os.pipe(), os.pipe()
        del os.environ[served_by.CHOICE]
        child = os.fork()
        if not child:
            try:
                with dsbranch.open(bench.root) as ws:
                    place = ws.enter("main")
                (place / "new").touch()
                os.write(ready[1], b".")
                os.read(end[0], 1)
            finally:
                os._exit(0)
        try:
            os.close(ready[1])
            assert os.read(ready[0], 1) == b"."
            assert not (bench.data / "new").exists()
            with dsbranch.open(bench.root) as ws:
                assert ws.status("main").counts == {"A": 1}
                for refused in (lambda: ws.commit("main", "x"), lambda: ws.umount("main")):
                    with pytest.raises(errors.BusyError):
                        refused()
                assert (bench.root / "main/new").exists()
        finally:
            os.write(end[1], b".")
            os.waitpid(child, 0)
        bench.ws.commit("main", "x")
        assert b"new" in bench.see()

    by_fuse(test)


def _servers(bench: Own) -> list[served_by.Server]:
    """Of this workspace: other runs have theirs."""
    return [one for one in served_by.servers() if one.plan.lowers[-1] == bench.data]


def _kill_server(bench: Own) -> None:
    (server,) = _servers(bench)
    pidfd = os.pidfd_open(server.pid)
    os.kill(server.pid, signal.SIGKILL)
    assert select.select([pidfd], [], [], 10)[0]
    os.close(pidfd)


@pytest.mark.root
def test_a_server_that_is_killed_comes_back_with_the_next_command(by_fuse):
    def test(bench: Own) -> None:
        bench.edit(e.add("new", File(b"n")))
        _kill_server(bench)
        with pytest.raises(OSError, match="not connected"):
            os.listdir(bench.root / "main")
        assert bench.ws.status("main").counts == {"A": 1}
        assert not bench.ws.status("main").mounted
        bench.ws.commit("main", "new")
        assert bench.see()[b"new"].content == b"n"
        assert bench.ws.status("main").mounted

    by_fuse(test)


@pytest.mark.root
@pytest.mark.parametrize("step", ["to_kernel", "record", "serve", "switch"])
def test_a_commit_killed_while_nothing_is_mounted(by_fuse, step):
    """Old or new, with what was not committed, and mounted again by whatever comes next."""

    def test(bench: Own) -> None:
        bench.edit(e.add("new", Dir({"x": File(b"x")})))
        shown = bench.see()

        target = {
            "to_kernel": "dsbranch._core.seal:to_kernel",
            "record": "dsbranch.store.database:Store.record",
            "serve": "dsbranch.overlay.fuse:serve",
            "switch": "dsbranch.overlay.fuse:_switch",
        }[step]
        bench.ws.close()
        killed(bench.root, "commit('main', 'new')", target, "before")
        bench.ws = dsbranch.open(bench.root)
        committed = step in ("serve", "switch")
        assert len(list(bench.ws.log("main"))) == 1 + committed
        assert bench.ws.status("main").clean == committed
        bench.ws.commit("main", "again", allow_empty=True)
        assert bench.ws.status("main").mounted
        assert_same(bench.see(), shown)
        assert not bench.ws.verify(full=True).findings

    by_fuse(test)


@pytest.mark.root
def test_by_fuse_overlayfs_run_wants_a_place(by_fuse):
    def test(bench: Own) -> None:
        bench.ws.umount("main")
        with pytest.raises(errors.NoPrivilege) as caught:
            bench.ws.enter("main")
        assert f"{served_by.CHOICE} asks for fuse-overlayfs" in str(caught.value)
        assert f"`unset {served_by.CHOICE}`" in (caught.value.hint or "")
        assert f"`--at {bench.root / 'main'}`" in (caught.value.hint or "")
        bench.ws.enter("main", at=bench.root / "elsewhere")
        assert (bench.root / "elsewhere/f").exists()
        assert "until `dsbranch umount main`" in bench.ws.notes[0]
        bench.ws.enter("main", at=bench.root / "elsewhere")
        with pytest.raises(errors.AlreadyExists):
            bench.ws.enter("main", at=bench.root / "third")

    by_fuse(test)


@pytest.mark.root
def test_a_view_that_was_asked_for_is_kept_by_commands_that_do_not_ask(by_fuse):
    """The variable is set in one shell and not in another; namespaces are allowed."""

    def test(bench: Own) -> None:
        del os.environ[served_by.CHOICE]
        with dsbranch.open(bench.root) as ws:
            ws.commit("main", "nothing", allow_empty=True)
            bench.edit(e.rmtree("d"), e.add("d", Dir({"new": File(b"n")})))
            shown = bench.see()
            ws.umount("main")
            assert_same(inside(bench.root, "main", lambda: snapshot(HERE)), shown)
            ws.commit("main", "new")
            assert_same(inside(bench.root, "main", lambda: snapshot(HERE)), shown)
            assert not ws.verify(full=True).findings

    by_fuse(test)


@pytest.mark.root
def test_a_place_behind_a_symlink(by_fuse):
    def test(bench: Own) -> None:
        bench.ws.umount("main")
        (bench.root / "real").mkdir()
        (bench.root / "link").symlink_to("real")
        with pytest.raises(errors.AlreadyExists):
            bench.ws.mount("main", at=bench.root / "link")
        (bench.root / "dir").mkdir()
        (bench.root / "way").symlink_to(bench.root / "dir")
        bench.ws.mount("main", at=bench.root / "way/view")
        assert (bench.root / "dir/view/f").exists()
        bench.ws.umount("main")
        assert not _servers(bench)

    by_fuse(test)


@pytest.mark.root
def test_a_dead_view_can_be_unmounted(by_fuse):
    def test(bench: Own) -> None:
        bench.edit(e.add("new", File(b"n")))
        _kill_server(bench)
        assert bench.ws.umount("main") == [bench.root / "main"]
        assert os.listdir(bench.root / "main") == []
        with pytest.raises(errors.BadPath):
            bench.ws.umount("main")
        bench.ws.mount("main")
        assert (bench.root / "main/new").exists()

    by_fuse(test)


@pytest.mark.root
def test_a_mount_that_is_nobodys_of_ours_is_left_alone(by_fuse):
    """As a container's: it shows no branch, and lives."""

    def test(bench: Own) -> None:
        other = bench.root / "other"
        other.mkdir()
        plan = branch_plan(bench.ws._context, [], "0123456789")._replace(upper=None, work=None)
        options = f"lowerdir={plan.lowers[-1]}:{bench.upper()}"
        subprocess.run(["fuse-overlayfs", "-o", options, other], check=True)
        with pytest.raises(errors.AlreadyExists):
            bench.ws.create("second") and bench.ws.mount("second", at=other)
        assert os.path.ismount(other)
        subprocess.run(["fusermount3", "-u", other], check=True)

    by_fuse(test)


@pytest.mark.root
def test_who_reads_keeps_a_view_and_who_stands_there_moves_with_its_name(by_fuse):
    def test(bench: Own) -> None:
        with (bench.root / "main/f").open("rb") as file:
            for refused in (
                lambda: bench.ws.commit("main", "x", allow_empty=True),
                lambda: bench.ws.rename("main", "trunk"),
            ):
                with pytest.raises(errors.WritersPresent) as caught:
                    refused()
                assert [process.pid for process in caught.value.processes] == [os.getpid()]
                assert "open" in str(caught.value)
            assert file.read()
        os.chdir(bench.root / "main")
        try:
            bench.ws.rename("main", "trunk")
        finally:
            os.chdir("/")
        assert (bench.root / "trunk/f").exists()
        with pytest.raises(errors.NothingToCommit):
            bench.ws.commit("trunk", "x")
        assert not bench.ws.notes

    by_fuse(test)


@pytest.mark.root
def test_no_file_written_by_path_is_lost_to_commits(by_fuse):
    """What a writer that goes by the branch's path was told to be written is in the branch."""

    def write(root: Path, end: int) -> int:
        number = 0
        while not select.select([end], [], [], 0)[0]:
            try:
                with (root / f"u{number}").open("x") as file:
                    file.write(str(number))
            except OSError:
                continue  # it was told that it is not
            number += 1
            time.sleep(0.004)  # or else there is hardly a moment in which nothing is open
        return number

    def test(bench: Own) -> None:
        reader, writer = os.pipe()
        answer, told = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.write(told, b"%d" % write(bench.root / "main", reader))
            finally:
                os._exit(0)
        try:
            for number in range(12):
                bench.ws.commit("main", f"{number}", wait=20, allow_empty=True)
        finally:
            os.write(writer, b".")
            os.waitpid(child, 0)
        count = int(os.read(answer, 20))
        assert count > 20
        expected = {b"u%d" % number for number in range(count)}
        assert expected <= bench.see().keys()
        bench.ws.umount("main")
        assert os.listdir(bench.root / "main") == []
        bench.ws.mount("main")
        assert expected <= bench.see().keys()
        assert not bench.ws.verify(full=True).findings

    by_fuse(test)


@pytest.mark.root
def test_a_workspace_is_renamed_while_it_is_mounted(by_fuse):
    def test(bench: Own) -> None:
        bench.edit(e.add("r", File(b"r")))
        bench.ws.close()
        moved = bench.root.rename(bench.root.with_name("moved"))
        bench.ws = dsbranch.open(moved)
        assert bench.ws.status("main").mountpoint == moved / "main"
        bench.ws.commit("main", "r")
        (moved / "main/r").write_text("more")
        (moved / "main/after").touch()
        assert bench.ws.status("main").counts == {"A": 1, "M": 1}
        assert not bench.ws.verify(full=True).findings
        bench.ws.umount("main")

    by_fuse(test)


@pytest.mark.root
def test_a_dead_view_somebody_holds_keeps_no_other_from_its_commit(by_fuse):
    def test(bench: Own) -> None:
        held = os.open(bench.root / "main/f", os.O_RDONLY)
        _kill_server(bench)
        bench.ws.create("exp1")
        bench.edit(e.add("n", File()), branch="exp1")
        bench.ws.commit("exp1", "n")
        with pytest.raises(OSError, match="not connected"):
            os.close(held)
        bench.ws.commit("main", "x", allow_empty=True)
        assert bench.ws.status("main").mounted

    by_fuse(test)


@pytest.mark.root
def test_a_copy_in_another_namespace_keeps_a_view_mounted(by_fuse):
    def test(bench: Own) -> None:
        ready, end = os.pipe(), os.pipe()
        child = os.fork()
        if not child:
            try:
                namespaces.enter_own()
                os.write(ready[1], b".")
                os.read(end[0], 1)
            finally:
                os._exit(0)
        try:
            os.read(ready[0], 1)
            with pytest.raises(errors.BusyError, match="another mount namespace"):
                bench.ws.umount("main")
            assert (bench.root / "main/f").exists()
        finally:
            os.write(end[1], b".")
            os.waitpid(child, 0)
        bench.ws.umount("main")

    by_fuse(test)

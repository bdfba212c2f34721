"""``apply``: what export wrote, and what others did, as a commit."""

from __future__ import annotations

import errno
import os
import subprocess
import tarfile

import pytest

from dsbranch import errors
from dsbranch.ops.archive.unpack import Unpacker
from tests import edits as e
from tests import operations
from tests.archives import unsayable
from tests.cases import BASE, D_DELETED
from tests.steps import START, perform_all, random_layers
from tests.trees import Dir, File, Link, Snapshot, Symlink, acl, assert_same, make, snapshot

from . import tars
from .conftest import Bench, command, mount_filesystem, one_sentence, rows
from .test_cases import WORKABLE, built, fresh
from .test_export import RICH
from .test_random import HISTORIES, SPLIT

pytestmark = pytest.mark.root

WRITTEN = (("main", "o.tar.zst"), ("main", "o"), ("root..main", "o.tar"), ("root..main", "o"))


def contents(path) -> dict[str, bytes]:
    """All bytes of an archive."""
    if path.is_file():
        return {"": path.read_bytes()}
    files = {}
    for directory, _, names in os.walk(path):
        for name in names:
            at = os.path.join(directory, name)
            if os.path.isfile(at) and not os.path.islink(at) and os.stat(at).st_size < 1 << 20:
                with open(at, "rb") as file:
                    files[os.path.relpath(at, path)] = file.read()
    return files


# A terabyte of zeros takes half a minute to hash, each time: it goes the shortest way.
HUGE = "23-terabyte"
SMALL = [case for case in WORKABLE if not case.id.startswith(HUGE)]


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.id)
def test_a_case_goes_elsewhere_and_comes_back(case, adopt):
    """Exported, whole and as changes, in each form; applied on an equal base; exported again."""
    bench, other = adopt(case.base), adopt(case.base)
    root = bench.head()
    built(bench, case)
    bench.ws.commit("main", "last", allow_empty=True)
    view = fresh(bench)
    for number, (spec, output) in enumerate(WRITTEN):
        try:
            bench.ws.export(spec.replace("root", root), bench.root / output)
        except errors.UnsupportedError:
            named = view if spec == "main" else view | snapshot(bench.data)
            assert unsayable(named, as_tar="tar" in output)
            continue
        branch = f"b{number}"
        other.ws.create(branch)
        if (spec, output) == ("main", "o") and like_overlays(view):
            # In the directory of a whole tree nothing tells whose they are.
            with pytest.raises(errors.BadArchive, match="overlay's own attribute"):
                other.ws.apply(branch, bench.root / output)
            command(["rm", "-r", bench.root / output])
            continue
        applied(other, branch, bench.root / output, case.expected)
        assert_same(other.see(branch), view)
        other.ws.export(branch if spec == "main" else f"main..{branch}", other.root / output)
        if case.expected:
            assert contents(other.root / output) == contents(bench.root / output)
        if spec == "main":
            with pytest.raises(errors.NothingToCommit):
                other.ws.apply(branch, bench.root / output, allow_devices=True)
        for place in (bench.root, other.root):
            command(["rm", "-r", place / output])


@pytest.mark.parametrize("output", ["o.tar", "o"])
@pytest.mark.parametrize("spec", ["other", "main..other"])
def test_a_root_loses_what_the_archive_has_not(bench, output, spec):
    names = ("user.note", "trusted.note", "user.overlay.note")
    given = [e.setxattr(".", name, b"n") for name in (*names, "user.kept")]
    bench.commit(*given, e.setfacl(".", 1234, 5))
    bench.ws.create("other")
    lost = [e.removexattr(".", name) for name in (*names, "system.posix_acl_access")]
    bench.commit(*lost, e.append("f", b"more"), branch="other")
    bench.ws.export(spec, bench.root / output)
    bench.ws.create("again")
    bench.ws.apply("again", bench.root / output)
    assert bench.lines("other", "again") == []
    assert os.listxattr(bench.path("again")) == ["user.kept"]


def like_overlays(view: Snapshot) -> bool:
    """Whether a user has set attributes that are called as an overlay's are."""
    names = {name for node in view.values() for name, _ in node.xattrs}
    return any(name.startswith(("trusted.overlay.", "user.overlay.")) for name in names)


def applied(other: Bench, branch: str, archive, expected) -> None:
    try:
        done = other.ws.apply(branch, archive, allow_devices=True)
    except errors.NothingToCommit:
        assert not expected
        return
    assert expected
    assert done.commit is not None
    assert other.ws.status(branch).clean
    assert other.ws.log(branch)[0].message.startswith("apply o")


def test_a_large_hole(adopt):
    """Smaller than the case's: three times a terabyte of zeros are hashed for a minute."""
    (case,) = (case for case in WORKABLE if case.id.startswith(HUGE))
    base = Dir({"hole": File(b"start", sparse=1 << 36)})
    bench, other = adopt(base), adopt(base)
    built(bench, case)
    bench.ws.commit("main", "last")
    bench.ws.export("main~1..main", bench.root / "o.tar")
    other.ws.apply("main", bench.root / "o.tar")
    assert_same(other.see(), fresh(bench))
    assert (other.path() / "hole").stat().st_blocks < 100


def entries(bench: Bench, branch: str = "main") -> set[bytes]:
    """What the newest sealed layer of a branch holds, its root left out."""
    layer = bench.ws.log(branch)[0].layer
    top = os.fsencode(bench.fs(layer))
    return {
        os.path.relpath(os.path.join(directory, name), top)
        for directory, inner, names in os.walk(top)
        for name in [*inner, *names]
    }


ODD = Dir(
    {
        **{name: tree for name, tree in RICH.children.items() if name != "odd"},
        "escaped": File(b"e", xattrs={"trusted.overlay.opaque": b"mine", "user.overlay.x": b""}),
        "large-xattr": File(b"x", xattrs={"user.large": bytes(range(256)) * 12}),
        "holes": File(b"start", sparse=1 << 21),
        "all-hole": File(sparse=1 << 20),
    }
)


@pytest.mark.parametrize(("spec", "output"), WRITTEN)
def test_nothing_that_a_tree_can_hold_is_lost(adopt, spec, output):
    """Added by one commit through the mount, so that the kernel escapes what looks like its own."""
    bench, other = adopt(Dir()), adopt(Dir())
    root = bench.head()
    for name, tree in ODD.children.items():
        if not isinstance(tree, Link):
            bench.edit(e.add(name, tree if name != "m" else Dir()))
    bench.edit(e.link("l1", "m/l2"), e.link("l1", "m/l3"), e.link("holes", "m/holes"))
    bench.edit(e.write_at("holes", 1 << 20, b"island"))
    bench.ws.commit("main", "all")
    if output == "o" and spec == "main":
        # A plain directory could be an overlay's upper: there nothing tells whose that is.
        bench.commit(e.unlink("escaped"))
    bench.ws.export(spec.replace("root", root), bench.root / output)
    other.ws.apply("main", bench.root / output, allow_devices=True)
    assert_same(other.see(), bench.see())
    for name in ("holes", "all-hole"):
        blocks = (bench.path() / name).stat().st_blocks
        assert (other.path() / name).stat().st_blocks == blocks < 100
    for path in (b"", b"d", b"m"):
        times = [(b.path() / os.fsdecode(path)).stat().st_mtime_ns for b in (bench, other)]
        assert times[0] == times[1], path


def test_a_whole_tree_stores_nothing_twice(bench):
    bench.ws.create("exp1")
    bench.commit(e.append("d/x", b"!"), e.unlink("f"), e.add("n", Dir({"a": File(b"a")})))
    for output in ("o.tar", "o"):
        bench.ws.export("main", bench.root / output)
        bench.ws.apply("exp1", bench.root / output)
        assert entries(bench, "exp1") == {b"d", b"d/x", b"f", b"n", b"n/a"}
        assert_same(bench.see("exp1"), bench.see())
        assert bench.ws.diff("main", "exp1").counts() == {}
        bench.ws.rollback("exp1", "exp1~1")


def test_the_layer_is_as_an_upper_would_be(bench):
    """The kernel's own marks, and what other verbs make of it."""
    bench.ws.create("exp1")
    root = bench.head()
    bench.commit(e.recreate("d", File(b"d")), e.recreate("f", Dir({"in": File(b"in")})))
    bench.ws.export(f"{root}..main", bench.root / "o.tar")
    bench.ws.apply("exp1", bench.root / "o.tar")
    fs = bench.fs(bench.ws.log("exp1")[0].layer)
    assert os.getxattr(fs / "f", "trusted.overlay.opaque") == b"y"
    bench.commit(e.recreate("f", File(b"again")), branch="exp1")
    bench.ws.squash("exp1", since=root)
    assert bench.lines(root, "exp1") == ["T d", *D_DELETED, "M f"]
    view = bench.see("exp1")
    bench.ws.umount("exp1")
    bench.ws.mount("exp1")
    assert_same(bench.see("exp1"), view)


def test_two_names_of_a_base_file_stay_one_inode(bench, adopt):
    """One of them is new: the other one did not change, and must come along."""
    root = bench.head()
    bench.commit(e.link("f", "f2"), e.rename("d", "t"), e.link("g", "t/g2"))
    view = bench.see()
    assert view[b"f"].links == (b"f", b"f2")
    for output in ("o.tar", "o"):
        bench.ws.export(f"{root}..main", bench.root / output)
        other = adopt()
        other.ws.apply("main", bench.root / output)
        assert_same(other.see(), view)


def test_names_by_the_paths_they_have_now(adopt):
    """A layer knows them by where they were before a directory was renamed; the base not at all."""
    base = Dir({"d": Dir({"a": File(b"a"), "h": File(b"h")}), "h2": Link("d/h")})
    bench, other = adopt(base), adopt(base)
    bench.commit(e.add("d/n", File(b"n")), e.link("d/n", "n2"))
    bench.commit(e.rename("d", "t"))
    middle = bench.head()
    bench.commit(e.rename("t", "u"))
    bench.ws.export("main~3..main", bench.root / "all.tar")
    other.ws.apply("main", bench.root / "all.tar")
    assert_same(other.see(), bench.see())
    bench.ws.export(f"{middle}..main", bench.root / "last.tar")
    other.ws.rollback("main", "main~1")
    bench.ws.export(middle, bench.root / "middle.tar")
    other.ws.apply("main", bench.root / "middle.tar")
    other.ws.apply("main", bench.root / "last.tar")
    assert_same(other.see(), bench.see())


def test_each_name_is_written_once(adopt):
    """Found where the layer says, and again when the whole view was gone through for another."""
    bench = adopt(Dir({"d": Dir()}))
    bench.commit(e.add("a", File(b"a")), e.link("a", "b"), e.link("a", "d/c"))
    bench.commit(e.rename("d", "t"))
    for output in ("o.tar", "o"):
        bench.ws.export("main~1..main", bench.root / output)
    with tarfile.open(bench.root / "o.tar") as tar:
        assert sorted(tar.getnames()) == [".", ".wh.d", "a", "b", "t", "t/c"]


# What the branch has in place of what the changes were made from, and the path that tells.
WRONG = {
    "another content": (e.append("f", b"!"), "f"),
    "another time": (e.utime("f", 5), "f"),
    "another owner": (e.chown("f", 5, 5), "f"),
    "another kind": (e.recreate("f", Symlink("one\n")), "f"),
    "nothing": (e.unlink("f"), "f"),
    "something": (e.add("n", File(b"n")), "n"),
    "more in what goes": (e.add("d/sub/more", File(b"m")), "d"),
    "other in what goes": (e.append("d/sub/p", b"m"), "d"),
    "it is gone": (e.rmtree("d"), "d"),
    "no directory": (e.rmtree("e"), "e"),
    "another directory": (e.recreate("e", Symlink("d")), "e"),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("output", ["o.tar", "o"])
def test_changes_are_refused_where_they_were_not_made(bench, adopt, kind, output):
    bench.commit(e.append("f", b"1"), e.rmtree("d"), e.mkdir("n"), e.append("e/d/deep", b"1"))
    bench.ws.export("main~1..main", bench.root / output)
    edit, path = WRONG[kind]
    other = adopt()
    other.commit(edit)
    before = other.traces(), other.see()
    with pytest.raises(errors.ConflictError, match=rf"\b{path}\b") as caught:
        other.ws.apply("main", bench.root / output)
    one_sentence(caught.value)
    assert caught.value.exit_code == 3
    assert (other.traces(), other.see()) == before
    if kind not in ("another directory", "no directory"):
        other.ws.apply("main", bench.root / output, force=True)
        assert other.see()[b"f"].content == b"one\n1"
        assert not any(name == b"d" or name.startswith(b"d/") for name in other.see())


def test_changes_elsewhere_are_no_reason_to_refuse(bench, adopt):
    bench.commit(e.append("f", b"1"), e.chmod("d", 0o700))
    bench.ws.export("main~1..main", bench.root / "o.tar")
    other = adopt()
    other.commit(e.append("g", b"2"), e.append("d/x", b"2"), e.utime("d", 7), e.add("n", File()))
    other.ws.apply("main", bench.root / "o.tar")
    assert other.lines("main~1", "main") == ["m d", "M f"]


def test_a_branch_with_changes_of_its_own_is_refused(bench):
    bench.ws.export("main", bench.root / "o.tar")
    bench.edit(e.append("f", b"1"))
    before = bench.traces(), bench.see()
    with pytest.raises(errors.DirtyBranch, match="main"):
        bench.ws.apply("main", bench.root / "o.tar")
    assert (bench.traces(), bench.see()) == before


def test_changes_made_while_it_unpacks_are_not_lost(bench, monkeypatch):
    bench.commit(e.append("g", b"2"))
    bench.ws.export("main~1..main", bench.root / "o.tar")
    bench.ws.rollback("main", "main~1")
    real = Unpacker.finish

    def meanwhile(self):
        bench.edit(e.append("f", b"meanwhile"))
        real(self)

    monkeypatch.setattr(Unpacker, "finish", meanwhile)
    with pytest.raises(errors.DirtyBranch):
        bench.ws.apply("main", bench.root / "o.tar")
    assert bench.lines() == ["M f"]
    bench.edit(e.append("f", b"still writable"))


def test_a_dry_run_changes_nothing(bench):
    bench.ws.create("exp1")
    bench.commit(e.append("f", b"1"), e.unlink("g"), e.utime("e", 5))
    bench.ws.export("main", bench.root / "o.tar")
    before = bench.traces(), bench.see("exp1")
    done = bench.ws.apply("exp1", bench.root / "o.tar", dry_run=True)
    assert (done.commit, done.counts) == (None, {"M": 1, "D": 1})
    assert (bench.traces(), bench.see("exp1")) == before


def test_onto_a_branch_that_is_not_mounted(bench):
    bench.ws.create("exp1", mount=False)
    bench.commit(e.append("f", b"1"))
    bench.ws.export("main", bench.root / "o.tar")
    done = bench.ws.apply("exp1", bench.root / "o.tar", "of main\n\nall of it", author="me@here")
    assert done.mountpoint is None
    assert (done.commit.message, done.commit.author) == ("of main\n\nall of it", "me@here")
    assert_same(bench.view("exp1"), bench.see())


def test_readers_go_on_and_writers_stand_in_the_way(bench, hold):
    bench.commit(e.append("f", b"1"))
    bench.ws.export("main", bench.root / "o.tar")
    bench.ws.rollback("main", "main~1")
    with (bench.path() / "f").open("rb") as reader:
        bench.ws.apply("main", bench.root / "o.tar")
        assert reader.read() == b"one\n"
    assert (bench.path() / "f").read_bytes() == b"one\n1"
    bench.commit(e.append("g", b"1"))
    with (bench.path() / "g").open("ab"), pytest.raises(errors.WritersPresent):
        bench.ws.apply("main", bench.root / "o.tar")
    assert bench.ws.status("main").clean


LAYER = (
    tars.M(".wh.f"),
    tars.M("d/.wh..wh..opq"),
    tars.M("d/new", b"new"),
    tars.M("e/.wh.m"),
    tars.M("e/.wh.nothing"),
    tars.M("nowhere/.wh.nothing"),
    tars.M("./e/d/deep", b"changed"),
    tars.directory("empty/", 0o711),
    tars.M(".wh.dangling"),
    tars.directory("dangling"),
    tars.M("made/up/by", b"x"),
)


@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_a_layer_of_a_container_image(bench, format):
    bench.commit(e.chmod("e", 0o750), e.utime("e", 55))
    tar = tars.make(bench.root / "layer.tar", LAYER, format)
    bench.ws.apply("main", tar)
    assert bench.lines("main~1", "main") == [
        *("A d/new", "D d/sub", "D d/sub/p", "D d/sub/q", "D d/x", "D d/y", "T dangling"),
        *("M e/d/deep", "D e/m", "m empty", "D f", "A made", "A made/up", "A made/up/by"),
    ]
    view = bench.see()
    assert (view[b"e"].mode, (bench.path() / "e").stat().st_mtime_ns) == (0o750, 55)
    assert (view[b"made"].mode, view[b"made/up"].uid) == (0o755, 0)
    assert_same(bench.view("main"), view)
    bench.ws.squash("main", since="main~2")
    assert_same(bench.view("main"), view)


def test_all_of_the_root_can_be_replaced(bench):
    tar = tars.make(bench.root / "o.tar", [tars.M("new", b"n"), tars.M(".wh..wh..opq")])
    bench.ws.apply("main", tar)
    assert sorted(os.listdir(bench.path())) == ["new"]
    tar = tars.make(bench.root / "o.tar", [tars.M("d/x", b"x")])
    bench.ws.rollback("main", "main~1")
    bench.ws.apply("main", tar, full=True)
    assert sorted(bench.see()) == [b"", b"d", b"d/x"]
    assert bench.see()[b"d"].mode == 0o755


@pytest.mark.parametrize("format", ["gnu", "posix", "v7", "ustar", "oldgnu"])
def test_what_gnu_tar_writes(bench, adopt, format):
    source = bench.root / "source"
    make(Dir({"f": File(b"from tar"), "d": Dir({"l": Link("f")}), "s": Symlink("f")}), source)
    sparse = ["--sparse"] if format in ("gnu", "posix", "oldgnu") else []
    if sparse:
        make(Dir({"holes": File(b"h", sparse=1 << 24)}), source / "h")
    tar = bench.root / "gnu.tar"
    command(["tar", f"--format={format}", *sparse, "-C", source, "-cf", tar, "."])
    bench.ws.apply("main", tar)
    view = bench.see()
    assert (view[b"f"].content, view[b"f"].links) == (b"from tar", (b"d/l", b"f"))
    assert view[b"g"].content == b"two\n"
    if sparse:
        assert (bench.path() / "h/holes").stat().st_blocks < 100
        assert view[b"h/holes"].size == 1 << 24


def test_acls_that_are_told_as_text_only(bench):
    source = bench.root / "source"
    make(Dir({"a": File(b"a", xattrs={"system.posix_acl_access": acl(1234, 6)})}), source)
    command(["setfacl", "-m", "u:root:rwx,g:daemon:r,d:u:77:x", source])
    command(["tar", "--acls", "-C", source, "-cf", bench.root / "o.tar", "."])
    bench.ws.apply("main", bench.root / "o.tar", full=True)
    assert_same(bench.see(), snapshot(source))


@pytest.mark.parametrize(
    ("target", "when"),
    [
        ("dsbranch.ops.archive.unpack:Unpacker.put", "after"),
        ("dsbranch.ops.archive.unpack:Unpacker.finish", "after"),
        ("dsbranch.ops.apply:trim", "after"),
        ("dsbranch.ops.layers:write_manifest", "after"),
        ("dsbranch.store.database:Store.record", "before"),
    ],
)
def test_a_kill_before_the_transaction_leaves_the_old_state(bench, target, when):
    bench.commit(e.append("f", b"1"))
    bench.ws.export("main~1..main", bench.root / "o.tar")
    bench.ws.rollback("main", "main~1")
    before, view = rows(bench.place), bench.see()
    bench.killed(f"apply('main', '{bench.root}/o.tar')", target, when)
    assert rows(bench.place) == before
    bench.ws.status("main")
    assert_same(bench.see(), view)
    bench.ws.apply("main", bench.root / "o.tar")
    assert bench.lines("main~1", "main") == ["M f"]


def test_a_kill_after_the_transaction_leaves_the_new_state(bench):
    bench.commit(e.append("f", b"1"))
    view = bench.see()
    bench.ws.export("main~1..main", bench.root / "o.tar")
    bench.ws.rollback("main", "main~1")
    action = f"apply('main', '{bench.root}/o.tar')"
    bench.killed(action, "dsbranch.store.database:Store.record", "after")
    bench.ws.status("main")
    assert_same(bench.see(), view)
    assert bench.lines("main~1", "main") == ["M f"]


@pytest.mark.parametrize("output", ["o.tar", "o"])
def test_a_disk_that_fills_up(tmp_path, swept, output):
    disk = mount_filesystem("tmpfs", tmp_path / "disk", "-o", "size=8m,nr_inodes=200")
    bench = Bench(disk, BASE)
    elsewhere = tmp_path / "big"
    make(Dir({f"n{n}": File(os.urandom(3 << 20)) for n in range(3)}), elsewhere / "new")
    make(Dir({f"n{n}": File() for n in range(300)}), tmp_path / "many" / "new")
    for source in (elsewhere, tmp_path / "many"):
        if output == "o.tar":
            command(["tar", "-C", source, "-cf", tmp_path / "o.tar", "."])
            archive = tmp_path / "o.tar"
        else:
            archive = source
        before = bench.traces(), bench.see()
        with pytest.raises(errors.StorageError) as caught:
            bench.ws.apply("main", archive)
        one_sentence(caught.value)
        assert "new/n" in str(caught.value)
        assert caught.value.errno == errno.ENOSPC
        assert (bench.traces(), bench.see()) == before
    bench.close()


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_a_random_history_goes_elsewhere(adopt, monkeypatch, seed):
    """Each commit as changes to the one before, and the last one as a whole."""
    monkeypatch.setattr(operations, "NAMES", [n for n in operations.NAMES if n[:4] != b".wh."])
    bench, other = adopt(START), adopt(START)
    other.ws.create("whole")
    log = []
    for steps in random_layers(seed, 5, 8):
        log += perform_all(bench.path(), steps)
        try:
            bench.ws.commit("main", "x")
        except errors.NothingToCommit:
            continue
        output = bench.root / ("o.tar", "o")[len(log) % 2]
        print("\n".join(log))
        try:
            bench.ws.export("main~1..main", output)
        except errors.UnsupportedError:
            output = bench.root / "o"  # which can hold a socket
            bench.ws.export("main~1..main", output)
        other.ws.apply("main", output, allow_devices=True)
        assert_same(other.see(), bench.see(), ignore=SPLIT)
        assert other.lines("main~1", "main", renames=False) == bench.lines(
            "main~1", "main", renames=False
        )
        if output.is_dir():
            command(["rm", "-r", output])
    # In a plain directory nobody could tell the user's xattrs that are called like overlay's.
    try:
        bench.ws.export("main", bench.root / "all.tar")
    except errors.UnsupportedError:
        return
    other.ws.apply("whole", bench.root / "all.tar", allow_devices=True)
    assert_same(other.view("whole"), bench.view("main"))


def test_an_archive_that_is_piped_in(bench):
    """It is read once, from its start to its end."""
    bench.commit(e.add("new", File(os.urandom(1 << 20))))
    bench.ws.create("other", start="main~1")
    for suffix in (".tar", ".tar.zst"):
        archive = bench.root / f"r{suffix}"
        bench.ws.export("main~1..main", archive)
        reader, writer = os.pipe()
        with subprocess.Popen(["cat", archive], stdout=writer):
            os.close(writer)
            bench.ws.apply("other", f"/proc/self/fd/{reader}")
        os.close(reader)
        assert (bench.path("other") / "new").read_bytes() == (bench.path() / "new").read_bytes()
        bench.ws.rollback("other", "other~1")


def test_a_pipe_that_gives_one_byte_first(bench):
    bench.commit(e.add("new", File(b"new")))
    bench.ws.create("other", start="main~1")
    archive = bench.root / "o.tar.zst"
    bench.ws.export("main~1..main", archive)
    reader, writer = os.pipe()
    with subprocess.Popen(
        ["sh", "-c", 'head -c 1 "$1"; sleep 0.3; tail -c +2 "$1"', "", archive], stdout=writer
    ):
        os.close(writer)
        bench.ws.apply("other", f"/proc/self/fd/{reader}")
    os.close(reader)
    assert (bench.path("other") / "new").read_bytes() == b"new"


def test_what_another_filesystem_kept_for_itself_is_left_out(bench):
    names = ("btrfs.compression", "system.nfs4_acl", "trusted.SGI_ACL_FILE", "security.evm")
    headers = {f"SCHILY.xattr.{name}": "value" for name in (*names, "user.note")}
    tar = tars.make(bench.root / "o.tar", [tars.pax("new", b"n", **headers)])
    bench.ws.apply("main", tar)
    assert os.listxattr(bench.path() / "new") == ["user.note"]


def test_gnu_tars_times_are_no_part_of_a_name(bench):
    (bench.root / "in").mkdir()
    # A name of more than 100 bytes has a header of its own.
    names = ["one", "two", "long" * 50]
    for name in names:
        (bench.root / "in" / name).write_bytes(name.encode())
    os.symlink("far/" * 50, bench.root / "in" / "link")
    tar = ["tar", "--format=gnu", "-g", bench.root / "snap", "-C", bench.root / "in"]
    command([*tar, "-cf", bench.root / "i.tar", *names, "link"])
    bench.ws.apply("main", bench.root / "i.tar")
    assert os.readlink(bench.path() / "link") == "far/" * 50
    assert [(bench.path() / name).read_text() for name in names] == names

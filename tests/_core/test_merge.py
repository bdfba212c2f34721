"""A merge of the core against its twin, and its layer against the kernel."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence

import pytest

from dsbranch._core.algebra import changes, same
from dsbranch._core.base import Base
from dsbranch._core.build import build, inherit
from dsbranch._core.merge import Merge, decide
from dsbranch._core.replay import replay
from dsbranch._core.view import View
from tests import core, reference, reference_merge
from tests import edits as e
from tests.cases import BASE
from tests.edits import Edit
from tests.overlays import Overlay
from tests.steps import START, perform, random_layers
from tests.trees import Dir, Fifo, File, Snapshot, Symlink, assert_same, snapshot

pytestmark = pytest.mark.root

SEEDS = int(os.environ.get("DSBRANCH_TEST_MERGES", "40"))


class Triple:
    """A base with two branches, read by both the core and the reference."""

    def __init__(self, ours: Overlay, theirs: Overlay, common: int) -> None:
        for overlay in (ours, theirs):
            if overlay.mounted:
                overlay.unmount()
        self.root, self.dialect = ours.root, ours.dialect
        self.places = [ours.layers, theirs.layers]
        self.common = common
        shared = ours.layers[len(ours.layers) - common :]
        self.bottom = Base(os.fsencode(ours.base), dialect=self.dialect)
        self.plain_bottom = reference.scan(ours.base, self.dialect)
        low = [core.scan(path, dialect=self.dialect) for path in shared]
        plain_low = [reference.scan(path, self.dialect) for path in shared]
        self.views, self.plain = (
            [View(low, self.bottom)],
            [reference.resolve(plain_low, self.plain_bottom)],
        )
        for places in self.places:
            own = places[: len(places) - common]
            tables = [core.scan(path, dialect=self.dialect) for path in own]
            self.views.append(View(tables + low, self.bottom))
            layers = [reference.scan(path, self.dialect) for path in own]
            self.plain.append(reference.resolve(layers + plain_low, self.plain_bottom))

    def decide(
        self, *, swap: bool = False, choose: Callable[[bytes], str | None] | None = None
    ) -> Merge:
        base, ours, theirs = self.views
        if swap:
            ours, theirs = theirs, ours
        return decide(base, ours, theirs, choose=choose, threads=2)

    def twin(self, *, swap: bool = False) -> reference_merge.Merged:
        base, ours, theirs = self.plain
        return reference_merge.merge(base, *((theirs, ours) if swap else (ours, theirs)))

    def built(self, merge: Merge, *, swap: bool = False) -> Snapshot:
        """What the kernel shows of ours with the merge's layer on top."""
        lowers = tuple(self.places[1 if swap else 0])
        steps, _ = replay(merge, dialect=self.dialect)
        if steps:
            number = sum(1 for entry in self.root.iterdir() if entry.name.isdigit())
            layer = self.root / str(number) / "fs"
            layer.mkdir(parents=True)
            (layer.parent / "work").mkdir()
            build(steps, os.fsencode(layer), dialect=self.dialect)
            inherit(core.scan(layer, dialect=self.dialect), steps)
            lowers = (layer, *lowers)
        with Overlay(self.root, None, lowers=lowers, dialect=self.dialect) as overlay:
            return snapshot(overlay.mountpoint)


def check(triple: Triple) -> bool:
    """Both ways round; whether it could be merged."""
    seen = []
    for swap in (False, True):
        merge = triple.decide(swap=swap)
        twin = triple.twin(swap=swap)
        said = {clash.path for clash in merge.conflicts}
        assert said == twin.conflicts, [clash.astuple() for clash in merge.conflicts]
        if not said:
            seen.append(triple.built(merge, swap=swap))
            assert_same(twin.snapshot(), seen[-1], ignore=("links",))
    if seen:
        # What both made alike keeps the time of ours.
        assert_same(*seen, ignore=("links", "mtime_ns"))
    return bool(seen)


def random_triple(seed: int, overlay: Callable[..., Overlay], dialect: str, steps: int) -> Triple:
    stack = overlay(START, dialect=dialect)
    layers = random_layers(seed, 4, steps)
    common = seed % 3
    for layer in layers[:common]:
        for step in layer:
            print("base", perform(stack.mountpoint, step))
        stack.freeze()
    with stack.fork() as theirs:
        for name, branch, number in (("ours", stack, 2), ("theirs", theirs, 3)):
            for at, step in enumerate(layers[number]):
                print(name, perform(branch.mountpoint, step))
                if at == 2:
                    branch.freeze()
        return Triple(stack, theirs, common)


@pytest.mark.parametrize("dialect", ["trusted", "user"])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_branches(seed: int, dialect: str, overlay: Callable[..., Overlay]) -> None:
    check(random_triple(seed, overlay, dialect, 3 + seed % 4))


def copied_triple(seed: int, overlay: Callable[..., Overlay]) -> Triple:
    """Theirs is a copy of ours, as from an archive, where nothing says what was renamed; and then
    both went on."""
    stack = overlay(START, dialect="trusted")
    layers = random_layers(seed, 3, 2 + seed % 4)
    with stack.fork() as theirs:
        for step in layers[0]:
            print("both", perform(stack.mountpoint, step))
        for name in os.listdir(theirs.mountpoint):
            theirs.edit(e.remove(name))
        command = ["cp", "-a", f"{stack.mountpoint}/.", theirs.mountpoint]
        subprocess.run(command, check=True)
        for name, branch, number in (("ours", stack, 1), ("theirs", theirs, 2)):
            for step in layers[number][: seed % 3]:
                print(name, perform(branch.mountpoint, step))
        return Triple(stack, theirs, 0)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_random_branches_of_which_one_was_copied(
    seed: int, overlay: Callable[..., Overlay]
) -> None:
    triple = copied_triple(seed, overlay)
    mergeable = check(triple)
    one, two = triple.views[1:]
    assert same(one, two) == same(two, one) == (len(changes(one, two, renames=False)) == 0)
    ours, theirs = (reference.nodes(view) for view in triple.plain[1:])
    if ours == theirs:
        assert [delta.path for delta in changes(triple.views[1], triple.views[2])] == []
        assert mergeable
        assert_same(triple.built(triple.decide()), ours, ignore=("links",))
    for side in ("ours", "theirs"):
        merge = triple.decide(choose=lambda _, side=side: side)  # type: ignore[misc]
        assert not merge.conflicts
        triple.built(merge)


LATER = 1_700_000_000_000_000_000

# What each side does to BASE, and the conflicts as "path: reason", none where it merges.
CASES: dict[str, tuple[Sequence[Edit], Sequence[Edit], list[str]]] = {
    "nothing": ((), (), []),
    "theirs-only": ((), (e.append("f", b"!"), e.unlink("g"), e.add("n", File(b"n"))), []),
    "ours-only": ((e.append("f", b"!"), e.rmtree("d")), (), []),
    "different-files": ((e.append("f", b"!"),), (e.append("g", b"!"),), []),
    "same-change": ((e.write("f", b"same"), e.utime("f", LATER)), (e.write("f", b"same"),), []),
    "both-modify": ((e.write("f", b"1"),), (e.write("f", b"2"),), ["f: modified / modified"]),
    "same-size-other-bytes": (
        (e.rewrite("f"),),
        (e.append("f", b"x"),),
        ["f: modified / modified"],
    ),
    "both-delete": ((e.unlink("f"),), (e.unlink("f"),), []),
    "modify-delete": ((e.append("f", b"!"),), (e.unlink("f"),), ["f: modified / deleted"]),
    "delete-modify": ((e.unlink("f"),), (e.append("f", b"!"),), ["f: deleted / modified"]),
    "delete-chmod": ((e.unlink("f"),), (e.chmod("f", 0o600),), ["f: deleted / metadata"]),
    "both-add-equal": ((e.add("n", File(b"n", mtime_ns=LATER)),), (e.add("n", File(b"n")),), []),
    "both-add-other": ((e.add("n", File(b"1")),), (e.add("n", File(b"2")),), ["n: added / added"]),
    "both-add-other-mode": (
        (e.add("n", File(b"n", mode=0o600)),),
        (e.add("n", File(b"n")),),
        ["n: metadata / metadata"],
    ),
    "both-add-directories": (
        (e.add("n", Dir({"a": File(b"a"), "s": File(b"s")})),),
        (e.add("n", Dir({"b": Dir({"c": File(b"c")}), "s": File(b"s")})),),
        [],
    ),
    "both-add-file-and-directory": (
        (e.add("n", File(b"n")),),
        (e.add("n", Dir({"b": File(b"b")})),),
        ["n: file / directory"],
    ),
    "chmod-against-content": ((e.chmod("f", 0o600),), (e.append("f", b"!"),), []),
    "content-against-xattr": ((e.append("f", b"!"),), (e.setxattr("f", "trusted.n", b"1"),), []),
    "mode-against-owner": ((e.chmod("f", 0o600),), (e.chown("f", 3, 4),), []),
    "mode-against-mode": (
        (e.chmod("f", 0o600),),
        (e.chmod("f", 0o640),),
        ["f: metadata / metadata"],
    ),
    "content-and-mode-against-mode": (
        (e.append("f", b"!"), e.chmod("f", 0o600)),
        (e.chmod("f", 0o640),),
        ["f: metadata / metadata"],
    ),
    "both-touch": ((e.utime("f", LATER),), (e.utime("f", LATER + 1),), []),
    "directory-mode-against-owner": ((e.chmod("d", 0o700),), (e.chown("d", 3, 4),), []),
    "directory-mode-against-mode": (
        (e.chmod("d", 0o700),),
        (e.chmod("d", 0o711),),
        ["d: metadata / metadata"],
    ),
    "root-mode": (
        (e.chmod("", 0o700),),
        (e.setxattr("", "user.note", b"root"), e.append("f", b"!")),
        [],
    ),
    "delete-tree-edit-inside": (
        (e.rmtree("d"),),
        (e.append("d/x", b"!"), e.append("d/sub/p", b"!")),
        ["d/sub/p: deleted / modified", "d/x: deleted / modified"],
    ),
    "delete-tree-add-inside": (
        (e.add("d/n", Dir({"a": File(b"a")})),),
        (e.rmtree("d"),),
        ["d/n: added / directory deleted"],
    ),
    "replace-tree-edit-inside": (
        (e.recreate("d", File(b"d")),),
        (e.append("d/x", b"!"), e.add("d/n", File())),
        ["d: type changed / changed"],
    ),
    "replaced-above-and-inside": (
        (e.recreate("d", File(b"d")),),
        (e.recreate("d/sub", File(b"s")),),
        ["d: type changed / changed"],
    ),
    "recreate-tree-add-inside": ((e.recreate("d"),), (e.add("d/n", File(b"n")),), []),
    "file-to-directory-edit": (
        (e.recreate("f", Dir({"in": File(b"in")})),),
        (e.append("f", b"!"),),
        ["f: type changed / modified"],
    ),
    "file-to-directory-delete": (
        (e.recreate("f", Dir({"in": File(b"in")})),),
        (e.unlink("f"),),
        ["f: type changed / deleted"],
    ),
    "file-to-symlink-chmod": (
        (e.recreate("f", Symlink("g")),),
        (e.chmod("f", 0o600),),
        ["f: type changed / metadata"],
    ),
    "both-file-to-directory": (
        (e.recreate("f", Dir({"a": File(b"a")})),),
        (e.recreate("f", Dir({"b": File(b"b")})),),
        [],
    ),
    "symlink-retarget-against-owner": (
        (e.recreate("dangling", Symlink("elsewhere")),),
        (e.chown("dangling", 3, 4),),
        [],
    ),
    "new-symlinks-and-fifos": (
        (e.append("f", b"!"),),
        (e.add("l", Symlink("f")), e.add("p", Fifo())),
        [],
    ),
    "two-links-edited": (
        (e.append("h1", b"1"),),
        (e.append("h2", b"2"),),
        ["h1: modified / another link modified", "h2: another link modified / modified"],
    ),
    "new-links": ((e.append("g", b"!"),), (e.link("f", "f2"), e.link("f", "d/f3")), []),
    "rotate-one-as-a-copy": (
        (e.rename("f", "t"), e.add("f", File(b"new"))),
        (e.rename_by_copy("f", "t"), e.add("f", File(b"new"))),
        [],
    ),
    "rename-a-file-onto-one-in-its-stead": (
        (e.rename("f", "t"),),
        (e.unlink("f"), e.add("t", File(b"other"))),
        ["t: renamed / deleted"],
    ),
    "rename-a-file-one-as-a-copy": (
        (e.rename("f", "t"), e.append("t", b"!")),
        (e.rename_by_copy("f", "t"), e.chmod("t", 0o600)),
        [],
    ),
    "rename-a-file-against-edit": ((e.append("f", b"!"),), (e.rename("f", "d/t"),), []),
    "edit-against-rename-of-a-file": ((e.rename("f", "t"),), (e.append("f", b"!"),), []),
    "rename-a-file-against-chmod": (
        (e.chmod("f", 0o600),),
        (e.rename("f", "t"), e.chown("t", 3, 4)),
        [],
    ),
    "both-rename-a-file": (
        (e.rename("f", "l"),),
        (e.rename("f", "r"),),
        ["l: renamed / renamed"],
    ),
    "both-rename-a-file-alike": (
        (e.rename("f", "t"), e.append("t", b"!")),
        (e.rename("f", "t"),),
        [],
    ),
    "rename-a-file-against-delete": (
        (e.rename("f", "t"),),
        (e.unlink("f"),),
        ["t: renamed / deleted"],
    ),
    "rename-a-file-onto-added": (
        (e.add("t", File(b"t")),),
        (e.rename("f", "t"),),
        ["t: added / renamed"],
    ),
    "links-to-what-ours-changed": ((e.append("f", b"!"),), (e.link("f", "f2"),), []),
}

# Renaming a directory is what the user dialect cannot do, nor does it compare the roots' owners.
TRUSTED_ONLY: dict[str, tuple[Sequence[Edit], Sequence[Edit], list[str]]] = {
    "root-owner": ((e.chmod("", 0o700),), (e.chown("", 3, 4), e.append("f", b"!")), []),
    "rename-against-edit": ((e.append("d/x", b"!"),), (e.rename("d", "t"),), []),
    "edit-against-rename": (
        (e.rename("d", "t"),),
        (e.append("d/sub/p", b"!"), e.unlink("d/y")),
        [],
    ),
    "new-file-follows-the-directory": ((e.rename("d", "t"),), (e.add("d/n", File(b"n")),), []),
    "chmod-and-rename-against-edit": (
        (e.append("d/sub/p", b"!"), e.chmod("d/sub", 0o700)),
        (e.rename("d/sub", "e/sub"), e.chmod("e/sub/q", 0o600), e.chown("e/sub", 1, 1)),
        [],
    ),
    "both-rename-alike": ((e.rename("d", "t"),), (e.rename("d", "t"), e.append("t/x", b"!")), []),
    "both-rename-one-as-a-copy": ((e.rename("d", "t"),), (e.rename_by_copy("d", "t"),), []),
    "both-rename-one-as-a-copy-and-edits": (
        (e.rename("d", "t"), e.append("t/x", b"!"), e.add("t/n", File(b"n"))),
        (
            e.rename_by_copy("d", "t"),
            e.append("t/y", b"!"),
            e.add("t/n", File(b"n")),
            e.chmod("t", 0o700),
        ),
        [],
    ),
    "both-rename-one-as-a-copy-and-edit-one": (
        (e.rename("d", "t"), e.append("t/x", b"!")),
        (e.rename_by_copy("d", "t"), e.append("t/x", b"?")),
        ["t/x: modified / modified"],
    ),
    "both-rename-one-as-a-copy-with-less": (
        (e.rename("d", "t"), e.append("t/x", b"!")),
        (e.rename_by_copy("d", "t"), e.unlink("t/x")),
        ["t/x: modified / deleted"],
    ),
    "both-rename-one-as-a-copy-twice": (
        (e.rename("d/sub", "s"), e.rename("d", "s/t"), e.rename("s/q", "q")),
        (
            e.rename_by_copy("d/sub", "s"),
            e.rename_by_copy("d", "s/t"),
            e.rename_by_copy("s/q", "q"),
        ),
        [],
    ),
    "rename-and-another-of-that-name": (
        (e.rename("d", "t"),),
        (e.rmtree("d"), e.add("t", Dir({"n": File(b"n")}))),
        ["t: renamed / deleted"],
    ),
    "rename-and-one-with-little-of-it": (
        (e.rename("d", "t"), e.append("t/y", b"!")),
        (e.rmtree("d"), e.add("t", Dir({"sub": Dir({"p": File(b"p")})}))),
        ["t: renamed / deleted", "t/y: modified / deleted"],
    ),
    "rename-and-a-backup": (
        (e.rename("d", "t"),),
        (e.copy("d", "t"),),
        ["t: renamed / added"],
    ),
    "rename-and-another-of-the-old-name": (
        (e.rename("d", "t"), e.unlink("t/x"), e.add("d", Dir({"x": File(b"another")}))),
        (e.chmod("d/x", 0o600), e.rename("e", "u")),
        ["d/x: deleted / metadata"],
    ),
    "rename-around-one-that-stays-as-a-copy": (
        (e.rename("d", "t"), e.mkdir("d"), e.rename("t/sub", "d/sub"), e.append("d/sub/p", b"!")),
        (
            e.rename_by_copy("d", "t"),
            e.mkdir("d"),
            e.rename_by_copy("t/sub", "d/sub"),
            e.append("d/sub/q", b"!"),
        ),
        [],
    ),
    "rename-links-and-others-as-a-copy": (
        (e.rename("h1", "d/h"), e.rename("dangling", "d/l"), e.rename("d", "t")),
        (
            e.rename_by_copy("h1", "d/h"),
            e.rename_by_copy("dangling", "d/l"),
            e.rename_by_copy("d", "t"),
        ),
        [],
    ),
    "both-rename": (
        (e.rename("d", "left"),),
        (e.rename("d", "right"),),
        ["left: renamed / renamed"],
    ),
    "rename-and-delete": (
        (e.rename("d", "t"),),
        (e.rmtree("d"),),
        ["t: renamed / deleted"],
    ),
    "delete-and-rename": (
        (e.rmtree("d"),),
        (e.rename("d", "t"),),
        ["t: deleted / renamed"],
    ),
    "rename-into-deleted": (
        (e.rename("d", "e/t"),),
        (e.rmtree("e"),),
        ["e/t: renamed / directory deleted"],
    ),
    "rename-onto-added": (
        (e.add("t", Dir({"a": File(b"a")})),),
        (e.rename("d", "t"),),
        ["t: added / renamed"],
    ),
    "both-rename-onto-one": (
        (e.rename("d", "t"),),
        (e.rename("e", "t"),),
        ["t: renamed / renamed"],
    ),
    "into-each-other": (
        (e.rename("d", "e/in"),),
        (e.rename("e", "d/in"),),
        ["e/in: renamed / renamed"],
    ),
    "swap-against-edit": ((e.append("d/x", b"!"), e.unlink("e/m")), (e.swap("d", "e"),), []),
    "rename-and-replace": (
        (e.append("d/x", b"!"),),
        (e.rename("d", "t"), e.add("d", Dir({"x": File(b"another")}))),
        [],
    ),
    "rename-out-and-delete-the-rest": (
        (e.append("d/sub/p", b"!"),),
        (e.rename("d/sub", "s"), e.rmtree("d")),
        [],
    ),
}


def cases() -> list[object]:
    return [
        pytest.param(case, dialect, id=f"{name}-{dialect}")
        for table, dialects in ((CASES, ("trusted", "user")), (TRUSTED_ONLY, ("trusted",)))
        for name, case in table.items()
        for dialect in dialects
    ]


def branches(
    case: tuple[Sequence[Edit], Sequence[Edit], list[str]],
    overlay: Callable[..., Overlay],
    dialect: str,
) -> Triple:
    stack = overlay(BASE, dialect=dialect)
    with stack.fork() as theirs:
        stack.edit(*case[0])
        theirs.edit(*case[1])
        return Triple(stack, theirs, 0)


@pytest.mark.parametrize(("case", "dialect"), cases())
def test_a_person_would_say(
    case: tuple[Sequence[Edit], Sequence[Edit], list[str]],
    dialect: str,
    overlay: Callable[..., Overlay],
) -> None:
    triple = branches(case, overlay, dialect)
    merge = triple.decide()
    assert [f"{clash.path.decode()}: {clash.reason}" for clash in merge.conflicts] == case[2]
    assert check(triple) == (not case[2])


@pytest.mark.parametrize("side", ["ours", "theirs"])
@pytest.mark.parametrize(("case", "dialect"), cases())
def test_a_side_taken(
    case: tuple[Sequence[Edit], Sequence[Edit], list[str]],
    dialect: str,
    side: str,
    overlay: Callable[..., Overlay],
) -> None:
    """Every conflict can be decided; what only one side touched stays as it would be."""
    triple = branches(case, overlay, dialect)
    merge = triple.decide(choose=lambda _: side)
    assert not merge.conflicts
    built = triple.built(merge)
    # Where a whole tree was deleted, only what the other side touched in it is in question.
    if case[2] and not any(word in str(case[2]) for word in ("directory deleted", "d/x: deleted")):
        base, ours, theirs = map(reference.nodes, triple.plain)
        wanted, other = (ours, theirs) if side == "ours" else (theirs, ours)
        # A directory that one side added has the place of one of the other's: both are kept.
        kept = {path for path in built.keys() - wanted.keys() if path in other and path not in base}
        assert all(built[path].content == other[path].content for path in kept)
        assert_same(
            wanted, {path: built[path] for path in built if path not in kept}, ignore=("links",)
        )


@pytest.mark.parametrize("side", ["ours", "theirs"])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_side_taken_in_random_branches(
    seed: int, side: str, overlay: Callable[..., Overlay]
) -> None:
    """The layer is sound, and all that is in conflict is as on that side."""
    triple = random_triple(seed, overlay, "trusted", 3 + seed % 4)
    open_ones = {clash.path for clash in triple.decide().conflicts}
    merge = triple.decide(choose=lambda _: side)
    assert not merge.conflicts
    built = triple.built(merge)
    at = reference.nodes(triple.plain[1 if side == "ours" else 2])
    for path in open_ones:
        if path in at and at[path].kind != "directory":
            assert built[path].content == at[path].content


def test_a_choice_leaves_the_other_conflicts(overlay: Callable[..., Overlay]) -> None:
    """Also one in which directories that neither side touched would lie in each other."""
    ours = (e.rename("d", "e/d/in"), e.append("f", b"ours"))
    theirs = (e.rename("e", "d/sub/in"), e.append("f", b"theirs"))
    triple = branches((ours, theirs, []), overlay, "trusted")
    found = [clash.path for clash in triple.decide().conflicts]
    assert len(found) == 2
    merge = triple.decide(choose=lambda path: "ours" if path == b"f" else None)
    assert [clash.path for clash in merge.conflicts] == [path for path in found if path != b"f"]


# What each side does, the one conflict told of, and what the other side added that is not in it.
UNCOVERED: dict[str, tuple[Sequence[Edit], Sequence[Edit], str, dict[str, bytes]]] = {
    "renamed onto an added one": (
        (e.rename("d", "t"), e.add("u", Dir({"n": File(b"n"), "s": Dir({"m": File(b"m")})}))),
        (e.rename("d", "u"),),
        "t",
        {"u/n": b"n", "u/s/m": b"m"},
    ),
    "what is below is moved as well": (
        (
            e.rename("d", "t"),
            e.mkdir("u"),
            e.rename("e", "u/e"),
            e.rename("f", "u/f"),
            e.append("u/f", b"!"),
        ),
        (e.rename("d", "u"), e.append("u/x", b"?")),
        "t",
        {"u/e/m": b"m", "u/e/d/deep": b"deep", "u/f": b"one\n!", "u/x": b"x?"},
    ),
    "its name taken": (
        (e.rmtree("d"), e.rename("e", "d"), e.add("e", Dir({"new": File(b"new")}))),
        (e.append("d/x", b"edited"),),
        "d/x",
        {"e/new": b"new"},
    ),
}


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("name", UNCOVERED)
def test_a_choice_keeps_what_is_in_no_conflict(
    name: str, swap: bool, overlay: Callable[..., Overlay]
) -> None:
    """Also where the entry then comes to lie where a directory was added."""
    adding, other, path, kept = UNCOVERED[name]
    triple = branches((adding, other, []), overlay, "trusted")
    first = triple.decide()
    assert [clash.path.decode() for clash in first.conflicts] == [path]
    merge = triple.decide(swap=swap, choose=lambda _: "ours" if swap else "theirs")
    assert not merge.conflicts
    built = triple.built(merge, swap=swap)
    for at, content in kept.items():
        assert built[at.encode()].content == content


def test_many_files_that_tell_nothing_come_first(overlay: Callable[..., Overlay]) -> None:
    """Those of a directory that was moved on its own are at neither place."""
    both = Dir({"a": Dir({f"{n:03}": File(b"%d" % n) for n in range(150)}), "z": File(b"z")})
    stack = overlay(Dir({"d": both, "e": Dir({"other": File(b"other")})}), dialect="trusted")
    moves = [("d/a", "s"), ("d", "t"), ("e", "d"), ("t", "e")]
    with stack.fork() as theirs:
        stack.edit(*(e.rename(*move) for move in moves))
        theirs.edit(*(e.rename_by_copy(*move) for move in moves), e.add("e/n", File(b"n")))
        triple = Triple(stack, theirs, 0)
    assert check(triple)
    assert_same(triple.built(triple.decide()), reference.nodes(triple.plain[2]), ignore=("links",))


# A base, and two ways to one view.
SAME: dict[str, tuple[Dir, Sequence[Edit], Sequence[Edit]]] = {
    "a file became a directory": (
        Dir({"f": File(b"f")}),
        (e.rename("f", "t"), e.add("f", Dir({"in": File(b"in")}))),
        (e.rename_by_copy("f", "t"), e.add("f", Dir({"in": File(b"in")}))),
    ),
    "swapped, all of one size and time": (
        Dir({"a": Dir({"f": File(b"1")}), "b": Dir({"f": File(b"2")})}),
        (e.swap("a", "b"),),
        (e.rewrite("a/f", b"2"), e.rewrite("b/f", b"1")),
    ),
    "swapped with an empty one": (
        Dir({"c": Dir({"g": File(b"1")}), "d": Dir()}),
        (e.swap("c", "d"),),
        (e.rename_by_copy("c/g", "d/g"),),
    ),
    "swapped, both empty": (Dir({"a": Dir(), "b": Dir()}), (e.swap("a", "b"),), ()),
    "renamed and copied back": (
        Dir({"a": Dir({"f": File(b"1")})}),
        (e.rename("a", "c"), e.copy("c", "a")),
        (e.copy("a", "c"),),
    ),
    "renamed and made again": (
        Dir({"a": Dir({"s": Dir()})}),
        (e.rename("a", "c"), e.mkdir("a")),
        (e.mkdir("c"), e.mkdir("c/s"), e.remove("a/s")),
    ),
    "in one of its own name": (
        Dir({"b": Dir({"b": Dir()})}),
        (e.rename("b", "t"), e.mkdir("b"), e.rename("t", "b/b")),
        (e.mkdir("b/b/b"),),
    ),
    "out of one of its own name": (
        Dir({"b": Dir({"b": Dir({"f": File(b"1")})})}),
        (e.rename("b/b", "t"), e.remove("b"), e.rename("t", "b"), e.mkdir("b/b")),
        (e.rename_by_copy("b/b/f", "b/f"),),
    ),
}


@pytest.mark.parametrize("name", SAME)
def test_what_came_to_the_same_does_not_differ(name: str, overlay: Callable[..., Overlay]) -> None:
    base, ours, theirs = SAME[name]
    stack = overlay(base, dialect="trusted")
    with stack.fork() as other:
        stack.edit(*ours)
        other.edit(*theirs)
        triple = Triple(stack, other, 0)
    assert_same(*map(reference.nodes, triple.plain[1:]))
    one, two = triple.views[1:]
    assert [delta.path for a, b in ((one, two), (two, one)) for delta in changes(a, b)] == []
    asked: list[bytes] = []
    for swap in (False, True):
        merge = triple.decide(swap=swap, choose=asked.append)  # type: ignore[arg-type]
        assert asked == list(merge.conflicts) == []
        assert replay(merge) == ([], {})


def test_of_a_part_of_a_copy_the_rest_is_not_taken_for_deleted(
    overlay: Callable[..., Overlay],
) -> None:
    both = (e.rename("d", "t"),)
    triple = branches((both, both, []), overlay, "trusted")
    merge = decide(*triple.views, paths=[b"d", b"t/x"])
    assert [clash.reason for clash in merge.conflicts] == ["renamed / deleted"]


@pytest.mark.parametrize("dialect", ["trusted", "user"])
def test_the_names_of_one_inode_stay_one(dialect: str, overlay: Callable[..., Overlay]) -> None:
    """Also under a name that theirs only linked to, and in a directory that they then moved."""
    stack = overlay(BASE, dialect=dialect)
    with stack.fork() as theirs:
        stack.edit(e.append("d/x", b"!"), e.append("h1", b"!"))
        theirs.edit(e.link("f", "f2"), e.link("f", "d/f3"), e.chmod("f", 0o600))
        theirs.edit(e.add("n", File(b"n")), e.link("n", "e/n"), e.link("h1", "h3"))
        if dialect == "trusted":
            theirs.freeze()
            theirs.edit(e.rename("d", "t"))
        triple = Triple(stack, theirs, 0)
    built = triple.built(triple.decide())
    moved = b"t/f3" if dialect == "trusted" else b"d/f3"
    assert built[b"f"].links == tuple(sorted((b"f", b"f2", moved)))
    assert built[b"n"].links == (b"e/n", b"n")
    # Ours wrote to one of these names, which is an inode of its own since.
    assert built[b"h1"].content == b"linked!"
    assert built[b"h3"].content == b"linked"
    assert not built[b"h1"].links


def test_data_that_ours_has_are_referred_to(overlay: Callable[..., Overlay]) -> None:
    """No file is copied for a rename, a change of mode, or another name."""
    stack = overlay(BASE)
    with stack.fork() as theirs:
        stack.edit(e.rename("d", "t"), e.chmod("g", 0o640), e.append("e/m", b"!"))
        theirs.edit(e.chmod("f", 0o600), e.rename("g", "d/sub/g"), e.chown("d/y", 3, 4))
        theirs.edit(e.rename("d/x", "x"), e.link("h1", "h3"), e.rename("e", "d/e"))
        triple = Triple(stack, theirs, 0)
    steps, counts = replay(triple.decide())
    assert counts == {"A": 1, "R": 3, "m": 2}
    out = triple.root / "out"
    out.mkdir()
    linked, copied, _ = build(steps, os.fsencode(out))
    assert (linked > 0, copied) == (True, 0)
    assert check(triple)


def test_the_cost_follows_the_changes(overlay: Callable[..., Overlay]) -> None:
    many = {f"{n}": Dir({"f": File(b"x"), "d": Dir({"g": File(b"y")})}) for n in range(50)}
    stack = overlay(Dir(many))
    with stack.fork() as theirs:
        stack.edit(e.append("7/f", b"!"))
        theirs.edit(e.append("8/f", b"!"), e.rename("9", "new"))
        triple = Triple(stack, theirs, 0)
    replay(triple.decide())
    assert len(triple.bottom) < 30, "the base was asked for more than the changed paths"

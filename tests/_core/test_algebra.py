"""`changes` of the core against the reference and against what a person would say."""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from dsbranch._core import scout
from dsbranch._core.base import Base
from dsbranch._core.view import View
from tests import core, reference, trees
from tests import edits as e
from tests.cases import BASE, CASES, USER_CASES, Case
from tests.core import Stack, changes, settled
from tests.overlays import Overlay
from tests.steps import OPERATIONS, START, Step, perform, random_layers
from tests.trees import Dir, File, Link

pytestmark = pytest.mark.root

numbers = st.integers(0, 63)
steps = st.builds(Step, st.sampled_from(OPERATIONS), numbers, numbers, numbers)
layers_of_steps = st.lists(st.lists(steps, min_size=1, max_size=6), min_size=1, max_size=4)

both_ways = pytest.mark.parametrize("direction", ["forward", "backward"])


@pytest.fixture(autouse=True)
def looked_up_ahead(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have even the smallest layers be looked up in the base ahead, but for every other test."""
    if crc32(request.node.nodeid.encode()) % 2:
        monkeypatch.setattr(scout, "_LEAST", 1)


OPTIONS: tuple[dict[str, bool], ...] = ({}, {"renames": False}, {"directory_times": True})


def check_all_ways(stack: Stack, direction: str) -> None:
    """Between the newest view and each older one, with every option."""
    for skip in range(stack.depth() + 1):
        old, new = (skip, 0) if direction == "forward" else (0, skip)
        check(stack.core_view(old), stack.core_view(new), stack.view(old), stack.view(new))


def check(
    old: View, new: View, reference_old: reference.View, reference_new: reference.View
) -> None:
    for options in OPTIONS:
        found = changes(old, new, **options)
        expected = reference.changes(reference_old, reference_new, **options)
        said = "\n".join(reference.lines(settled(found)))
        assert said == "\n".join(reference.lines(settled(expected))), options
        assert settled(found) == settled(expected), options


def of(overlay: Overlay) -> Stack:
    overlay.unmount()
    return Stack(overlay.layers, overlay.base, dialect=overlay.dialect)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_person_would_say(case: Case, tmp_path: Path) -> None:
    check_expected(case, tmp_path, "trusted")


@pytest.mark.parametrize("case", USER_CASES, ids=lambda case: case.id)
def test_a_person_would_say_of_userxattr_layers(case: Case, tmp_path: Path) -> None:
    check_expected(case, tmp_path, "user")


def check_expected(case: Case, tmp_path: Path, dialect: str) -> None:
    with case.build(tmp_path, dialect=dialect) as overlay:
        stack = of(overlay)
        found = changes(stack.core_view(stack.depth()), stack.core_view())
        assert reference.lines(settled(found)) == reference.lines(
            settled([_parse(line) for line in case.expected])
        )


def _parse(line: str) -> reference.Change:
    status, _, rest = line.partition(" ")
    path, _, source = rest.rpartition(" < ") if " < " in rest else (rest, "", "")
    path = "" if path == "." else path
    # Escapes were made for reading; they are compared as text again.
    return reference.Change(status, path.encode(), source.encode() or None, "", None, None)


@both_ways
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_reference_says_the_same(case: Case, direction: str, tmp_path: Path) -> None:
    with case.build(tmp_path) as overlay:
        check_all_ways(of(overlay), direction)


@both_ways
@pytest.mark.parametrize("case", USER_CASES, ids=lambda case: case.id)
def test_the_reference_says_the_same_of_userxattr_layers(
    case: Case, direction: str, tmp_path: Path
) -> None:
    with case.build(tmp_path, dialect="user") as overlay:
        check_all_ways(of(overlay), direction)


@both_ways
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_with_digests(case: Case, direction: str, tmp_path: Path) -> None:
    with case.build(tmp_path) as overlay:
        stack = of(overlay)
        stack.digest()
        check_all_ways(stack, direction)


@both_ways
@pytest.mark.parametrize("seed", range(12))
def test_random_edits_over_many_layers(
    seed: int, direction: str, overlay: Callable[..., Overlay]
) -> None:
    stack = overlay(START)
    for number, layer in enumerate(random_layers(seed, 8, 6)):
        if number:
            stack.freeze()
        for step in layer:
            print(number, perform(stack.mountpoint, step))
    layers = of(stack)
    check_all_ways(layers, direction)
    layers.digest()
    check_all_ways(layers, direction)


FOUND = {
    "a-rename-told-twice": [
        [Step("replace", 181, 428, 555), Step("remove", 773, 474, 674)],
        [Step("replace", 421, 0, 795)],
        [Step("replace", 882, 937, 343)],
        [Step("rename", 193, 433, 386), Step("link", 49, 829, 452)],
        [Step("link", 676, 454, 700)],
        [Step("rename over", 337, 201, 1), Step("replace", 894, 226, 858)],
    ],
    "a-rename-not-told": [
        [Step("rename directory", 520, 153, 440), Step("remove", 942, 322, 582)],
    ],
}
"""Sequences that a long search found to be told wrongly once."""


@both_ways
@pytest.mark.parametrize("layers", FOUND.values(), ids=FOUND.keys())
def test_what_was_told_wrongly_once(
    layers: list[list[Step]], direction: str, overlay: Callable[..., Overlay]
) -> None:
    stack = overlay(START)
    for number, layer in enumerate(layers):
        if number:
            stack.freeze()
        for step in layer:
            perform(stack.mountpoint, step)
    check_all_ways(of(stack), direction)


@both_ways
@pytest.mark.parametrize("seed", range(6))
def test_the_user_dialect(seed: int, direction: str, overlay: Callable[..., Overlay]) -> None:
    stack = overlay(START, dialect="user")
    for number, layer in enumerate(random_layers(100 + seed, 4, 8)):
        if number:
            stack.freeze()
        for step in layer:
            perform(stack.mountpoint, step)
    check_all_ways(of(stack), direction)


@both_ways
@given(found=layers_of_steps)
def test_any_edits_over_some_layers(direction: str, found: list[list[Step]]) -> None:
    with tempfile.TemporaryDirectory() as root, Overlay(Path(root), START) as stack:
        _apply(stack, found)
        layers = of(stack)
        check_all_ways(layers, direction)
        layers.digest()
        check_all_ways(layers, direction)


@given(layers_of_steps, layers_of_steps, layers_of_steps)
def test_two_branches_of_one_commit(
    shared: list[list[Step]], left: list[list[Step]], right: list[list[Step]]
) -> None:
    with tempfile.TemporaryDirectory() as root, Overlay(Path(root), START) as ours:
        _apply(ours, shared)
        ours.freeze()
        with ours.fork() as theirs:
            _apply(theirs, right)
            _apply(ours, left)
            check_siblings(ours, theirs, common=len(shared))


def check_siblings(ours: Overlay, theirs: Overlay, *, common: int) -> None:
    """Compare two stacks that share their lowest `common` layers, as tables and as scans."""
    ours.unmount()
    theirs.unmount()
    one = Stack(ours.layers, ours.base)
    two = Stack(theirs.layers[: len(theirs.layers) - common], ours.base)
    tables = two.tables + one.tables[len(one.tables) - common :]
    layers = two.layers + one.layers[len(one.layers) - common :]
    other = View(tables, one.base)
    reference_other = reference.resolve(layers, one.base_layer)
    check(one.core_view(), other, one.view(), reference_other)
    check(other, one.core_view(), reference_other, one.view())


def _apply(stack: Overlay, layers: Sequence[Sequence[Step]]) -> None:
    for number, layer in enumerate(layers):
        if number:
            stack.freeze()
        for step in layer:
            note(f"{number}: {perform(stack.mountpoint, step)}")


def test_both_branches_renamed_a_directory(overlay: Callable[..., Overlay]) -> None:
    ours = overlay(BASE)
    with ours.fork() as theirs:
        ours.edit(e.rename("d", "left"))
        theirs.edit(e.rename("d", "right"), e.append("right/x", b"!"))
        check_siblings(ours, theirs, common=0)


def test_from_nothing_everything_is_added(tmp_path: Path) -> None:
    trees.make(BASE, tmp_path / "base")
    view = View([], Base(os.fsencode(tmp_path / "base")))
    found = changes(None, view)
    expected = reference.scan(tmp_path / "base")
    assert [(c.status, c.path) for c in found] == [
        ("A", path) for path in sorted(expected, key=reference.order)
    ]


def test_a_view_does_not_differ_from_itself(overlay: Callable[..., Overlay]) -> None:
    stack = overlay(BASE)
    stack.edit(e.rename("d", "t"), e.append("f", b"!"))
    view = of(stack).core_view()
    assert changes(view, view) == []


def test_each_way_to_equal_content_is_no_change(tmp_path: Path) -> None:
    """Large, with a difference only in the last byte, and with none."""
    size = (1 << 19) + 1
    trees.make(Dir({"same": File(b"s" * size), "last": File(b"l" * size)}), tmp_path / "base")
    trees.make(
        Dir({"same": File(b"s" * size), "last": File(b"l" * (size - 1) + b"L")}), tmp_path / "layer"
    )
    for digests in (False, True):
        stack = Stack([tmp_path / "layer"], tmp_path / "base")
        if digests:
            stack.digest()
        found = changes(stack.core_view(1), stack.core_view())
        assert reference.lines(found) == ["M last"]


def test_a_metacopy_without_data_is_an_error(tmp_path: Path) -> None:
    trees.make(Dir(), tmp_path / "base")
    trees.make(Dir({"f": File(b"12345")}), tmp_path / "lower")
    trees.make(Dir({"f": File(sparse=5)}), tmp_path / "upper")
    e.marker("f", "metacopy", b"")(tmp_path / "upper")
    stack = Stack([tmp_path / "lower"], tmp_path / "base")
    broken = View([core.scan(tmp_path / "upper")], stack.base)
    with pytest.raises(ValueError, match="f"):
        changes(stack.core_view(), broken)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    trees.make(Dir({"d": Dir({"f": File(b"one")})}), tmp_path / "base")
    trees.make(Dir({"d": Dir({"f": File(b"two")})}), tmp_path / "layer")
    stack = Stack([tmp_path / "layer"], tmp_path / "base")
    (tmp_path / "layer/d/f").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        changes(stack.core_view(1), stack.core_view())
    assert caught.value.filename == "d/f"


def test_the_cost_follows_the_changes(tmp_path: Path) -> None:
    """Directories that no layer touches are not even opened."""
    trees.make(
        Dir({f"{n}": Dir({"f": File(b"x"), "d": Dir({"g": File(b"y")})}) for n in range(50)}),
        tmp_path / "base",
    )
    trees.make(Dir({"7": Dir({"f": File(b"z")})}), tmp_path / "layer")
    stack = Stack([tmp_path / "layer"], tmp_path / "base")
    found = changes(stack.core_view(1), stack.core_view())
    assert reference.lines(found) == ["M 7/f"]
    assert len(stack.base) < 10, "the base was asked for more than the changed paths"


def test_files_of_equal_digest_are_paired_by_name_then_in_order(tmp_path: Path) -> None:
    same, other = File(b"same"), File(b"other")
    trees.make(Dir(), tmp_path / "base")
    trees.make(Dir({"a": same, "b": same, "c": same, "o": other}), tmp_path / "lower")
    trees.make(Dir({"x": Dir({"b": same}), "y": same, "empty": File()}), tmp_path / "upper")
    for name in "abco":
        e.whiteout(name)(tmp_path / "upper")
    stack = Stack([tmp_path / "upper", tmp_path / "lower"], tmp_path / "base")
    unknown = reference.lines(changes(stack.core_view(1), stack.core_view()))
    assert unknown == ["D a", "D b", "D c", "A empty", "D o", "A x", "A x/b", "A y"]
    stack.digest()
    found = changes(stack.core_view(1), stack.core_view())
    assert reference.lines(found) == ["D c", "A empty", "D o", "A x", "R x/b < b", "R y < a"]
    by_path = {change.path: change for change in found}
    assert by_path[b"y"] == reference.Change("R", b"y", b"a", "file", 4, 4)
    check_all_ways(stack, "forward")


def test_a_hard_link_in_another_layer_is_the_same_file(tmp_path: Path) -> None:
    """As squash makes them, with no digest known."""
    trees.make(Dir(), tmp_path / "base")
    trees.make(Dir({"f": File(b"f"), "two": File(b"2"), "too": Link("two")}), tmp_path / "one")
    (tmp_path / "other").mkdir()
    os.link(tmp_path / "one/f", tmp_path / "other/g")
    os.link(tmp_path / "one/two", tmp_path / "other/three")
    one = Stack([tmp_path / "one"], tmp_path / "base")
    other = Stack([tmp_path / "other"], tmp_path / "base")
    found = changes(View(one.tables, one.base), View(other.tables, one.base))
    assert reference.lines(found) == ["R g < f", "A three", "D too", "D two"]


@contextmanager
def mounted(at: Path, *arguments: str | Path) -> Iterator[None]:
    at.mkdir(parents=True)
    subprocess.run(["mount", *arguments, at], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", at], check=True)


def test_a_base_on_another_filesystem(tmp_path: Path) -> None:
    """Handles say which filesystem they are of: two may number their inodes alike."""
    with mounted(tmp_path / "base", "-t", "tmpfs", "tmpfs"), Overlay(tmp_path, BASE) as stack:
        stack.edit(e.append("f", b"1"), e.rename("f", "t"))
        stack.freeze()
        stack.edit(e.append("t", b"2"), e.rename("t", "u"))
        layers = of(stack)
        whole = layers.core_view()
        assert reference.lines(changes(layers.core_view(2), whole)) == ["R u < f"]
        assert reference.lines(changes(layers.core_view(1), whole)) == ["R u < t"]


def test_a_base_without_handles(overlay: Callable[..., Overlay], tmp_path: Path) -> None:
    """An overlay has none unless it is told to; a rename with a metadata-only copy needs none."""
    outer, root = overlay(BASE), tmp_path / "inner"
    with mounted(root / "base", "--bind", outer.mountpoint), Overlay(root, None) as stack:
        stack.edit(e.append("f", b"1"), e.rename("f", "t"), e.rename("g", "u"))
        layers = of(stack)
        found = changes(layers.core_view(1), layers.core_view())
        assert reference.lines(found) == ["D f", "A t", "R u < g"]


def test_23_sixty_four_kib_of_xattrs(tmp_path: Path) -> None:
    """More than ext4 holds: on tmpfs."""
    value = b"v" * 65536
    with mounted(tmp_path / "t", "-t", "tmpfs", "tmpfs"), Overlay(tmp_path / "t", BASE) as stack:
        stack.edit(e.setxattr("f", "trusted.large", value), e.setxattr("g", "trusted.large", value))
        stack.freeze()
        stack.edit(e.setxattr("f", "trusted.large", value[1:] + b"V"), e.chmod("g", 0o644))
        stack.edit(e.rename("g", "t"))
        layers = of(stack)
        whole = layers.core_view()
        assert reference.lines(changes(layers.core_view(2), whole)) == ["m f", "R t < g"]
        assert reference.lines(changes(layers.core_view(1), whole)) == ["m f", "R t < g"]


def test_23_immutable_files(overlay: Callable[..., Overlay]) -> None:
    """They cannot be changed, nor does it show that they cannot."""
    stack = overlay(BASE)
    flag = ["chattr", "+i", stack.base / "d/x", stack.base / "f"]
    subprocess.run(flag, check=True)
    try:
        stack.edit(e.refused(e.append("f", b"!"), errno.EPERM), e.rename("d", "t"))
        stack.edit(e.append("t/y", b"!"))
        layers = of(stack)
        found = changes(layers.core_view(1), layers.core_view())
        assert reference.lines(found) == ["R t < d", "M t/y < d/y"]
    finally:
        subprocess.run(["chattr", "-i", *flag[2:]], check=True)

"""The reference twin against the kernel: what a real mount shows is right."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from tests import reference, trees
from tests.cases import CASES, Case
from tests.overlays import Overlay
from tests.steps import OPERATIONS, START, Step, perform, random_layers
from tests.trees import Snapshot, assert_same

pytestmark = pytest.mark.root

numbers = st.integers(0, 63)
steps = st.builds(Step, st.sampled_from(OPERATIONS), numbers, numbers, numbers)
layers_of_steps = st.lists(st.lists(steps, min_size=1, max_size=6), min_size=1, max_size=4)


def layers(overlay: Overlay, skip: int = 0) -> list[reference.Layer]:
    return [reference.scan(path, overlay.dialect) for path in overlay.layers[skip:]]


def check_against_kernel(overlay: Overlay) -> None:
    """Every prefix of the stack looks as the kernel shows it, and so do the ways between them."""
    base = reference.scan(overlay.base, overlay.dialect)
    all_layers = layers(overlay)
    views = [reference.resolve(all_layers[n:], base) for n in range(len(all_layers) + 1)]
    shown = [overlay.snapshot()]
    overlay.unmount()
    shown += [overlay.snapshot_below(n) for n in range(len(overlay.lowers) + 1)]
    for view, snapshot in zip(views, shown, strict=True):
        assert_same(snapshot, reference.nodes(view))
    newest, at_first = views[0], shown[0]
    for older, before in zip(views[1:], shown[1:], strict=True):
        for (a, seen_a), (b, seen_b) in (
            ((older, before), (newest, at_first)),
            ((newest, at_first), (older, before)),
        ):
            assert by_path(seen_a, seen_b) == plain(reference.changes(a, b, renames=False))
            check_replay(seen_a, seen_b, reference.changes(a, b))


def by_path(old: Snapshot, new: Snapshot) -> list[tuple[str, bytes]]:
    """The letters, from nothing but two trees as they were seen."""
    found = []
    for path in old.keys() | new.keys():
        if path not in new:
            found.append(("D", path))
        elif path not in old:
            found.append(("A", path))
        elif letter := _letter(old[path], new[path]):
            found.append((letter, path))
    return sorted(found, key=lambda change: reference.order(change[1]))


def _letter(old: trees.Node, new: trees.Node) -> str | None:
    if old.kind != new.kind:
        return "T"
    if (old.content, old.target, old.rdev) != (new.content, new.target, new.rdev):
        return "M"
    for name in ("mode", "uid", "gid", "xattrs", "mtime_ns"):
        if getattr(old, name) != getattr(new, name):
            return "m"
    return None


def plain(found: list[reference.Change]) -> list[tuple[str, bytes]]:
    return [(change.status, change.path) for change in found]


def check_replay(old: Snapshot, new: Snapshot, found: list[reference.Change]) -> None:
    """Nothing is missing in a diff with renames: it leads from the one tree to the other."""
    renamed = {change.path: change.old_path for change in found if change.status == "R"}
    stated = {change.path: change for change in found if change.status not in "RD"}
    deleted = {change.path for change in found if change.status == "D"}
    reached = set()
    for path, node in new.items():
        change = stated.get(path)
        if change is not None and change.status == "A":
            assert change.old_path is None
            continue
        source = _source(path, renamed)
        reached.add(source)
        assert source in old, f"{path!r} is explained by {source!r}, which was not there"
        if change is not None:
            assert (change.old_path or path) == source
        letter = change.status if change is not None else None
        if path not in renamed:
            assert _letter(old[source], node) == letter, f"{path!r} from {source!r}"
    assert deleted == old.keys() - reached


def _source(path: bytes, renamed: dict[bytes, bytes | None]) -> bytes:
    tail = b""
    while path:
        source = renamed.get(path)
        if source is not None:
            return source + tail
        path, _, name = path.rpartition(b"/")
        tail = b"/" + name + tail
    return tail.removeprefix(b"/")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_resolve_is_what_the_kernel_shows(case: Case, tmp_path: Path) -> None:
    with case.build(tmp_path) as overlay:
        check_against_kernel(overlay)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_changes_say_what_a_person_would(case: Case, tmp_path: Path) -> None:
    with case.build(tmp_path) as overlay:
        base = reference.scan(overlay.base)
        whole = reference.resolve(layers(overlay), base)
        found = reference.changes(reference.resolve([], base), whole)
        assert tuple(reference.lines(found)) == case.expected


@pytest.mark.parametrize("seed", range(12))
def test_random_edits_over_many_layers(
    seed: int, overlay: Callable[..., Overlay], capsys: pytest.CaptureFixture[str]
) -> None:
    stack = overlay(START)
    for number, layer in enumerate(random_layers(seed, 8, 6)):
        if number:
            stack.freeze()
        for step in layer:
            print(number, perform(stack.mountpoint, step))
    check_against_kernel(stack)


@given(layers_of_steps)
def test_any_edits_over_some_layers(found: list[list[Step]]) -> None:
    with tempfile.TemporaryDirectory() as root, Overlay(Path(root), START) as stack:
        for number, layer in enumerate(found):
            if number:
                stack.freeze()
            for step in layer:
                note(f"{number}: {perform(stack.mountpoint, step)}")
        check_against_kernel(stack)


@pytest.mark.parametrize("seed", range(6))
def test_the_user_dialect(seed: int, overlay: Callable[..., Overlay]) -> None:
    stack = overlay(START, dialect="user")
    for number, layer in enumerate(random_layers(100 + seed, 4, 8)):
        if number:
            stack.freeze()
        for step in layer:
            perform(stack.mountpoint, step)
    check_against_kernel(stack)
    assert not any(entry.redirect for layer in layers(stack) for entry in layer.values()), (
        "userxattr forbids redirects"
    )


def test_a_metacopy_without_data_is_an_error(tmp_path: Path) -> None:
    trees.make(trees.Dir({"f": trees.File(b"gone")}), tmp_path / "base")
    trees.make(trees.Dir({"f": trees.File(b"")}), tmp_path / "upper")
    os.setxattr(tmp_path / "upper" / "f", "trusted.overlay.metacopy", b"")
    (tmp_path / "base" / "f").unlink()
    with pytest.raises(OSError, match="no lower data"):
        reference.resolve([reference.scan(tmp_path / "upper")], reference.scan(tmp_path / "base"))

"""The reference twin against the kernel: what a real mount shows is right."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, note
from hypothesis import strategies as st

from tests import reference, trees, truth
from tests.cases import CASES, USER_CASES, Case
from tests.overlays import Overlay
from tests.steps import OPERATIONS, START, Step, perform, random_layers
from tests.trees import assert_same

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
            found = reference.changes(a, b, renames=False)
            assert truth.by_path(seen_a, seen_b) == truth.plain(found)
            truth.check_replay(seen_a, seen_b, reference.changes(a, b))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_resolve_is_what_the_kernel_shows(case: Case, tmp_path: Path) -> None:
    with case.build(tmp_path) as overlay:
        check_against_kernel(overlay)


@pytest.mark.parametrize("case", USER_CASES, ids=lambda case: case.id)
def test_resolve_is_what_the_kernel_shows_with_userxattr(case: Case, tmp_path: Path) -> None:
    with case.build(tmp_path, dialect="user") as overlay:
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

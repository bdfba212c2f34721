"""When checkpoints are made: the rule alone, on numbers."""

from __future__ import annotations

import pytest

from dsbranch.ops.ladder import HEAVY, Ladder, ripe


@pytest.mark.parametrize(
    ("depth", "span"),
    [(0, 0), (1, 0), (2, 0), (3, 0), (4, 4), (6, 0), (8, 8), (12, 4), (1024, 1024), (1028, 4)],
)
def test_a_depth_merges_as_many_as_it_is_a_multiple_of(depth, span):
    assert Ladder().window(depth) == span


def test_switched_off():
    ladder = Ladder(batch=0)
    assert not any(ladder.window(depth) for depth in range(1000))
    assert not ladder.is_deep(10_000)


@pytest.mark.parametrize(
    ("sizes", "count"),
    [
        ([], 0),
        ([5], 0),
        ([5, 5], 0),
        ([5, 4], 2),
        ([5, 5, 5], 3),
        ([1, 2, 4, 8], 0),
        ([1, 2, 4, 6], 4),
        ([10, 10, 10, 1_000_000], 3),
        ([10, 1_000_000, 10], 3),
    ],
)
def test_what_is_smaller_than_all_newer_ones_together_is_merged(sizes, count):
    assert ripe(sizes) == count


def test_what_is_heavy_is_left_out():
    assert ripe([10, 10, 10, 10, HEAVY * 40 - 1], HEAVY) == 5
    assert ripe([10, 10, 10, 10, HEAVY * 40], HEAVY) == 4


class Model:
    """A history as `climb` keeps it, of sizes only; `joined` is the size of a merge."""

    def __init__(self, joined) -> None:
        self.joined = joined
        self.ladder = Ladder()
        self.sizes: list[int] = []  # of commits, oldest first
        self.checkpoints: dict[int, dict[int, int]] = {}  # top -> bottom -> size
        self.work = 0

    def runs(self, top: int, cut: int = 0) -> list[tuple[int, int, int]]:
        found = []
        while top:
            fitting = [b for b in self.checkpoints.get(top, {}) if b >= cut or top <= cut]
            bottom = min(fitting, default=top - 1)
            size = self.checkpoints.get(top, {}).get(bottom, self.sizes[top - 1])
            found.append((top, bottom, size))
            top = bottom
        return found

    def merge(self, runs: list[tuple[int, int, int]], ratio: int) -> None:
        chosen = runs[: ripe([size for _, _, size in runs], ratio)]
        if len(chosen) > 1:
            self.work += sum(size for _, _, size in chosen)
            top, bottom = chosen[0][0], chosen[-1][1]
            self.checkpoints.setdefault(top, {})[bottom] = self.joined(self.sizes[bottom:top])

    def commit(self, size: int) -> None:
        self.sizes.append(size)
        top = len(self.sizes)
        span = self.ladder.window(top)
        if span:
            window = [run for run in self.runs(top, top - span) if run[0] > top - span]
            self.merge(window, HEAVY)
            self.merge(self.runs(top), 1)


@pytest.mark.parametrize(
    ("joined", "sizes", "deepest", "factor"),
    [
        pytest.param(sum, [10] * 2000, 12, 5, id="each its own files"),
        pytest.param(max, [10] * 2000, 5, 2, id="all the same files"),
        pytest.param(sum, [10, 10, 100_000] + [10] * 1997, 12, 2, id="a large one first"),
        pytest.param(sum, [10] * 999 + [100_000] + [10] * 1000, 12, 3, id="a large one between"),
        pytest.param(
            sum, [100_000 if n % 100 == 99 else 1 for n in range(2000)], 12, 11, id="some"
        ),
        pytest.param(sum, list(range(2000, 0, -1)), 12, 6, id="smaller and smaller"),
    ],
)
def test_2000_commits_keep_about_a_dozen_lowers_for_work_of_changes_times_log(
    joined, sizes, deepest, factor
):
    model = Model(joined)
    for size in sizes:
        model.commit(size)
        assert len(model.runs(len(model.sizes))) <= deepest
    assert model.work <= factor * sum(sizes)
    # Every earlier commit, and every stretch, is a few runs as well.
    assert max(len(model.runs(top)) for top in range(1, 2001, 7)) <= deepest
    for cut in range(0, 2000, 37):
        for top in range(cut + 1, 2001, 53):
            inside = [run for run in model.runs(top, cut) if run[0] > cut]
            assert inside[-1][1] == cut
            assert len(inside) <= 64

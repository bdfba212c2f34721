"""Random stacks as no kernel may ever have written them: many parts of one directory, redirects in
the middle, whiteouts over nothing. The walk of a view and the comparison of two, by the reference.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator

import pytest

from dsbranch._core.algebra import changes
from dsbranch._core.delta import Deltas
from dsbranch._core.view import View
from tests import reference, tables
from tests.reference import METACOPY, OPAQUE, WHITEOUT, Entry

NAMES = [b"a", b"ab", b"a-", b"b", b"b\xff", b"c"]
"""Some are the beginning of others, and go on with bytes below and above '/'."""


def random_layer(rng: random.Random, number: int, depth: int) -> list[Entry]:
    rows = [tables.entry(b"", "directory")]
    fill(rng, rows, b"", number, depth)
    return rows


def fill(rng: random.Random, rows: list[Entry], home: bytes, number: int, depth: int) -> None:
    for name in NAMES:
        path = reference.join(home, name)
        match rng.random():
            case chance if chance < 0.4:
                continue
            case chance if chance < 0.5:
                rows.append(tables.entry(path, "whiteout", flags=WHITEOUT))
            case chance if chance < 0.75 and depth:
                rows.append(directory(rng, tables.entry(path, "directory", mtime_ns=number)))
                fill(rng, rows, path, number, depth - 1)
            case chance if chance < 0.8:
                rows.append(tables.entry(path, "symlink", target=rng.choice(NAMES), size=1))
            case chance if chance < 0.83:
                row = tables.entry(path, size=5, mode=0o600, flags=METACOPY)
                rows.append(tables.redirected(row, goal(rng)) if rng.random() < 0.5 else row)
            case _:
                content = rng.randrange(4)
                digest = bytes([content]) * 16
                rows.append(tables.entry(path, size=5, mtime_ns=rng.randrange(2), digest=digest))


def directory(rng: random.Random, row: Entry) -> Entry:
    match rng.random():
        case chance if chance < 0.1:
            return row._replace(flags=OPAQUE)
        case chance if chance < 0.4:
            return tables.redirected(row, goal(rng))
    return row


def goal(rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        return rng.choice(NAMES)
    return b"/" + b"/".join(rng.choices(NAMES, k=rng.randint(1, 3)))


def stacks(seed: int, count: int) -> Iterator[list[list[Entry]]]:
    """Stacks whose metadata-only copies all have data."""
    rng = random.Random(seed)
    while count:
        depth = rng.choice([1, 2, 3, 5, 12])
        layers = [random_layer(rng, number, 2) for number in range(depth)]
        try:
            reference_view(layers)
        except OSError:
            continue
        yield layers
        count -= 1


def reference_view(layers: list[list[Entry]]) -> reference.View:
    *upper, base = [tables.layer(rows) for rows in layers]
    return reference.resolve(upper, base)


def seen(view: View) -> list[tuple[bytes, Entry]]:
    return [(path, Entry(*table.entry(row))) for path, table, row in view.tree(b"")]


@pytest.mark.parametrize("seed", range(20))
def test_a_walk_shows_what_the_reference_resolves(seed: int) -> None:
    for layers in stacks(seed, 15):
        expected = reference_view(layers)
        view = View([tables.table(rows) for rows in layers])
        paths = sorted(expected, key=reference.order)
        assert seen(view) == [(path, expected[path].entry) for path in paths]
        for path in paths:
            names = [p.rpartition(b"/")[2] for p in paths if p and p.rpartition(b"/")[0] == path]
            assert view.names(path) == names
            assert list(view.tree(path)) == [
                item for item in view.tree(b"") if below(item[0], path)
            ]


def below(path: bytes, top: bytes) -> bool:
    return not top or path == top or path.startswith(top + b"/")


@pytest.mark.parametrize("seed", range(20))
def test_a_comparison_tells_what_differs(seed: int) -> None:
    rng = random.Random(seed)
    for layers in stacks(1000 + seed, 15):
        made = [tables.table(rows) for rows in layers]
        for _ in range(4):
            one, two = two_branches(rng, len(layers))
            if not one or not two:
                continue
            try:
                old, new = (reference_view([layers[i] for i in which]) for which in (one, two))
            except OSError:
                continue
            views = [View([made[i] for i in which]) for which in (one, two)]
            found = changes(*views, renames=False)
            assert [(d.status, d.path) for d in found] == told(old, new)
            check_deltas(found, old, new)


def two_branches(rng: random.Random, depth: int) -> tuple[list[int], list[int]]:
    """Two stacks, either may be empty, that share their lowest layers, if any, and no others."""
    lowest = rng.randint(0, depth)
    owners = [rng.randrange(3) for _ in range(lowest)]
    shared = list(range(lowest, depth))
    one, two = ([n for n in range(lowest) if owners[n] == side] + shared for side in range(2))
    return one, two


def told(old: reference.View, new: reference.View) -> list[tuple[str, bytes]]:
    result = []
    for path in sorted(old.keys() | new.keys(), key=reference.order):
        if path not in new:
            result.append(("D", path))
        elif path not in old:
            result.append(("A", path))
        else:
            a, b = old[path].entry, new[path].entry
            if a.kind != b.kind:
                result.append(("T", path))
            elif content(old, path) != content(new, path):
                result.append(("M", path))
            elif (a.mode, a.kind != "directory" and a.mtime_ns) != (
                b.mode,
                b.kind != "directory" and b.mtime_ns,
            ):
                result.append(("m", path))
    return result


def content(view: reference.View, path: bytes) -> bytes | None:
    number, place = view[path].stack[-1]
    data = view.layers[number][place]
    return data.target if data.kind == "symlink" else data.digest


def check_deltas(found: Deltas, old: reference.View, new: reference.View) -> None:
    """Each says of both sides what is there, as often as it is asked."""
    assert len(found) == len(list(found))
    assert found.counts() == {
        letter: number
        for letter in "AMmDT"
        if (number := sum(delta.status == letter for delta in found))
    }
    for i, (delta, told) in enumerate(zip(found, found.tuples(), strict=True)):
        for one in (delta, found[i]):
            assert told == (one.status, one.path, one.kind, one.old_path, one.size, one.old_size)
        for place, view in ((delta.old, old), (delta.new, new)):
            assert (place is not None) == (delta.path in view)
            if place is not None:
                assert Entry(*place[0].entry(place[1])) == view[delta.path].entry
        if delta.new is not None and delta.kind == "file":
            assert delta.content is not None
            assert Entry(*delta.content[0].entry(delta.content[1])).digest == content(
                new, delta.path
            )
        else:
            assert delta.content is None
    edited = found.only(lambda delta: delta.status in "Mm")
    assert [delta.path for delta in edited] == [d.path for d in found if d.status in "Mm"]
    assert [delta.path for delta in edited[1:3]] == [delta.path for delta in edited][1:3]
    with pytest.raises(IndexError):
        found[len(found)]


def test_ctrl_c_ends_a_comparison() -> None:
    rows = [tables.entry(b"", "directory")]
    rows += [tables.entry(b"%06d" % number, size=1, digest=b"d" * 16) for number in range(400_000)]
    old, new = View([tables.table(rows)]), View([tables.table(rows)])
    started = time.process_time()
    changes(old, new)
    whole = time.process_time() - started

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGPROF, interrupt)
    started = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, whole / 20)
    try:
        with pytest.raises(KeyboardInterrupt):
            changes(old, new)
        assert time.process_time() - started < whole * 0.8
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def test_the_last_of_a_directory_that_is_gone_comes_before_what_took_its_name() -> None:
    """D under the old path of a renamed directory, in the order of paths all the same."""
    base = [tables.entry(b"", "directory")]
    for name in (b"d", b"x"):
        base += [tables.entry(name, "directory"), tables.entry(name + b"/f", digest=b"1" * 16)]
    upper = [
        tables.entry(b"", "directory"),
        tables.entry(b"d", "whiteout", flags=WHITEOUT),
        tables.redirected(tables.entry(b"e", "directory"), b"/x"),
        tables.entry(b"e/f", "whiteout", flags=WHITEOUT),
        tables.entry(b"e/g", digest=b"2" * 16),
        tables.redirected(tables.entry(b"x", "directory"), b"/d"),
    ]
    below = tables.table(base)
    found = changes(View([below]), View([tables.table(upper), below]))
    assert [(delta.status, delta.path, delta.old_path) for delta in found] == [
        ("R", b"e", b"x"),
        ("A", b"e/g", None),
        ("R", b"x", b"d"),
        ("D", b"x/f", None),
    ]

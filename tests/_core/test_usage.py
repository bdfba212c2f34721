"""Bytes by inode, against a walk that is slow and plain."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from dsbranch._core.scan import scan
from dsbranch._core.usage import OUTSIDE, Usage


def counted(*places: Path) -> dict[tuple[int, ...], tuple[int, int]]:
    usage = Usage()
    for number, place in enumerate(places):
        usage.add(scan(os.fsencode(place), xattrs=False), number)
    return usage.shares()


def plain(*places: Path) -> dict[tuple[int, ...], tuple[int, int]]:
    inodes: dict[tuple[int, int], tuple[os.stat_result, list[int]]] = {}
    for number, place in enumerate(places):
        paths = [str(place)]
        for top, directories, files in os.walk(place):
            paths += [os.path.join(top, name) for name in [*directories, *files]]
        for path in paths:
            status = os.lstat(path)
            inodes.setdefault((status.st_dev, status.st_ino), (status, []))[1].append(number)
    found: dict[tuple[int, ...], tuple[int, int]] = {}
    for status, numbers in inodes.values():
        owners = tuple(sorted(set(numbers)))
        if os.path.stat.S_ISREG(status.st_mode) and len(numbers) < status.st_nlink:
            owners = (OUTSIDE, *owners)
        size, count = found.get(owners, (0, 0))
        found[owners] = (size + status.st_blocks * 512, count + 1)
    return found


def test_random_links_across_trees(tmp_path):
    rng = random.Random(1)
    places = [tmp_path / str(number) for number in range(5)]
    files: list[Path] = []
    for place in (*places, tmp_path / "outside"):
        for directory in ("", "a", "a/b"):
            (place / directory).mkdir(parents=True, exist_ok=True)
            for number in range(40):
                path = place / directory / f"f{number}"
                if files and rng.random() < 0.6:
                    os.link(rng.choice(files), path)
                else:
                    path.write_bytes(bytes(rng.randrange(20000)))
                files.append(path)
    assert counted(*places) == plain(*places)
    assert counted(places[0]) == plain(places[0])


def test_more_inodes_than_the_first_table_holds(tmp_path):
    one, two = tmp_path / "1", tmp_path / "2"
    for place in (one, two):
        place.mkdir()
    for number in range(9000):
        (one / str(number)).touch()
        os.link(one / str(number), two / str(number))
    assert counted(one, two) == plain(one, two)
    assert counted(one, two)[0, 1] == (0, 9000)


def test_owners_come_in_order(tmp_path):
    usage = Usage()
    table = scan(os.fsencode(tmp_path))
    usage.add(table, 1)
    with pytest.raises(ValueError, match="owner 0 after 1"):
        usage.add(table, 0)

"""Trees are removed whole, and nothing beside them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dsbranch.ops.space import freed
from dsbranch.store.removal import remove_tree
from tests.overlay.conftest import in_child
from tests.trees import Dir, Fifo, File, Socket, Symlink, make

NOBODY = 65534


def become_nobody_in(place: Path) -> None:
    """Within a directory whose parents let nobody else in."""
    os.chdir(place)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def remove(place: Path) -> list[str]:
    return remove_tree(place, lambda _: None)


def test_whatever_is_in_it(tmp_path):
    outside = tmp_path / "outside"
    make(Dir({"kept": File(b"kept"), "d": Dir({"in": File(b"in")})}), outside)
    place = tmp_path / "tree"
    make(
        Dir(
            {
                "f": File(b"f", mode=0),
                "locked": Dir({"in": File(b"in")}, mode=0),
                "to-directory": Symlink(str(outside)),
                "to-file": Symlink(str(outside / "kept")),
                "dangling": Symlink("nowhere"),
                "fifo": Fifo(),
                "socket": Socket(),
                b"\xff\n": Dir({b"-rf": File(b"")}),
            }
        ),
        place,
    )
    counts: list[int] = []
    assert remove_tree(place, counts.append) == []
    assert not place.exists()
    assert sum(counts) == 11
    assert sorted(os.listdir(outside)) == ["d", "kept"]
    assert (outside / "d" / "in").read_bytes() == b"in"
    assert remove(place) == []


def test_a_symlink_in_its_place_is_not_followed(tmp_path):
    make(Dir({"kept": File(b"kept")}), tmp_path / "outside")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "outside")
    (problem,) = remove(link)
    assert problem.startswith(f"{link} cannot be removed")
    assert (tmp_path / "outside" / "kept").exists()


def test_many_names_in_one_directory(tmp_path):
    place = tmp_path / "tree"
    place.mkdir()
    for number in range(5000):
        (place / str(number)).touch()
    assert remove(place) == []
    assert not place.exists()


@pytest.mark.root
def test_a_user_opens_what_is_his_and_names_what_is_not(tmp_path):
    tmp_path.chmod(0o777)
    place = tmp_path / "tree"
    make(
        Dir(
            {
                "work": Dir({"work": Dir({}, mode=0, uid=NOBODY)}, uid=NOBODY),
                "sealed": Dir({"in": File(b"")}, mode=0o500, uid=NOBODY),
                "roots": Dir({"in": File(b"")}),
            },
            uid=NOBODY,
        ),
        place,
    )

    (problem,) = in_child(lambda: become_nobody_in(tmp_path), lambda: remove(Path("tree")))
    assert problem.startswith("tree/roots/in cannot be removed: it is immutable or another")
    assert os.listdir(place) == ["roots"]


@pytest.mark.root
def test_a_user_weighs_what_lets_nobody_in(tmp_path):
    tmp_path.chmod(0o777)
    place = tmp_path / "tree"
    work = Dir({"work": Dir({}, mode=0, uid=NOBODY)}, uid=NOBODY)
    make(Dir({"work": work, "fs": Dir({"f": File(bytes(5000))})}, uid=NOBODY), place)

    def weighed():
        found = freed([Path("tree")])
        return found.bytes, found.inodes

    expected = in_child(lambda: os.chdir(tmp_path), weighed)
    assert in_child(lambda: become_nobody_in(tmp_path), weighed) == expected
    assert expected[1] == 5

"""Which directories an overlay consists of, read from mount tables and from engines' JSON."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from dsbranch import errors
from dsbranch.overlay import mountinfo
from dsbranch.overlay.stack import Container, Root, Stack, of_containers, of_mount, split_lowers
from dsbranch.overlay.whereabouts import Whereabouts, dialect_of

HEAD = b"44 27 0:39 / /m rw - overlay o "


def mounted(options: bytes) -> Stack:
    (entry,) = mountinfo.parse(HEAD + options + b"\n")
    return of_mount(entry)


@pytest.mark.parametrize(
    ("value", "lowers", "data"),
    [
        (b"/a", [b"/a"], []),
        (b"/a:/b:l/X", [b"/a", b"/b", b"l/X"], []),
        (rb"lo\:w:back\\sl", [b"lo:w", rb"back\sl"], []),
        (b"/a:/b::/d:/e", [b"/a", b"/b"], [b"/d", b"/e"]),
        (b"/a::/d::/e", [b"/a"], [b"/d", b"/e"]),
        (b"/a\\", [b"/a\\"], []),
        (b"/a,b c\xff", [b"/a,b c\xff"], []),
        (b"", [], []),
    ],
)
def test_a_list_of_lowers(value, lowers, data):
    assert split_lowers(value) == (lowers, data)


def test_a_mount_with_one_list():
    found = mounted(rb"rw,lowerdir=/a\134:b:/c\054d,upperdir=/u,workdir=/w,uuid=on,fsync=volatile")
    assert found == Stack(
        b"/u", b"/w", (b"/a:b", b"/c,d"), (), "trusted", (("uuid", "on"), ("fsync", "volatile"))
    )


def test_a_mount_with_a_lower_at_a_time():
    # Of these nothing is escaped but for mountinfo's own sake.
    found = mounted(rb"ro,lowerdir+=back\134sl,lowerdir+=lo:w,datadir+=/d,userxattr")
    assert found == Stack(
        None, None, (rb"back\sl", b"lo:w"), (b"/d",), "user", (("userxattr", ""),), read_only=True
    )


def document(**data: object) -> bytes:
    return json.dumps(
        [{"Name": "/web", "GraphDriver": {"Name": "overlay2", "Data": data}}]
    ).encode()


def test_a_container():
    (found,) = of_containers(
        document(LowerDir=r"/s/a\:b/diff:/s/c/diff", UpperDir="/s/u/diff", WorkDir="/s/u/work")
    )
    assert found.name == "web"
    assert found.lies_on == Stack(b"/s/u/diff", b"/s/u/work", (b"/s/a:b/diff", b"/s/c/diff"))


def test_an_image_of_one_layer_has_no_lowers():
    (found,) = of_containers(document(UpperDir="/s/u/diff"))
    assert found.lies_on == Stack(b"/s/u/diff", None, ())


@pytest.mark.parametrize(
    "storage",
    [
        {"Storage": {"RootFS": {"Snapshot": {"Name": "overlayfs"}}}},  # docker 29 and later
        {"Storage": {"RootFS": None}, "GraphDriver": None},
        {"GraphDriver": {"Name": "overlayfs", "Data": None}},  # docker 25 to 28
    ],
)
def test_with_an_image_store_of_containerd_a_process_is_named(storage):
    id = "c0ffee42" * 8
    item = {"Id": id, "Name": "/web", "Driver": "overlayfs", **storage}
    running = json.dumps([item | {"State": {"Pid": 4711}}]).encode()
    assert of_containers(running) == [Container("web", Root(4711, id))]
    states = [{"State": state} for state in ({"Pid": 0}, {"Pid": "1"}, {"Pid": True}, {}, None)]
    ids = [{"Id": id, "State": {"Pid": 4711}} for id in ("0", "", None, id[1:])]
    for odd in [*states, *ids]:
        with pytest.raises(errors.UsageError, match="web lies in the storage `overlayfs`"):
            of_containers(json.dumps([item | odd]).encode())


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        (b"", errors.BadPath, "not JSON"),
        (b"\xff", errors.BadPath, "not JSON"),
        (b"[" * 100_000, errors.BadPath, "not JSON"),
        (b'[{"Id": "\\ud800", "Storage": {}}]', errors.BadPath, "not JSON"),
        (b"[]", errors.BadPath, "empty list"),
        (b"[1]", errors.BadPath, "neither GraphDriver nor Storage"),
        (b'{"Name": "x"}', errors.BadPath, "neither GraphDriver nor Storage"),
        (b'{"GraphDriver": null}', errors.BadPath, "neither GraphDriver nor Storage"),
        (
            b'[{"Id": "c0ffee", "GraphDriver": {"Name": "overlayfs", "Data": null}}]',
            errors.UsageError,
            "c0ffee lies in the storage `overlayfs`",
        ),
        (
            b'[{"Name": "x", "GraphDriver": {"Name": "overlay2", "Data": {"UpperDir": "."}}}]',
            errors.UsageError,
            "x lies in the storage `overlay2`",
        ),
        (
            b'[{"Name": "x", "GraphDriver": {"Name": "btrfs", "Data": {}}}]',
            errors.UsageError,
            "x lies in the storage `btrfs`",
        ),
    ],
)
def test_what_is_no_container_is_said_in_a_sentence(text, error, words):
    with pytest.raises(error, match=words) as caught:
        of_containers(text)
    assert caught.value.hint


@pytest.mark.root
def test_what_the_kernel_shows_of_odd_names_is_found_again(place):
    names = {"lower": "lo:w,er", "upper": "up:per", "work": r"wo\rk"}
    paths = {role: place.directory(name) for role, name in names.items()}
    place.directory("other")
    options = r"lowerdir=lo\:w\,er:other,upperdir=up:per,workdir=wo\\rk"
    subprocess.run(
        ["mount", "-t", "overlay", "-o", options, "odd", place.target], cwd=place.root, check=True
    )
    (entry,) = mountinfo.find("odd")
    stack = of_mount(entry)
    find = Whereabouts(stack, [place.target]).find
    assert stack.upper is not None
    assert stack.work is not None
    assert find(stack.upper) == (paths["upper"], True)
    assert find(stack.work) == (paths["work"], True)
    assert [find(name) for name in stack.lowers] == [
        (paths["lower"], True),
        (place.root / "other", True),
    ]


def test_short_names_count_from_the_storage(tmp_path):
    storage = tmp_path / "overlay"
    for id in ("u", "a"):
        (storage / id / "diff").mkdir(parents=True)
    (storage / "l").mkdir()
    (storage / "l" / "SHORT").symlink_to("../a/diff")
    stack = Stack(os.fsencode(storage / "u" / "diff"), None, (b"l/SHORT",))
    assert Whereabouts(stack, ()).find(b"l/SHORT") == (storage / "a" / "diff", True)
    relative = Stack(b"u/diff", None, (b"l/SHORT",))
    find = Whereabouts(relative, [storage / "u" / "merged"]).find
    assert find(b"u/diff") == (storage / "u" / "diff", True)
    assert find(b"l/SHORT") == (storage / "a" / "diff", True)
    assert Whereabouts(relative, [tmp_path / "m"]).find(b"u/diff") == (Path("u/diff"), False)


def test_a_name_that_leads_nowhere_here_may_in_another_root(tmp_path):
    (tmp_path / "in").mkdir()
    stack = Stack(b"/in", None, ())
    assert Whereabouts(stack, (), [Path("/"), tmp_path]).find(b"/in") == (tmp_path / "in", True)
    assert Whereabouts(stack, ()).find(b"/in") == (Path("/in"), False)


@pytest.mark.root
def test_the_dialect_of_an_upper_that_is_not_mounted(tmp_path):
    upper = tmp_path / "storage" / "diff"
    upper.mkdir(parents=True)
    assert dialect_of(upper) == "trusted"
    os.chown(upper.parent, 1000, 1000)
    assert dialect_of(upper) == "user"
    os.setxattr(upper, "trusted.overlay.impure", b"y")
    assert dialect_of(upper) == "trusted"
    os.removexattr(upper, "trusted.overlay.impure")
    os.chown(upper.parent, 0, 0)
    os.setxattr(upper, "user.overlay.impure", b"y")
    assert dialect_of(upper) == "user"

"""What mounts consist of, as kernels of different age show it."""

from __future__ import annotations

import pytest

from dsbranch.overlay import inuse, mountinfo

HEAD = b"59 27 0:46 / /ws/main rw,relatime - overlay "
ONE, TWO, OPEN = b"aaaaaaaaaa", b"bbbbbbbbbb", b"cccccccccc"


def place(id: bytes) -> bytes:
    return b"/a\\040b/.dsbranch/layers/" + id + b"/fs"


@pytest.mark.parametrize(
    "lowers",
    [
        b"lowerdir+=%s,lowerdir+=%s,lowerdir+=/data" % (place(ONE), place(TWO)),
        b"lowerdir=%s:%s:/data" % (place(ONE), place(TWO)),
    ],
)
def test_every_way_to_show_layers(monkeypatch, lowers):
    branch = HEAD + b"dsbranch:ws12345678:cccccccccc rw," + lowers + b",upperdir=" + place(OPEN)
    view = HEAD + b"dsbranch:ws12345678:@00ff ro," + lowers
    other = HEAD + b"dsbranch:other:dddddddddd rw," + lowers
    monkeypatch.setattr(mountinfo, "table", lambda pid="self": b"\n".join([branch, view, other]))
    found = inuse.in_use("ws12345678")
    assert found.views == {"cccccccccc": {"aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc"}}
    assert found.layers == {"aaaaaaaaaa", "bbbbbbbbbb", "cccccccccc"}
    assert found.commits == {"00ff"}
    assert inuse.in_use("ws1234567").layers == set()

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsbranch.errors import UnsupportedError
from dsbranch.overlay.plan import MAX_LOWERS, parse_source, plan, source

UPPER, WORK = Path("/l/fs"), Path("/l/work")
NAMES = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1, max_size=12)


@given(NAMES, NAMES)
def test_a_source_reads_back(workspace, shown):
    assert parse_source(source(workspace, layer=shown)) == (workspace, shown, None)
    assert parse_source(source(workspace, commit=shown)) == (workspace, None, shown)


@pytest.mark.parametrize(
    "text",
    ["", "overlay", "dsbranch", "dsbranch:", "dsbranch:w", "dsbranch:w:", "dsbranch:w:@",
     "dsbranch::x", "dsbranch:w:x:y", "xdsbranch:w:x", "dsbranch-probe"],
)  # fmt: skip
def test_other_sources_are_not_ours(text):
    assert parse_source(text) is None


def test_a_source_shows_one_thing():
    for both in ({}, {"layer": "l", "commit": "c"}):
        with pytest.raises(ValueError, match="either"):
            source("w", **both)


def test_every_option_is_stated():
    trusted = plan(lowers=[Path("/b")], upper=UPPER, work=WORK, source="s", dialect="trusted")
    assert dict(trusted.options) == {
        "redirect_dir": "on",
        "metacopy": "on",
        "index": "off",
        "nfs_export": "off",
        "xino": "auto",
        "uuid": "null",
    }
    user = plan(lowers=[Path("/b")], upper=UPPER, work=WORK, source="s", dialect="user")
    assert dict(user.options) == {
        "userxattr": "",
        "redirect_dir": "nofollow",
        "metacopy": "off",
        "index": "off",
        "nfs_export": "off",
        "xino": "auto",
        "uuid": "null",
    }


def test_order_and_places_are_kept():
    lowers = [Path("/new"), Path("/old"), Path("/base")]
    made = plan(lowers=lowers, upper=UPPER, work=WORK, source="s", dialect="trusted")
    assert (made.lowers, made.upper, made.work, made.source) == (tuple(lowers), UPPER, WORK, "s")
    assert not made.read_only
    assert plan(lowers=lowers, upper=None, work=None, source="s", dialect="user").read_only


def test_too_many_layers_say_what_helps():
    lowers = [Path(f"/l{n}") for n in range(MAX_LOWERS + 1)]
    with pytest.raises(UnsupportedError, match="501 layers") as caught:
        plan(lowers=lowers, upper=UPPER, work=WORK, source="s", dialect="trusted")
    assert "dsbranch squash" in (caught.value.hint or "")
    plan(lowers=lowers[1:], upper=UPPER, work=WORK, source="s", dialect="trusted")


@pytest.mark.parametrize(
    ("lowers", "upper", "work"),
    [
        ([], UPPER, WORK),
        ([Path("/b")], None, None),
        ([Path("/b")], UPPER, None),
        ([Path("/b")], None, WORK),
        ([Path("b")], UPPER, WORK),
        ([Path("/b")], Path("u"), WORK),
    ],
)
def test_wrong_calls(lowers, upper, work):
    with pytest.raises(ValueError):
        plan(lowers=lowers, upper=upper, work=work, source="s", dialect="trusted")

"""Which names a branch may have."""

from __future__ import annotations

import pytest

from dsbranch.errors import BadName
from dsbranch.ops.names import check_name

from .conftest import one_sentence


@pytest.mark.parametrize(
    "name",
    [
        "main",
        "exp1",
        "a",
        "0",
        "v1.2",
        "a-b_c.d",
        "x=1,y=2",
        "100%",
        "a+b",
        "Größe",
        "実験",
        "n" * 200,
    ],
)
def test_good(name):
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "empty"),
        ("a/b", "a slash"),
        ("/", "a slash"),
        ("-x", "begins with `-`"),
        (".x", "begins with `.`"),
        (".dsbranch", "begins with `.`"),
        (".", "begins with"),
        ("..", "two dots"),
        ("a..b", "two dots"),
        ("new\nline", "a newline"),
        ("a b", "a space"),
        ("tab\t", r"\\t"),
        ("nul\0", "x00"),
        ("esc\x1b[31m", "x1b"),
        ("HEAD~1", "`~`"),
        ("main@{1}", "`@`|`{`"),
        ("a:b", "`:`"),
        ("a*", r"`\*`"),
        ("$(x)", r"`\$`"),
        ("a'b", "`'`"),
        ("n" * 201, "too long"),
        ("ü" * 101, "too long"),
        ("\u202eback", r"holds `\\u202e`"),
        ("zero\u200bwidth", r"holds `\\u200b`"),
        ("\udcff", "UTF-8"),
    ],
)
def test_bad(name, words):
    with pytest.raises(BadName, match=words) as caught:
        check_name(name)
    message = one_sentence(caught.value)
    assert message.isprintable()
    assert caught.value.exit_code == 2

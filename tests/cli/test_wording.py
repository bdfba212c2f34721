from __future__ import annotations

import pytest

from dsbranch.cli.wording import count_words, human_size, local_time, plural, seconds_of, short, utc


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (1023 * 1024, "1023.0 KiB"),
        (64 * 1024**2, "64.0 MiB"),
        (5 * 1024**4, "5.0 TiB"),
        (2**63 - 1, "8.0 EiB"),
        (-2048, "-2.0 KiB"),
    ],
)
def test_sizes(count: int, shown: str) -> None:
    assert human_size(count) == shown


def test_counts_come_in_the_order_of_the_letters_and_without_zeroes() -> None:
    assert count_words({"D": 1, "A": 2000, "M": 0}) == "2,000 added, 1 deleted"
    assert count_words({"m": 1, "R": 1, "T": 1}) == "1 metadata only, 1 renamed, 1 type changed"
    assert count_words({}) == ""


def test_plurals() -> None:
    assert plural(1, "change") == "1 change"
    assert plural(0, "change") == "0 changes"
    assert plural(1200, "entry", "entries") == "1,200 entries"


def test_times() -> None:
    assert utc(0) == "1970-01-01T00:00:00Z"
    assert utc(1_700_000_000_999_999_999) == "2023-11-14T22:13:20Z"
    assert utc(-1) == "1969-12-31T23:59:59Z"
    assert len(local_time(0)) == len("1970-01-01 00:00:00 +0000")


def test_short() -> None:
    assert short("0123456789abcdef") == "0123456789"


@pytest.mark.parametrize(
    ("age", "seconds"),
    [
        ("0", 0),
        ("0d", 0),
        ("45s", 45),
        ("90m", 5400),
        ("12h", 43200),
        ("30d", 2592000),
        ("2w", 1209600),
    ],
)
def test_ages(age, seconds):
    assert seconds_of(age) == seconds


@pytest.mark.parametrize("age", ["", "d", "5", "1.5d", "-1d", "5x", "5 d", "٣d", "9999999999s"])
def test_what_is_no_age(age):
    with pytest.raises(ValueError, match="is no age"):
        seconds_of(age)

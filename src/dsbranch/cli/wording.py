"""Room ``cli``: numbers and times as people read them. Pure; prints nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

WORDS = {
    "A": "added",
    "M": "modified",
    "m": "metadata only",
    "D": "deleted",
    "R": "renamed",
    "T": "type changed",
}


def human_size(count: int) -> str:
    """Bytes in the largest IEC unit that keeps a digit before the point: ``1.5 MiB``."""
    if abs(count) < 1024:
        return f"{count} B"
    value = count / 1024
    units = iter(("KiB", "MiB", "GiB", "TiB", "PiB", "EiB"))
    unit = next(units)
    # 1023.95 would be shown as 1024.0, which belongs to the next unit.
    while abs(value) >= 1023.95:
        value, unit = value / 1024, next(units)
    return f"{value:.1f} {unit}"


_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def seconds_of(age: str) -> float:
    """``30d``, ``12h``, ``90m``, ``45s``, ``2w``; ``0`` needs no unit.

    :raises ValueError: it is none of these
    """
    number, unit = age[:-1], age[-1:]
    if age == "0":
        return 0.0
    if unit not in _SECONDS or not (number.isascii() and number.isdigit()) or len(number) > 9:
        raise ValueError(f"`{age}` is no age")
    return float(int(number) * _SECONDS[unit])


def plural(count: int, one: str, many: str | None = None) -> str:
    """``1 change``, ``2,000 changes``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def count_words(counts: Mapping[str, int]) -> str:
    """``2 added, 1 deleted``, in the order of the letters; empty for no change."""
    return ", ".join(f"{counts[c]:,} {word}" for c, word in WORDS.items() if counts.get(c))


def utc(time_ns: int) -> str:
    """RFC 3339 in UTC, whole seconds."""
    return _moment(time_ns).strftime("%Y-%m-%dT%H:%M:%SZ")


def local_time(time_ns: int) -> str:
    """In the time zone of this machine, with its offset."""
    return _moment(time_ns).astimezone().strftime("%Y-%m-%d %H:%M:%S %z")


def _moment(time_ns: int) -> datetime:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(time_ns // 1_000_000_000, tz=UTC)


def short(commit: str) -> str:
    """The first ten digits, as every message shows a commit."""
    return commit[:10]


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    """The rows with all cells but their last one filled up to the width of their column."""
    widths = [max(map(columns, column)) for column in zip(*rows, strict=True)]
    for *cells, last in rows:
        yield [
            *(cell + " " * (w - columns(cell)) for cell, w in zip(cells, widths, strict=False)),
            last,
        ]


def columns(text: str) -> int:
    """How many columns of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)

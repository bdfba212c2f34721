"""Tables and plots of a run, and where they go: ``docs/benchmarks.md``, between two comments.

What a run measured lies beside the page as JSON, so that a table can be drawn again without it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = DOCS / "benchmarks.md"
RESULTS = DOCS / "benchmarks"


def save(name: str, result: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def write(section: str, text: str) -> None:
    """Replace what the page has between ``<!-- section … -->`` and ``<!-- end -->``.

    :raises ValueError: it has no such place
    """
    page = PAGE.read_text(encoding="utf-8")
    place = re.compile(rf"(<!-- {section} -->\n).*?(<!-- end -->)", re.DOTALL)
    page, count = place.subn(lambda found: f"{found[1]}\n{text.strip()}\n\n{found[2]}", page)
    if count != 1:
        raise ValueError(f"{PAGE} has {count} places for {section!r}")
    PAGE.write_text(page, encoding="utf-8")


def save_plot(figure: Figure, path: Path) -> None:
    """As an SVG that is small and the same for the same numbers."""
    import matplotlib as mpl

    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "dsbranch"}):
        figure.savefig(path, metadata={"Date": None})


def markdown(cells: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Rows of equal length as a table; the first is its head, all but the first column numbers."""
    widths = [max(3, *(len(row[at]) for row in cells)) for at in range(len(cells[0]))]
    for number, row in enumerate(cells):
        first, *rest = zip(row, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]
        yield f"| {' | '.join(padded)} |"
        if number == 0:
            left, *right = ("-" * width for width in widths)
            yield f"| {left} | {' | '.join(dashes[:-1] + ':' for dashes in right)} |"


def table(cells: Sequence[tuple[str, ...]]) -> str:
    return "\n".join(markdown(cells))


def digits(number: float | None) -> str:
    """Two to three digits that count; nothing for None."""
    if number is None:
        return ""
    if abs(number) >= 10:
        return f"{number:,.0f}"
    return f"{number:.1f}" if abs(number) >= 1 else f"{number:.3f}".rstrip("0").rstrip(".")

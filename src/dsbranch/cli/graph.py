"""Room ``cli``: a history as a drawing beside its text, as ``git log --graph`` has it. Pure.

The method is that of git's graph.c: each commit takes a column, its parents take the place it
had, and lines that lead to one commit move left, a column a line, until they meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

_PADDING, _COMMIT, _MERGE, _COLLAPSING = range(4)


def draw(items: Iterable[tuple[str, Sequence[str], Iterable[str]]]) -> Iterator[str]:
    """Lines of commits, newest first: each with its id, its parents, and its lines of text."""
    graph = _Graph()
    for id, parents, text in items:
        graph.take(id, parents)
        for line in text:
            yield f"{graph.next():<{graph.width}}{line}".rstrip()
        while graph.state != _PADDING:
            yield graph.next().rstrip()


class _Graph:
    """`columns` are the commits whose lines come in from above, `new` those that go out below.

    `mapping` says for each place on the screen, two to a column, which of `new` its line leads to.
    """

    def __init__(self) -> None:
        self.state = self.previous = _PADDING
        self.columns: list[str] = []
        self.new: list[str] = []
        self.mapping: list[int] = []
        self.old_mapping: list[int] = []
        self.width = 0
        self.place = self.previous_place = 0
        self.added = self.previous_added = 0
        self.layout = 0

    def take(self, id: str, parents: Sequence[str]) -> None:
        """Go on to the next commit; the drawing of the last one is complete."""
        self.id, self.parents = id, parents
        self.previous_place, self.previous_added = self.place, self.added
        self.columns, self.new = self.new, []
        self.mapping = [-1] * (2 * (len(self.columns) + len(parents)) + 2)
        self.width = self.added = 0
        for place, column in enumerate(self._incoming()):
            if column != id:
                self._lead_to(column, None)
                continue
            self.place, self.layout = place, -1
            for parent in parents:
                self._lead_to(parent, place)
            if not parents:
                self.width += 2
        while len(self.mapping) > 1 and self.mapping[-1] < 0:
            self.mapping.pop()
        # `previous` stays: it is what the last line drawn belonged to.
        self.state = _COMMIT

    def next(self) -> str:
        if self.state == _PADDING:
            return "| " * len(self.new)
        if self.state == _COMMIT:
            return self._commit_line()
        if self.state == _MERGE:
            return self._merge_line()
        return self._collapsing_line()

    def _incoming(self) -> list[str]:
        """The columns, with one at the end for a commit that nothing above leads to."""
        return self.columns if self.id in self.columns else [*self.columns, self.id]

    def _enter(self, state: int) -> None:
        self.previous, self.state = self.state, state

    def _lead_to(self, commit: str, place: int | None) -> None:
        """Let the next line lead to `commit`; `place` is that of the commit whose parent it is."""
        if commit not in self.new:
            self.new.append(commit)
        column = self.new.index(commit)
        if place is not None and len(self.parents) > 1 and self.layout == -1:
            # The first parent of a merge: it is to the left of it, or takes its place.
            left = place - column
            shift = 2 * left - 3 if left > 1 else 1
            self.layout = 0 if left > 0 else 1
            self.added = len(self.parents) + self.layout - 2
            at = self.width + (self.layout - 1) * shift
            self.width += 2 * self.layout
        elif self.added > 0 and column == self.mapping[self.width - 2]:
            # It leads where the merge's last line leads: they meet at once.
            at = self.width - 2
            self.added = -1
        else:
            at = self.width
            self.width += 2
        self.mapping[at] = column

    def _settle(self) -> None:
        """The drawing is complete once each line is where it leads."""
        done = all(to < 0 or to == at // 2 for at, to in enumerate(self.mapping))
        self._enter(_PADDING if done else _COLLAPSING)

    def _commit_line(self) -> str:
        line, seen = "", False
        for place, column in enumerate(self._incoming()):
            if column == self.id:
                seen = True
                line += "* "
            elif seen and self.added > 1:
                line += "\\ "
            elif seen and self.added == 1:
                after_merge = self.previous == _MERGE and self.previous_added > 0
                line += "\\ " if after_merge and self.previous_place < place else "| "
            else:
                line += "/ " if self._arrives_slanted(place) else "| "
        if len(self.parents) > 1:
            self._enter(_MERGE)
        else:
            self._settle()
        return line

    def _arrives_slanted(self, place: int) -> bool:
        at = 2 * place
        return (
            self.previous == _COLLAPSING
            and at + 1 < len(self.old_mapping)
            and self.old_mapping[at + 1] == place
            and at < len(self.mapping)
            and self.mapping[at] < place
        )

    def _merge_line(self) -> str:
        line, seen, passed_parent = "", False, False
        for place, column in enumerate(self._incoming()):
            if column == self.id:
                seen = True
                slant = self.layout
                for number in range(len(self.parents)):
                    line += "/|\\"[slant]
                    if slant < 2:
                        slant += 1
                    elif self.added > 0 or number < len(self.parents) - 1:
                        line += " "
                if self.added == 0:
                    line += " "
            elif seen:
                line += "\\ " if self.added > 0 else "| "
            else:
                line += "|"
                if self.layout != 0 or place != self.place - 1:
                    line += "_" if passed_parent else " "
            passed_parent = passed_parent or column == self.parents[0]
        self._settle()
        return line

    def _collapsing_line(self) -> str:
        old = self.old_mapping = self.mapping
        new = self.mapping = [-1] * len(old)
        edge = edge_target = -1
        for at, target in enumerate(old):
            if target < 0:
                continue
            if target * 2 == at:
                new[at] = target
            elif new[at - 1] < 0:
                new[at - 1] = target
                if edge == -1:
                    # One line at a time may go more than a column.
                    edge, edge_target = at, target
                    for j in range(target * 2 + 3, at - 2, 2):
                        new[j] = target
            elif new[at - 1] != target:
                # Another line is in the way: this one crosses it.
                new[at - 2] = target
                if edge == -1:
                    edge = at
        self.old_mapping = list(new)
        if new[-1] < 0:
            new.pop()
        line, horizontal = "", False
        for at, target in enumerate(new):
            if target < 0:
                line += " "
            elif target * 2 == at:
                line += "|"
            elif target == edge_target and at != edge - 1:
                if at != target * 2 + 3:
                    new[at] = -1
                horizontal = True
                line += "_"
            else:
                if horizontal and at < edge:
                    new[at] = -1
                line += "/"
        if all(to < 0 or to == at // 2 for at, to in enumerate(new)):
            self._enter(_PADDING)
        return line

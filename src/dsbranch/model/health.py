"""Whether all is as recorded, and works here: the answers of ``seal``, ``verify``, ``doctor``."""

from pathlib import Path
from typing import Literal, NamedTuple

from dsbranch.model.seal import Seal


class Finding(NamedTuple):
    """Something that is not as it was recorded.

    `where` names the layer, commit, branch or file of the store, `path` what lies in that layer.
    `what` is wrong, and `means` says what follows from it and what can be saved.
    """

    where: str
    path: bytes | None
    what: str
    means: str


class Problem(NamedTuple):
    """A path of the dataset that could not be read, and why."""

    path: bytes
    what: str


class Sealed(NamedTuple):
    """The answer of seal. `hashed` files of the dataset were read now, and `in_layers` of commits
    made without hashing; `seal.digested` counts those before, too. `problems` are not in the seal,
    or only by name; those of layers are by their path in the workspace."""

    seal: Seal
    hashed: int
    problems: tuple[Problem, ...] = ()
    in_layers: int = 0


class Dataset(NamedTuple):
    """What verify looked at in the dataset: all that `seal` has; `digested` of its files were read
    and compared, `undigested` ones have no recorded digest."""

    seal: Seal
    digested: int
    undigested: int


class Verified(NamedTuple):
    """The answer of verify. `digested` files of layers were read and compared, `undigested` ones
    have no recorded digest; `garbage` directories belong to no layer, which is no finding.
    `dataset` is None where it was never sealed, or could not be compared. `repaired` says what was
    repaired before, a sentence each."""

    layers: int
    entries: int
    digested: int
    undigested: int
    garbage: int
    findings: tuple[Finding, ...]
    dataset: Dataset | None = None
    repaired: tuple[str, ...] = ()


State = Literal["ok", "warn", "fail"]
"""Of a `Check`: nothing in the way, something that will bite, branches cannot work."""


class Check(NamedTuple):
    """One thing that doctor looked at, what was found, and what to do about it."""

    name: str
    state: State
    found: str
    advice: str | None = None


class Checkup(NamedTuple):
    """The answer of doctor. `place` is the workspace, or where one could be put; `dataset` is None
    where none is known."""

    kernel: str
    place: Path
    dataset: Path | None
    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """Why branches cannot work; empty where they do."""
        return tuple(check for check in self.checks if check.state == "fail")

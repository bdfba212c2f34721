"""What the tests of the room share: the program on a workspace that only answers."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from dsbranch import cli
from tests.cli.fake import FakeWorkspace


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


Program = Callable[..., Ran]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeWorkspace:
    workspace = FakeWorkspace()
    monkeypatch.setattr("dsbranch.cli.scope.open_at", workspace.opened_at)
    return workspace


@pytest.fixture
def program(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Iterator[Program]:
    """Run `main` in this process and give its exit code and what it wrote."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = [signal.getsignal(number) for number in signals]

    def run(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["dsbranch", *arguments])
        code = cli.main()
        captured = capfdbinary.readouterr()
        return Ran(code, captured.out.decode(), captured.err.decode())

    yield run
    for number, handler in zip(signals, handlers, strict=True):
        signal.signal(number, handler)

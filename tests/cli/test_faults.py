from __future__ import annotations

import errno

import pytest

from dsbranch import errors
from dsbranch.cli.faults import Fault, describe
from dsbranch.model.views import Process

WRITER = Process(42, "python train.py", "/ws/exp1/log.txt")


def test_a_domain_error_brings_its_sentence_hint_and_code() -> None:
    error = errors.NotAWorkspace("there is no workspace here", hint="make one")
    assert describe(error) == Fault(2, "there is no workspace here", "make one")


def test_writers_are_listed() -> None:
    error = errors.WritersPresent("exp1 is being written", processes=[WRITER])
    assert describe(error) == Fault(4, "exp1 is being written", None, (WRITER,))


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (OSError(errno.ENOSPC, "x", "/ws/f"), 5, "/ws/f: No space left on device"),
        (OSError(errno.EIO, "x", b"/ws/f"), 5, "/ws/f: Input/output error"),
        (OSError(errno.EIO, "x"), 5, "Input/output error"),
        (PermissionError(errno.EACCES, "x", "/ws"), 6, "/ws: Permission denied"),
        (FileNotFoundError(errno.ENOENT, "x", "/no"), 5, "/no: No such file or directory"),
        (MemoryError(), 5, "Cannot allocate memory"),
        (MemoryError("not enough memory to read f"), 5, "not enough memory to read f"),
        (ImportError("x: failed to map segment"), 5, "x: failed to map segment"),
    ],
)
def test_trouble_of_the_machine(error: OSError, code: int, sentence: str) -> None:
    fault = describe(error)
    assert fault is not None
    assert (fault.exit_code, fault.sentence) == (code, sentence)


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EBADF, "x"), OSError("text"), ValueError("x"), AssertionError(), TypeError()],
)
def test_a_bug_is_not_dressed_up(error: BaseException) -> None:
    assert describe(error) is None

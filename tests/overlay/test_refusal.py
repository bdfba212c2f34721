from __future__ import annotations

import errno
import os

import pytest

from dsbranch.errors import MountRefused, NoPrivilege
from dsbranch.overlay.refusal import refusal


def failed(code):
    return OSError(code, os.strerror(code))


def test_the_contexts_errors_make_the_sentence_and_the_rest_is_kept():
    error = refusal(
        "mount it",
        failed(errno.EINVAL),
        messages=["w overlay: mind this", "e overlay: Bad value for 'xino'"],
        logged=["e overlay: of somebody else"],
    )
    assert isinstance(error, MountRefused)
    assert str(error) == "cannot mount it: Bad value for 'xino'"
    assert error.kernel == ("w overlay: mind this", "e overlay: Bad value for 'xino'")
    assert error.errno == errno.EINVAL


def test_the_log_is_heard_where_the_context_is_silent():
    lines = ["w overlay: falling back to xino=off", "e overlay: overlapping lowerdir path"]
    error = refusal("mount it", failed(errno.ELOOP), logged=lines)
    assert str(error) == "cannot mount it: overlapping lowerdir path"
    assert error.kernel == tuple(lines)
    warned = refusal("mount it", failed(errno.ELOOP), logged=lines[:1])
    assert str(warned) == "cannot mount it: falling back to xino=off"


def test_else_errno_must_do():
    error = refusal("mount it", failed(errno.ELOOP))
    assert str(error) == f"cannot mount it: {os.strerror(errno.ELOOP)}"
    assert error.kernel == ()


@pytest.mark.parametrize(
    ("code", "messages", "hint"),
    [
        (errno.EINVAL, ["e overlay: Unknown parameter 'lowerdir+'"], "Linux 6.8"),
        (errno.ENODEV, [], "modprobe overlay"),
        (errno.ENOSYS, [], "Linux 6.8"),
    ],
)
def test_hints(code, messages, hint):
    error = refusal("mount it", failed(code), messages=messages)
    assert isinstance(error, MountRefused)
    assert hint in (error.hint or "")


def test_eperm_is_a_matter_of_privilege_unless_the_kernel_says_more():
    assert isinstance(refusal("mount it", failed(errno.EPERM)), NoPrivilege)
    told = refusal("mount it", failed(errno.EPERM), messages=["e overlay: not this one"])
    assert isinstance(told, MountRefused)

from __future__ import annotations

import os
import uuid

import pytest

from dsbranch.overlay.log import KernelLog

from .conftest import become_nobody, in_child


def say(line: str) -> None:
    with open("/dev/kmsg", "w") as log:
        log.write(line + "\n")


@pytest.mark.root
def test_it_hears_overlay_lines_from_its_start_on():
    # Other mounts of this machine may log meanwhile.
    mine = uuid.uuid4().hex
    with KernelLog() as log:
        say(f"<7>other: {mine} no overlay")
        say(f"<7>overlayfs: {mine} one; two")
        say(f"<3>overlayfs: {mine} three")
        assert [line for line in log.lines() if mine in line] == [
            f"w overlay: {mine} one; two",
            f"e overlay: {mine} three",
        ]
        assert not any(mine in line for line in log.lines())


@pytest.mark.root
def test_it_does_not_hear_what_was_said_before():
    mine = uuid.uuid4().hex
    say(f"<3>overlayfs: {mine}")
    with KernelLog() as log:
        assert not any(mine in line for line in log.lines())


def test_whoever_may_not_read_it_hears_nothing(monkeypatch):
    def refuse(*arguments):
        raise PermissionError(1, "Operation not permitted", "/dev/kmsg")

    monkeypatch.setattr(os, "open", refuse)
    with KernelLog() as log:
        assert log.lines() == []


@pytest.mark.root
def test_it_works_for_nobody_too():
    def listen():
        with KernelLog() as log:
            return log.lines()

    assert in_child(become_nobody, listen) == []

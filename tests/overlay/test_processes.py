from __future__ import annotations

import os

import pytest

from dsbranch.overlay.processes import VANISHED, command, pids


def test_pids_are_those_of_now():
    found = pids()
    assert os.getpid() in found
    assert found == sorted(set(found))


def test_a_command_is_one_short_line(hold):
    holder = hold("pass", "a\nb", "x" * 200, "\udcff")
    shown = command(holder.pid)
    assert len(shown) == 80
    assert shown.endswith("…")
    assert "\n" not in shown
    assert command(os.getpid())


def test_a_kernel_thread_has_a_name():
    threads = [pid for pid in pids() if pid == 2]
    if not threads:
        pytest.skip("kernel threads are not visible in this pid namespace")
    assert command(2) == "kthreadd"


def test_a_vanished_process():
    with pytest.raises(VANISHED):
        command(2**22 + 1)

import os
import signal
import threading
import time

import pytest

from dsbranch.errors import Locked, StorageError
from dsbranch.store.layout import Layout
from dsbranch.store.lock import branch_lock, names_lock

HOLDER = """
import sys
from pathlib import Path
from dsbranch.store.layout import Layout
from dsbranch.store.lock import branch_lock
with branch_lock(Layout(Path(sys.argv[1])), 7, verb="commit exp1"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def layout(tmp_path):
    layout = Layout(tmp_path)
    layout.locks.mkdir(parents=True)
    return layout


@pytest.fixture
def holder(layout, program):
    process = program(HOLDER, layout.root)
    assert process.stdout.readline() == "held\n"
    return process


def test_a_lock_is_taken_once_and_again(layout):
    for _ in range(2):
        with branch_lock(layout, 1, verb="commit"):
            pass
    assert os.listdir(layout.locks) == ["1"]
    assert (layout.locks / "1").read_bytes() == b""


def test_it_does_not_nest(layout):
    with branch_lock(layout, 1, verb="commit"):
        with pytest.raises(Locked), branch_lock(layout, 1, verb="squash"):
            pass
        with branch_lock(layout, 2, verb="commit"), names_lock(layout, verb="create"):
            pass


def test_it_falls_with_an_exception(layout):
    with pytest.raises(RuntimeError), branch_lock(layout, 1, verb="commit"):
        raise RuntimeError
    with branch_lock(layout, 1, verb="commit"):
        pass


def test_the_refused_learn_who_holds_it(layout, holder):
    with pytest.raises(Locked) as caught, branch_lock(layout, 7, verb="squash"):
        pass
    assert caught.value.holder == f"`dsbranch commit exp1` (pid {holder.pid})"
    assert str(caught.value).endswith(caught.value.holder)
    assert caught.value.hint


def test_the_lock_of_the_killed_is_free_at_once(layout, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait(20)
    with branch_lock(layout, 7, verb="commit"):
        pass


def test_waiting_ends_when_the_holder_does(layout, holder):
    def let_go():
        holder.stdin.write("\n")
        holder.stdin.flush()

    timer = threading.Timer(0.2, let_go)
    timer.start()
    try:
        start = time.monotonic()
        with branch_lock(layout, 7, verb="commit", timeout=20):
            assert 0.1 < time.monotonic() - start < 19
    finally:
        timer.join()


def test_waiting_ends_with_its_time(layout, holder):
    start = time.monotonic()
    with pytest.raises(Locked), branch_lock(layout, 7, verb="commit", timeout=0.2):
        pass
    assert 0.2 <= time.monotonic() - start < 10


@pytest.mark.parametrize(
    "note",
    [b"", b"garbage", b"999999999 commit 1\n", b"1 commit 1\n", b"-1 x y", b"\xff\xff\xff"],
    ids=["empty", "garbage", "no such process", "another process", "negative", "no text"],
)
def test_a_note_is_believed_only_of_its_living_writer(layout, note):
    with branch_lock(layout, 1, verb="commit"):
        (layout.locks / "1").write_bytes(note)
        with pytest.raises(Locked) as caught, branch_lock(layout, 1, verb="x"):
            pass
    assert caught.value.holder is None


def test_children_of_the_holder_do_not_inherit_it(layout, program):
    with branch_lock(layout, 1, verb="commit"):
        program("import sys; sys.stdin.readline()")
    with branch_lock(layout, 1, verb="commit"):
        pass


def test_a_planted_symlink_is_not_followed(layout, tmp_path):
    (layout.locks / "1").symlink_to(tmp_path / "victim")
    with pytest.raises(StorageError), branch_lock(layout, 1, verb="commit"):
        pass
    assert not (tmp_path / "victim").exists()

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Lock

import pytest

from dsbranch._core import crew


@pytest.mark.parametrize(
    ("clock", "joined"), [(time.monotonic, {0, 1}), (lambda: 0.0, {0, 1, 2, 3, 4})]
)
def test_more_threads_join_a_job_that_waits(monkeypatch, clock, joined):
    """Not one that keeps its processors busy, by the processor time that it takes."""
    monkeypatch.setattr("dsbranch._core.crew.time.process_time", lambda: 2 * clock())
    monkeypatch.setattr(crew, "TICK_SECONDS", 0.05)
    lock, end = Lock(), Event()
    began: set[int] = set()
    ticks: list[set[int]] = []

    def work(number: int) -> None:
        with lock:
            began.add(number)
        end.wait(10)

    def tick() -> None:
        with lock:
            ticks.append(set(began))
        if len(ticks) == 4:
            end.set()

    crew.run_threads(work, 2, end.set, tick, late=3)
    assert ticks[-1] == began == joined


def test_an_interrupted_job_is_cancelled_and_waited_for():
    end = Event()
    done: list[int] = []

    def work(number: int) -> None:
        end.wait(10)
        done.append(number)

    def tick() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crew.run_threads(work, 2, end.set, tick, late=3)
    assert set(done) >= {0, 1}


def test_both_go_on_at_once_and_have_ended_afterwards():
    work_goes_on, body_goes_on = Event(), Event()
    ends = []

    def work(given_up: Callable[[], bool]) -> None:
        body_goes_on.set()
        assert work_goes_on.wait(10)
        time.sleep(0.05)
        ends.append(given_up())

    with crew.meanwhile(work):
        assert body_goes_on.wait(10)
        work_goes_on.set()
    assert ends == [False]


def test_who_fails_is_told_by_whom_it_was():
    def broken(given_up: Callable[[], bool]) -> None:
        raise OSError("work")

    with pytest.raises(OSError, match="work"), crew.meanwhile(broken):
        pass

    ends = []

    def patient(given_up: Callable[[], bool]) -> None:
        while not given_up():
            time.sleep(0.001)
        ends.append(True)

    with pytest.raises(KeyboardInterrupt), crew.meanwhile(patient):
        raise KeyboardInterrupt
    assert ends == [True]

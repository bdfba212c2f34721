from __future__ import annotations

import time
from _thread import start_new_thread
from collections.abc import Callable
from threading import Event, Lock, get_ident

import pytest

from dsbranch._core import crew

Work = Callable[[], None]


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


def test_a_thread_whose_start_was_interrupted_is_not_waited_for(monkeypatch):
    end = Event()

    def interrupted(work: Work, arguments: tuple[()]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(crew, "start_new_thread", interrupted)
    with pytest.raises(KeyboardInterrupt):
        crew.run_threads(lambda number: None, 2, end.set)
    assert end.is_set()


def allow(monkeypatch: pytest.MonkeyPatch, count: int) -> list[Work]:
    """Let so many threads be started; the list of them."""
    started: list[Work] = []
    tried = 0

    def start(work: Work, arguments: tuple[()]) -> None:
        nonlocal tried
        tried += 1
        assert tried <= count + 2, "one more at the start, and one when others are to join"
        if len(started) == count:
            raise RuntimeError("can't start new thread")
        started.append(work)
        start_new_thread(work, arguments)

    monkeypatch.setattr(crew, "start_new_thread", start)
    return started


def test_late_ones_that_cannot_be_started_are_done_without(monkeypatch):
    allow(monkeypatch, 3)
    done: list[int] = []

    def work(number: int) -> None:
        time.sleep(0.2)
        done.append(number)

    crew.run_threads(work, 2, lambda: None, None, late=3)
    assert sorted(done) == [0, 1, 2]


def test_processors_that_are_half_idle_get_more_threads(monkeypatch):
    """What two threads take counts against two processors, not one."""
    monkeypatch.setattr("dsbranch._core.crew.time.process_time", lambda: 0.75 * time.monotonic())
    joined = Event()

    def work(number: int) -> None:
        if number == 4:
            joined.set()
        joined.wait(2)

    crew.run_threads(work, 2, joined.set, None, late=3)
    assert joined.is_set()


def test_without_a_tick_all_threads_are_waited_for():
    done: list[int] = []

    def work(number: int) -> None:
        time.sleep(0.3)
        done.append(number)

    crew.run_threads(work, 2, lambda: None)
    assert sorted(done) == [0, 1]


@pytest.mark.parametrize("allowed", [0, 1])
def test_what_cannot_be_started_is_done_by_who_is_there(monkeypatch, allowed):
    allow(monkeypatch, allowed)
    mine = get_ident()
    done: list[tuple[int, bool]] = []
    crew.run_threads(
        lambda number: done.append((number, get_ident() != mine)), 3, lambda: None, late=3
    )
    assert done == [(0, allowed == 1)]


@pytest.mark.parametrize("failing", [{0}, {0, 1}, {1, 2}, {0, 1, 2}])
def test_those_that_never_begin_are_not_waited_for(monkeypatch, failing):
    """As one does that ends for want of memory before its first step."""
    begun = 0

    def start(work: Work, arguments: tuple[()]) -> None:
        nonlocal begun
        start_new_thread((lambda: None) if begun in failing else work, arguments)
        begun += 1

    monkeypatch.setattr(crew, "start_new_thread", start)
    monkeypatch.setattr(crew, "_BEGIN_SECONDS", 0.2)
    done: list[int] = []
    crew.run_threads(done.append, 3, lambda: None)
    assert sorted(done) == (sorted({0, 1, 2} - failing) or [0])


def test_one_that_begins_too_late_does_nothing(monkeypatch):
    held: list[Work] = []
    monkeypatch.setattr(crew, "start_new_thread", lambda work, arguments: held.append(work))
    monkeypatch.setattr(crew, "_BEGIN_SECONDS", 0.0)
    done: list[int] = []
    crew.run_threads(done.append, 2, lambda: None)
    for work in held:
        work()
    assert done == [0]


def test_an_interrupt_while_some_have_not_begun(monkeypatch):
    monkeypatch.setattr(crew, "start_new_thread", lambda work, arguments: None)

    def tick() -> None:
        raise KeyboardInterrupt

    end = Event()
    with pytest.raises(KeyboardInterrupt):
        crew.run_threads(lambda number: None, 3, end.set, tick)
    assert end.is_set()


def test_what_one_raises_is_raised():
    end = Event()

    def work(number: int) -> None:
        if number == 1:
            raise MemoryError("of one")

    with pytest.raises(MemoryError, match="of one"):
        crew.run_threads(work, 3, end.set)
    assert end.is_set()

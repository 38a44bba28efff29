"""Events on the wall's clock: never early, in order, and with what threads outside have done among them.

A busy machine may make anything late. So lateness has wide bounds here, and earliness none.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import simpy

from hilsim.hardware.distributed.wall import WallEnvironment, WorkerThread

MS = 1_000_000
Process = Iterator[simpy.Event]


@pytest.fixture
def worker() -> Iterator[WorkerThread]:
    made = WorkerThread("test")
    yield made
    made.close()
    made.thread.join(5)
    assert not made.thread.is_alive()


def test_pauses_last_as_long_as_the_wall_says() -> None:
    env = WallEnvironment()
    seen: list[int] = []

    def paused() -> Process:
        for _ in range(5):
            yield env.timeout(4 * MS)
            seen.append(env.now)

    env.process(paused())
    began = time.monotonic_ns()
    env.run()
    took = time.monotonic_ns() - began
    assert all(type(at) is int for at in seen)
    for before, after in zip([0, *seen], seen, strict=False):
        assert after - before >= 4 * MS
    assert seen[-1] <= took < 1000 * MS


def test_the_clock_begins_with_the_run_and_not_before() -> None:
    env = WallEnvironment()
    time.sleep(0.3)
    env.timeout(0)
    env.run()
    assert env.now < 250 * MS


def test_work_outside_comes_back_at_the_instant_at_which_it_is_done(worker: WorkerThread) -> None:
    env = WallEnvironment()
    told: list[tuple[str, int]] = []

    def wait_for_work() -> Process:
        found = yield worker.do(env, lambda: (time.sleep(0.03), "done")[1])  # type: ignore[func-returns-value]
        told.append((found, env.now))

    def meanwhile() -> Process:
        yield env.timeout(10 * MS)
        told.append(("meanwhile", env.now))

    env.process(wait_for_work())
    env.process(meanwhile())
    env.run()
    assert [words for words, _ in told] == ["meanwhile", "done"]
    assert told[1][1] >= 30 * MS


def test_one_worker_does_one_thing_after_the_other_and_two_work_at_once(worker: WorkerThread) -> None:
    other = WorkerThread("other")
    env = WallEnvironment()
    ends: dict[str, int] = {}

    def waits(name: str, task: simpy.Event) -> Process:
        yield task
        ends[name] = env.now

    for name, who in (("first", worker), ("second", worker), ("third", other)):
        env.process(waits(name, who.do(env, lambda: time.sleep(0.05))))
    env.run()
    other.close()
    assert ends["second"] - ends["first"] >= 45 * MS
    assert ends["third"] < ends["second"]


def test_the_clock_never_goes_back_however_much_happens(worker: WorkerThread) -> None:
    env = WallEnvironment()
    instants: list[int] = []

    def busy(pause: int) -> Process:
        for _ in range(40):
            yield env.timeout(pause)
            instants.append(env.now)
            yield worker.do(env, lambda: None)
            instants.append(env.now)

    for pause in (0, 10_000, 333_333):
        env.process(busy(pause))
    env.run()
    assert instants == sorted(instants)
    assert len(instants) == 240


def test_who_waits_for_work_that_fails_gets_its_error(worker: WorkerThread) -> None:
    env = WallEnvironment()
    caught: list[BaseException] = []

    def waits() -> Process:
        try:
            yield worker.do(env, lambda: 1 / 0)
        except ZeroDivisionError as error:
            caught.append(error)

    env.process(waits())
    env.run()
    assert len(caught) == 1


def test_an_error_that_nobody_waits_for_ends_the_run(worker: WorkerThread) -> None:
    env = WallEnvironment()
    worker.do(env, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        env.run()


def test_a_run_is_over_when_nothing_is_due_and_nobody_is_out() -> None:
    env = WallEnvironment()
    task = env.task()
    threading.Timer(0.03, env.done, (task, 7)).start()
    env.run()
    assert task.value == 7
    assert env.now >= 25 * MS
    env.run()  # nothing left: returns at once


def test_ctrl_c_ends_a_run_that_waits_for_somebody() -> None:
    env = WallEnvironment()
    env.task()  # nobody will ever come back from it
    main: Any = threading.main_thread().ident
    threading.Timer(0.05, signal.pthread_kill, (main, signal.SIGINT)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        env.run()
    assert time.monotonic() - began < 5

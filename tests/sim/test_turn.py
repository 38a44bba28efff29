"""Turns: one at a time, first come first served, whatever interrupts those who wait; a free one costs no event."""

from __future__ import annotations

from collections.abc import Generator

import simpy

from hilsim.sim.lock import Lock

Log = list[tuple[str, int]]


def holder(env: simpy.Environment, turn: Lock, name: str, hold: int, log: Log) -> Generator[simpy.Event, None, None]:
    """Hold the turn for a while; an interrupt ends the wait or the hold."""
    try:
        if not turn.take():
            yield from turn.wait()
        log.append((f"{name} in", int(env.now)))
        try:
            yield env.timeout(hold)
        finally:
            log.append((f"{name} out", int(env.now)))
            turn.leave()
    except simpy.Interrupt:
        log.append((f"{name} interrupted", int(env.now)))


def at(env: simpy.Environment, when: int, process: simpy.Process) -> Generator[simpy.Event, None, None]:
    """Interrupt a process."""
    yield env.timeout(when)
    process.interrupt()


def test_turns_are_taken_one_at_a_time_in_the_order_of_asking() -> None:
    env, log = simpy.Environment(), Log()
    turn = Lock(env)
    for name in "abc":
        env.process(holder(env, turn, name, 10, log))
    env.run()
    assert log == [
        (f"{name} {what}", 10 * (k + (what == "out"))) for k, name in enumerate("abc") for what in ("in", "out")
    ]
    assert not turn.taken


def test_a_free_turn_is_taken_without_an_event() -> None:
    env = simpy.Environment()
    turn = Lock(env)
    assert turn.take()
    assert not turn.take()
    turn.leave()
    assert turn.take()
    assert env.peek() == float("inf")


def test_whoever_is_interrupted_while_waiting_leaves_the_queue() -> None:
    env, log = simpy.Environment(), Log()
    turn = Lock(env)
    env.process(holder(env, turn, "a", 10, log))
    waits = env.process(holder(env, turn, "b", 10, log))
    env.process(holder(env, turn, "c", 10, log))
    env.process(at(env, 3, waits))
    env.run()
    assert log == [("a in", 0), ("b interrupted", 3), ("a out", 10), ("c in", 10), ("c out", 20)]
    assert not turn.taken


def test_whoever_is_interrupted_at_the_handover_passes_the_turn_on() -> None:
    """At 10 `a` hands over to `b`, and before `b` runs it is interrupted: the turn is `c`'s, at the same instant."""
    env, log = simpy.Environment(), Log()
    turn = Lock(env)

    def leaves_and_interrupts() -> Generator[simpy.Event, None, None]:
        assert turn.take()
        yield env.timeout(10)
        turn.leave()
        waits.interrupt()

    env.process(leaves_and_interrupts())
    waits = env.process(holder(env, turn, "b", 10, log))
    env.process(holder(env, turn, "c", 10, log))
    env.run()
    assert log == [("b interrupted", 10), ("c in", 10), ("c out", 20)]
    assert not turn.taken


def test_whoever_is_interrupted_while_holding_leaves_the_turn() -> None:
    env, log = simpy.Environment(), Log()
    turn = Lock(env)
    holds = env.process(holder(env, turn, "a", 10, log))
    env.process(holder(env, turn, "b", 10, log))
    env.process(at(env, 4, holds))
    env.run()
    assert log == [("a in", 0), ("a out", 4), ("a interrupted", 4), ("b in", 4), ("b out", 14)]


def test_who_asks_at_the_instant_of_a_handover_waits_behind() -> None:
    """The turn stays taken while it is handed over: a newcomer cannot slip in."""
    env, log = simpy.Environment(), Log()
    turn = Lock(env)

    def leaves_and_asks_again() -> Generator[simpy.Event, None, None]:
        assert turn.take()
        yield env.timeout(10)
        turn.leave()
        yield from holder(env, turn, "again", 5, log)

    env.process(leaves_and_asks_again())
    env.process(holder(env, turn, "b", 10, log))
    env.run()
    assert log == [("b in", 10), ("b out", 20), ("again in", 20), ("again out", 25)]

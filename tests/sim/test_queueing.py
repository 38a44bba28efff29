"""Places and memories against queueing theory: waits of one unit, priorities, and a memory that all share.

Every law is held against the mean of independent replications, whose start is cut off: the interval is five of its
standard errors. Where arrivals and services are known, waits are also exact, to the nanosecond.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from hilsim.cost.sharing import fair_rates
from hilsim.describe.setup import Setup
from hilsim.sim import shared_chip
from hilsim.sim.board import Board
from hilsim.sim.device_slot import Process, RequestTag
from hilsim.sim.lock import Claim, Lock
from tests.scenes import MS, board_of, table_setup

Values = npt.NDArray[np.int64]
Work = Callable[[int, int], Process]  # of a customer, of so many nanoseconds of service
CUSTOMERS, WARM_UP, REPLICATIONS = 1500, 300, 10


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return table_setup(tmp_path, "sharing={}")


def exponential(rng: np.random.Generator, mean_ns: float) -> Values:
    return np.maximum(1, rng.exponential(mean_ns, CUSTOMERS)).astype(np.int64)


def constant(_: np.random.Generator, mean_ns: float) -> Values:
    return np.full(CUSTOMERS, round(mean_ns), np.int64)


def mixed(rng: np.random.Generator, mean_ns: float) -> Values:
    """Nine short ones for one ten times as long, exponential: squared coefficient of variation 5.1."""
    return np.maximum(1, exponential(rng, mean_ns / 1.9) * np.where(rng.random(CUSTOMERS) < 0.1, 10, 1))


def sojourns(board: Board, arrivals: Values, services: Values, work: Work) -> Values:
    """From arrival to the end of service of every customer."""
    took = np.zeros(len(arrivals), np.int64)

    def customer(number: int) -> Process:
        yield from work(number, int(services[number]))
        took[number] = board.now - arrivals[number]

    def source() -> Process:
        for number, at_ns in enumerate(arrivals.tolist()):
            yield board.env.timeout(at_ns - board.now)
            board.env.process(customer(number))

    board.env.process(source())
    board.env.run()
    assert (took >= services).all(), "no customer is lost, none is served in less than its time"
    return took


def unit_of(board: Board, priorities: Sequence[int] | None = None) -> Work:
    """Work on the target's unit, as a stage does it."""
    place = board.place(board.setup.target.chip, "any")
    return lambda number, took_ns: place.work(
        "stage", took_ns, RequestTag(number, 0), priority=1 if priorities is None else priorities[number]
    )


def memory_of(board: Board, share: float = 1.0) -> Work:
    """Work that moves bytes through the target's memory, alone at this share of its rate."""
    outside, most = board.outside(board.setup.target.chip), board.shared["paper-target"].capacity
    return lambda number, took_ns: outside.work(
        "stream", took_ns, RequestTag(number, 0), round(took_ns * most * share / 1e9)
    )


def replicated(
    setup: Setup,
    service: Callable[[np.random.Generator, float], Values],
    load: float,
    work: Callable[[Board], Work],
    wanted: Callable[[Values, Values], float],
) -> tuple[float, float]:
    """Mean over replications of what is `wanted` of sojourns and services, and its standard error."""
    means = []
    for seed in range(REPLICATIONS):
        rng, board = np.random.default_rng(seed), board_of(setup)
        arrivals = np.cumsum(exponential(rng, MS / load))
        services = service(rng, MS)
        took = sojourns(board, arrivals, services, work(board))
        means.append(wanted(took[WARM_UP:], services[WARM_UP:]) / MS)
    return float(np.mean(means)), float(np.std(means, ddof=1) / sqrt(REPLICATIONS))


def wait(took: Values, services: Values) -> float:
    return float(np.mean(took - services))


def test_waits_follow_lindley_to_the_nanosecond(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """W(n + 1) = max(0, W(n) + S(n) - T(n)) of the customers as they come. Control: who came last goes first."""
    assert largest_lindley_error(setup) == 0
    monkeypatch.setattr(Lock, "enter", last_come_first)
    assert largest_lindley_error(setup) > MS


def last_come_first(lock: Lock, claim: Claim) -> None:
    """A queue that is wrong."""
    lock.waiting.appendleft(claim)


def largest_lindley_error(setup: Setup) -> int:
    """Nanoseconds between the waits of customers of a unit and those by the recursion, at most."""
    rng = np.random.default_rng(1)
    arrivals, services = np.cumsum(exponential(rng, MS / 0.8)), exponential(rng, MS)
    board = board_of(setup)
    took, expected = sojourns(board, arrivals, services, unit_of(board)), [0]
    for number in range(CUSTOMERS - 1):
        gap = int(arrivals[number + 1] - arrivals[number])
        expected.append(max(0, expected[-1] + int(services[number]) - gap))
    return int(np.abs(took - services - expected).max())


@pytest.mark.parametrize(("service", "squares"), [(exponential, 2.0), (constant, 1.0)], ids=["M/M/1", "M/D/1"])
def test_waits_for_a_unit_follow_pollaczek_and_khinchine(
    setup: Setup, service: Callable[[np.random.Generator, float], Values], squares: float
) -> None:
    """W = rho E[S^2] / (2 E[S] (1 - rho)): of load 0.6, 1.5 ms where service is exponential, half where constant.

    The negative control: neither is within the other's interval.
    """
    found, error = replicated(setup, service, 0.6, unit_of, wait)
    expected = 0.6 * squares / 2 / 0.4
    assert abs(found - expected) < 5 * error
    assert error < expected / 12
    assert abs(found - 0.6 * (3 - squares) / 2 / 0.4) > 5 * error


def test_priorities_wait_as_cobham_has_it(setup: Setup) -> None:
    """Two classes of half the load each, not preempted: W(k) = R / ((1 - s(k - 1)) (1 - s(k))), R = rho E[S^2] / 2.

    Load 0.7, exponential: R = 0.7 ms, W(first) = 0.7 / 0.65, W(second) = 0.7 / (0.65 x 0.3). Control: without
    priorities both would wait 0.7 / 0.3.
    """
    first = np.random.default_rng(99).random(CUSTOMERS) < 0.5
    marks, late = np.where(first, 0, 1).tolist(), first[WARM_UP:]

    def of(which: npt.NDArray[np.bool_]) -> tuple[float, float]:
        return replicated(
            setup, exponential, 0.7, lambda board: unit_of(board, marks),
            lambda took, services: wait(took[which], services[which]),
        )  # fmt: skip

    for (found, error), expected in zip((of(late), of(~late)), (0.7 / 0.65, 0.7 / 0.65 / 0.3), strict=True):
        assert abs(found - expected) < 5 * error
        assert error < expected / 5
        assert abs(found - 0.7 / 0.3) > 2 * error


@pytest.mark.parametrize("service", [exponential, constant, mixed], ids=["M/M/1-PS", "M/D/1-PS", "M/H2/1-PS"])
def test_a_shared_memory_is_egalitarian_processor_sharing(
    setup: Setup, service: Callable[[np.random.Generator, float], Values]
) -> None:
    """Streams that each want all of it: mean sojourn E[S] / (1 - rho), whatever the law of the service times."""
    found, error = replicated(setup, service, 0.6, memory_of, lambda took, _: float(np.mean(took)))
    assert abs(found - 1 / 0.4) < 5 * error
    assert error < 1 / 0.4 / 8


def test_where_the_memory_suffices_all_run_at_full_speed(setup: Setup) -> None:
    """The negative control of sharing: streams of a hundredth of the rate are served as by as many servers."""
    found, _ = replicated(setup, exponential, 0.6, lambda board: memory_of(board, 0.01), wait)
    assert found == 0


def test_shared_streams_end_when_virtual_time_says_so(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our ends are rounded up to a nanosecond, which later ones inherit. Control: a memory that gives 1 % more."""
    late = behind_virtual_time(setup)
    assert late.max() < 2000  # of 1,500 ends, none earlier than by the float's error
    assert late.min() > -1
    monkeypatch.setattr(shared_chip, "fair_rates", lambda wants, weights, most: fair_rates(wants, weights, 1.01 * most))
    assert behind_virtual_time(setup).min() < -0.01 * MS


def behind_virtual_time(setup: Setup) -> npt.NDArray[np.float64]:
    """Nanoseconds by which streams end later than the textbook's algorithm has it.

    With n at once virtual time runs at 1 / n, and a stream of S ends at the virtual time of its arrival plus S.
    """
    rng = np.random.default_rng(3)
    arrivals, services = np.cumsum(exponential(rng, MS / 0.7)), exponential(rng, MS)
    board = board_of(setup)
    took = sojourns(board, arrivals, services, memory_of(board))
    ends, present = np.zeros(CUSTOMERS), dict[int, float]()  # by customer: virtual time at which it ends
    now = virtual = 0.0
    for number in range(CUSTOMERS + 1):
        until = float(arrivals[number]) if number < CUSTOMERS else float("inf")
        while present:
            first = min(present, key=present.__getitem__)
            at = now + (present[first] - virtual) * len(present)
            if at > until:
                break
            now, virtual = at, present.pop(first)
            ends[first] = now
        if number < CUSTOMERS:
            virtual += (until - now) / len(present) if present else 0.0
            now = until
            present[number] = virtual + float(services[number])
    return arrivals + took - ends

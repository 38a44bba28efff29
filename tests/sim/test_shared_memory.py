"""Jobs that share a memory: its rate is conserved at every instant, bytes add up, and what does not need it runs on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
import simpy
from hypothesis import given, settings
from hypothesis import strategies as st

from hilsim.cost.sharing import capacity, fair_rates
from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import bytes_of, timer_for
from hilsim.describe.catalogue import load_chip
from hilsim.describe.figure import Figure
from hilsim.places import CODE as PROJECT
from hilsim.sim import shared_chip
from hilsim.sim.device_slot import Process, RequestTag
from hilsim.sim.shared_chip import Job, SharedChip
from hilsim.sim.trace import Trace
from tests.scenes import MS, shipped

GB = 10**9
CHIP = load_chip("paper-target", PROJECT)
FULL = 1000 * GB  # bytes/s that the memory gives
MOST = 1000 * 10**6  # bytes that it moves in a millisecond


class Asked(NamedTuple):
    """A job to come: when, how long at full speed, how many bytes, and of whom."""

    at_ns: int
    took_ns: int
    nbytes: int
    name: str = "job"


class Ran(NamedTuple):
    """Jobs that have run: when each ended and what it moved; what moved in each interval as (ns, rates)."""

    ends: list[int]
    moved: list[float]
    intervals: list[tuple[int, list[float]]]
    samples: list[tuple[int, float]]  # of the rate, and below of what the memory gives
    capacities: list[tuple[int, float]]


def ran(jobs: Sequence[Asked], weights: dict[str, float] | None = None, levels: Sequence[tuple[int, int]] = ()) -> Ran:
    """Run jobs on a chip, which changes its level at given instants; listeners see every interval."""
    env, trace = simpy.Environment(), Trace("test", (), (), ())
    chip = SharedChip(env, CHIP, trace, weights or {})
    chip.capacities, chip.stretches = (FULL, FULL / 2), {"unit": (1.0, 3.0)}
    ends, moved = [0] * len(jobs), [0.0] * len(jobs)
    intervals: list[tuple[int, list[float]]] = []
    last = 0

    def listen() -> None:
        nonlocal last
        rates = [job.rate for job in chip.running]
        if env.now > last:
            intervals.append((int(env.now) - last, rates))
            for job in chip.running:
                moved[job.cause.request] += job.rate * (env.now - last) / GB
        last = int(env.now)

    def process(number: int, asked: Asked) -> Process:
        yield env.timeout(asked.at_ns)
        timed = chip.timed("unit", asked.took_ns)
        yield from chip.run(Job("track", asked.name, "kind", RequestTag(number, 0), timed, asked.nbytes))
        ends[number] = int(env.now)

    def govern() -> Process:
        for at_ns, level in levels:
            yield env.timeout(at_ns - env.now)
            chip.set_level(level)

    chip.listeners.append(listen)
    for number, asked in enumerate(jobs):
        env.process(process(number, asked))
    env.process(govern())
    env.run()
    chip.close()
    assert not chip.running
    seen = [
        [(sample.at_ns, sample.value) for sample in trace.samples if sample.quantity == quantity]
        for quantity in ("memory rate", "memory capacity")
    ]
    return Ran(ends, moved, intervals, *seen)


def one_percent_more(wants: Sequence[float], weights: Sequence[float], most: float) -> list[float]:
    """A rule that is wrong: it hands out 1 % more than there is."""
    return fair_rates(wants, weights, 1.01 * most)


def in_proportion(wants: Sequence[float], _: Sequence[float], most: float) -> list[float]:
    """A rule that is wrong: it conserves the rate, but who wants more gets more."""
    return [want * min(1.0, most / sum(wants)) for want in wants]


def require_fair(rates: Sequence[float], wants: Sequence[float], weights: Sequence[float], most: float) -> None:
    """Conserved; nothing left while one wants more; no one has more for its weight than one who wants more."""
    assert sum(rates) == pytest.approx(min(most, sum(wants)))
    assert all(0 <= rate <= want for rate, want in zip(rates, wants, strict=True))
    levels = [rate / weight for rate, weight in zip(rates, weights, strict=True)]
    unmet = [level for level, rate, want in zip(levels, rates, wants, strict=True) if rate < want]
    assert all(max(levels) == pytest.approx(level) for level in unmet)


demands = st.lists(st.tuples(st.floats(0, 100), st.floats(0.1, 10)), min_size=1, max_size=8)


@given(demands)
def test_rates_are_weighted_max_min_fair(wanted: list[tuple[float, float]]) -> None:
    wants, weights = [one for one, _ in wanted], [weight for _, weight in wanted]
    require_fair(fair_rates(wants, weights, 100.0), wants, weights, 100.0)


@pytest.mark.parametrize("wrong", [one_percent_more, in_proportion])
def test_rates_that_are_not_fair_are_found_out(wrong: Callable[..., list[float]]) -> None:
    """The negative control."""
    wants, weights = [80.0, 60.0, 10.0], [1.0, 2.0, 1.0]
    require_fair(fair_rates(wants, weights, 100.0), wants, weights, 100.0)
    with pytest.raises(AssertionError):
        require_fair(wrong(wants, weights, 100.0), wants, weights, 100.0)


jobs = st.lists(
    st.builds(Asked, st.integers(0, 5 * MS), st.integers(1, 4 * MS), st.integers(0, 6 * MOST), st.sampled_from("abc")),
    min_size=1,
    max_size=7,
)
levels = st.lists(st.tuples(st.integers(0, 8 * MS), st.integers(0, 1)), max_size=3)


@settings(max_examples=150, deadline=None)
@given(jobs, st.sampled_from([{}, {"a": 4.0, "b": 0.5}]), levels)
def test_the_rate_is_conserved_at_every_instant(
    asked: list[Asked], weights: dict[str, float], changes: list[tuple[int, int]]
) -> None:
    """Also where the level changes. A job moves its bytes, up to those of the last nanosecond of each piece."""
    require_conserved(ran(asked, weights, sorted(changes)), asked)


def require_conserved(found: Ran, asked: Sequence[Asked]) -> None:
    """Never more than the memory gives; every job moves its bytes, in no less than its own time and theirs."""
    for _, rates in found.intervals:
        assert sum(rates) <= FULL * (1 + 1e-9)
    for number, job in enumerate(asked):
        assert found.moved[number] == pytest.approx(job.nbytes, abs=FULL / GB * 2, rel=1e-6)
        assert found.ends[number] - job.at_ns >= job.took_ns
        assert found.ends[number] - job.at_ns >= job.nbytes * GB / FULL - 1


def test_a_memory_that_gives_one_percent_more_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: two jobs that each want all of it, through the same check."""
    asked = [Asked(0, 2 * MS, 2 * MOST), Asked(MS, 3 * MS, 3 * MOST)]
    require_conserved(ran(asked), asked)
    monkeypatch.setattr(shared_chip, "fair_rates", one_percent_more)
    with pytest.raises(AssertionError):
        require_conserved(ran(asked), asked)


@settings(max_examples=100, deadline=None)
@given(jobs)
def test_jobs_that_fit_together_take_their_own_time_to_the_nanosecond(asked: list[Asked]) -> None:
    """Seven jobs of a seventh of the rate each, at most: however they overlap, none is slower than alone."""
    light = [job._replace(nbytes=min(job.nbytes, job.took_ns * FULL // GB // 7)) for job in asked]
    assert ran(light).ends == [job.at_ns + job.took_ns for job in light]


def test_what_is_memory_bound_stretches_and_what_computes_does_not() -> None:
    """A at the full rate from 0, 10 ms; B, all compute, from 1 ms; C as A from 4 ms, 3 ms.

    A has 6 ms left at 4 ms, both get half: C ends after 6 ms, at 10; A has 3 left by then and ends at 13.
    """
    found = ran([Asked(0, 10 * MS, 10 * MOST), Asked(MS, 20 * MS, 0), Asked(4 * MS, 3 * MS, 3 * MOST)])
    assert found.ends == [13 * MS, 21 * MS, 10 * MS]
    assert found.samples == [(0, FULL), (13 * MS, 0)]  # a full memory, whoever fills it


def test_weights_divide_what_does_not_suffice() -> None:
    """3 : 1, both want all: A of 3 ms takes 4, by then B has 1 of its 2 ms and ends 1 ms later."""
    found = ran([Asked(0, 3 * MS, 3 * MOST, "a"), Asked(0, 2 * MS, 2 * MOST, "b")], {"a": 3.0})
    assert found.ends == [4 * MS, 5 * MS]


def test_a_job_that_wants_little_gets_it_all() -> None:
    """A camera of a tenth of the rate is not slowed down; the model gets nine tenths meanwhile."""
    found = ran([Asked(0, 10 * MS, MOST), Asked(0, 18 * MS, 18 * MOST)])
    assert found.ends == [10 * MS, 19 * MS]  # 10 ms at 0.9, then the other 9


def test_a_level_changes_what_is_under_way() -> None:
    """Level 1 takes three times as long and halves the memory: of 4 ms one is done, so 9 more. The second is a stream

    of all the memory: 1 ms done, then 3 ms of it at half the rate.
    """
    assert ran([Asked(0, 4 * MS, 0)], levels=[(MS, 1)]).ends == [10 * MS]
    assert ran([Asked(0, 4 * MS, 0)], levels=[(MS, 1)]).capacities == [(MS, FULL / 2)]
    env = simpy.Environment()
    chip = SharedChip(env, CHIP, Trace("test", (), (), ()), {})
    chip.capacities = (FULL, FULL / 2)
    env.process(chip.run(Job("memory", "s", "s", RequestTag(-1, 0), lambda _: 4 * MS, 4 * MOST)))
    env.run(until=MS)
    chip.set_level(1)
    env.run()
    assert env.now == 7 * MS
    back = ran([Asked(0, 4 * MS, 0)], levels=[(MS, 1), (4 * MS, 0)])  # 1 + 3 / 3 done by then
    assert back.ends == [6 * MS]


def test_an_interrupted_job_frees_its_part() -> None:
    """Both at half speed until 4 ms, when A stops: B has done 2 of 5 ms and ends at 7."""
    env = simpy.Environment()
    chip = SharedChip(env, CHIP, Trace("test", (), (), ()), {})
    ends: dict[str, float] = {}

    def process(name: str) -> Process:
        try:
            yield from chip.run(Job("track", name, "kind", RequestTag(0, 0), lambda _: 5 * MS, 5 * MOST))
        except simpy.Interrupt:
            assert [job.requester for job in chip.running] == ["b"]
        ends[name] = env.now

    first = env.process(process("a"))
    env.process(process("b"))
    env.run(until=4 * MS)
    first.interrupt()
    env.run()
    assert ends == {"a": 4 * MS, "b": 7 * MS}


def test_a_step_alone_never_wants_more_than_the_memory_gives() -> None:
    setup = shipped("orin_8295_greedy", "sharing={}", "networks=[]")
    for placed in setup.roles.values():
        timer, most = timer_for(placed, setup.scenario.context_tokens), capacity(placed.chip)
        assert most >= placed.chip.peak_memory_rate.si
        for step in (Step(Phase.DECODE, 1, 500), Step(Phase.VERIFY, 5, 500), Step(Phase.PREFILL, 300, 0)):
            assert 0 < bytes_of(timer, step) <= most * timer.duration_ns(step) / GB


def test_a_shared_rate_is_a_figure_of_the_chip() -> None:
    """It goes before the peak rate, but a unit's own rate is what the memory gives at least."""
    chip = load_chip("sa8295p", PROJECT)
    own = max(one.memory_rate.si for unit in chip.units.values() for one in unit.precisions.values())
    for rate, expected in ((own / GB + 1, own + GB), (1.0, own)):
        figure = Figure(value=rate, unit="GB/s", kind="assumed", source="a round number")
        assert capacity(chip.model_copy(update={"shared_memory_rate": figure})) == pytest.approx(expected)

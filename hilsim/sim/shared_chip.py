"""Jobs that run at once on a chip and share the rate of its memory.

A job has a time at full speed and bytes that move meanwhile. Its demand is bytes over time; what it gets is its
weighted max-min fair part of the memory's rate (`cost/sharing.py`). With less than its demand it takes bytes over rate
instead, so memory-bound jobs stretch and those that compute do not notice. A job's progress is the share of it that is
done: any job that comes or goes, and any change of the chip's level, settles what was done and sets all rates anew.
As long as its speed does not change a job ends at the nanosecond that was foreseen when it began.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from functools import lru_cache
from math import ceil, inf

import simpy

from hilsim.cost.sharing import capacity, fair_rates
from hilsim.describe.chip import Chip
from hilsim.describe.scenario import Scenario
from hilsim.sim.device_slot import Process, RequestTag, elapse, now_ns
from hilsim.sim.lock import USUAL_PRIORITY
from hilsim.sim.trace import Trace
from hilsim.units import NS_PER_S

MOST_TIMED = 256  # times of work that are remembered
HAIR_NS = 1e-3  # what arithmetic with shares of a job is allowed to be off, in nanoseconds


def weights_on(scenario: Scenario, chip: Chip) -> dict[str, float]:
    """Weights by unit and by task of what runs on a chip; those under `sharing` go before a task's own."""
    given = {} if scenario.sharing is None else scenario.sharing.weights
    tasks = {task.name: task.weight for task in scenario.background}
    units = {unit: given[name] for unit in chip.units for name in (unit, f"{chip.name}/{unit}") if name in given}
    return tasks | given | units


class Job:
    """Something that runs: `ns_at` a level of the chip at full speed, in which `nbytes` move through the memory.

    `requester` is the unit or task whose weight counts, `ends` are the shares of the job at which it may give way.
    `again` is called as it ends, and says whether it begins once more at that instant, with the part that it has.
    """

    done = 0.0  # the share that was done at `since_ns`
    until = 1.0  # the share at which it ends, or gives way
    rate = demand = 0.0  # bytes/s: what it is given, and what it would take at full speed
    full_ns = 0  # the whole job at full speed, at the present level
    stretched_ns: float = 0  # the whole job at its present rate; 0 before it has one
    since_ns = at_ns = 0  # when its speed was set, and when it ends with that
    ending: simpy.Event | None = None  # what its process waits for
    ending_ns = woken_ns = 0  # when that happens by itself, and by the first alarm

    def __init__(
        self,
        track: str,
        requester: str,
        kind: str,
        cause: RequestTag,
        ns_at: Callable[[int], int],
        nbytes: int = 0,
        *,
        priority: int = USUAL_PRIORITY,
        owner: Hashable = None,
        ends: tuple[float, ...] = (1.0,),
        again: Callable[[], bool] | None = None,
    ):
        self.track, self.requester, self.kind, self.cause = track, requester, kind, cause
        self.ns_at, self.nbytes, self.priority, self.owner = ns_at, nbytes, priority, owner
        self.ends, self.again = ends, again

    def at_level(self, level: int) -> None:
        """Take up the time at a level; its speed is to be set anew."""
        full_ns = self.full_ns = self.ns_at(level)
        self.demand = self.nbytes * NS_PER_S / full_ns if full_ns else inf if self.nbytes else 0.0
        self.stretched_ns = 0

    def done_at(self, now: int) -> float:
        """The share that is done."""
        return self.done + (now - self.since_ns) / self.stretched_ns if self.stretched_ns else self.until

    def boundary(self, done: float) -> float:
        """The first boundary after so much is done."""
        done += HAIR_NS / max(self.full_ns, 1)
        return next((end for end in self.ends if end > done), 1.0)

    def settle(self, now: int) -> None:
        """Count what was done at the speed until now."""
        if now > self.since_ns and self.stretched_ns:
            self.done = min(self.until, self.done_at(now))
            self.since_ns = now

    def foresee(self) -> None:
        """The instant at which it ends at its present speed."""
        left = self.until - self.done
        self.at_ns = self.since_ns + ceil(left * self.stretched_ns - HAIR_NS)


class SharedChip:
    """What runs on one chip. `weights` are by unit or task; `listeners` are called before every change of what runs.

    `capacities` and `stretches` say what a level of the chip does: bytes/s of its memory, and by unit how many times as
    long its work takes. Levels beyond those given are as the last.
    """

    def __init__(self, env: simpy.Environment, chip: Chip, trace: Trace, weights: Mapping[str, float]):
        self.env, self.chip, self.trace, self.weights = env, chip, trace, weights
        self.level = 0
        self.capacities = (capacity(chip),)
        self.stretches: dict[str, tuple[float, ...]] = {}
        self.running: list[Job] = []
        self.listeners: list[Callable[[], None]] = []
        self.wanted, self.scarce = 0.0, False  # bytes/s of all demands, and whether that is more than there is
        self.sampling, self.add_sample = trace.watched, trace.add_sample
        self.timed = lru_cache(MOST_TIMED)(self.timing)
        self.changed_ns, self.shown = 0, 0.0  # since when the memory's rate is what it is, and the last one shown

    @property
    def capacities(self) -> tuple[float, ...]:
        """Bytes/s that the memory gives, by level."""
        return self.by_level

    @capacities.setter
    def capacities(self, by_level: tuple[float, ...]) -> None:
        self.by_level = by_level
        self.take_capacity()

    def take_capacity(self) -> None:
        """Take up what the memory gives at the present level."""
        self.capacity = self.by_level[min(self.level, len(self.by_level) - 1)]

    def timing(self, unit: str, took_ns: int) -> Callable[[int], int]:
        """By level, the nanoseconds of work on a unit that takes so many at level 0; `timed` remembers them."""

        def at(level: int) -> int:
            if not level:
                return took_ns
            stretches = self.stretches.get(unit)
            return took_ns if stretches is None else ceil(took_ns * stretches[min(level, len(stretches) - 1)] - HAIR_NS)

        return at

    def run(self, job: Job, *, briefly: bool = False) -> Process:
        """Run a job until its end, or until it has given way; returns the share of it that is done.

        One that runs `briefly` gives way at its next boundary. An interrupted one stops and frees its part.
        """
        env, now = self.env, now_ns(self.env)
        if now > self.changed_ns and (self.sampling or self.listeners):
            self.notify(now)
        job.at_level(self.level)
        job.since_ns = now
        if briefly:
            job.until = job.boundary(job.done)
        elif job.done:
            job.until = 1.0
        self.running.append(job)
        wanted = self.wanted + job.demand
        if self.scarce or wanted > self.capacity:
            self.share(now)
        else:  # there is enough for all, as before
            self.wanted = wanted
            job.rate, job.stretched_ns = job.demand, job.full_ns
            if job.done or job.until < 1:
                job.foresee()
            else:
                job.at_ns = now + job.full_ns
        try:
            while True:
                # A job that is slowed down meanwhile is not over by then, and waits again.
                ends = job.ending_ns = job.woken_ns = job.at_ns
                job.ending = elapse(env, ends - now)
                yield job.ending
                now = now_ns(env)
                if now < job.at_ns:
                    continue
                if job.again is None or not job.again():
                    break
                job.done, job.since_ns = 0.0, now
                job.foresee()
        except BaseException:
            now = now_ns(env)
            job.settle(now)
            self.end(job, now)
            raise
        job.done = job.until
        self.end(job, now)
        return job.done

    def end(self, job: Job, now: int) -> None:
        """A job runs no longer, and frees its part."""
        if now > self.changed_ns and (self.sampling or self.listeners):
            self.notify(now)
        running = self.running
        running.remove(job)
        job.ending = None
        if self.scarce:
            self.share(now)
        else:
            self.wanted = self.wanted - job.demand if running else 0.0

    def set_level(self, level: int) -> None:
        """Change the level: the clocks of units, the rate of the memory."""
        now = now_ns(self.env)
        if now > self.changed_ns:
            self.notify(now)
        before, self.level = self.capacity, level
        self.take_capacity()
        if self.sampling and self.capacity != before:
            self.add_sample((self.chip.name, now, "memory capacity", "", self.capacity))
        for job in self.running:
            job.settle(now)
            job.at_level(level)
        self.share(now)

    def give_way(self, job: Job) -> None:
        """End a job that runs at its next boundary; it can be run again from there.

        One that gives way already does so at the boundary that was next when it was first asked to.
        """
        if job.until < 1:
            return
        now = now_ns(self.env)
        job.until = job.boundary(job.done_at(now))
        job.foresee()
        self.hasten(job, now)

    def notify(self, now: int) -> None:
        """What runs is about to change: listeners first, then a sample of the memory's rate since it changed last.

        There is one where it is another rate than shown before. What changes at one instant needs no second call.
        """
        for listener in self.listeners:
            listener()
        if self.sampling:
            rate: float = 0
            for job in self.running:
                rate += job.rate
            if rate != self.shown:
                self.shown = rate
                self.add_sample((self.chip.name, self.changed_ns, "memory rate", "", rate))
        self.changed_ns = now

    def close(self) -> None:
        """The run is over: what ran until now is seen by the listeners and in the samples."""
        now = now_ns(self.env)
        if now > self.changed_ns:
            self.notify(now)

    def share(self, now: int) -> None:
        """Give every job its part of the memory; those whose speed changes end at another instant."""
        running, most = self.running, self.capacity
        demands = [job.demand for job in running]
        self.wanted = sum(demands)
        self.scarce = self.wanted > most
        rates = demands
        if self.scarce:
            rates = fair_rates(demands, [self.weights.get(job.requester, 1.0) for job in running], most)
        for job, demand, rate in zip(running, demands, rates, strict=True):
            job.rate = rate
            stretched = job.full_ns if rate >= demand else job.nbytes * NS_PER_S / rate
            if stretched != job.stretched_ns:
                job.settle(now)
                job.stretched_ns = stretched
                job.foresee()
                self.hasten(job, now)

    def hasten(self, job: Job, now: int) -> None:
        """Set an alarm where a job ends before its process wakes up."""
        if job.ending is None or job.at_ns >= job.woken_ns:
            return
        ending, job.woken_ns = job.ending, job.at_ns

        def ring(_: simpy.Event) -> None:
            if job.ending is not ending:
                return  # it is over, or waits again
            at_ns = now_ns(self.env)
            if at_ns >= job.at_ns:
                # Whoever waits goes on now; when the event happens by itself, none is left.
                waiting, ending.callbacks = ending.callbacks, []
                for resume in waiting:
                    resume(ending)
            else:  # slowed down since
                job.woken_ns = job.ending_ns
                self.hasten(job, at_ns)

        self.env.timeout(job.at_ns - now).callbacks.append(ring)

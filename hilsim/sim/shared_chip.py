"""Jobs that run at once on a chip and share the rate of its memory.

A job has a time at full speed and bytes that move meanwhile. Its demand is bytes over time; what it gets is its
weighted max-min fair part of the memory's rate (`cost/sharing.py`). With less than its demand it takes bytes over rate
instead, so memory-bound jobs stretch and those that compute do not notice. A job's progress is the share of it that is
done: any job that comes or goes, and any change of the chip's level, settles what was done and sets all rates anew.
As long as its speed does not change a job ends at the nanosecond that was foreseen when it began.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from math import ceil, inf

import simpy

from hilsim.cost.between import FAR
from hilsim.cost.sharing import capacity, fair_rates
from hilsim.describe.chip import Chip
from hilsim.describe.scenario import Scenario
from hilsim.sim.device_slot import Process, RequestTag, now_ns
from hilsim.sim.lock import USUAL_PRIORITY
from hilsim.sim.trace import Sample, Trace
from hilsim.units import NS_PER_S

HAIR_NS = 1e-3  # what arithmetic with shares of a job is allowed to be off, in nanoseconds


def weights_on(scenario: Scenario, chip: Chip) -> dict[str, float]:
    """Weights by unit and by task of what runs on a chip; those under `sharing` go before a task's own."""
    given = {} if scenario.sharing is None else scenario.sharing.weights
    tasks = {task.name: task.weight for task in scenario.background}
    units = {unit: given[name] for unit in chip.units for name in (unit, f"{chip.name}/{unit}") if name in given}
    return tasks | given | units


class Ending(simpy.Event):
    """The end of a job, at an instant that moves: those who wait go on when it is `reached`, at once."""

    def __init__(self, env: simpy.Environment):
        super().__init__(env)
        self._ok, self._value = True, None

    def reached(self) -> None:
        """Resume those who wait."""
        callbacks, self.callbacks = self.callbacks, None  # type: ignore[assignment]
        for callback in callbacks:
            callback(self)


class Job:
    """Something that runs: `ns_at` a level of the chip at full speed, in which `nbytes` move through the memory.

    `requester` is the unit or task whose weight counts, `ends` are the shares of the job at which it may give way.
    """

    __slots__ = (
        "at_ns", "cause", "done", "ending", "ends", "full_ns", "kind", "nbytes", "ns_at", "owner", "priority", "rate",
        "requester", "since_ns", "stretched_ns", "track", "until", "weight",
    )  # fmt: skip

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
    ):
        self.track, self.requester, self.kind, self.cause = track, requester, kind, cause
        self.ns_at, self.nbytes, self.priority, self.owner, self.ends = ns_at, nbytes, priority, owner, ends
        self.weight = 1.0
        self.done = 0.0  # the share that was done at `since_ns`
        self.until = 1.0  # the share at which it ends, or gives way
        self.rate = 0.0  # bytes/s that it is given
        self.full_ns = 0  # the whole job at full speed, at the present level
        self.stretched_ns: float = 0  # the whole job at its present rate
        self.since_ns = self.at_ns = 0  # when its speed was set, and when it ends with that
        self.ending: Ending | None = None

    @property
    def demand(self) -> float:
        """Bytes/s that it would take at full speed."""
        if self.full_ns:
            return self.nbytes * NS_PER_S / self.full_ns
        return inf if self.nbytes else 0.0

    def done_at(self, now: int) -> float:
        """The share that is done."""
        return self.done + (now - self.since_ns) / self.stretched_ns if self.stretched_ns else self.until

    def boundary(self, done: float) -> float:
        """The first boundary after so much is done."""
        done += HAIR_NS / max(self.full_ns, 1)
        return next((end for end in self.ends if end > done), 1.0)


class SharedChip:
    """What runs on one chip. `weights` are by unit or task; `listeners` are called before every change of what runs.

    `capacities` and `stretches` say what a level of the chip does: bytes/s of its memory, and by unit how many times as
    long its work takes. Levels beyond those given are as the last.
    """

    def __init__(self, env: simpy.Environment, chip: Chip, trace: Trace, weights: Mapping[str, float]):
        self.env, self.chip, self.trace, self.weights = env, chip, trace, weights
        self.level = 0
        self.capacities: tuple[float, ...] = (capacity(chip),)
        self.stretches: dict[str, tuple[float, ...]] = {}
        self.running: list[Job] = []
        self.listeners: list[Callable[[], None]] = []
        self.armed_ns = FAR  # the earliest alarm that is set
        self.sampling = trace.keep or trace.observer is not None
        self.changed_ns, self.shown = 0, 0.0  # since when the memory's rate is what it is, and the last one shown

    @property
    def capacity(self) -> float:
        """Bytes/s that the memory gives at the present level."""
        return self.capacities[min(self.level, len(self.capacities) - 1)]

    @property
    def rate(self) -> float:
        """Bytes/s that move."""
        return sum(job.rate for job in self.running)

    def timed(self, unit: str, took_ns: int) -> Callable[[int], int]:
        """By level, the nanoseconds of work on a unit that takes so many at level 0."""

        def at(level: int) -> int:
            stretches = self.stretches.get(unit)
            return took_ns if stretches is None else ceil(took_ns * stretches[min(level, len(stretches) - 1)] - HAIR_NS)

        return at

    def run(self, job: Job, *, briefly: bool = False) -> Process:
        """Run a job until its end, or until it has given way; returns the share of it that is done.

        One that runs `briefly` gives way at its next boundary. An interrupted one stops and frees its part.
        """
        self.notify()
        job.weight = self.weights.get(job.requester, 1.0)
        job.since_ns = now_ns(self.env)
        job.full_ns, job.stretched_ns = job.ns_at(self.level), 0
        job.until = job.boundary(job.done) if briefly else 1.0
        job.ending = ending = Ending(self.env)
        self.running.append(job)
        self.share()
        self.arm()
        try:
            yield ending
        except BaseException:
            self.notify()
            self.settle(job)
            self.running.remove(job)
            self.share()
            self.arm()
            raise
        return job.done

    def set_level(self, level: int) -> None:
        """Change the level: the clocks of units, the rate of the memory."""
        self.notify()
        self.level = level
        for job in self.running:
            self.settle(job)
            job.full_ns, job.stretched_ns = job.ns_at(level), 0
        self.share()
        self.arm()

    def give_way(self, job: Job) -> None:
        """End a job that runs at its next boundary; it can be run again from there."""
        job.until = job.boundary(job.done_at(now_ns(self.env)))
        self.foresee(job)
        self.arm()

    def notify(self) -> None:
        """What runs is about to change: listeners first, then the sample of the rate until now."""
        for listener in self.listeners:
            listener()
        if self.sampling and now_ns(self.env) > self.changed_ns:
            self.show()

    def show(self) -> None:
        """A sample of the memory's rate since it changed last, where it is another one than shown before."""
        rate = self.rate
        if rate != self.shown:
            self.shown = rate
            self.trace.add_sample(Sample(self.chip.name, self.changed_ns, "memory rate", "", rate))

    def settle(self, job: Job) -> None:
        """Count what was done at the speed until now."""
        now = now_ns(self.env)
        if now > job.since_ns:
            job.done = min(job.until, job.done_at(now))
            job.since_ns = now

    def share(self) -> None:
        """Give every job its part of the memory; those whose speed changes end at another instant."""
        running = self.running
        self.changed_ns = now_ns(self.env)
        demands = [job.demand for job in running]
        most = self.capacity
        rates = demands if sum(demands) <= most else fair_rates(demands, [job.weight for job in running], most)
        for job, demand, rate in zip(running, demands, rates, strict=True):
            job.rate = rate
            stretched = job.full_ns if rate >= demand else job.nbytes * NS_PER_S / rate
            if stretched != job.stretched_ns:
                if job.stretched_ns:
                    self.settle(job)
                job.stretched_ns = stretched
                self.foresee(job)

    def foresee(self, job: Job) -> None:
        """The instant at which a job ends at its present speed."""
        job.at_ns = job.since_ns + ceil((job.until - job.done) * job.stretched_ns - HAIR_NS)

    def arm(self) -> None:
        """Wake up at the first end, unless an alarm is set until then; an early one is set anew when it rings."""
        first = min([job.at_ns for job in self.running], default=FAR)
        if first < self.armed_ns:
            self.armed_ns = first
            alarm = self.env.timeout(max(0, first - now_ns(self.env)))
            alarm.callbacks.append(self.ring)

    def ring(self, _: simpy.Event) -> None:
        """End the jobs whose time has come, with those that go on set anew before anyone resumes."""
        now = now_ns(self.env)
        if self.armed_ns <= now:
            self.armed_ns = FAR
        over = [job for job in self.running if job.at_ns <= now]
        if over:
            self.notify()
            for job in over:
                job.done = job.until
                self.running.remove(job)
            self.share()
            for job in over:
                assert job.ending is not None, "a job that runs"
                job.ending.reached()
        self.arm()

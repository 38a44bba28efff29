"""The overhead of commands in a distributed run, measured beforehand, and a prediction that includes it.

The policy runs in one process, which commands devices and link ends. A command's way there and back does not exist in a
product, whose policy runs on its chips. So the first conversation is run on the devices beforehand to measure what each
command took beyond the device's own step time, or beyond what the link takes: the mean of all but the slowest and the
quickest tenth, as means add up in a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from statistics import fmean

import simpy

from hilsim.cost.step import Step
from hilsim.cost.timer import StepTimer
from hilsim.describe.link import Link
from hilsim.describe.setup import Placed, Setup
from hilsim.hardware.distributed.boards import Devices, RealBoard
from hilsim.sim.board import Board, Boards, Direction, Timers
from hilsim.sim.device_slot import MeasuringTimer
from hilsim.sim.pace import Paced
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace
from hilsim.sources.source import LogitsSource
from hilsim.units import NS_PER_S


@dataclass(frozen=True)
class Overhead:
    """Mean nanoseconds of a command beyond the step or message itself.

    `steps` by role and phase; by direction `sent` until a message is out of the sender's hands, and `arrived` from then
    until its arrival is known, beside what the link takes.
    """

    steps: Mapping[tuple[str, str], int] = field(default_factory=dict)
    sent: Mapping[str, int] = field(default_factory=dict)
    arrived: Mapping[str, int] = field(default_factory=dict)

    def of_step(self, role: str, phase: str) -> int:
        """Overhead of a step; of a phase that was not measured, the mean of the role's others."""
        known = self.steps.get((role, phase))
        others = [cost for (name, _), cost in self.steps.items() if name == role]
        return known if known is not None else round(fmean(others)) if others else 0


def measure_overhead(setup: Setup, devices: Devices, source: LogitsSource) -> Overhead:
    """Run the first conversation on the devices and measure what commands took. Raises `ChipLost`."""
    boards: list[RealBoard] = []

    def board(setup: Setup, trace: Trace, with_draft: bool) -> Board:
        boards.append(devices.board(setup, trace, with_draft))
        return boards[0]

    first = replace(setup, conversations=setup.conversations[:1])
    trace = simulate(first, devices.source(source), boards=board)
    if trace.lost is not None:
        raise trace.lost
    steps = {}
    for role, device in devices.by_role.items():
        for phase in {done.ask.phase for done in device.done}:
            steps[role, phase] = usual(done.command_ns for done in device.done if done.ask.phase == phase)
    sent, arrived = {}, {}
    for way, direction in boards[0].ways.items():
        spans = [span for span in trace.spans if span.track == direction.track]
        if spans:
            sent[way] = usual(span.end_ns - span.start_ns - direction.wire_ns(span.nbytes) for span in spans)
            arrived[way] = usual(span.done_ns - span.end_ns - direction.propagation_ns for span in spans)
    return Overhead(steps, sent, arrived)


def usual(several: Iterable[int]) -> int:
    """The mean without the slowest and the quickest tenth, in whole nanoseconds."""
    ranked = sorted(several)
    out = len(ranked) // 10
    return round(fmean(ranked[out : len(ranked) - out]))


class OverheadTimer:
    """A timer's steps with the overhead of their commands."""

    def __init__(self, timer: StepTimer, role: str, overhead: Overhead):
        self.timer, self.role, self.overhead = timer, role, overhead

    def duration_ns(self, step: Step) -> int:
        return self.timer.duration_ns(step) + self.overhead.of_step(self.role, step.phase.value)

    def width(self, step: Step) -> int:
        return self.timer.width(step)

    def expected_ns(self, step: Step) -> int:
        """Without overhead: a policy expects what the device takes, as in the measured run."""
        return self.timer.expected_ns(step) if isinstance(self.timer, MeasuringTimer) else self.timer.duration_ns(step)

    def lost_ns(self) -> int:
        return self.timer.lost_ns() if isinstance(self.timer, MeasuringTimer) else 0


class OverheadDirection(Direction):
    """One way over a link with the overhead of commands; a policy expects what the link takes."""

    def __init__(
        self, env: simpy.Environment, track: str, link: Link, seed: int, trace: Trace, *, sent_ns: int, arrived_ns: int
    ):
        super().__init__(env, track, link, seed, trace)
        self.sent_ns = sent_ns
        self.bare_propagation_ns = self.propagation_ns
        self.propagation_ns = max(0, self.propagation_ns + arrived_ns)

    def wire_ns(self, nbytes: int) -> int:
        return max(0, super().wire_ns(nbytes) + self.sent_ns)

    def transfer_ns(self, nbytes: int) -> int:
        return super().wire_ns(nbytes) + self.bare_propagation_ns


class OverheadBoard(Board):
    """A simulated board with the overhead of commands, in real time.

    A chip that is asked as seldom as in the measured run is as cold as in that run.
    """

    def __init__(self, setup: Setup, trace: Trace, with_draft: bool, timers: Timers, overhead: Overhead):
        self.overhead = overhead
        super().__init__(Paced(1.0), setup, trace, with_draft=with_draft, timers=timers)

    def direction(self, link: Link, way: str) -> Direction:
        sent_ns, arrived_ns = self.overhead.sent.get(way, 0), self.overhead.arrived.get(way, 0)
        track, seed = f"{link.name}.{way}", self.setup.scenario.seed
        return OverheadDirection(self.env, track, link, seed, self.trace, sent_ns=sent_ns, arrived_ns=arrived_ns)


def with_step_overhead(timers: Timers, overhead: Overhead) -> Timers:
    """Timers of steps with the overhead of their commands."""

    def with_command(placed: Placed, context: int) -> StepTimer:
        return OverheadTimer(timers(placed, context), placed.role, overhead)

    return with_command


def with_link_overhead(setup: Setup, overhead: Overhead) -> Setup:
    """The scenario over a link whose delay has the overhead of commands in it, the mean of both directions.

    In its delay, as a fault that makes a link slower does not make commands slower.
    """
    assert setup.link is not None, "two chips and no link"
    figure, by_message = setup.link.propagation, [*overhead.sent.values(), *overhead.arrived.values()]
    more_s = sum(by_message) / max(1, len(overhead.sent)) / NS_PER_S
    update = {"value": max(0.0, figure.si + more_s), "unit": "s", "kind": "measured", "source": "commands included"}
    return replace(setup, link=setup.link.model_copy(update={"propagation": figure.model_copy(update=update)}))


def with_overhead(timers: Timers, overhead: Overhead) -> Boards:
    """Boards for a prediction that includes the overhead of commands."""

    with_command = with_step_overhead(timers, overhead)

    def board(setup: Setup, trace: Trace, with_draft: bool) -> Board:
        return OverheadBoard(setup, trace, with_draft, with_command, overhead)

    return board

"""What commanding a distributed run costs beside what is commanded, from a rehearsal; a prediction that has it in.

A run's policy sits in one process and has its steps and messages done by others. A command's way there and back is
nothing that a product has, whose policy sits on its chips. So the first conversation is really run before, and of that
run only the commands' costs are kept: how long was waited beside what a chip said of its step, and what the link takes.
Means are kept, since in a run they add up, of all but the slowest and the quickest tenth.
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
from hilsim.hardware.distributed.boards import RealBoard, Stage
from hilsim.sim.board import Board, Boards, Direction, Timers
from hilsim.sim.device_slot import MeasuringTimer
from hilsim.sim.pace import Paced
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace
from hilsim.sources.source import LogitsSource


@dataclass(frozen=True)
class Costs:
    """Nanoseconds beside what is commanded, on average.

    `steps` by role and phase; by direction `sent` until a message is out of the sender's hands, and `arrived` from then
    until its arrival is known, beside what the link takes.
    """

    steps: Mapping[tuple[str, str], int] = field(default_factory=dict)
    sent: Mapping[str, int] = field(default_factory=dict)
    arrived: Mapping[str, int] = field(default_factory=dict)

    def of_step(self, role: str, phase: str) -> int:
        """What a step's command costs; of a phase that was not rehearsed, as much as the role's others."""
        known = self.steps.get((role, phase))
        others = [cost for (player, _), cost in self.steps.items() if player == role]
        return known if known is not None else round(fmean(others)) if others else 0


def rehearsed(setup: Setup, stage: Stage, source: LogitsSource) -> Costs:
    """Really run the first conversation, and see what commands cost. Raises `ChipLost`."""
    boards: list[RealBoard] = []

    def board(setup: Setup, trace: Trace, with_draft: bool) -> Board:
        boards.append(stage.board(setup, trace, with_draft))
        return boards[0]

    first = replace(setup, conversations=setup.conversations[:1])
    trace = simulate(first, stage.source(source), boards=board)
    if trace.lost is not None:
        raise trace.lost
    steps = {}
    for role, player in stage.players.items():
        for phase in {done.ask.phase for done in player.done}:
            steps[role, phase] = usual(done.command_ns for done in player.done if done.ask.phase == phase)
    sent, arrived = {}, {}
    for way, direction in boards[0].ways.items():
        spans = [span for span in trace.spans if span.track == direction.track]
        if spans:
            sent[way] = usual(span.end_ns - span.start_ns - direction.wire_ns(span.nbytes) for span in spans)
            arrived[way] = usual(span.done_ns - span.end_ns - direction.propagation_ns for span in spans)
    return Costs(steps, sent, arrived)


def usual(several: Iterable[int]) -> int:
    """The mean without the slowest and the quickest tenth, in whole nanoseconds."""
    ranked = sorted(several)
    out = len(ranked) // 10
    return round(fmean(ranked[out : len(ranked) - out]))


class CommandedTimer:
    """A timer's steps with what commanding them costs."""

    def __init__(self, timer: StepTimer, role: str, costs: Costs):
        self.timer, self.role, self.costs = timer, role, costs

    def duration_ns(self, step: Step) -> int:
        return self.timer.duration_ns(step) + self.costs.of_step(self.role, step.phase.value)

    def width(self, step: Step) -> int:
        return self.timer.width(step)

    def expected_ns(self, step: Step) -> int:
        """What a policy expects is what the chip takes, as in the run itself."""
        return self.timer.expected_ns(step) if isinstance(self.timer, MeasuringTimer) else self.timer.duration_ns(step)

    def lost_ns(self) -> int:
        return self.timer.lost_ns() if isinstance(self.timer, MeasuringTimer) else 0


class CommandedDirection(Direction):
    """One way over a link, with what commanding a message costs; a policy expects what the link takes."""

    def __init__(self, env: simpy.Environment, track: str, link: Link, seed: int, trace: Trace, costs: tuple[int, int]):
        super().__init__(env, track, link, seed, trace)
        self.sent_ns, arrived_ns = costs
        self.bare_propagation_ns = self.propagation_ns
        self.propagation_ns = max(0, self.propagation_ns + arrived_ns)

    def wire_ns(self, nbytes: int) -> int:
        return max(0, super().wire_ns(nbytes) + self.sent_ns)

    def transfer_ns(self, nbytes: int) -> int:
        return super().wire_ns(nbytes) + self.bare_propagation_ns


class CommandedBoard(Board):
    """A simulated board with what commanding a real one costs, at the real one's pace.

    A chip that is asked as seldom as in the run is as cold as in the run.
    """

    def __init__(self, setup: Setup, trace: Trace, with_draft: bool, timers: Timers, costs: Costs):
        self.costs = costs
        super().__init__(Paced(1.0), setup, trace, with_draft=with_draft, timers=timers)

    def direction(self, link: Link, way: str) -> Direction:
        costs = self.costs.sent.get(way, 0), self.costs.arrived.get(way, 0)
        return CommandedDirection(self.env, f"{link.name}.{way}", link, self.setup.scenario.seed, self.trace, costs)


def commanded(timers: Timers, costs: Costs) -> Boards:
    """Boards for a prediction that has the commands in."""

    def with_costs(placed: Placed, context: int) -> StepTimer:
        return CommandedTimer(timers(placed, context), placed.role, costs)

    def board(setup: Setup, trace: Trace, with_draft: bool) -> Board:
        return CommandedBoard(setup, trace, with_draft, with_costs, costs)

    return board

"""What commanding a distributed run costs beside what is commanded, tried out before it, and a prediction that has it in.

A run's policy sits in one process and has its steps and messages done by others. A command's way there and back is
nothing that a product has, whose policy sits on its chips. So it is measured by itself, on chips and wires that have
nothing else to do, with steps and messages such as the run will have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import simpy

from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import StepTimer
from hilsim.describe.load import Placed, Setup
from hilsim.describe.link import Link
from hilsim.hardware.distributed import RealBoard, Stage
from hilsim.sim.board import Board, Boards, Direction, Timers
from hilsim.sim.seat import Cause, MeasuringTimer, Process, Seat
from hilsim.sim.trace import Span, Trace

STEPS, WARM = 12, 2  # of each kind, and how many of them are thrown away
MESSAGES = 30
NOBODY = Cause(-1, 0)


@dataclass(frozen=True)
class Costs:
    """Nanoseconds beside what is commanded, medians.

    `steps` by role and phase; `sent` until a message is out of the sender's hands, `arrived` from then until its arrival
    is known, both by direction and beside what the link takes.
    """

    steps: Mapping[tuple[str, str], int] = field(default_factory=dict)
    sent: Mapping[str, int] = field(default_factory=dict)
    arrived: Mapping[str, int] = field(default_factory=dict)


def rehearsed(setup: Setup, stage: Stage, foreseen: Trace) -> Costs:
    """Try out steps and messages such as a run is foreseen to have."""
    board = stage.board(setup, Trace("rehearsal", (), (), ()), setup.scenario.policy.needs_draft)
    seats = {"target": board.target, "draft": board.draft}
    roles = {seat.track: (role, seat) for role, seat in seats.items() if seat is not None}
    steps: dict[tuple[str, str], int] = {}
    sent: dict[str, int] = {}
    arrived: dict[str, int] = {}

    def all_in_turn() -> Process:
        for (track, kind), spans in sorted(by_kind(foreseen).items()):
            if track in roles:
                role, seat = roles[track]
                steps[role, kind] = yield from tried(stage, board, role, seat, typical(spans))
        for way, direction in (("up", board.up), ("down", board.down)):
            if direction is not None:
                nbytes = round(median(span.nbytes for span in foreseen.spans if span.track == direction.track))
                sent[way], arrived[way] = yield from carried(board, direction, nbytes)

    board.env.process(all_in_turn())
    board.env.run()
    return Costs(steps, sent, arrived)


def by_kind(foreseen: Trace) -> dict[tuple[str, str], list[Span]]:
    """The spans of each kind on each track."""
    found: dict[tuple[str, str], list[Span]] = {}
    for span in foreseen.spans:
        found.setdefault((span.track, span.kind), []).append(span)
    return found


def typical(spans: Sequence[Span]) -> Span:
    """The span in the middle by rows and positions cached."""
    return sorted(spans, key=lambda span: (span.rows, span.cached))[len(spans) // 2]


def tried(stage: Stage, board: RealBoard, role: str, seat: Seat, like: Span) -> Process:
    """Have one step done again and again; returns what commanding it costs."""
    player = stage.players[role]
    player.hear([0] * (like.cached + like.rows), {})
    took = []
    for _ in range(WARM + STEPS):
        began = board.now
        yield from seat.work(seat.step(Phase(like.kind), like.rows, like.cached), NOBODY)
        took.append(board.now - began - player.done[-1].answer.duration_ns)
    return round(median(took[WARM:]))


def carried(board: RealBoard, way: Direction, nbytes: int) -> Process:
    """Send a message again and again; returns what commanding it costs until it is sent, and from then on."""
    for _ in range(MESSAGES):
        yield from way.send("rehearsal", nbytes, NOBODY)
    spans = [span for span in board.trace.spans if span.track == way.track]
    sent = median(span.end_ns - span.start_ns for span in spans)
    there = median(span.done_ns - span.end_ns for span in spans)
    return round(sent) - way.wire_ns(nbytes), round(there) - way.propagation_ns


class CommandedTimer:
    """A timer's steps with what commanding them costs."""

    def __init__(self, timer: StepTimer, role: str, costs: Costs):
        self.timer, self.role, self.costs = timer, role, costs

    def duration_ns(self, step: Step) -> int:
        return self.timer.duration_ns(step) + self.costs.steps.get((self.role, step.phase.value), 0)

    def width(self, step: Step) -> int:
        return self.timer.width(step)

    def expected_ns(self, step: Step) -> int:
        """What a policy expects is what the chip takes, as in the run itself."""
        return self.timer.expected_ns(step) if isinstance(self.timer, MeasuringTimer) else self.timer.duration_ns(step)

    def lost_ns(self) -> int:
        return self.timer.lost_ns() if isinstance(self.timer, MeasuringTimer) else 0


class CommandedBoard(Board):
    """A simulated board whose messages take what commanding them costs as well."""

    def __init__(self, setup: Setup, trace: Trace, with_draft: bool, timers: Timers, costs: Costs):
        self.costs = costs
        super().__init__(simpy.Environment(), setup, trace, with_draft=with_draft, timers=timers)

    def direction(self, link: Link, way: str) -> Direction:
        made = CommandedDirection(self.env, f"{link.name}.{way}", link, self.setup.scenario.seed, self.trace)
        made.sent_ns, made.arrived_ns_more = self.costs.sent[way], self.costs.arrived[way]
        return made


def commanded(timers: Timers, costs: Costs) -> Boards:
    """Boards for a prediction that has the commands in."""

    def with_costs(placed: Placed, context: int) -> StepTimer:
        return CommandedTimer(timers(placed, context), placed.role, costs)

    return lambda setup, trace, with_draft: CommandedBoard(setup, trace, with_draft, with_costs, costs)

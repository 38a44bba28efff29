"""A board of devices that execute every step and a link that carries every message, under the simulator's policies.

The tokens are known before, so that the source takes no time; the devices compute them all the same, and what they
compute is checked. Spans have wall clock times, with a command's way to the device and back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import log
from statistics import median
from typing import Protocol

import simpy

from hilsim.cost.between import Between
from hilsim.cost.step import Phase, Step, passes
from hilsim.cost.timer import StepTimer, timer_for
from hilsim.describe.cross_checks import alone_faults
from hilsim.describe.link import Link
from hilsim.describe.setup import Placed, Setup
from hilsim.errors import ChipLost, Fault, ScenarioError
from hilsim.hardware.distributed.expected import Announcing, ExpectedTokens, TokenCheck, check_tokens
from hilsim.hardware.distributed.wall import WallEnvironment, WorkerThread
from hilsim.hardware.wire.exchange import AgentFault, ModelFacts, StepExecutor, StepRequest, StepResult
from hilsim.sim.board import Board, Direction
from hilsim.sim.device_slot import DeviceSlot, Process, RequestTag, TimedStep, UnitLock, now_ns
from hilsim.sim.trace import Span, Trace
from hilsim.sources.source import LogitsSource

# The target's steps follow from the tokens that it reads. A step of `pearl` is asked for before; trees are no chains.
POLICIES = ("target_only", "sync", "adaptive", "async", "pipelined", "prompt_lookup")
LATELY = 15
REMEDY = "A run on devices is not resumed; start what was lost, and run again."


@dataclass(frozen=True)
class DeviceStep:
    """A step that a device executed: request and result, and its begin and end as the run saw them."""

    ask: StepRequest
    answer: StepResult
    start_ns: int
    end_ns: int

    @property
    def command_ns(self) -> int:
        """Time beside the step itself: the command's way to the device and back."""
        return self.end_ns - self.start_ns - self.answer.duration_ns


@dataclass
class Device:
    """The device of a role: the tokens that it reads next, and what it has executed since the run began."""

    role: str
    chip: StepExecutor
    facts: ModelFacts
    worker: WorkerThread
    context: tuple[int, ...] = ()
    expected: ExpectedTokens = field(default_factory=dict)
    done: list[DeviceStep] = field(default_factory=list)
    lately: dict[int, deque[int]] = field(default_factory=dict)  # by rows: nanoseconds that the last steps took
    check: TokenCheck = field(default_factory=TokenCheck)

    def expect(self, tokens: Sequence[int], expected: ExpectedTokens) -> None:
        """Set what it reads next, and what it must compute from it."""
        self.context, self.expected = tuple(tokens), expected

    def begin(self) -> None:
        """Forget the run before."""
        self.done, self.lately, self.check = [], {}, TokenCheck()

    def finish(self, step: DeviceStep, expected: ExpectedTokens) -> None:
        """Note a step that is over, and check its tokens."""
        self.done.append(step)
        self.lately.setdefault(step.ask.rows, deque(maxlen=LATELY)).append(step.answer.duration_ns)
        self.check += check_tokens(step.answer.ids or (), len(step.ask.tokens), expected)


class MessageWire(Protocol):
    """One way over a physical link."""

    def put(self, env: WallEnvironment, nbytes: int) -> tuple[simpy.Event, simpy.Event]:
        """Send a message: an event for when it is out of the sender's hands, one for when it has arrived whole."""
        ...


class ExpectedStep(TimedStep):
    """A step that will be executed, its request, and the tokens expected of it."""

    ask: StepRequest
    expected: ExpectedTokens


class ExecutingSlot(DeviceSlot):
    """What slots have in common whose steps a device executes."""

    device: Device

    def step(self, phase: Phase, rows: int, cached: int, tree: bool = False, logits: int | None = None) -> ExpectedStep:
        """The step that would be executed, over the tokens that were announced last."""
        device, length = self.device, cached + rows
        assert len(device.context) >= length, f"{phase} of {length} tokens, of which {len(device.context)} are known"
        width = sum(width for _, width in passes(rows, device.facts.widths))
        wanted = ExpectedStep(phase.value, rows, cached, width, 0)
        count = Step(phase, rows, cached, tree=tree, logits=logits).wanted
        wanted.ask = StepRequest(device.facts.name, phase.value, device.context[:length], cached, count, "tokens")
        wanted.expected = device.expected
        return wanted

    def expected_ns(self, phase: Phase, rows: int, cached: int) -> int:
        """What steps with the nearest number of rows took lately; the chip model's prediction before there are any."""
        known = self.device.lately
        if not known:
            return self.timer.duration_ns(Step(phase, rows, cached))
        return round(median(known[min(known, key=lambda count: abs(log(count / rows)))]))


class RealSlot(ExecutingSlot):
    """A role's place on a device that executes its steps."""

    env: WallEnvironment

    def __init__(
        self,
        env: WallEnvironment,
        chip: str,
        track: str,
        turn: UnitLock,
        timer: StepTimer,
        trace: Trace,
        device: Device,
    ):
        super().__init__(env, chip, track, turn, timer, trace)
        self.between = Between()  # what the device takes between passes is in its own times
        self.device = device

    def work(self, step: TimedStep, cause: RequestTag, position: int = -1) -> Process:
        """Wait for the device, and have it execute the step.

        An interrupted process no longer waits, but the step goes on and occupies the device to its end.
        """
        assert isinstance(step, ExpectedStep), "a step of another slot"
        asked = start = now_ns(self.env)
        if not self.turn.take():
            yield from self.turn.wait()
            start = now_ns(self.env)
            self.queued_ns[cause.request] = self.queued_ns.get(cause.request, 0) + start - asked
        device, (kind, rows, cached, width, *_) = self.device, step

        def over(event: simpy.Event) -> None:
            now = now_ns(self.env)
            self.trace.add_span(
                Span(self.track, kind, start, now, *cause, asked, now, rows, width, 0, cached, position)
            )
            if event.ok:
                answer: StepResult = event.value  # type: ignore[assignment]  # SimPy knows no type of it
                device.finish(DeviceStep(step.ask, answer, start, now), step.expected)
            self.turn.leave()

        done = device.worker.do(self.env, lambda: execute(self.track, device.chip, step.ask))
        assert done.callbacks is not None, "a task that is over already"
        done.callbacks.append(over)
        yield done


def execute(track: str, chip: StepExecutor, ask: StepRequest) -> StepResult:
    """Have a step executed. Raises `ChipLost`: a run on the wall clock cannot wait for a device to recover."""
    try:
        return chip.execute(ask)
    except AgentFault as fault:
        raise ChipLost(track, fault.kind, fault.found, REMEDY) from None


class RealDirection(Direction):
    """One way over a physical link. A message occupies it until the sender's socket has taken it."""

    env: WallEnvironment

    def __init__(self, env: WallEnvironment, track: str, link: Link, seed: int, trace: Trace, wire: MessageWire):
        super().__init__(env, track, link, seed, trace)
        self.wire = wire

    def send(self, kind: str, nbytes: int, cause: RequestTag, left: simpy.Event | None = None) -> Process:
        asked = start = now_ns(self.env)
        if not self.turn.take():
            yield from self.turn.wait()
            start = now_ns(self.env)
        sent, arrived = self.wire.put(self.env, nbytes)
        try:
            yield sent
        finally:
            self.turn.leave()
        end = now_ns(self.env)
        if left is not None:
            left.succeed()
        yield arrived
        here = now_ns(self.env)
        self.trace.add_span(Span(self.track, kind, start, end, *cause, asked, here, 0, 0, nbytes))
        return here


class RealBoard(Board):
    """Devices and a physical link, on the wall clock."""

    env: WallEnvironment

    def __init__(
        self,
        setup: Setup,
        trace: Trace,
        with_draft: bool,
        by_role: Mapping[str, Device],
        wires: Mapping[str, MessageWire],
    ):
        self.by_role, self.wires = by_role, wires
        self.slots: dict[str, RealSlot] = {}
        self.ways: dict[str, RealDirection] = {}
        super().__init__(WallEnvironment(), setup, trace, with_draft=with_draft)

    def slot(self, placed: Placed) -> DeviceSlot:
        timer, device = timer_for(placed, self.setup.scenario.context_tokens), self.by_role[placed.role]
        made = RealSlot(self.env, placed.chip.name, placed.track, self.turn(placed.track), timer, self.trace, device)
        return self.slots.setdefault(placed.role, made)

    def direction(self, link: Link, way: str) -> Direction:
        seed = self.setup.scenario.seed
        made = RealDirection(self.env, f"{link.name}.{way}", link, seed, self.trace, self.wires[way])
        return self.ways.setdefault(way, made)


class Devices:
    """Devices by role and wires by direction, for several runs of one scenario. Roles on one chip share its thread."""

    def __init__(self, chips: Mapping[str, tuple[StepExecutor, ModelFacts]], wires: Mapping[str, MessageWire]):
        self.workers = {id(chip): WorkerThread(role) for role, (chip, _) in chips.items()}
        self.wires = wires
        self.by_role = {
            role: Device(role, chip, facts, self.workers[id(chip)]) for role, (chip, facts) in chips.items()
        }

    def source(self, source: LogitsSource) -> LogitsSource:
        """A source that announces its tokens to the devices."""
        return Announcing(source, lambda role, *tokens: self.by_role[role].expect(*tokens))

    def begin(self) -> None:
        """Forget what devices did before."""
        for device in self.by_role.values():
            device.begin()

    def board(self, setup: Setup, trace: Trace, with_draft: bool) -> RealBoard:
        """A board for a new run; what devices did before is forgotten."""
        self.begin()
        return RealBoard(setup, trace, with_draft, self.by_role, self.wires)

    def close(self) -> None:
        """End the threads."""
        for worker in self.workers.values():
            worker.close()


def require_real(setup: Setup) -> None:
    """Refuse what devices cannot execute, or whose tokens could not be checked."""
    scenario = setup.scenario
    faults = list(alone_faults(setup, "devices", "they execute one conversation after another, at their own clocks"))
    if scenario.policy.name not in POLICIES:
        expected = f"{', '.join(POLICIES)}, whose target's steps follow from the tokens that it reads"
        faults.append(Fault(setup.file, "policy", scenario.policy.name, expected))
    if scenario.workload.talkers > 1:
        expected = "1: a chip executes one conversation at a time"
        faults.append(Fault(setup.file, "workload.talkers", str(scenario.workload.talkers), expected))
    if scenario.sampling.temperature or scenario.sampling.repetition_penalty or setup.guarantee.level != "text":
        found, expected = "a distribution to sample from", "greedy decoding, so that the devices' tokens can be checked"
        faults.append(
            Fault(setup.file, "sampling", found, expected, "Set sampling.temperature to 0, accept to greedy.")
        )
    if setup.networks:
        found = ", ".join(network.track for network in setup.networks)
        faults.append(Fault(setup.file, "networks", f"networks on {found}", "none: agents run language models"))
    if faults:
        raise ScenarioError(faults)

"""A unit whose steps a chip executes: the logits of its roles, the time of every step, and what to do when it fails.

Logits come first: a policy asks for tokens, and then for the time they take. So the step that computed them is usually
the step that is charged next, and its measured time is stored until then. A step that computed none (such as the
draft's reading of a question) is executed when it is charged, over the same conversation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Literal

import numpy as np

from hilsim.cost.step import Phase, Step
from hilsim.describe.backend import Backend
from hilsim.errors import ChipLost
from hilsim.hardware.recordings.recorded import UnseenStep
from hilsim.hardware.wire.exchange import AgentFault, ModelFacts, Rows, StepExecutor, StepRequest, StepResult, Want
from hilsim.text.prompt import shared_prefix
from hilsim.units import NS_PER_MS

Use = Literal["said", "timed", "repeat", "warm-up"]
# Faults that a retry does not repair.
FINAL = ("refused", "version")
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
REMEDY = "To go on after a fault set units.{0}.retries, or units.{0}.on_fault to simulated or recording://FILE."


@dataclass(frozen=True)
class Executed:
    """A step that a chip has executed for the run: its role, purpose and result."""

    role: str
    ask: StepRequest
    use: Use | Literal["interpolated", "stood in"]
    answer: StepResult


@dataclass(frozen=True)
class HandledFault:
    """A fault and its consequence; in which run, and in which of its requests."""

    run: str
    request: int
    role: str
    phase: str
    kind: str
    found: str
    then: str  # tried again, failed, or what the unit goes on with
    cost_ns: int


@dataclass
class RoleState:
    """The state of one role: its model, the tokens of its conversation, and steps measured but not charged yet."""

    facts: ModelFacts
    tokens: tuple[int, ...] = ()  # of the conversation last observed
    held: tuple[int, ...] = ()  # what the step executed last has left in the cache
    waiting: dict[tuple[int, int], StepResult] = field(default_factory=dict)  # by rows and cached
    warm: set[tuple[bool, int]] = field(default_factory=set)
    owed_ns: int = 0  # what faults took and no step has been charged with yet


Note = Callable[[str, StepRequest, StepResult | AgentFault, Use], None]


class MeasuredUnit:
    """A chip behind a unit, which the scenario calls `name`.

    `note` records its answers, `stand_in` makes the chip that goes on after a fault.
    """

    def __init__(
        self,
        track: str,
        name: str,
        backend: Backend,
        chip: StepExecutor,
        models: dict[str, ModelFacts],
        note: Note,
        stand_in: Callable[[], StepExecutor | None],
    ):
        self.track, self.name, self.backend, self.note, self.stand_in = track, name, backend, note, stand_in
        self.chip: StepExecutor | None = chip
        self.lines = {role: RoleState(facts) for role, facts in models.items()}
        self.executed: list[Executed] = []
        self.troubles: list[HandledFault] = []
        self.run, self.request = "", 0  # which run is under way, and at which request it is
        self.fallen = False  # whether something else has taken the chip's place

    def begin(self, run: str) -> None:
        """A run begins: nothing that an earlier one left over is charged to it."""
        self.run, self.request = run, 0
        for line in self.lines.values():
            line.waiting.clear()
            line.owed_ns, line.held = 0, ()

    @property
    def present(self) -> bool:
        """Whether a chip still executes the steps, or only the chip model times them."""
        return self.chip is not None

    def observe(self, role: str, tokens: Sequence[int]) -> None:
        """Take the tokens of the conversation, over which later steps are timed."""
        entries = self.lines[role].facts.vocabulary
        self.lines[role].tokens = tuple(token % entries for token in tokens)

    def rows(self, role: str, tokens: Sequence[int], keep: int, count: int) -> list[Rows] | None:
        """Rows of logits after each of the last `count` tokens; None where the chip is lost."""
        line, want = self.lines[role], self.want
        self.observe(role, tokens)
        # A step that was only timed has left its tokens in the cache, which the caller does not know.
        keep = max(keep, min(shared_prefix(line.held, line.tokens), len(tokens) - count))
        rows = len(tokens) - keep
        asked = StepRequest(line.facts.name, phase_of(role, rows, count), line.tokens, keep, count, want)
        answer = self.execute(role, asked, "said")
        if answer is None:
            return None
        line.waiting[rows, keep] = replace(answer, rows=None, ids=None)
        if answer.rows is not None:
            return list(answer.rows)
        # Of a token alone the row is as good as any in which it is the likeliest.
        assert answer.ids is not None, "a chip that was asked for token ids gave none"
        found = np.zeros((count, line.facts.vocabulary), np.float32)
        found[np.arange(count), list(answer.ids)] = 1.0
        return list(found)

    @property
    def want(self) -> Want:
        """What the chip has to return: logits, token ids or nothing."""
        return "nothing" if self.backend.words == "stand_in" else self.backend.words

    def charged(self, role: str, step: Step) -> StepResult | None:
        """What a step is charged by: its execution when it computed logits, or one now; None where the chip is lost."""
        line = self.lines[role]
        measured = line.waiting.pop((step.rows, step.cached), None)
        if measured is not None or self.chip is None:
            return measured
        length = step.cached + step.rows
        known = line.tokens or max((other.tokens for other in self.lines.values()), key=len)
        tokens = (*known[:length], *[0] * (length - len(known)))
        asked = StepRequest(line.facts.name, step.phase.value, tokens, step.cached, step.wanted, "nothing")
        return self.execute(role, asked, "timed")

    def lost_ns(self, role: str) -> int:
        """What faults have taken since the last step was charged."""
        line = self.lines[role]
        owed, line.owed_ns = line.owed_ns, 0
        return owed

    def execute(self, role: str, ask: StepRequest, use: Use) -> StepResult | None:
        """Warm a new shape up, run the step as often as asked, and take the median; None where the chip is lost."""
        line = self.lines[role]
        shape = (Phase(ask.phase).reads, 1 << (ask.rows - 1).bit_length())
        quiet = replace(ask, want="nothing")
        if shape not in line.warm:
            line.warm.add(shape)
            for _ in range(self.backend.warm_up):
                if not self.fallen:
                    self.once(role, quiet, "warm-up")
        answer = self.once(role, ask, use)
        if answer is None:
            return None
        again = (self.once(role, quiet, "repeat") for _ in range(self.backend.repeats - 1))
        took = [answer.duration_ns, *(more.duration_ns for more in again if more is not None)]
        return replace(answer, duration_ns=round(median(took)))

    def once(self, role: str, ask: StepRequest, use: Use) -> StepResult | None:
        """One execution, tried again and replaced as the scenario sets; None where the chip model has to go on alone.

        Raises `ChipLost` where nothing goes on.
        """
        tries = 0
        while self.chip is not None:
            try:
                answer = self.chip.execute(ask)
            except AgentFault as fault:
                if not self.fallen:
                    self.note(role, ask, fault, use)
                self.trouble(role, ask, fault, tries)
                tries += 1
                continue
            except UnseenStep as unseen:
                _, asked, lacks, nearest, remedy = unseen.args
                found = f"{asked}, {lacks} (nearest: {nearest})"
                raise ChipLost(self.track, "unseen", found, remedy, 0) from None
            if not self.fallen:  # what stands in is recorded already, and is no board
                self.note(role, ask, answer, use)
            self.lines[role].held = ask.tokens
            of = "interpolated" if answer.interpolated else "stood in" if self.fallen else use
            self.executed.append(Executed(role, ask, of, replace(answer, rows=None, ids=None)))
            return answer
        return None

    def trouble(self, role: str, ask: StepRequest, fault: AgentFault, tries: int) -> None:
        """Charge a fault, and decide what comes of it."""
        cost_ns = round(self.backend.timeout_ms * NS_PER_MS) if fault.kind == "stalled" else 0
        self.lines[role].owed_ns += cost_ns
        again = tries < self.backend.retries and fault.kind not in FINAL
        ends = not again and (self.fallen or self.backend.on_fault == "fail")
        then = "tried again" if again else "the run ended" if ends else f"went on with {self.backend.on_fault}"
        kind, found = fault.kind, fault.found
        self.troubles.append(HandledFault(self.run, self.request, role, ask.phase, kind, found, then, cost_ns))
        if ends:
            raise ChipLost(self.track, fault.kind, fault.found, REMEDY.format(self.name), cost_ns)
        if again:
            if self.backend.address is not None and not self.fallen:
                # An agent that is started again needs a moment; the wall's time, not the simulation's.
                time.sleep(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**tries))
            return
        assert self.chip is not None, "a fault without a chip"
        self.chip.close()
        self.chip, self.fallen = self.stand_in(), True
        self.backend = self.backend.model_copy(update={"warm_up": 0, "repeats": 1})  # its recording leaves warm-ups out
        for line in self.lines.values():
            line.waiting.clear()
            line.held = ()


def phase_of(role: str, rows: int, count: int) -> str:
    """The phase of a step that computes logits, from its shape: the target verifies where several rows are wanted."""
    if role == "target":
        return (Phase.VERIFY if count > 1 else Phase.DECODE if rows == 1 else Phase.PREFILL).value
    return (Phase.DRAFT if rows <= 2 else Phase.DRAFT_PREFILL).value

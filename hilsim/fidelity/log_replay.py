"""Two logged devices as a simulation: the log's step times as timers, its accepted lengths as a source of tokens.

The devices have no description but their step times, and the link between them is ideal: what messages and the host
take is in the steps. Policies, requests and events are the simulator's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise
from pathlib import Path

from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import StepTimer
from hilsim.describe.catalogue import load_chip, load_named
from hilsim.describe.link import Link
from hilsim.describe.model import Model
from hilsim.describe.placement import Placement
from hilsim.describe.policy import Async, Sync
from hilsim.describe.scenario import Lengths, Scenario, Synthetic
from hilsim.describe.setup import Placed, Setup
from hilsim.sampling.proposals import Draft, Prefix, Verdict
from hilsim.sim.run import simulate
from hilsim.sources.luck import ByChance
from hilsim.sources.synthetic import RIGHT, WRONG, SyntheticSource

HERE = Path("step log")  # stands for the file that names chips, models and the link
LENGTHS = Lengths(requests=1, prompt_tokens=1, output_tokens=10**6)
CHANCES = Synthetic(source="synthetic", acceptance=0.0)  # not used: the log gives the drafts that are accepted
END = WRONG + 1


class LoggedText(SyntheticSource):
    """`LogitsSource` of one answer of which a log gives the positions of wrong drafts, but not the tokens.

    Positions count from the answer's first token. The draft errs at the positions `wrong`, which repeat after `period`
    tokens; whatever it drafts after a wrong token is wrong too. The target ends the answer with its token `last`.
    """

    def __init__(self, wrong: Collection[int], period: int, last: int):
        super().__init__(ByChance(0.0, seed=0), LENGTHS)
        self.wrong, self.period, self.last = wrong, period, last

    def draft(self, prefix: Prefix, count: int, after: Sequence[int] = ()) -> Draft:
        start = position(prefix) + len(after)
        wrong = WRONG in after
        tokens = []
        for place in range(start, start + count):
            wrong = wrong or place % self.period in self.wrong
            tokens.append(WRONG if wrong else RIGHT)
        return Draft(tuple(tokens))

    def verify(self, prefix: Prefix, draft: Draft) -> Verdict:
        start = position(prefix)
        places = range(len(draft.tokens))
        accepted = next((place for place in places if draft.tokens[place] != self.own(start + place)), len(places))
        return Verdict(accepted, self.own(start + accepted), (math.inf,) * (accepted + 1))

    def next_token(self, prefix: Prefix) -> tuple[int, float]:
        return self.own(position(prefix)), math.inf

    def own(self, place: int) -> int:
        """The target's token at a position of the answer."""
        return END if place == self.last else RIGHT

    def ends(self, token: int) -> bool:
        return token == END


def position(prefix: Prefix) -> int:
    """The position in the answer that follows a prefix."""
    return len(prefix.tokens) - LENGTHS.prompt_tokens


@dataclass(frozen=True)
class StepTable:
    """`StepTimer` of one device: the pass over the prompt, and a step by its number of rows, in nanoseconds."""

    prefill_ns: int
    rows_ns: Callable[[int], int]

    def duration_ns(self, step: Step) -> int:
        return self.prefill_ns if step.phase.reads else self.rows_ns(step.rows)

    def width(self, step: Step) -> int:
        return step.rows


class LoggedSteps:
    """`MeasuringTimer` of one device that hands out the steps of a log in their order, in nanoseconds.

    `executed` are the steps that the policy will take; where the log has more or fewer, they are spread evenly. With
    `single` a step of several rows is as many steps. The pass over the prompt is none of them.
    """

    def __init__(self, steps_ns: Iterable[int], executed: int, *, single: bool):
        self.ends_ns = list(accumulate(steps_ns, initial=0))
        self.executed, self.single, self.done = executed, single, 0

    def duration_ns(self, step: Step) -> int:
        if step.phase.reads:
            return 0
        began_ns = self.now_ns
        self.done += step.rows if self.single else 1
        return self.now_ns - began_ns

    @property
    def now_ns(self) -> int:
        """All steps until now."""
        return self.ends_ns[self.done * (len(self.ends_ns) - 1) // self.executed]

    def width(self, step: Step) -> int:
        return step.rows

    def expected_ns(self, step: Step) -> int:
        """What is not executed takes no step of the log."""
        return 0

    def lost_ns(self) -> int:
        return 0


@dataclass(frozen=True)
class PairRun:
    """What a simulated run of the pair came to. `accepted` has the tokens of each round after the first token."""

    total_ns: int
    accepted: tuple[int, ...]
    draft_steps: int
    rollbacks: int  # times that the draft went back to an earlier position, or stayed
    single_rows: int  # rounds of the target without drafts


def run_pair(policy: Sync | Async, target: StepTimer, draft: StepTimer, text: LoggedText) -> PairRun:
    """Answer one request by `policy`."""
    timers = {"target": target, "draft": draft}
    trace = simulate(pair_setup(policy), text, timers=lambda placed, context: timers[placed.role])
    (request,) = trace.requests
    rounds = [closed for closed in trace.rounds if closed.number > 0]
    drafted = [span.position for span in trace.spans if span.kind == Phase.DRAFT]
    return PairRun(
        request.finished_ns,
        tuple(closed.emitted for closed in rounds),
        len(drafted),
        sum(later <= earlier for earlier, later in pairwise(drafted)),
        sum(closed.drafted == 0 for closed in rounds),
    )


def pair_setup(policy: Sync | Async) -> Setup:
    """Two devices that differ in their timers alone, and an ideal link."""
    target, draft, link = pair()
    scenario = Scenario(
        name="step log",
        target=target.placement,
        draft=draft.placement,
        link=link.name,
        context_tokens=LENGTHS.prompt_tokens + LENGTHS.output_tokens,
        policy=policy,
        logits=CHANCES,
        workload=LENGTHS,
    )
    return Setup(HERE.name, scenario, target, draft, link, target.chip.name, (), "")


@cache
def pair() -> tuple[Placed, Placed, Link]:
    """Target and draft on the chips that stand for any accelerator, and the link between them."""
    placed = []
    for role in ("target", "draft"):
        name = f"paper-{role}"
        placement = Placement(model=name, chip=name, unit="any", precision="fp16")
        chip, model = load_chip(name, HERE), load_named("model", Model, name, HERE)
        placed.append(Placed(role, placement, model, chip, chip.units["any"], None))
    return placed[0], placed[1], load_named("link", Link, "ideal", HERE)

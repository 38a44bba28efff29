"""Step times of one placement: what closed forms are made of, and what they make of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul

from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import timer_for
from hilsim.describe.setup import Setup
from hilsim.study.closed_forms import sync_speedup
from hilsim.study.papers import round_trip_ns
from hilsim.units import ms

CACHED = 128  # tokens that a draft has before it, where its unit minds


@dataclass(frozen=True)
class Steps:
    """Milliseconds: a target step, a drafted token, what its second row adds, a verify, a round trip of the link."""

    drafted: int
    target_ms: float
    draft_ms: float
    catch_up_ms: float
    verify_ms: float
    link_ms: float

    @property
    def ratio(self) -> float:
        """A drafted token in target steps, c in Leviathan et al."""
        return self.draft_ms / self.target_ms

    @property
    def verify(self) -> float:
        """A verify in target steps."""
        return self.verify_ms / self.target_ms

    @property
    def link(self) -> float:
        """A round trip in target steps."""
        return self.link_ms / self.target_ms

    def speedup(self, acceptance: float) -> float:
        """Of synchronous drafting, on paper."""
        catch_up = self.catch_up_ms / self.target_ms
        return sync_speedup(acceptance, self.drafted, self.ratio, self.link, self.verify, catch_up)

    def speedup_by_position(self, conditional: Sequence[float]) -> float:
        """The same where a draft's chance, once all before it were accepted, differs by its position."""
        standing: list[float] = list(accumulate(conditional[: self.drafted], mul))
        round_ms = self.drafted * self.draft_ms + standing[-1] * self.catch_up_ms + self.verify_ms + self.link_ms
        return (1 + sum(standing)) * self.target_ms / round_ms


def steps_of(setup: Setup, drafted: int, cached: int = CACHED) -> Steps:
    """The steps of a round with so many drafted tokens."""
    context = setup.scenario.context_tokens
    assert setup.draft is not None
    target, draft = timer_for(setup.target, context), timer_for(setup.draft, context)
    one = draft.duration_ns(Step(Phase.DRAFT, 1, cached))
    return Steps(
        drafted,
        ms(target.duration_ns(Step(Phase.DECODE, 1, cached))),
        ms(one),
        ms(draft.duration_ns(Step(Phase.DRAFT, 2, cached)) - one),
        ms(target.duration_ns(Step(Phase.VERIFY, drafted + 1, cached))),
        ms(round_trip_ns(setup, drafted)),
    )


def best_fewer(setup: Setup, drafted: int, conditional: Sequence[float]) -> tuple[int, float] | None:
    """Of synchronous drafting of fewer tokens the fastest, with its speed-up on paper; None where there is none."""
    found = {length: steps_of(setup, length).speedup_by_position(conditional) for length in range(1, drafted)}
    best = max(found, key=lambda length: found[length], default=None)
    return None if best is None else (best, found[best])

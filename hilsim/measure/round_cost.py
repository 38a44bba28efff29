"""Whether speculation pays in a run: tokens a round at which it breaks even, and the tokens a round that it has.

    break-even = time of a round / time of a plain step,      speed over plain decoding = tokens a round / break-even

Both times are of the run's own two traces, from the first token of each answer to its last as delivered: a round is all
that passes between two deliveries of the policy (drafts, messages, verify, waiting), a plain step what passes between
two tokens of the target alone. A plain step of the policy, where it pauses or finds nothing to propose, is a round as
well, as in `tokens_per_round`. Reading the question is in neither.

The tokens a round of other samples of the same workload are drawn from the run's conversations, or its requests where
these are few (bootstrap); of one request from its rounds, which makes the interval too narrow where these resemble each
other. The interval is the middle 90 %. Step times are taken as they are.

What would turn it, each of the three alone:

- acceptance: the chance of each draft, the same at every place, with which the run's own rounds make the tokens of
  the break-even, where nothing overlaps and most rounds draft; the acceptance at hand makes those at hand;
- verify: the mean time of a verify at which the tokens at hand break even, where nothing overlaps with it; it is never
  below a plain step, as no pass of several rows is;
- fewer drafted tokens: `study/steps.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hilsim.describe.acceptance import least, run_of
from hilsim.measure.formulas import between_ranks
from hilsim.measure.metrics import deliveries
from hilsim.measure.resampled import clusters_of
from hilsim.sim.trace import RequestRecord, Round, Trace
from hilsim.units import NS_PER_MS

RESAMPLES = 2000
SHARE = 0.9
MOST = 0.8  # of the rounds draft: of answers that are not very short all but the last, which may have one token left
# Policies that wait for each verify before they go on: only of them does a cheaper verify shorten the round by as much,
# and does a round that is accepted whole bring one token more than it drafts.
ALTERNATE = ("sync", "adaptive", "prompt_lookup", "suffix", "cascade", "tree", "lookahead", "ssd")


@dataclass(frozen=True)
class TurningPoint:
    """A quantity at hand, and where it would have to be for the verdict to turn; None where nothing of it suffices."""

    at_hand: float
    needed: float | None


@dataclass(frozen=True)
class RoundCost:
    """What rounds of a run cost and bring; `low` and `high` are of the tokens a round, over so many of `unit`."""

    plain_step_ms: float
    round_ms: float
    tokens_a_round: float
    low: float
    high: float
    count: int
    unit: str
    drafted: int
    acceptance: TurningPoint | None
    verify_ms: TurningPoint | None

    @property
    def break_even(self) -> float:
        """Tokens a round at which the policy is as fast as plain decoding."""
        return self.round_ms / self.plain_step_ms

    @property
    def sure(self) -> bool:
        """Whether the interval lies on one side of the break-even."""
        return not self.low <= self.break_even <= self.high

    @property
    def pays(self) -> bool:
        """Whether speculation wins, as far as the run itself tells."""
        return self.tokens_a_round > self.break_even

    @property
    def verdict(self) -> str:
        """One of three."""
        if not self.sure:
            return "too close to call"
        return "speculate" if self.pays else "do not speculate"


def round_cost(baseline: Trace, speculative: Trace, seed: int) -> RoundCost | None:
    """What the rounds of a run cost; None where no answer has a token after its first."""
    plain, ours = answers_of(baseline), answers_of(speculative)
    plain_ns, plain_tokens = sum(map(decoding_ns, plain)), sum(map(later_tokens, plain))
    rounds = [closed for answer in ours for closed in answer[1:]]
    if not plain_tokens or not rounds:
        return None
    step_ns, round_ns = plain_ns / plain_tokens, sum(map(decoding_ns, ours)) / len(rounds)
    if not step_ns:
        return None
    tokens = sum(map(later_tokens, ours)) / len(rounds)
    low, high, count, unit = interval_of_tokens(speculative.requests, deliveries(speculative), seed)
    acceptance = acceptance_at_hand(speculative)
    return RoundCost(
        step_ns / NS_PER_MS,
        round_ns / NS_PER_MS,
        tokens,
        low,
        high,
        count,
        unit,
        drafts_a_round(rounds),
        None if acceptance is None else TurningPoint(acceptance, acceptance_making(round_ns / step_ns, speculative)),
        turning_verify(speculative, rounds, tokens * step_ns - round_ns) if speculative.policy in ALTERNATE else None,
    )


def drafts_a_round(rounds: Sequence[Round]) -> int:
    """Drafted tokens one behind the other in the mean round that drafts."""
    depths = [closed.depth for closed in rounds if closed.drafted]
    return round(sum(depths) / len(depths)) if depths else 0


def acceptance_at_hand(speculative: Trace) -> float | None:
    """The acceptance that makes a run's tokens a round, as above; None where tokens do not follow from it."""
    rounds = [closed for answer in answers_of(speculative) for closed in answer[1:]]
    drafting = sum(closed.drafted > 0 for closed in rounds)
    if not drafting or speculative.policy not in ALTERNATE or drafting < MOST * len(rounds):
        return None
    found = acceptance_making(sum(closed.emitted for closed in rounds) / len(rounds), speculative)
    return 1.0 if found is None else found


def acceptance_making(tokens: float, speculative: Trace) -> float | None:
    """The acceptance with which the rounds of a run make so many tokens in the mean; None where none does.

    A round makes at most one token more than it drafts and no more than are left of its answer: with the rounds at the
    ends counted so, an even acceptance comes out of a run as it went in.
    """
    places = Counter[int]()
    for answer in answers_of(speculative):
        left = later_tokens(answer)
        for closed in answer[1:]:
            places[min(closed.depth + 1, left)] += 1
            left -= closed.emitted

    def made(acceptance: float) -> float:
        return sum(count * run_of(acceptance, most) for most, count in places.items()) / places.total()

    return least(made, tokens) if tokens > 1 else 0.0


def turning_verify(trace: Trace, rounds: Sequence[Round], to_spare_ns: float) -> TurningPoint | None:
    """The mean verify, and the one with which a round has nothing `to_spare_ns` over plain steps any more."""
    verifies = [span.end_ns - span.start_ns for span in trace.spans if span.kind == "verify"]
    singles = [closed.single_ns for closed in rounds if closed.drafted]
    if not verifies or not singles:
        return None
    mean_ns = sum(verifies) / len(verifies)
    even_ns = mean_ns + to_spare_ns * len(rounds) / len(verifies)
    return TurningPoint(mean_ns / NS_PER_MS, even_ns / NS_PER_MS if even_ns >= sum(singles) / len(singles) else None)


def answers_of(trace: Trace) -> list[list[Round]]:
    """The rounds of each request, the first token's first."""
    return [rounds for rounds in deliveries(trace).values() if rounds]


def decoding_ns(rounds: Sequence[Round]) -> int:
    """From the first token of an answer to its last, as delivered."""
    return rounds[-1].delivered_ns - rounds[0].delivered_ns


def later_tokens(rounds: Sequence[Round]) -> int:
    """Tokens behind the first delivery."""
    return sum(closed.emitted for closed in rounds[1:])


def interval_of_tokens(
    records: Sequence[RequestRecord], rounds: dict[int, list[Round]], seed: int
) -> tuple[float, float, int, str]:
    """The middle 90 % of tokens a round over samples drawn anew, and of how many what was drawn."""
    answered = [record for record in records if len(rounds.get(record.number, [])) > 1]
    counts = np.array([[later_tokens(rounds[one.number]), len(rounds[one.number]) - 1] for one in answered], np.float64)
    places, unit = clusters_of(answered)
    sums = np.array([counts[some].sum(axis=0) for some in places])
    if len(sums) < 2:
        unit = "rounds"
        sums = np.array([[closed.emitted, 1] for closed in rounds[answered[0].number][1:]], np.float64)
    chance = np.random.Generator(np.random.Philox(key=[seed, 4]))
    drawn = sums[chance.integers(0, len(sums), (RESAMPLES, len(sums)))].sum(axis=1)
    ordered = np.sort(drawn[:, 0] / drawn[:, 1])
    low, high = (float(between_ranks(ordered, below)) for below in ((1 - SHARE) / 2, (1 + SHARE) / 2))
    return low, high, len(sums), unit

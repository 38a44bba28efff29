"""Two devices against their own log: the synchronous run replayed, the asynchronous predicted from it and the prefills.

**Replay.** The recorded draft and verify steps one after another, in whole nanoseconds. What is missing from the
recorded total is the host's own work between the steps.

**Prediction.** No recorded step of the asynchronous run is used. From the synchronous and the greedy run come

- a draft step and a verify step of all drafts: medians. From two rows on a verify step costs as all do: the second row
  is what brings in the comparison and the crop, and a few rows stream the weights once. Beyond all, a straight line;
- a verify step of one row: the greedy median, and the wait for the device that the greedy total holds a token beyond
  its steps, as a step launches its work and does not wait for its end; at most a verify step of all drafts;
- the handshake: fetching a step's tokens from the device, comparing and publishing them. It is what the synchronous
  run's total holds beyond its steps, a round; never more than the greedy run's remainder a token. It is charged after
  every verdict and after every draft step, as an asynchronous draft is published token by token; its polling is in it.

The prefills are in no synchronous step. The start is a pass over the prompt with the warming-up of a fresh process;
both devices pay it, one after the other, as the draft waits for the target's first token. The asynchronous run's first
verify entry, which is no step, shows it: from the target's first token to its first verdict it holds the draft's start,
two draft steps and a verify step. Without that run, or where the entry holds no more than steps, the start is what the
greedy total holds beyond its steps and handshakes: the most it can be, far too much where the steps' times leave out
most of the wait for the device. A first synchronous step waits for what the passes over the prompt left in the queue;
the start has that, so no first entry is charged here.

**The protocol** is AMUSD's (arXiv:2410.17375) as its program runs it. The draft never stops. The target, when idle,
waits for two unverified drafts, takes all, verifies and publishes. The draft looks at its own step boundary, after its
step was published: where its history differs it crops and answers a rollback, but what it last published stays up
until its next step ends. So a target that looks at once meets stale drafts; it then decodes one row. Rollbacks are two
counters, requests and responses. A wrong guess of the bonus token is answered without a request; such a credit lets a
later conflict pass without a wait. Equal instants: a verdict comes before the draft's boundary.

**Content** is the same greedy text, so a draft token depends on its position alone as long as all before it were right.
After a round of the synchronous run that was not full, its last token is where the draft errs. After a wrong token
every later one is void. Beyond the recorded text the positions repeat.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from hilsim.errors import Fault, InputError
from hilsim.fidelity.step_log import GreedyRun, PromptRuns, SpeculativeRun
from hilsim.units import NS_PER_S, ns

# The target begins when this many unverified drafts are there.
LEAST_DRAFTS = 2
# Draft steps of one prediction beyond which a log's times are mistaken, not slow.
MOST_DRAFT_STEPS = 5_000_000
RIGHT = 2**62


@dataclass(frozen=True)
class StepTimes:
    """What the synchronous and the greedy run say about every step, in whole nanoseconds."""

    draft_ns: int
    verify_ns: int  # of 1 + draft_tokens rows
    one_row_ns: int
    draft_tokens: int
    first_draft_ns: int
    first_verify_ns: int
    handshake_ns: int
    start_ns: int  # of one device
    start_from: str | None  # the run that shows it, amusd or greedy; None where neither is in the log

    def rows_ns(self, rows: int) -> int:
        """A verify step of so many rows: as all from two on; beyond all a straight line through one row and all."""
        if rows == 1:
            return min(self.one_row_ns, self.verify_ns)
        beyond = max(0, rows - 1 - self.draft_tokens)
        return self.verify_ns + max(0, self.verify_ns - self.one_row_ns) * beyond // self.draft_tokens


@dataclass(frozen=True)
class Walk:
    """A predicted asynchronous run: its end, tokens a round, and what the conflicts cost."""

    total_ns: int
    accepted: tuple[int, ...]
    draft_steps: int
    rollbacks: int
    stale_rounds: int


@dataclass(frozen=True)
class Replay:
    """One prompt's runs, replayed and predicted; seconds."""

    runs: PromptRuns
    times: StepTimes
    alpha: float
    drafts_per_round: Mapping[int, int]
    sync_replayed_s: float
    sync_predicted_s: float
    tokens: int  # that the asynchronous prediction is for
    walk: Walk

    @property
    def async_predicted_s(self) -> float:
        return self.walk.total_ns / NS_PER_S


def replayed(runs: PromptRuns, file: Path) -> Replay:
    """Replay and predict one prompt that has a synchronous run."""
    sync = runs.sync
    assert sync is not None  # those without are told apart before
    times = step_times(sync, runs.greedy, runs.asynchronous)
    groups = drafts_per_round(sync, times.draft_tokens)
    tokens = sync.tokens if runs.asynchronous is None else runs.asynchronous.tokens
    if (tokens * times.verify_ns + 2 * times.start_ns) // times.draft_ns > MOST_DRAFT_STEPS:
        found = f"draft steps of {times.draft_ns / 1e6:g} ms beside verify steps of {times.verify_ns / 1e6:g} ms"
        raise InputError([Fault(str(file), f"sample {runs.index}", found, "times of one kind", "Is it the unit?")])
    return Replay(
        runs=runs,
        times=times,
        alpha=acceptance(sync, times.draft_tokens),
        drafts_per_round=dict(sorted(Counter(groups).items())),
        sync_replayed_s=one_after_another(sync, groups) / NS_PER_S,
        sync_predicted_s=sync_prediction(times, groups) / NS_PER_S,
        tokens=tokens,
        walk=walk(times, wrong_positions(sync, times.draft_tokens), sync.tokens, tokens),
    )


def step_times(sync: SpeculativeRun, greedy: GreedyRun | None, asynchronous: SpeculativeRun | None) -> StepTimes:
    """Medians, first entries, handshake, start; without a greedy run one row costs as many."""
    draft_s, verify_s = median(sync.draft_s), median(sync.verify_s)
    beyond_s = sync.total_s - sum(sync.draft_s) - sum(sync.verify_s)
    handshake_s = max(0.0, beyond_s) / len(sync.verify_s)
    one_row_s, start_s, start_from = verify_s, 0.0, None
    if greedy is not None:
        handshake_s = min(handshake_s, greedy.untimed_s / len(greedy.token_s))
        start_s, start_from = max(0.0, greedy.untimed_s - handshake_s * len(greedy.token_s)), "greedy"
    steps_s = LEAST_DRAFTS * (draft_s + handshake_s) + verify_s + handshake_s
    if asynchronous is not None and asynchronous.verify_s[0] > steps_s:
        start_s, start_from = asynchronous.verify_s[0] - steps_s, "amusd"
    if greedy is not None:
        one_row_s = median(greedy.token_s)
        wait_s = (greedy.untimed_s - start_s) / len(greedy.token_s) - handshake_s
        one_row_s += max(0.0, min(wait_s, verify_s - one_row_s))
    return StepTimes(
        draft_ns=ns(draft_s),
        verify_ns=ns(verify_s),
        one_row_ns=ns(one_row_s),
        draft_tokens=draft_tokens(sync),
        first_draft_ns=ns(sync.draft_s[0]),
        first_verify_ns=ns(sync.verify_s[0]),
        handshake_ns=ns(handshake_s),
        start_ns=ns(start_s),
        start_from=start_from,
    )


def draft_tokens(sync: SpeculativeRun) -> int:
    """Drafts a verify step sees: the count with which rounds and catch-up steps make up the recorded draft steps."""
    least, rounds, steps = max(1, max(sync.accepted) - 1), len(sync.accepted), len(sync.draft_s)
    for count in range(least, steps // rounds + 1):
        if steps - count * rounds in (0, sum(made == count + 1 for made in sync.accepted[:-1])):
            return count
    return least


def drafts_per_round(sync: SpeculativeRun, count: int) -> list[int]:
    """Draft steps of every round: one more after a full round, where the draft catches up with the bonus token.

    A log that fits neither way has its steps spread evenly; sums do not depend on it.
    """
    rounds, steps = len(sync.accepted), len(sync.draft_s)
    caught_up = [count] + [count + (made == count + 1) for made in sync.accepted[:-1]]
    if sum(caught_up) == steps:
        return caught_up
    return [steps * (index + 1) // rounds - steps * index // rounds for index in range(rounds)]


def one_after_another(sync: SpeculativeRun, groups: list[int]) -> int:
    """The end of the last verify step when every recorded step begins where the one before it ends."""
    now_ns, drafts = 0, iter(sync.draft_s)
    for count, verify_s in zip(groups, sync.verify_s, strict=True):
        for _ in range(count):
            now_ns += ns(next(drafts))
        now_ns += ns(verify_s)
    return now_ns


def sync_prediction(times: StepTimes, groups: list[int]) -> int:
    """The same from the step-time model: first entries, medians and a handshake a round."""
    drafts = times.first_draft_ns + (sum(groups) - 1) * times.draft_ns
    return drafts + times.first_verify_ns + (len(groups) - 1) * times.verify_ns + len(groups) * times.handshake_ns


def acceptance(sync: SpeculativeRun, count: int) -> float:
    """The chance that a draft is right: maximum likelihood of a geometric law cut off at `count` drafts."""
    right = sum(sync.accepted) - len(sync.accepted)
    wrong = sum(made <= count for made in sync.accepted)
    return right / (right + wrong) if right + wrong else 0.0


def wrong_positions(sync: SpeculativeRun, count: int) -> frozenset[int]:
    """Positions of the text where the draft errs: the last token of every round that was not full."""
    wrong, verified = set(), 1  # the pass over the prompt gave position 0
    for made in sync.accepted:
        verified += made
        if made <= count:
            wrong.add(verified - 1)
    return frozenset(wrong)


def walk(times: StepTimes, wrong: frozenset[int], period: int, tokens: int) -> Walk:
    """The protocol as two clocks on one axis. A draft history is its length and the first position where it errs."""
    draft_ns = times.draft_ns + times.handshake_ns
    length, errs = 1, RIGHT
    published = (length, errs)
    verified = seen = 1
    requests = responses = stale = steps = 0
    accepted: list[int] = []
    boundary_ns = 2 * times.start_ns + draft_ns
    verdict_ns, rows, made = None, 0, 0
    now_ns = 2 * times.start_ns
    while verified < tokens:
        if verdict_ns is None and responses >= requests and published[0] >= verified + LEAST_DRAFTS:
            stays, first_wrong = published[0], published[1]
            if first_wrong >= verified:
                rows, made = 1 + stays - verified, min(first_wrong, stays) - verified + 1
            else:
                rows, made, stale = 1, 1, stale + 1
            verdict_ns = now_ns + times.rows_ns(rows) + times.handshake_ns
        if verdict_ns is not None and verdict_ns <= boundary_ns:
            now_ns, verdict_ns = verdict_ns, None
            requests += made != rows
            verified += made
            accepted.append(made)
            continue
        now_ns, boundary_ns, steps = boundary_ns, boundary_ns + draft_ns, steps + 1
        if errs == RIGHT and length % period in wrong:
            errs = length
        length += 1
        published = (length, errs)
        if verified > seen:
            seen = verified
            if errs < min(length, verified):
                responses += verified < length
                length, errs = verified, RIGHT
    return Walk(now_ns, tuple(accepted), steps, responses, stale)

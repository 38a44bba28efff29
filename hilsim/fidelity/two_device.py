"""Two devices against their own log: the synchronous run replayed, the asynchronous predicted from it and the prefills.

Both by the simulator's own policies, `sync` and `async`; `log_replay.py` is the pair of devices that they run on.

**Replay.** `sync` over the recorded draft and verify steps, one after another, in whole nanoseconds. What is missing
from the recorded total is the host's own work between the steps.

**Prediction.** No recorded step of the asynchronous run is used. From the synchronous and the greedy run come

- a draft step and a verify step of all drafts: medians. From two rows on a verify step costs as all do: the second row
  is what brings in the comparison and the crop, and a few rows stream the weights once. Beyond all, a straight line;
- a verify step of one row: the greedy median, and the wait for the device that the greedy total holds a token beyond
  its steps, as a step launches its work and does not wait for its end; at most a verify step of all drafts;
- the handshake: fetching a step's tokens from the device, comparing and publishing them. It is what the synchronous
  run's total holds beyond its steps, a round; never more than the greedy run's remainder a token. It is part of every
  verify step and of every asynchronous draft step, as an asynchronous draft is published token by token; its polling
  is in it.

The prefills are in no synchronous step. The start is a pass over the prompt with the warming-up of a fresh process;
both devices pay it, one after the other, as the draft waits for the target's first token. The asynchronous run's first
verify entry, which is no step, shows it: from the target's first token to its first verdict it holds the draft's start,
two draft steps and a verify step. Without that run, or where the entry holds no more than steps, the start is what the
greedy total holds beyond its steps and handshakes: the most it can be, far too much where the steps' times leave out
most of the wait for the device. The first synchronous steps wait for what the passes over the prompt left in the
devices' queues: what they take beyond a median step is the prefill of the synchronous prediction. The start has that,
so it is not charged again in the asynchronous one.

**AMUSD's runtime** (arXiv:2410.17375) is `async` with `min_batch: 2`, as its idle target waits for two unverified
drafts and takes all, and with `pre_verify`, as it takes them by their number alone: where they rest on a rejected
token it runs one row, while the draft starts again. There, that row after a rejection waits until the draft has noticed
the rejection, at its step's end; here it begins at once, and the draft publishes nothing that rests on a token that it
knows to be rejected. Drafts ahead of their verdict are unlimited there, and at most `AHEAD` here.

**Content** is the same greedy text, so a draft token depends on its position alone as long as all before it were right.
After a round of the synchronous run that was not full, its last token is where the draft errs. After a wrong token
every later one is void. Beyond the recorded text the positions repeat.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from statistics import median

from hilsim.comparison import Comparison
from hilsim.describe.policy import Async, Sync
from hilsim.errors import Fault, InputError
from hilsim.fidelity.log_replay import LoggedSteps, LoggedText, PairRun, StepTable, run_pair
from hilsim.fidelity.step_log import GreedyRun, PromptRuns, SpeculativeRun
from hilsim.units import NS_PER_S, ns

# The asynchronous target begins when this many unverified drafts are there; its draft has at most AHEAD of them.
LEAST_DRAFTS, AHEAD = 2, 256
MOST_DRAFTS = 64  # of a round, as `sync` allows
# Draft steps of one prediction beyond which a log's times are mistaken, not slow.
MOST_DRAFT_STEPS = 500_000


@dataclass(frozen=True)
class StepTimes:
    """The times of every step by the synchronous and the greedy run, in whole nanoseconds."""

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

    @property
    def queue_ns(self) -> int:
        """What the first synchronous steps waited for the passes over the prompt."""
        return max(0, self.first_draft_ns - self.draft_ns + self.first_verify_ns - self.verify_ns)


@dataclass(frozen=True)
class SyncRounds:
    """How a synchronous run was made of rounds: the tokens that each made final, the drafts that a verify step sees.

    With `catches_up` the draft feeds the target's own token after a full round in a step of its own.
    """

    accepted: tuple[int, ...]
    steps: int  # of the draft, as recorded
    draft_tokens: int
    catches_up: bool

    @classmethod
    def of(cls, sync: SpeculativeRun) -> SyncRounds:
        """With the count of drafts that, catch-up steps included or not, makes up the recorded draft steps.

        Where none does, with as many drafts as were ever accepted at once.
        """
        steps, least = len(sync.draft_s), max(1, max(sync.accepted) - 1)
        for count in range(least, steps // len(sync.accepted) + 1):
            for catches_up in (False, True):
                found = cls(sync.accepted, steps, count, catches_up)
                if found.executed == steps:
                    return found
        return cls(sync.accepted, steps, least, catches_up=False)

    @property
    def by_round(self) -> list[int]:
        """Draft steps that the `sync` policy takes in each round."""
        full = [self.catches_up and made == self.draft_tokens + 1 for made in self.accepted[:-1]]
        return [self.draft_tokens + more for more in (False, *full)]

    @property
    def executed(self) -> int:
        """Draft steps that the `sync` policy takes."""
        return sum(self.by_round)

    @property
    def recorded_by_round(self) -> list[int]:
        """Recorded draft steps by round; spread evenly where the policy takes another number."""
        steps, rounds = self.steps, len(self.accepted)
        if steps == self.executed:
            return self.by_round
        return [steps * (index + 1) // rounds - steps * index // rounds for index in range(rounds)]

    @property
    def tokens(self) -> int:
        """Tokens of the answer, with the first one, which the pass over the prompt gives."""
        return 1 + sum(self.accepted)

    @property
    def wrong(self) -> frozenset[int]:
        """Positions of the text where the draft errs: the last token of every round that was not full."""
        ends = zip(accumulate(self.accepted), self.accepted, strict=True)
        return frozenset(end for end, made in ends if made <= self.draft_tokens)

    @property
    def acceptance(self) -> float:
        """The chance that a draft is right: maximum likelihood of a geometric distribution, cut off at all drafts."""
        right, wrong = sum(self.accepted) - len(self.accepted), len(self.wrong)
        return right / (right + wrong) if right + wrong else 0.0

    def text(self, tokens: int) -> LoggedText:
        """The text as a source of tokens, for an answer of so many."""
        return LoggedText(self.wrong, self.tokens, tokens - 1)


@dataclass(frozen=True)
class Replay:
    """One prompt's runs, replayed and predicted."""

    runs: PromptRuns
    times: StepTimes
    rounds: SyncRounds
    replayed: PairRun
    predicted: PairRun  # the synchronous run, from medians
    tokens: int  # that the asynchronous prediction is for
    asynchronous: PairRun

    @property
    def comparisons(self) -> dict[str, Comparison]:
        """Total times by name, predicted and measured in seconds."""
        sync, asynchronous = self.runs.sync, self.runs.asynchronous
        assert sync is not None
        measured_s = None if asynchronous is None else asynchronous.total_s
        return {
            "sync_replayed": Comparison("sync, replayed", self.replayed.total_ns / NS_PER_S, sync.total_s, "s"),
            "sync_predicted": Comparison("sync, from medians", self.predicted.total_ns / NS_PER_S, sync.total_s, "s"),
            "async_predicted": Comparison("async, predicted", self.asynchronous.total_ns / NS_PER_S, measured_s, "s"),
        }


def replay(runs: PromptRuns, file: Path) -> Replay:
    """Replay and predict one prompt that has a synchronous run. Raises `InputError` where that makes no sense."""
    sync = runs.sync
    assert sync is not None  # prompts without one are left out before
    rounds = SyncRounds.of(sync)
    times = step_times(sync, rounds.draft_tokens, runs.greedy, runs.asynchronous)
    tokens = sync.tokens if runs.asynchronous is None else runs.asynchronous.tokens
    require_sense(rounds, times, max(tokens, rounds.tokens), Fault(str(file), f"sample {runs.index}", "", ""))
    return Replay(
        runs,
        times,
        rounds,
        replayed(sync, rounds),
        predict_sync(times, rounds),
        tokens,
        predict_async(times, rounds, tokens),
    )


def require_sense(rounds: SyncRounds, times: StepTimes, tokens: int, place: Fault) -> None:
    """Refuse rounds that the `sync` policy does not draft, and runs without end."""
    faults = []
    if rounds.draft_tokens > MOST_DRAFTS:
        faults.append(replace(place, found=f"{rounds.draft_tokens} drafts a round", expected=f"at most {MOST_DRAFTS}"))
    steps = tokens * max(1, times.verify_ns // times.draft_ns)
    if steps > MOST_DRAFT_STEPS:
        found = f"up to {steps} draft steps: {tokens} tokens, each in {times.draft_ns / 1e6:g} ms of the draft and"
        found = f"{found} {times.verify_ns / 1e6:g} ms of the target"
        remedy = "Are the times of draft and target of one unit?"
        faults.append(replace(place, found=found, expected=f"at most {MOST_DRAFT_STEPS}", remedy=remedy))
    if faults:
        raise InputError(faults)


def step_times(
    sync: SpeculativeRun, draft_tokens: int, greedy: GreedyRun | None, asynchronous: SpeculativeRun | None
) -> StepTimes:
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
        draft_tokens=draft_tokens,
        first_draft_ns=ns(sync.draft_s[0]),
        first_verify_ns=ns(sync.verify_s[0]),
        handshake_ns=ns(handshake_s),
        start_ns=ns(start_s),
        start_from=start_from,
    )


def replayed(sync: SpeculativeRun, rounds: SyncRounds) -> PairRun:
    """The synchronous run by its own steps."""
    target = LoggedSteps(map(ns, sync.verify_s), len(sync.verify_s), single=False)
    draft = LoggedSteps(map(ns, sync.draft_s), rounds.executed, single=rounds.catches_up)
    return run_pair(Sync(name="sync", draft_tokens=rounds.draft_tokens), target, draft, rounds.text(rounds.tokens))


def predict_sync(times: StepTimes, rounds: SyncRounds) -> PairRun:
    """The synchronous run by the median steps, a handshake a round, and what the first steps waited."""
    share = Fraction(rounds.steps, rounds.executed)
    target = StepTable(0, lambda rows: times.verify_ns + times.handshake_ns)
    draft = StepTable(times.queue_ns, lambda rows: round(times.draft_ns * share) * (rows if rounds.catches_up else 1))
    return run_pair(Sync(name="sync", draft_tokens=rounds.draft_tokens), target, draft, rounds.text(rounds.tokens))


def predict_async(times: StepTimes, rounds: SyncRounds, tokens: int) -> PairRun:
    """AMUSD's run of an answer of so many tokens."""
    policy = Async(name="async", min_batch=LEAST_DRAFTS, max_ahead=AHEAD, pre_verify=True)
    target = StepTable(times.start_ns, lambda rows: times.rows_ns(rows) + times.handshake_ns)
    draft = StepTable(
        2 * times.start_ns,  # it begins when the target has its first token
        lambda rows: (times.draft_ns + times.handshake_ns) * (rows if rounds.catches_up else 1),
    )
    return run_pair(policy, target, draft, rounds.text(tokens))

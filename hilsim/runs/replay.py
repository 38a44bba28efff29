"""Runs for studies and searches, which need many: tokens from transcripts, times from fast timing where possible."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from hilsim.cost.memory import ledgers
from hilsim.describe.cross_checks import require_simulated
from hilsim.describe.digest import digest
from hilsim.describe.policy import Policy, PromptLookup, Suffix, TargetOnly
from hilsim.describe.scenario import Lengths, RecordedLogits
from hilsim.describe.setup import Setup
from hilsim.errors import TooShallow
from hilsim.measure.measures import measured
from hilsim.measure.screened import many_of, screened_measures
from hilsim.runs.run import Sources, content_key
from hilsim.runs.transcripts import recordable, text_of, transcript_for
from hilsim.screen.costs import Tables
from hilsim.screen.many import ManyRuns
from hilsim.screen.screening import Unscreenable, refusal, screened
from hilsim.screen.tokens import (
    Answers,
    recorded_answers,
    supposed_answers,
    synthetic_answers,
    with_lookup,
    with_lookup_by_luck,
)
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace
from hilsim.sources.transcript import TranscriptSource

T = TypeVar("T")
CACHE_SIZE = 8
ALONE = TargetOnly(name="target_only")


class RecentCache(OrderedDict[Hashable, T]):
    """A least-recently-used cache of a few values."""

    def put(self, key: Hashable, value: T) -> T:
        """Add a value, and drop the one that was not used for longest."""
        self[key] = value
        while len(self) > CACHE_SIZE:
            self.popitem(last=False)
        return value

    def take(self, key: Hashable) -> T | None:
        """The value under a key, if it is still there."""
        if key in self:
            self.move_to_end(key)
        return super().get(key)


@dataclass
class Timed:
    """One workload as arrays: its answers, also with lookup, and the cost tables of what it was timed on."""

    answers: Answers
    source: TranscriptSource | None
    tables: Tables = field(default_factory=Tables)
    lookups: dict[PromptLookup | Suffix, Answers] = field(default_factory=dict)

    def answers_for(self, setup: Setup) -> Answers:
        """The answers, with what is looked up where that is the policy."""
        policy = setup.scenario.policy
        if not isinstance(policy, PromptLookup | Suffix):
            return self.answers
        if policy not in self.lookups:
            self.lookups[policy] = (
                with_lookup_by_luck(self.answers, policy.draft_tokens)
                if self.source is None
                else with_lookup(setup, self.source, self.answers, policy)
            )
        return self.lookups[policy]


@dataclass(frozen=True)
class WorkloadSize:
    """How many requests, and the tokens of each one's prompt and answer."""

    requests: int
    prompt: int
    answer: int

    def by_chance(self, acceptance: float) -> tuple[str, ...]:
        """Values of `--set` for a workload of this size whose drafted tokens are accepted by chance."""
        lengths = f"requests: {self.requests}, prompt_tokens: {self.prompt}, output_tokens: {self.answer}"
        return f"workload={{{lengths}}}", f"logits={{kind: synthetic, acceptance: {acceptance}}}"

    def overrides(self) -> tuple[str, ...]:
        """The same with a policy that such a workload can have."""
        return (*self.by_chance(0.5), "policy={kind: sync, draft_tokens: 1}")


@dataclass(frozen=True)
class Compared:
    """The measures of the target alone and of the policy, and why events were needed ("" where screening did)."""

    alone: dict[str, float | None]
    ours: dict[str, float | None]
    why_events: str


SOURCES: RecentCache[Sources] = RecentCache()
BASELINES: RecentCache[Trace] = RecentCache()
UNDISTURBED: RecentCache[tuple[Trace, Trace]] = RecentCache()
TIMED: RecentCache[Timed] = RecentCache()


def replayed(setup: Setup) -> Setup:
    """The setup with a transcript in place of live logits, where a transcript can hold its tokens.

    It cannot where passengers interrupt: what a live model answers next depends on how much was heard.
    """
    require_simulated(setup, "studies and sweeps")
    interrupted = setup.scenario.speech is not None and setup.scenario.speech.barge_in is not None
    if not recordable(setup) or setup.scenario.policy.trees or interrupted:
        return setup
    logits = RecordedLogits(source="transcript", file=str(transcript_for(setup).resolve()))
    return replace(setup, scenario=setup.scenario.model_copy(update={"logits": logits}))


def run_of(setup: Setup) -> tuple[Trace, Trace]:
    """Traces of the target alone and of the policy, the same trace where the policy is `target_only`."""
    try:
        return both(replayed(setup))
    except TooShallow:  # the policy drafts deeper than transcripts record
        return both(setup)


def run_with_fault(setup: Setup) -> tuple[Trace, Trace, Trace]:
    """Traces of the target alone and of the policy, both without a set-up's faults, and of the policy with them."""
    try:
        return three(replayed(setup))
    except TooShallow:
        return three(setup)


def text_function(setup: Setup) -> Callable[[Sequence[int]], str]:
    """What decodes the tokens of a set-up's runs."""
    return sources_of(replayed(setup)).fresh().text


def three(setup: Setup) -> tuple[Trace, Trace, Trace]:
    """The three runs by event simulation; those without faults are made once."""
    clean = setup.without_faults
    key = digest(clean)
    sources = sources_of(setup)
    baseline, undisturbed = UNDISTURBED.take(key) or UNDISTURBED.put(key, both(clean))
    ours = simulate(setup, sources.fresh("policy"))
    sources.made.clear()
    return baseline, undisturbed, ours


def sources_of(setup: Setup) -> Sources:
    """The sources of a set-up's tokens, opened once."""
    content = content_key(setup)
    return SOURCES.take(content) or SOURCES.put(
        content, Sources(setup, remember=setup.scenario.logits.source == "live")
    )


def both(setup: Setup) -> tuple[Trace, Trace]:
    """Both runs by event simulation."""
    sources = sources_of(setup)
    key = but_its_policy(setup)
    baseline = BASELINES.take(key) or BASELINES.put(key, simulate(setup, sources.fresh("baseline"), ALONE))
    ours = baseline if setup.scenario.policy.name == "target_only" else simulate(setup, sources.fresh("policy"))
    sources.made.clear()  # else they accumulate over thousands of runs
    return baseline, ours


def but_its_policy(setup: Setup) -> str:
    """Digest of everything that the target-only run depends on."""
    return digest(with_policy(setup, ALONE))


def numbers_of(setup: Setup) -> dict[str, float | None]:
    """The measures of the policy's run: by fast timing where that is possible, else by events; equal where both are.

    Fast timing has those of `measure/screened.py`. Raises `HilsimError` where the setup cannot run.
    """
    try:
        return screened_numbers(replayed(setup))
    except (Unscreenable, TooShallow):
        return measured(setup, ledgers(setup), *run_of(setup))


def compared(setup: Setup) -> Compared:
    """The target alone beside the policy, by fast timing where that is possible. Raises as `numbers_of` does."""
    alone = with_policy(setup, ALONE)
    try:
        ready = replayed(setup)
        return Compared(screened_numbers(with_policy(ready, ALONE)), screened_numbers(ready), "")
    except (Unscreenable, TooShallow) as error:
        held, (baseline, ours) = ledgers(setup), run_of(setup)
        return Compared(measured(alone, held, baseline, baseline), measured(setup, held, baseline, ours), str(error))


def with_policy(setup: Setup, policy: Policy) -> Setup:
    """The setup under another policy."""
    return replace(setup, scenario=setup.scenario.model_copy(update={"policy": policy}))


def screened_numbers(setup: Setup) -> dict[str, float | None]:
    """The measures of a run without events. Raises `Unscreenable` or `TooShallow`."""
    policy = setup.scenario.policy
    if why := refusal(setup, policy):
        raise Unscreenable(why)
    timed = timed_workload(setup)
    answers = timed.answers_for(setup)
    baseline = screened(setup, ALONE, answers, timed.tables).requests
    runs = many_of(np.stack([baseline, screened(setup, policy, answers, timed.tables).requests]))
    drafting = policy.needs_draft and setup.draft is not None
    linked = setup.link is not None and (drafting or setup.application != setup.target.chip.name)
    alone_ns = runs.finished[:1].sum(axis=1)
    runs = ManyRuns(*(part[1:] for part in runs))
    links, over = [setup.link if linked else None], np.zeros(1, np.int64)
    found = screened_measures(setup, ledgers(setup), answers, alone_ns, runs, links, over, drafting=drafting)
    values = {name: float(value[0]) for name, value in found.items()}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def timed_workload(setup: Setup) -> Timed:
    """The answers of a set-up as arrays. Raises `Unscreenable` where they need live logits."""
    if setup.scenario.logits.source == "live":
        raise Unscreenable("live logits")
    key = content_key(setup)
    known = TIMED.take(key)
    if known is not None:
        return known
    if setup.scenario.logits.by_chance:
        if isinstance(setup.scenario.workload, Lengths):
            return TIMED.put(key, Timed(synthetic_answers(setup), None))
        return TIMED.put(key, Timed(supposed_answers(setup, text_of(setup)), None))
    source = Sources(setup).fresh()
    assert isinstance(source, TranscriptSource)
    return TIMED.put(key, Timed(recorded_answers(setup, source), source))


def workload_size(setup: Setup, requests: int, answer: int | None = None) -> WorkloadSize:
    """So many requests with the mean lengths of a setup's own, or with answers of `answer` tokens."""
    if answer is not None:
        return replace(workload_size(setup, requests), answer=answer)
    workload = setup.scenario.workload
    if isinstance(workload, Lengths):
        return WorkloadSize(requests, workload.prompt_tokens, workload.output_tokens)
    records = run_of(setup)[0].requests
    prompt = sum(record.prompt_tokens for record in records) / len(records)
    output = sum(record.output_tokens for record in records) / len(records)
    return WorkloadSize(requests, max(1, round(prompt)), max(1, round(output)))


def forget_costs() -> None:
    """Drop the costs of steps and messages: after a draw of figures they are not used again."""
    for timed in TIMED.values():
        timed.tables = Tables()

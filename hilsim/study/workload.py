"""One recorded workload under many policies, at many places, over many links: what runs have in common is kept."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt

from hilsim.describe.policy import Pearl, Policy, PromptLookup, Suffix, TargetOnly
from hilsim.describe.setup import Setup
from hilsim.errors import TooShallow
from hilsim.measure.screened import many_of
from hilsim.screen.costs import LAGS, ROWS, StepCosts, Tables, costs_of
from hilsim.screen.many import (
    LinkTimes,
    ManyRuns,
    RoleTimes,
    draft_times,
    joined,
    link_times,
    stacked,
    summable,
    target_times,
)
from hilsim.screen.request import FIELDS
from hilsim.screen.screening import screened, taped
from hilsim.screen.tape import Rounds, alike_everywhere, rounds_of
from hilsim.screen.tokens import Answers, recorded_answers, with_lookup
from hilsim.sources.transcript import TranscriptSource

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
ALONE = TargetOnly(name="target_only")


class Workload:
    """The answers of one transcript, and what is known of them: cost tables, rounds by policy, times by choice."""

    def __init__(self, setup: Setup, source: TranscriptSource):
        self.source = source
        self.answers = recorded_answers(setup, source)
        self.tables = Tables()
        self.lookups: dict[Policy, Answers] = {}
        self.rounds: dict[tuple[Policy, bool], Rounds | None] = {}  # None: deeper than recorded
        self.targets: dict[Hashable, RoleTimes] = {}
        self.drafts: dict[Hashable, RoleTimes] = {}
        self.links: dict[Hashable, LinkTimes] = {}
        self.lags, self.rows = LAGS, ROWS  # sizes of tables that are enough for all rounds so far

    def answers_for(self, setup: Setup, policy: Policy) -> Answers:
        """The answers, with what lookup proposes where the policy asks for that."""
        if not isinstance(policy, PromptLookup | Suffix):
            return self.answers
        if policy not in self.lookups:
            self.lookups[policy] = with_lookup(setup, self.source, self.answers, policy)
        return self.lookups[policy]

    def alone_ns(self, setup: Setup) -> int:
        """Nanoseconds of all requests with the target alone."""
        run = screened(setup, ALONE, self.answers, self.tables)
        return int(many_of(run.requests[None]).finished.sum())

    def is_too_deep(self, setup: Setup, policy: Policy) -> bool:
        """Whether a policy drafts further ahead than the transcript records, whatever its steps cost."""
        return shares_rounds(policy) and self.rounds_under(setup, policy) is None

    def rounds_under(self, setup: Setup, policy: Policy) -> Rounds | None:
        """The rounds of a policy that has the same everywhere; None where it drafts deeper than was recorded."""
        key = (policy, elsewhere(setup))
        if key not in self.rounds:
            try:
                found = rounds_of(*taped(setup, policy, self.answers, self.tables))
            except TooShallow:
                self.rounds[key] = None
                return None
            self.rounds[key] = found
            lags = max(found.target_lag.max(initial=0), found.draft_lag.max(initial=0))
            rows = max(part.max(initial=0) for part in (found.rows, found.sent, found.judged, found.draft_rows))
            while self.lags <= lags:
                self.lags *= 2
            while self.rows <= rows:
                self.rows += ROWS
        return self.rounds[key]

    def timed(self, setups: Sequence[Setup], policies: Sequence[Policy]) -> tuple[ManyRuns, Flags]:
        """The runs of every policy in every setup, setup by setup, and which of them the transcript is deep enough for.

        Setups differ in payload and link alone. No policy is refused (`screening.refusal`), none `is_too_deep`.
        """
        count, requests = len(setups) * len(policies), self.answers.requests
        first, clause, finished = (np.zeros((count, requests), np.int64) for _ in range(3))
        runs = ManyRuns(first, clause, finished, np.zeros((count, FIELDS), np.int64))
        kept = np.ones(count, dtype=bool)
        shared = [(place, policy) for place, policy in enumerate(policies) if shares_rounds(policy)]
        costs: list[StepCosts] = []
        if shared:
            rounds = [self.rounds_under(setups[0], policy) for _, policy in shared]
            costs = [self.costs_of(setup, shared[0][1]) for setup in setups]
            if all(summable(one) for one in costs):
                for (place, policy), mine in zip(shared, rounds, strict=True):
                    assert mine is not None, "too deep"
                    self.add(runs, place, len(policies), self.joined(mine, policy, costs))
            else:
                shared = []
        done = {place for place, _ in shared}
        for number, setup in enumerate(setups):
            for place, policy in enumerate(policies):
                if place in done:
                    continue
                at = number * len(policies) + place
                try:
                    run = screened(setup, policy, self.answers_for(setup, policy), self.tables)
                except TooShallow:
                    kept[at] = False
                    continue
                for whole, part in zip(runs, many_of(run.requests[None]), strict=True):
                    whole[at] = part[0]
        return runs, kept

    @staticmethod
    def add(runs: ManyRuns, place: int, step: int, found: ManyRuns) -> None:
        """Write the runs of one policy between those of the others."""
        for whole, part in zip(runs, found, strict=True):
            whole[place::step] = part

    def costs_of(self, setup: Setup, policy: Policy) -> StepCosts:
        """The costs of a setup, in tables large enough for all policies so far."""
        return costs_of(
            setup, policy, self.answers, self.tables, lags=self.lags, target_rows=self.rows, draft_rows=self.rows
        )

    def joined(self, rounds: Rounds, policy: Policy, costs: Sequence[StepCosts]) -> ManyRuns:
        """The runs of a policy over all links and payloads, added up."""
        one, at_once = costs[0], isinstance(policy, Pearl)
        key = (policy, one.elsewhere)
        target, draft = (*key, id(one.target_read), id(one.target_step)), (*key, id(one.draft_read), id(one.draft_step))
        # Tables keep every array, so its address is its own; of links all that decides the costs is in the key.
        links = (*key, one.draft_far, *((id(some.up_ns), some.propagation_ns, some.draft_decides) for some in costs))
        if target not in self.targets:
            self.targets[target] = target_times(rounds, one)
        if draft not in self.drafts:
            self.drafts[draft] = draft_times(rounds, one)
        if links not in self.links:
            self.links[links] = stacked([link_times(rounds, self.answers, some, at_once=at_once) for some in costs])
        return joined(rounds, self.targets[target], self.drafts[draft], self.links[links], one, at_once=at_once)


def shares_rounds(policy: Policy) -> bool:
    """Whether a policy's rounds are the same at all places, so that they are found once."""
    return policy.needs_draft and alike_everywhere(policy)


def elsewhere(setup: Setup) -> bool:
    """Whether the application runs on another chip than the target's, which decides what the draft's chip hears of."""
    return setup.application != setup.target.chip.name

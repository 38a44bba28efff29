"""Screens the configurations of a space, pair by pair of places: all links, payloads and policies of a pair at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from hilsim.cost.memory import Ledger, ledgers
from hilsim.describe.link import Link
from hilsim.describe.policy import Policy
from hilsim.describe.scenario import RecordedLogits
from hilsim.describe.setup import Placed, Setup
from hilsim.errors import TooShallow
from hilsim.measure.measures import MEASURED, measured
from hilsim.measure.screened import screened_measures
from hilsim.screen.many import ManyRuns
from hilsim.screen.request import ROUNDS
from hilsim.screen.screening import refusal, refusal_of_policy, refusal_of_setup
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace
from hilsim.sources.transcript import TranscriptSource, load
from hilsim.study.placements import (
    ALONE,
    LEAVES,
    TOO_DEEP,
    Ready,
    Site,
    TimedConfigurations,
    TimingJob,
    fit_of,
    on_chip,
    outside,
    overfull,
)
from hilsim.study.space import NOWHERE, links_between
from hilsim.study.workload import Workload
from hilsim.text.tokenizer import load_tokenizer


@dataclass(frozen=True)
class Crossing:
    """A rule and a link by their places, and the setup with both."""

    rule: int
    link: int
    setup: Setup


class Screen:
    """Screens the configurations of a space, target by target; caches tokens and cost tables between them."""

    def __init__(self, ready: Ready):
        self.ready = ready
        self.workloads: dict[Path, Workload] = {}
        self.between: dict[tuple[str, str], list[int]] = {}  # places of links, by the names of chips
        self.alone: tuple[Hashable, Trace] | None = None  # the target's run at the placement last run by events

    def of(self, job: TimingJob) -> tuple[TimingJob, TimedConfigurations]:
        """What comes of a job."""
        if job.policy is None:
            return job, self.of_target(job.rule, job.target)
        return job, self.by_events(job, self.ready.policies[job.policy])

    def size(self, job: TimingJob) -> int:
        """How many configurations a job is about."""
        return self.configurations(job.rule, job.target) if job.policy is None else 1

    def lost(self, job: TimingJob, why: str) -> tuple[TimingJob, TimedConfigurations]:
        """What is left of a job that no process survives: its configurations by that reason."""
        if job.policy is not None:
            return job, TimedConfigurations()  # screening has counted it
        return job, TimedConfigurations(left_out=Counter({why: self.configurations(job.rule, job.target)}))

    def of_target(self, rule: int, target: int) -> TimedConfigurations:
        """All configurations of one target choice, under a rule and those that generate the same text."""
        ready, left_out = self.ready, Counter[str]()
        site = ready.sites[rule][target]
        everything = self.configurations(rule, target)
        if isinstance(site, str):
            return TimedConfigurations(left_out=Counter({site: everything}))
        if outside(site.target) and not ready.cloud:
            return TimedConfigurations(left_out=Counter({LEAVES: everything}))
        for workload in self.workloads.values():
            workload.targets.clear()
        parts = [self.of_pair(rule, target, site, NOWHERE, None)]
        for place, draft in enumerate(ready.drafts[rule]):
            if isinstance(draft, str):
                left_out[draft if draft == LEAVES else f"draft: {draft}"] += self.ways(rule, target, place)
            else:
                parts.append(self.of_pair(rule, target, site, place, draft))
        return TimedConfigurations.joined([*parts, TimedConfigurations(left_out=left_out)])

    def configurations(self, rule: int, target: int) -> int:
        """How many configurations have this target choice, and one of the rules that generate this one's text."""
        ready = self.ready
        return sum(self.ways(rule, target, place) for place in range(len(ready.draft_chips))) + len(ready.alone)

    def ways(self, rule: int, target: int, place: int) -> int:
        """How many of them have this draft choice."""
        return len(self.ready.alike(rule)) * len(self.links(target, place)) * len(self.ready.policies)

    def links(self, target: int, draft: int) -> list[int]:
        """Places of the links that can join two roles at these places."""
        ready = self.ready
        key = ready.target_chips[target].name, ready.draft_chips[draft].name
        if key not in self.between:
            self.between[key] = links_between(ready.target_chips[target], ready.draft_chips[draft], ready.links)
        return self.between[key]

    def of_pair(self, rule: int, target: int, site: Site, place: int, draft: Placed | None) -> TimedConfigurations:
        """All payloads, links and policies of two roles at their places."""
        ready = self.ready
        policies = ready.alone if draft is None else ready.policies
        rules = (rule,) if draft is None else ready.alike(rule)
        links = [NOWHERE] if draft is None else self.links(target, place)
        count = len(rules) * len(links) * len(policies)
        if ready.application not in {role.chip.name for role in (site.target, draft) if role is not None}:
            why = f"the application runs on {ready.application}, which is not among the chips in use"
            return TimedConfigurations(left_out=Counter({why: count}))
        setup = self.setup_of(rule, site, draft)
        held = ledgers(setup)
        if full := overfull(held):
            return TimedConfigurations(left_out=Counter({full: count}))
        crossings = [
            Crossing(
                one,
                link,
                replace(setup, scenario=ready.scenarios[one], link=None if draft is None else self.link(link)),
            )
            for one in rules
            for link in links
        ]
        workload = self.workload_of(setup, self.transcript_of(rule, place))
        found = self.of_crossings(workload, crossings, held, policies, (target, place))
        if len(found):
            fit = fit_of(setup, held)
            found.measures |= {name: np.full(len(found), value) for name, value in fit.items()}
        return found

    def of_crossings(
        self, workload: Workload, crossings: Sequence[Crossing], held: dict[str, Ledger], policies: Sequence[Policy],
        at: tuple[int, int],
    ) -> TimedConfigurations:  # fmt: skip
        """Every payload, link and policy, with both roles at their places."""
        left_out: Counter[str] = Counter()
        open_ones = []
        for one in crossings:
            crossing = one.setup.draft is not None or one.setup.application != one.setup.target.chip.name
            if why := refusal_of_setup(one.setup, crossing):
                left_out[f"not screened: {why}"] += len(policies)
            else:
                open_ones.append(one)
        if not open_ones:
            return TimedConfigurations(left_out=left_out)
        setup = open_ones[0].setup
        timed = []
        for number, policy in enumerate(policies):
            if why := refusal_of_policy(setup, policy):
                left_out[f"not screened: {why}"] += len(open_ones)
            elif workload.is_too_deep(setup, policy):
                left_out[TOO_DEEP] += len(open_ones)
            else:
                timed.append((number, policy))
        if not timed:
            return TimedConfigurations(left_out=left_out)
        baselines = np.array([workload.alone_ns(one.setup) for one in open_ones])
        setups = [one.setup for one in open_ones]
        runs, kept = workload.timed(setups, [policy for _, policy in timed])
        first_policy = 0 if setup.draft is not None else len(self.ready.policies)
        numbers = np.array([first_policy + number for number, _ in timed])
        crossed = np.repeat(np.arange(len(open_ones)), len(timed))
        places = np.empty((len(crossed), 5), np.int64)
        places[:, :2] = at
        places[:, 2] = np.array([one.link for one in open_ones])[crossed]
        places[:, 3] = np.array([one.rule for one in open_ones])[crossed]
        places[:, 4] = np.tile(numbers, len(open_ones))
        if not kept.all():
            left_out[TOO_DEEP] += int((~kept).sum())
            runs, crossed, places = ManyRuns(*(part[kept] for part in runs)), crossed[kept], places[kept]
        if not len(places):
            return TimedConfigurations(left_out=left_out)
        links = [*dict.fromkeys(one.setup.link for one in open_ones)]
        over = np.array([links.index(one.setup.link) for one in open_ones])[crossed]
        measures = screened_measures(
            setup, held, workload.answers, baselines[crossed], runs, links, over, drafting=setup.draft is not None
        )
        return TimedConfigurations(places, measures, left_out, int(runs.totals[:, ROUNDS].sum()))

    def setup_of(self, rule: int, site: Site, draft: Placed | None) -> Setup:
        """Both roles at their places, without a link yet."""
        ready = self.ready
        return replace(
            ready.base,
            target=site.target,
            draft=draft,
            networks=site.networks,
            application=ready.application,
            scenario=ready.scenarios[rule],
            link=None,
        )

    def transcript_of(self, rule: int, place: int) -> Path:
        """The transcript of a rule and a draft."""
        return self.ready.target_transcripts[rule] if place == NOWHERE else self.ready.transcripts[rule][place]

    def workload_of(self, setup: Setup, transcript: Path) -> Workload:
        """The answers of a transcript, read once."""
        if transcript not in self.workloads:
            assert setup.target.stand_in is not None
            source = TranscriptSource(load(transcript), load_tokenizer(setup.target.stand_in, recorded=True))
            self.workloads[transcript] = Workload(setup, source)
        return self.workloads[transcript]

    def by_events(self, job: TimingJob, policy: Policy) -> TimedConfigurations:
        """One configuration, event by event; `left_out` takes back what screening counted of it."""
        ready = self.ready
        site, draft = ready.sites[job.rule][job.target], ready.drafts[job.rule][job.draft]
        assert isinstance(site, Site)
        assert isinstance(draft, Placed)
        setup = replace(self.setup_of(job.rule, site, draft), link=self.link(job.link))
        transcript = self.transcript_of(job.rule, job.draft)
        logits = RecordedLogits(source="transcript", file=str(transcript))
        setup = replace(setup, scenario=setup.scenario.model_copy(update={"policy": policy, "logits": logits}))
        left_out = Counter({f"not screened: {refusal(setup, policy)}": -1})
        held = ledgers(setup)
        try:
            source = self.workload_of(setup, transcript).source
            if self.alone is None or self.alone[0] != job.alike:
                self.alone = job.alike, simulate(setup, source, ALONE)
            numbers = measured(setup, held, self.alone[1], simulate(setup, source))
        except TooShallow:
            left_out[TOO_DEEP] += 1
            return TimedConfigurations(left_out=left_out)
        found = {name: np.array([np.nan if numbers[name] is None else numbers[name]]) for name in MEASURED}
        found |= {name: np.array([value]) for name, value in fit_of(setup, held).items()}
        places = np.array([(job.target, job.draft, job.link, job.rule, job.policy)], dtype=np.int64)
        return TimedConfigurations(places, found, left_out, by_events=1)

    def link(self, place: int) -> Link:
        """A link by its place; the one on the chip where it has none."""
        return on_chip() if place == NOWHERE else self.ready.links[place]

"""Loads and compiles the choices of a space of placements, counts the ones that cannot run, and screens the rest.

What cannot run is counted in configurations, by reason; nothing is left out without one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hilsim.compiler.compile_check import compiled, load_compiled
from hilsim.cost.fit import quick_verdict
from hilsim.cost.memory import Ledger, ledgers
from hilsim.cost.published import exceeded
from hilsim.describe.catalogue import load_named
from hilsim.describe.link import Link
from hilsim.describe.load import load_setup
from hilsim.describe.policy import Policy, PromptLookup, Suffix, TargetOnly
from hilsim.describe.scenario import RecordedLogits, Scenario
from hilsim.describe.setup import Placed, PlacedNetwork, Setup
from hilsim.errors import CompileError, InputError, TooShallow
from hilsim.measure.measures import MEASURED, measured
from hilsim.measure.screened import screened_measures
from hilsim.places import DATA
from hilsim.progress import Notify
from hilsim.screen.costs import Tables
from hilsim.screen.request import ROUNDS
from hilsim.screen.screening import Unscreenable, refusal, screened
from hilsim.screen.tokens import Answers, recorded_answers, with_lookup
from hilsim.sim.run import simulate
from hilsim.sim.trace import Trace
from hilsim.sources.transcript import TranscriptSource, load
from hilsim.study.space import Choice, Space
from hilsim.text.tokenizer import load_tokenizer

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
ALONE = TargetOnly(name="target_only")
NOWHERE = -1  # a configuration without a draft or a link
SURE = "fits_over_all_ranges"  # a measure of 1 or 0: whether it fits with every size at its unfavourable end
WITHIN = "within_published_limits"
TOO_DEEP = "drafts further ahead than transcripts record"
LEAVES = "conversations would leave the car; --cloud allows it"
AXES = ("target", "draft", "link", "rules", "policy")


@dataclass(frozen=True)
class Site:
    """A target at one place, with the networks that go with it."""

    target: Placed
    networks: tuple[PlacedNetwork, ...]


@dataclass(frozen=True)
class Ready:
    """A space with everything loaded: of each choice what it places, or why it cannot.

    `sites` and `drafts` are by rule, as what a graph ends in depends on it. `transcripts` are by rule and draft,
    `target_transcripts`, one a rule, hold the tokens of the target alone. Without `cloud` no role is placed outside
    the car, whichever it is.
    """

    base: Setup
    application: str
    cloud: bool
    scenarios: tuple[Scenario, ...]
    sites: tuple[tuple[Site | str, ...], ...]
    drafts: tuple[tuple[Placed | str, ...], ...]
    transcripts: tuple[tuple[Path, ...], ...]
    target_transcripts: tuple[Path, ...]
    links: tuple[Link, ...]
    policies: tuple[Policy, ...]
    alone: tuple[Policy, ...]


@dataclass(frozen=True)
class TimingJob:
    """A share of the work: all that is screened of a target under a rule; or one policy at one placement, by events."""

    rule: int
    target: int
    draft: int = NOWHERE
    link: int = NOWHERE
    policy: int | None = None

    @property
    def key(self) -> str:
        """A name of its own."""
        return f"{self.rule}/{self.target}/{self.draft}/{self.link}/{self.policy}"

    @property
    def alike(self) -> Hashable:
        """The same for jobs that share the run of the target alone."""
        return self.key if self.policy is None else (self.rule, self.target, self.draft, self.link)


@dataclass
class TimedConfigurations:
    """Configurations that can run, (configurations, 5) places on `AXES`, with their measures; the others by reason."""

    places: Ints = field(default_factory=lambda: np.zeros((0, len(AXES)), np.int64))
    measures: dict[str, Floats] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    rounds: int = 0  # that were screened
    by_events: int = 0  # configurations that were run so

    def __len__(self) -> int:
        return len(self.places)

    @staticmethod
    def joined(parts: Sequence[TimedConfigurations]) -> TimedConfigurations:
        """All parts in their order."""
        whole = TimedConfigurations(
            left_out=sum((part.left_out for part in parts), Counter()),
            rounds=sum(part.rounds for part in parts),
            by_events=sum(part.by_events for part in parts),
        )
        filled = [part for part in parts if len(part)]
        if filled:
            whole.places = np.concatenate([part.places for part in filled])
            names = filled[0].measures
            whole.measures = {name: np.concatenate([part.measures[name] for part in filled]) for name in names}
        return whole


def load_space(
    file: Path,
    overrides: Sequence[str],
    space: Space,
    links: Sequence[Link],
    base: Setup,
    transcript: Callable[[Setup], Path],
    notify: Notify,
    *,
    cloud: bool,
) -> Ready:
    """Load and compile every choice once. Raises `InputError` where the scenario itself is at fault."""
    scenarios: list[Scenario] = []
    sites, drafts, transcripts, target_transcripts = [], [], [], []
    for rule in space.rules:
        given = [*overrides, *rule.overrides]
        scenarios.append(load_setup(file, given).scenario)
        sites.append(tuple(site_at(file, given, choice, notify) for choice in space.targets))
        placed = [draft_at(file, given, choice, base.target.chip.name, notify, cloud=cloud) for choice in space.drafts]
        recorded: dict[str, Path | str] = {}
        for draft in placed:
            if isinstance(draft, Placed) and str(draft.stand_in) not in recorded:
                notify(f"drafts of {draft.placement.stand_in} under rule {rule.name}")
                try:
                    recorded[str(draft.stand_in)] = transcript(replace(base, draft=draft, scenario=scenarios[-1]))
                except InputError as error:  # the scenario's own transcript, which knows nothing of this draft
                    recorded[str(draft.stand_in)] = f"nothing is recorded of it: {why(error)}"
        sources = [draft if isinstance(draft, str) else recorded[str(draft.stand_in)] for draft in placed]
        drafts.append(tuple(v if isinstance(v, str) else d for v, d in zip(sources, placed, strict=True)))
        transcripts.append(tuple(Path() if isinstance(source, str) else source for source in sources))
        known = next((path for path in transcripts[-1] if path != Path()), None)
        target_transcripts.append(known or transcript(replace(base, scenario=scenarios[-1])))
    return Ready(
        base,
        base.scenario.application or base.target.chip.name,
        cloud,
        tuple(scenarios),
        tuple(sites),
        tuple(drafts),
        tuple(transcripts),
        tuple(target_transcripts),
        tuple(links),
        tuple(load_setup(file, [*overrides, *choice.overrides]).scenario.policy for choice in space.policies),
        tuple(load_setup(file, [*overrides, *choice.overrides]).scenario.policy for choice in space.alone),
    )


def site_at(file: Path, given: Sequence[str], choice: Choice, notify: Notify) -> Site | str:
    """The target at one place, after its compile check; or why it cannot be there."""
    no_draft = ("draft=null", "link=null", "application=null", "policy={kind: target_only}")
    try:
        alone = load_setup(file, [*given, *no_draft, *choice.overrides])
        if full := overfull(ledgers(alone)):
            return full  # without asking its compiler, which takes seconds
        setup = compiled(alone, notify)
    except (CompileError, InputError) as error:
        return why(error)
    return Site(setup.target, setup.networks)


def overfull(held: dict[str, Ledger]) -> str:
    """Which memories are too small, or ""."""
    full = [ledger.chip for ledger in held.values() if not ledger.fits]
    return f"does not fit into the memory of {' and '.join(full)}" if full else ""


def draft_at(
    file: Path, given: Sequence[str], choice: Choice, home: str, notify: Notify, *, cloud: bool
) -> Placed | str:
    """A draft at one place, after its compile check, beside the scenario's own target; or why it cannot be there."""
    link = "link=on-chip" if choice.parts["chip"] == home else "link=ideal"
    given = [*given, "application=null", "networks=[]", *choice.overrides, link]
    try:
        setup = load_setup(file, given)
        if setup.draft is not None and outside(setup.draft) and not cloud:
            return LEAVES
        setup = load_compiled(file, given, notify)
    except (CompileError, InputError) as error:
        return why(error)
    assert setup.draft is not None
    return setup.draft


def outside(role: Placed) -> bool:
    """Whether a role runs outside the car, so that conversations leave it."""
    return role.chip.place == "cloud"


def why(error: CompileError | InputError) -> str:
    """A refusal in one line."""
    if isinstance(error, InputError):
        return error.faults[0].found
    return "a compiler refuses it: " + str(error).splitlines()[-1].strip().split(". Remedy")[0]


def fit_of(setup: Setup, held: dict[str, Ledger]) -> dict[str, float]:
    """How surely a placement fits, as measures of 1 or 0."""
    return {
        SURE: float(quick_verdict(setup, held) == "fits"),
        WITHIN: float(not any(exceeded(role, setup.scenario.context_tokens) for role in setup.roles.values())),
    }


class Screen:
    """Screens the configurations of a space, target by target; caches tokens and cost tables between them."""

    def __init__(self, ready: Ready):
        self.ready = ready
        self.tables: dict[Path, Tables] = {}
        self.sources: dict[Path, TranscriptSource] = {}
        self.alone: tuple[Hashable, Trace] | None = None  # the target's run at the placement last run by events
        self.words: dict[tuple[Path, PromptLookup | Suffix | None], Answers] = {}

    def of(self, job: TimingJob) -> tuple[TimingJob, TimedConfigurations]:
        """What comes of a job."""
        if job.policy is None:
            return job, self.of_target(job.rule, job.target)
        return job, self.by_events(job, self.ready.policies[job.policy])

    def lost(self, job: TimingJob, why: str) -> tuple[TimingJob, TimedConfigurations]:
        """What is left of a job that no process survives: its configurations by that reason."""
        if job.policy is not None:
            return job, TimedConfigurations()  # screening has counted it
        count = self.configurations(self.ready.sites[job.rule][job.target], job.rule)
        return job, TimedConfigurations(left_out=Counter({why: count}))

    def of_target(self, rule: int, target: int) -> TimedConfigurations:
        """All configurations of one target choice under one rule."""
        ready, left_out = self.ready, Counter[str]()
        site = ready.sites[rule][target]
        everything = self.configurations(site, rule)
        if isinstance(site, str):
            return TimedConfigurations(left_out=Counter({site: everything}))
        if outside(site.target) and not ready.cloud:
            return TimedConfigurations(left_out=Counter({LEAVES: everything}))
        parts = [self.of_pair(rule, target, site, NOWHERE, None)]
        for place, draft in enumerate(ready.drafts[rule]):
            if isinstance(draft, str):
                left_out[draft if draft == LEAVES else f"draft: {draft}"] += self.ways(site.target, rule, place)
            else:
                parts.append(self.of_pair(rule, target, site, place, draft))
        return TimedConfigurations.joined([*parts, TimedConfigurations(left_out=left_out)])

    def configurations(self, site: Site | str, rule: int) -> int:
        """How many configurations have this target choice."""
        ready = self.ready
        here = None if isinstance(site, str) else site.target
        return sum(self.ways(here, rule, place) for place in range(len(ready.drafts[rule]))) + len(ready.alone)

    def ways(self, target: Placed | None, rule: int, place: int) -> int:
        """How many configurations have this target and draft choice."""
        draft = self.ready.drafts[rule][place]
        return len(self.links(target, None if isinstance(draft, str) else draft)) * len(self.ready.policies)

    def links(self, target: Placed | None, draft: Placed | None) -> list[int]:
        """Places of the links that can join two roles; `NOWHERE` is the one on the chip itself."""
        if target is not None and draft is not None and target.chip.name == draft.chip.name:
            return [NOWHERE]
        far = any(role is not None and outside(role) for role in (target, draft))
        wanted = ("anywhere", "cloud" if far else "car")
        return [place for place, link in enumerate(self.ready.links) if link.reaches in wanted]

    def of_pair(self, rule: int, target: int, site: Site, place: int, draft: Placed | None) -> TimedConfigurations:
        """All links and policies of two roles at their places."""
        ready = self.ready
        policies = ready.alone if draft is None else ready.policies
        links = [NOWHERE] if draft is None else self.links(site.target, draft)
        count = len(policies) * len(links)
        if ready.application not in {role.chip.name for role in (site.target, draft) if role is not None}:
            return TimedConfigurations(
                left_out=Counter(
                    {f"the application runs on {ready.application}, which is not among the chips in use": count}
                )
            )
        setup = self.setup_of(rule, site, draft)
        held = ledgers(setup)
        if full := overfull(held):
            return TimedConfigurations(left_out=Counter({full: count}))
        transcript, fit = self.transcript_of(rule, place), fit_of(setup, held)
        parts = []
        for link in links:
            joined = setup if draft is None else replace(setup, link=self.link(link))
            found = self.of_link(joined, held, transcript, policies, (target, place, link, rule))
            if len(found):
                found.measures |= {name: np.full(len(found), value) for name, value in fit.items()}
            parts.append(found)
        return TimedConfigurations.joined(parts)

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
            source = self.source_of(setup, transcript)
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

    def of_link(
        self, setup: Setup, held: dict[str, Ledger], transcript: Path, policies: Sequence[Policy], at: tuple[int, ...]
    ) -> TimedConfigurations:
        """Every policy, with everything else fixed."""
        words, tables = self.words_of(setup, transcript), self.tables.setdefault(transcript, Tables())
        try:
            baseline = screened(setup, ALONE, words, tables).requests
        except Unscreenable as error:
            return TimedConfigurations(left_out=Counter({f"not screened: {error}": len(policies)}))
        left_out: Counter[str] = Counter()
        runs, places = [], []
        for place, policy in enumerate(policies):
            mine = self.words_of(setup, transcript, policy)
            try:
                runs.append(screened(setup, policy, mine, tables).requests)
            except Unscreenable as error:
                left_out[f"not screened: {error}"] += 1
                continue
            except TooShallow:
                left_out[TOO_DEEP] += 1
                continue
            number = place if setup.draft is not None else len(self.ready.policies) + place
            places.append((*at, number))
        if not runs:
            return TimedConfigurations(left_out=left_out)
        stacked = np.stack(runs)
        drafting = setup.draft is not None
        linked = setup.link is not None
        measures = screened_measures(setup, held, words, baseline, stacked, drafting=drafting, linked=linked)
        rounds = int(stacked[:, :, ROUNDS].sum())
        return TimedConfigurations(np.array(places, dtype=np.int64), measures, left_out, rounds)

    def source_of(self, setup: Setup, said: Path) -> TranscriptSource:
        """A transcript, read once."""
        if said not in self.sources:
            assert setup.target.stand_in is not None
            self.sources[said] = TranscriptSource(load(said), load_tokenizer(setup.target.stand_in))
        return self.sources[said]

    def words_of(self, setup: Setup, said: Path, policy: Policy = ALONE) -> Answers:
        """What a transcript says, with what lookup proposes where that is asked for."""
        lookup = policy if isinstance(policy, PromptLookup | Suffix) else None
        key = (said, lookup)
        if key not in self.words:
            source = self.source_of(setup, said)
            if lookup is not None:
                self.words[key] = with_lookup(setup, source, self.words_of(setup, said), lookup)
            else:
                self.words[key] = recorded_answers(setup, source)
        return self.words[key]


@cache
def on_chip() -> Link:
    """The link between two units of one chip."""
    return load_named("link", Link, "on-chip", DATA / "scenarios")

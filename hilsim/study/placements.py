"""Loads and compiles the choices of a space of placements, counts the ones that cannot run, and screens the rest.

What cannot run is counted in configurations, by reason; nothing is left out without one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, reduce
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hilsim.compiler.compile_check import compiled
from hilsim.cost.fit import quick_verdict
from hilsim.cost.memory import Ledger, ledgers
from hilsim.cost.published import exceeded
from hilsim.describe.catalogue import load_named
from hilsim.describe.chip import Chip
from hilsim.describe.complaints import validated
from hilsim.describe.link import Link
from hilsim.describe.load import load_setup, with_override
from hilsim.describe.policy import Policy, TargetOnly
from hilsim.describe.scenario import Scenario
from hilsim.describe.setup import Placed, PlacedNetwork, Setup
from hilsim.describe.strict_yaml import Document, parse
from hilsim.errors import CompileError, InputError
from hilsim.files import read_text
from hilsim.places import DATA
from hilsim.progress import Notify
from hilsim.study.space import NOWHERE, Choice, Space

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
ALONE = TargetOnly(name="target_only")
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
    the car, whichever it is. `texts` are by rule: what its `Choice` calls the text.
    """

    base: Setup
    application: str
    cloud: bool
    scenarios: tuple[Scenario, ...]
    sites: tuple[tuple[Site | str, ...], ...]
    drafts: tuple[tuple[Placed | str, ...], ...]
    transcripts: tuple[tuple[Path, ...], ...]
    target_transcripts: tuple[Path, ...]
    target_chips: tuple[Chip, ...]
    draft_chips: tuple[Chip, ...]
    links: tuple[Link, ...]
    policies: tuple[Policy, ...]
    alone: tuple[Policy, ...]
    texts: tuple[str, ...]

    def alike(self, rule: int) -> tuple[int, ...]:
        """The rules that generate the same text as this one, and place the same models: other payloads."""
        return tuple(place for place, text in enumerate(self.texts) if text == self.texts[rule])


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
    interrupted: bool = False  # before all were tried

    def __len__(self) -> int:
        return len(self.places)

    @staticmethod
    def joined(parts: Sequence[TimedConfigurations]) -> TimedConfigurations:
        """All parts in their order."""
        left_out: Counter[str] = Counter()
        for part in parts:
            left_out.update(part.left_out)  # `+` would drop what a part takes back
        whole = TimedConfigurations(
            left_out=left_out,
            rounds=sum(part.rounds for part in parts),
            by_events=sum(part.by_events for part in parts),
            interrupted=any(part.interrupted for part in parts),
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
    base: Setup,
    transcript: Callable[[Setup], Path],
    notify: Notify,
    *,
    cloud: bool,
) -> Ready:
    """Load and compile every choice once. Raises `InputError` where the scenario itself is at fault."""
    scenarios: list[Scenario] = []
    sites, drafts, transcripts, target_transcripts = [], [], [], []
    placed: dict[str, tuple[tuple[Site | str, ...], tuple[Placed | str, ...]]] = {}  # by what graphs end in
    texts: dict[str, tuple[tuple[Path | str, ...], Path]] = {}
    for rule in space.rules:
        given = [*overrides, *rule.overrides]
        scenarios.append(load_setup(file, given).scenario)
        ending, text = scenarios[-1].accept.model_dump_json(), rule.parts["text"]
        if ending not in placed:
            mine = tuple(site_at(file, given, choice, notify) for choice in space.targets)
            home = base.target.chip.name
            placed[ending] = mine, tuple(draft_at(file, given, one, home, notify, cloud=cloud) for one in space.drafts)
        if text not in texts:
            under = replace(base, scenario=scenarios[-1])
            found = transcripts_of(under, placed[ending][1], f"rule {rule.name}", transcript, notify)
            known = next((path for path in found if isinstance(path, Path)), None)
            texts[text] = found, known or transcript(under)
        recorded, of_target = texts[text]
        sites.append(placed[ending][0])
        drafts.append(tuple(v if isinstance(v, str) else d for v, d in zip(recorded, placed[ending][1], strict=True)))
        transcripts.append(tuple(Path() if isinstance(source, str) else source for source in recorded))
        target_transcripts.append(of_target)
    return Ready(
        base,
        base.scenario.application or base.target.chip.name,
        cloud,
        tuple(scenarios),
        tuple(sites),
        tuple(drafts),
        tuple(transcripts),
        tuple(target_transcripts),
        tuple(space.chips[choice.parts["chip"]] for choice in space.targets),
        tuple(space.chips[choice.parts["chip"]] for choice in space.drafts),
        space.described_links,
        tuple(policies_of(file, overrides, space.policies)),
        tuple(policies_of(file, overrides, space.alone)),
        tuple(rule.parts["text"] for rule in space.rules),
    )


def transcripts_of(
    under: Setup, placed: Sequence[Placed | str], what: str, transcript: Callable[[Setup], Path], notify: Notify
) -> tuple[Path | str, ...]:
    """The transcript of every draft that can be placed, or why there is none."""
    recorded: dict[str, Path | str] = {}
    for draft in placed:
        if isinstance(draft, Placed) and str(draft.stand_in) not in recorded:
            notify(f"drafts of {draft.placement.stand_in} under {what}")
            try:
                recorded[str(draft.stand_in)] = transcript(replace(under, draft=draft))
            except InputError as error:  # the scenario's own transcript, which knows nothing of this draft
                recorded[str(draft.stand_in)] = f"nothing is recorded of it: {why(error)}"
    return tuple(draft if isinstance(draft, str) else recorded[str(draft.stand_in)] for draft in placed)


def policies_of(file: Path, overrides: Sequence[str], choices: Sequence[Choice]) -> Iterator[Policy]:
    """The policies of choices, without looking up everything else that a scenario names."""
    document = with_overrides(parse(read_text(file), str(file)), overrides)
    for choice in choices:
        yield validated(Scenario, with_overrides(document, choice.overrides), str(file)).policy


def with_overrides(document: Document, overrides: Sequence[str]) -> Document:
    """A scenario with values of `--set`."""
    return reduce(with_override, overrides, document)


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
    try:
        setup = load_setup(file, [*given, "application=null", "networks=[]", *choice.overrides, link])
        if setup.draft is not None and outside(setup.draft) and not cloud:
            return LEAVES
        setup = compiled(setup, notify)
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


@cache
def on_chip() -> Link:
    """The link between two units of one chip."""
    return load_named("link", Link, "on-chip", DATA / "scenarios")

"""A scenario tried by hand: its main choices, each a list of values of `--set`, and the answer for one of each.

Nothing but places in these lists chooses, so a page that sets them names no file and no code.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hilsim.compiler.compile_check import plans_of, require, with_plans
from hilsim.compiler.plan import Plan
from hilsim.cost.memory import Ledger, ledgers
from hilsim.cost.verdict import PlacementRemedy, PlacementVerdict
from hilsim.cost.verdict import check as verdict_on
from hilsim.describe.acceptance_profile import library
from hilsim.describe.catalogue import described
from hilsim.describe.cross_checks import require_simulated
from hilsim.describe.link import Link
from hilsim.describe.load import load_setup
from hilsim.describe.outside import outside_car
from hilsim.describe.scenario import Lengths
from hilsim.describe.setup import Setup
from hilsim.errors import HilsimError, InputError, PlacementError
from hilsim.runs.evaluate import Numbers, Refused
from hilsim.runs.replay import compared, run_of, workload_size
from hilsim.sim.faults.reload import require_known
from hilsim.sim.trace import Trace
from hilsim.study.grids import LADE, Choice, all_payloads, other_policies, policy, rules_for, self_drafting
from hilsim.study.space import WIDTHS

DRAFTED = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12)
STATED = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
COUNTED = ("sync", "pearl", "pipelined", "prompt_lookup", "suffix", "cascade")  # policies with so many drafted tokens


@dataclass(frozen=True)
class Control:
    """One kind of choice. The first value is the scenario's own and changes nothing."""

    key: str
    title: str
    choices: tuple[Choice, ...]
    note: str = ""


@dataclass(frozen=True)
class HandAnswer:
    """What a choice of each kind gives: numbers, or why it cannot run.

    `alone` are the numbers of the target alone. `why_events` is why they are from the event simulation, "" where they
    were screened. `cpu_ms` is the processor time from the choice to the numbers.
    """

    overrides: tuple[str, ...]
    cpu_ms: float
    setup: Setup | None = None
    plans: tuple[Plan, ...] = ()
    held: Mapping[str, Ledger] | None = None
    alone: Numbers | None = None
    ours: Numbers | None = None
    why_events: str = ""
    refused: Refused | None = None


class ByHand:
    """A scenario whose choices are set by hand; answers differ from `answer({})`, the scenario's own."""

    def __init__(self, file: Path, overrides: Sequence[str]):
        self.file, self.given = file, tuple(overrides)
        self.setup = load_setup(file, overrides)
        require_simulated(self.setup, "exploring by hand")
        self.own = self.answer({})
        self.controls = tuple(control for control in controls_of(self.setup, self.own) if len(control.choices) > 1)

    def chosen(self, places: Mapping[str, int]) -> list[str]:
        """The values of `--set` of one choice of each kind; a kind that is not given has the scenario's own.

        Raises `KeyError` for a kind and `IndexError` for a place that there is not.
        """
        found: list[str] = []
        if not places:
            return found
        known = {control.key: control for control in self.controls}
        for key, place in places.items():
            if not 0 <= place < len(known[key].choices):
                raise IndexError(f"{key} has no choice {place}")
        for control in self.controls:
            found += control.choices[places.get(control.key, 0)].overrides
        return found

    def counts_drafts(self, places: Mapping[str, int]) -> bool:
        """Whether the policy that is chosen has a number of drafted tokens. Raises as `chosen` does."""
        self.chosen(places)
        control = next((control for control in self.controls if control.key == "policy"), None)
        place = places.get("policy", 0)
        if control is None or not place:
            return hasattr(self.setup.scenario.policy, "draft_tokens")
        return control.choices[place].group in COUNTED

    def answer(self, places: Mapping[str, int]) -> HandAnswer:
        """The answer for one choice of each kind; what cannot run is an answer, too."""
        began, overrides = time.process_time(), (*self.given, *self.chosen(places))

        def spent() -> float:
            return 1000 * (time.process_time() - began)

        try:
            loaded = load_setup(self.file, overrides)
            plans = plans_of(loaded)
            require(loaded, plans)
            setup = with_plans(loaded, plans)
            require_known(setup)
            held = ledgers(setup)
            PlacementVerdict(setup, held, ()).require()
            found = compared(setup)
        except HilsimError as error:
            return HandAnswer(overrides, spent(), refused=Refused(error, str(self.file)))
        listed = tuple(plans.values())
        return HandAnswer(overrides, spent(), setup, listed, held, found.alone, found.ours, found.why_events)

    def remedies(self, answer: HandAnswer) -> tuple[PlacementRemedy, ...]:
        """The changes that make a placement fit which does not; none where that is not what is wrong."""
        if answer.refused is None or not isinstance(answer.refused.error, PlacementError):
            return ()
        setup = load_setup(self.file, answer.overrides)
        return verdict_on(with_plans(setup, plans_of(setup)), answer.overrides, load_setup).remedies


def traces_of(answer: HandAnswer) -> tuple[Trace, Trace]:
    """The event simulation of an answer with numbers: the target alone, and the policy."""
    assert answer.setup is not None, "what is refused does not run"
    return run_of(answer.setup)


def controls_of(setup: Setup, answer: HandAnswer) -> Iterator[Control]:
    """The kinds of choice that a scenario has, whose own answer is given."""
    scenario, target = setup.scenario, setup.target
    yield Control("policy", "policy", (own(scenario.policy.name), *policies_beside(setup)))
    counts = getattr(scenario.policy, "draft_tokens", None)
    drafted = tuple(Choice(str(count), (f"policy.draft_tokens={count}",)) for count in DRAFTED if count != counts)
    note = f"counts for {', '.join(COUNTED)}"
    yield Control("drafted", "drafted tokens", (own("the policy's" if counts is None else counts), *drafted), note)
    if setup.link is not None and not setup.link.on_chip:
        links = tuple(Choice(name, (f"link={name}",)) for name in other_links(setup))
        yield Control("link", "link", (own(setup.link.name), *links))
    if (widths := target.widths) is not None:
        sets = [(*verify, widths[-1]) for verify in WIDTHS]
        graphs = tuple(Choice(joined(one), (f"target.widths={list(one)}",)) for one in sets if one != widths)
        note = "rows of the target's compiled graphs; a set that was never compiled is checked first, once"
        yield Control("widths", "target's widths", (own(joined(widths)), *graphs), note)
    formats = [name for name in target.unit.precisions if target.unit.refusal(name) is None]
    others = tuple(Choice(name, (f"target.precision={name}",)) for name in formats if name != target.precision)
    yield Control("precision", "target's precision", (own(target.precision), *others))
    if setup.draft is not None:
        place = f"{setup.draft.unit_name} {setup.draft.precision}"
        yield Control("draft", "draft on", (own(place), *draft_places(setup)))
    if setup.draft is not None:
        now = f"{scenario.accept.rule}, {scenario.payload.scheme}"
        greedy = scenario.sampling.temperature == 0
        rules = [
            one
            for one in (rules_for(setup) if greedy else all_payloads(scenario.sampling.top_k))
            if not is_own(setup, one)
        ]
        note = "tokens of a rule that was never recorded are recorded first, once; lossy rules are run live"
        yield Control("payload", "rule and payload", (own(now), *rules), note)
    yield acceptances(setup, runs=answer.refused is None)


def is_own(setup: Setup, choice: Choice) -> bool:
    """Whether a choice of rules changes nothing."""
    try:
        other = load_setup(Path(setup.file), [*setup.overrides, *choice.overrides]).scenario
    except InputError:
        return False
    now = setup.scenario
    return (other.accept, other.payload, other.verify_at) == (now.accept, now.payload, now.verify_at)


def own(name: object) -> Choice:
    """The scenario's own value of a kind."""
    return Choice(f"{name} (the scenario's)", ())


def joined(widths: Sequence[int]) -> str:
    """Widths as one name."""
    return "-".join(map(str, widths))


def policies_beside(setup: Setup) -> Iterator[Choice]:
    """One setting of each other policy; those without a draft model leave it where it is.

    Policies of your own are not among them: a scenario may name code, a choice may not.
    """
    every = [
        policy("target_only", "target_only"),
        policy("sync", "sync", draft_tokens=5),
        *other_policies(),
        policy("tree", "tree", branches=[3, 2, 1]),
        policy("lookahead", "lookahead", **LADE),
        *[choice for choice in self_drafting() if choice.group == "ssd"][:1],
    ]
    for choice in every:
        if choice.group != setup.scenario.policy.name:
            yield replace(choice, name=choice.group)


def other_links(setup: Setup) -> list[str]:
    """Links between two chips that reach as far as the scenario's own."""
    reaches = "cloud" if outside_car(setup) else "car"
    now = setup.scenario.link
    links = [link for link in described("link", Link) if not link.on_chip and link.reaches in (reaches, "anywhere")]
    return [link.name for link in sorted(links, key=lambda link: link.rate.si) if link.name != now]


def draft_places(setup: Setup) -> Iterator[Choice]:
    """The other units and precisions of the draft's own chip."""
    assert setup.draft is not None
    now = setup.draft
    for name, unit in now.chip.units.items():
        for precision in unit.precisions:
            if unit.refusal(precision) is None and (name, precision) != (now.unit_name, now.precision):
                sets = (f"draft.unit={name}", f"draft.precision={precision}", "draft.widths=null", "draft.timer=null")
                yield Choice(f"{name} {precision}", sets)


def acceptances(setup: Setup, *, runs: bool) -> Control:
    """Whose acceptance: the scenario's own, of a measured pair, or stated.

    Stated acceptance has no text, so that it goes with as many questions and answers of the same mean lengths, which
    a scenario that does not run has not.
    """
    scenario = setup.scenario
    logits = scenario.logits.source
    name = {"live": "as the stand-ins choose", "transcript": "as the stand-ins chose"}.get(logits, f"{logits} logits")
    choices = [own(name if setup.profile is None else setup.profile.name)]
    note = ""
    if isinstance(scenario.workload, Lengths):
        choices += [Choice(f"{a} stated", (f"logits={{kind: synthetic, acceptance: {a}}}",)) for a in STATED]
    elif not runs:
        note = "stated acceptance needs the lengths of the scenario's own answers, and it cannot run"
    elif not scenario.company:
        size = workload_size(setup, len(run_of(setup)[0].requests))
        choices += [Choice(f"{a} stated", size.by_chance(a)) for a in STATED]
        lengths = f"{size.requests} questions of {size.prompt} tokens, answers of {size.answer}"
        note = f"stated acceptance has no text, but the mean lengths: {lengths}"
    pairs = [one.name for one in library() if setup.profile is None or one.name != setup.profile.name]
    choices += [Choice(name, (f"logits={{kind: acceptance, file: {name}}}",)) for name in pairs]
    return Control("acceptance", "acceptance", tuple(choices), note)

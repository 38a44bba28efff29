"""The ways of speculation that a scenario's target can use, each as runtimes ship it, run over the same answers.

A mode is a way of drafting with its usual settings. It runs where a runtime offers it: the one that the scenario names
for the target, else any that is described for such a unit. Memory is of the target's chip.

Of several sequences at once the speed-up is that of steady rounds, as published rows of a batch are: tokens a round of
the run, times the time of a plain step over that of a round, both of so many sequences.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hilsim.compiler.compile_check import plans_of
from hilsim.compiler.plan import Plan
from hilsim.cost.memory import ledgers
from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import between_steps, timer_for
from hilsim.describe.catalogue import described
from hilsim.describe.drafting import ONE_PASS, level_passes, passes
from hilsim.describe.policy import Lookahead, PromptLookup, Ssd, Suffix, Sync, Tree
from hilsim.describe.runtime import Drafting, Runtime
from hilsim.describe.setup import Setup
from hilsim.measure.round_cost import round_cost
from hilsim.runs.evaluate import Refused, load_variant, run_variant
from hilsim.study.grids import ALONE, EAGLE3_TREE, EAGLET, FORECASTS, LADE, LOOKUP, SSD, Choice, policy
from hilsim.study.steps import CACHED
from hilsim.study.variants import Record, record_of

TRIMMED = 32_000  # entries of the head of EAGLE3 and Eaglet as they are published
OWN_TOKENS = ("accept=sample_match", "payload=token_ids")  # rules of trees: they emit the target's own draws


@dataclass(frozen=True)
class Mode:
    """A way of drafting with its settings; `drafting` None is the target alone."""

    drafting: Drafting | None
    choice: Choice


@dataclass(frozen=True)
class ModeResult:
    """What a mode brings, or why it does not run; `runtimes` offer it, `at_once` is the speed-up by size of a batch."""

    mode: Mode
    runtimes: tuple[str, ...]
    record: Record | None = None
    break_even: float | None = None  # tokens a round that are as fast as plain decoding
    memory_bytes: int = 0
    plans: tuple[Plan, ...] = ()
    at_once: Mapping[int, float | None] = field(default_factory=dict)
    why: str = ""


def modes_of(setup: Setup) -> Iterator[Mode]:
    """Every mode, the target alone first; those of a tree with rules that a tree can be verified by.

    Where the application is on the draft's chip the link stays: modes without a draft model deliver over it, and a
    draft head runs on that chip.
    """
    scenario = setup.scenario
    stays = setup.draft is not None and setup.application != setup.target.chip.name
    without = () if stays else ALONE
    tree = OWN_TOKENS if scenario.sampling.temperature > 0 else ()

    def alone(drafting: Drafting, name: str, label: str, *more: str, **settings: object) -> Mode:
        return Mode(drafting, policy(name, label, *without, *more, **settings))

    def headed(drafting: Drafting, keys: str, name: str, label: str, *more: str, **settings: object) -> Mode:
        stand_in = f", stand_in: models/heads/{drafting}" if scenario.logits.source == "live" else ""
        if not stays:
            head = f"draft={{head_kind: {drafting}{keys}{stand_in}}}"
            return Mode(drafting, policy(name, label, head, "link=null", *more, **settings))
        assert setup.draft is not None
        there = setup.draft.placement
        place = f", chip: {there.chip}, unit: {there.unit}, precision: {there.precision}"
        head = f"draft={{head_kind: {drafting}{keys}{place}{stand_in}}}"
        return Mode(drafting, policy(name, f"{label}, on {there.chip}", head, *more, **settings))

    yield Mode(None, policy("target_only", "the target alone", *without))
    if setup.draft is not None and setup.draft.head_kind is None and scenario.policy.needs_draft:
        yield Mode("model", Choice(f"draft model, {scenario.policy.name}", (), {"name": scenario.policy.name}))
    yield alone("lookup", "prompt_lookup", "prompt lookup of 4", **LOOKUP)
    yield alone("suffix", "suffix", "suffix decoding, up to 8", draft_tokens=8)
    yield alone("lookahead", "lookahead", "lookahead (LADE) of 32 rows", *tree, **LADE)
    trained = {"forecasts": FORECASTS} if scenario.logits.source == "live" else {}
    yield alone("ssd", "ssd", "SSD, branches 3 and 2", *tree, **SSD, **trained)
    trimmed = f", head_entries: {TRIMMED}"
    yield headed("eagle", trimmed, "tree", "EAGLE (Eaglet), tree of 31", *tree, **EAGLET)
    yield headed("eagle", trimmed, "sync", "EAGLE, chain of 3", draft_tokens=3)
    yield headed("eagle3", trimmed, "tree", "EAGLE3, tree of 60", *tree, **EAGLE3_TREE)
    yield headed("eagle3", trimmed, "sync", "EAGLE3, chain of 3", draft_tokens=3)
    yield headed("mtp", "", "sync", "MTP, chain of 3", draft_tokens=3)
    yield headed("medusa", ", positions: 5", "sync", "Medusa, 5 heads", draft_tokens=5)
    yield headed("block", ", positions: 8", "sync", "DFlash, block of 8", draft_tokens=8)


def compare_modes(setup: Setup, batches: Sequence[int] = ()) -> Iterator[ModeResult]:
    """Every mode of a scenario's target, run, and in batches of these sizes; those that cannot, with the reason."""
    for mode in modes_of(setup):
        runtimes, why = offered(setup, mode)
        yield ModeResult(mode, (), why=why) if why else tried(setup, mode, runtimes, batches)


def offered(setup: Setup, mode: Mode) -> tuple[tuple[str, ...], str]:
    """The runtimes that offer a mode on the target's unit, or why none does."""
    if mode.drafting is None:
        return (), ""
    chip, unit, named = setup.target.chip, setup.target.unit, setup.target.placement.runtime
    offering = [one for one in described("runtime", Runtime) if mode.drafting in one.drafting]
    here = tuple(one.name for one in offering if one.made_for(chip, unit))
    if named is not None:
        here = tuple(name for name in here if name == named)
        return here, "" if here else f"runtime {named} does not offer {mode.drafting}"
    if here:
        return here, ""
    of = f" of {chip.vendor}" if chip.vendor is not None else ""
    elsewhere = "; ".join(f"{one.name} does, for {one.hardware}" for one in offering)
    why = f"no runtime that is described for a {unit.kind.upper()}{of} offers {mode.drafting}"
    return (), f"{why} ({elsewhere})" if elsewhere else why


def tried(setup: Setup, mode: Mode, runtimes: tuple[str, ...], batches: Sequence[int] = ()) -> ModeResult:
    """One mode, run."""
    variant = load_variant(Path(setup.file), [*setup.overrides, *mode.choice.overrides])
    traces = run_variant(variant)
    if isinstance(traces, Refused):
        return ModeResult(mode, runtimes, why=traces.reason)
    assert isinstance(variant, Setup)
    record, cost = record_of(mode.choice, variant, *traces), round_cost(*traces, variant.scenario.seed)
    return ModeResult(
        mode,
        runtimes,
        record,
        None if cost is None or mode.drafting is None else cost.break_even,
        ledgers(variant)[variant.target.chip.name].used_bytes,
        tuple(plans_of(variant).values()),
        {size: speedup_at_once(variant, record["tokens_per_round"], size) for size in batches},
    )


def speedup_at_once(setup: Setup, tokens: float, sequences: int) -> float | None:
    """Steady rounds of a batch against plain steps of it; None where rounds differ in length or cross a link."""
    policy, context = setup.scenario.policy, setup.scenario.context_tokens
    if setup.link is not None or policy.name == "target_only":
        return None
    steps = round_steps(setup, max(1, round(tokens)), sequences)
    target = timer_for(setup.target, context)
    if steps is None or between_steps(target).costs:
        return None
    drafts, verify = steps
    plain_ns = target.duration_ns(Step(Phase.DECODE, 1, CACHED, sequences))
    round_ns = target.duration_ns(verify)
    if drafts:
        assert setup.draft is not None
        draft = timer_for(setup.draft, context)
        round_ns += sum(draft.duration_ns(step) for step in drafts)
    return tokens * plain_ns / round_ns


def round_steps(setup: Setup, unread: int, sequences: int = 1) -> tuple[Sequence[Step], Step] | None:
    """The passes of the draft in a whole round, and the verify; None for policies whose rounds differ in length.

    `unread` tokens of the conversation are not in the draft's cache when a round begins.
    """
    policy, head = setup.scenario.policy, None if setup.draft is None else setup.draft.head_kind
    executed: tuple[tuple[int, int], ...] = ()
    match policy:
        case Tree():
            levels = tuple(nodes for _, nodes in policy.shape.growth)
            executed, rows = level_passes(head, levels, unread, policy.padded_rows), policy.rows
        case Sync():
            executed, rows = passes(head, policy.draft_tokens, unread), policy.draft_tokens + 1
        case PromptLookup() | Suffix():
            rows = policy.draft_tokens + 1
        case Lookahead() | Ssd():
            rows = policy.rows
        case _:
            return None
    branching = isinstance(policy, Tree) and head not in ONE_PASS
    drafts, cached = [], CACHED - unread
    for place, (count, logits) in enumerate(executed):
        drafts.append(Step(Phase.DRAFT, count, cached, sequences, branching and place > 0, logits))
        cached = CACHED if isinstance(policy, Tree) and policy.padded else cached + count
    return drafts, Step(Phase.VERIFY, rows, CACHED, sequences, policy.trees)

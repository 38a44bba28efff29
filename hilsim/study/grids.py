"""The grids that studies and questions try: policies with their settings, accept rules with their payloads, drafts.

Every choice is a few values of `--set`; whether it runs or fits on given chips is not known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from hilsim.describe.catalogue import described
from hilsim.describe.model import Model
from hilsim.describe.setup import Setup

# Networks that stand in for drafts, the smallest first.
STAND_INS = ("models/draft-0.2m", "models/draft-0.8m", "models/draft-2m")
FORECASTS = "models/ssd"  # forecast tokens of the shipped target
ALONE = ("draft=null", "link=null")
# Settings that runtimes ship: Genie's LADE, SSD-Q1 and Eaglet, TensorRT Edge-LLM's tree of EAGLE3.
LADE: Mapping[str, object] = {"window": 4, "ngram": 5, "guesses": 4}
SSD: Mapping[str, object] = {"branches": [3, 2]}
EAGLET: Mapping[str, object] = {"nodes": 31, "top": 8, "depth": 5}
EAGLE3_TREE: Mapping[str, object] = {"nodes": 59, "top": 10, "depth": 6, "padded": True}
LOOKUP: Mapping[str, object] = {"draft_tokens": 4}
TOP_K_64 = "{kind: top_k, k: 64}"


@dataclass(frozen=True)
class Choice:
    """One value on an axis: its name, what it sets, and its names on finer axes (chip, unit, precision, ...)."""

    name: str
    overrides: tuple[str, ...]
    parts: Mapping[str, str] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """What choices that are compared with each other have in common, such as the policy."""
        return self.parts["name"]


def policy(name: str, label: str, *more: str, **settings: object) -> Choice:
    """A policy with its settings, and what has to be set besides."""
    values = "".join(f", {key}: {str(value).lower()}" for key, value in settings.items())
    return Choice(label, (*more, f"policy={{kind: {name}{values}}}"), {"name": name})


def chain_policies() -> Iterator[Choice]:
    """Policies that draft chains, over a fine grid of their settings: what fast timing can try."""
    for count in (1, 2, 3, 4, 5, 6, 7, 8, 10):
        yield policy("sync", f"sync {count}", draft_tokens=count)
    yield policy("adaptive", "adaptive schedule", rule="schedule", most=14)
    for threshold in (0.2, 0.4, 0.6, 0.8):
        yield policy("adaptive", f"adaptive confidence {threshold}", rule="confidence", threshold=threshold, most=14)
    for threshold in (0.2, 0.4, 0.6):
        yield policy("adaptive", f"adaptive entropy {threshold}", rule="entropy", threshold=threshold, most=14)
    yield policy("adaptive", "adaptive expected", rule="expected", most=14)
    for count in (1, 2, 3, 4, 5, 7):
        yield policy("pearl", f"pearl {count}", draft_tokens=count)
    for batch, ahead in product((0, 1, 2, 4), (8, 14)):
        yield policy("async", f"async {batch} of {ahead}", min_batch=batch, max_ahead=ahead)
    for count, blocks in product((2, 3, 4, 6), (1, 2)):
        yield policy("pipelined", f"pipelined {count} x {blocks}", draft_tokens=count, blocks_in_flight=blocks)


def fine_policies() -> Iterator[Choice]:
    """As `chain_policies`, with every draft length and threshold: what adds up over all places, links and payloads."""
    for count in range(1, 17):
        yield policy("sync", f"sync {count}", draft_tokens=count)
    for most in (6, 8, 11, 14):
        for count in (2, 4, 6):
            yield policy(
                "adaptive", f"adaptive schedule {count} {most}", rule="schedule", draft_tokens=count, most=most
            )
        for rule, tenth in product(("confidence", "entropy"), range(1, 10)):
            label = f"adaptive {rule} {tenth / 10} {most}"
            yield policy("adaptive", label, rule=rule, threshold=tenth / 10, most=most)
    yield policy("adaptive", "adaptive expected", rule="expected", most=14)
    for count in range(1, 13):
        yield policy("pearl", f"pearl {count}", draft_tokens=count)
    yield from (choice for choice in chain_policies() if choice.group in ("async", "pipelined"))


def policies_alone(setup: Setup) -> Iterator[Choice]:
    """Policies without a draft; prompt lookup where every token is the target's own."""
    yield policy("target_only", "target_only", *ALONE)
    if setup.scenario.sampling.temperature == 0:
        for count in (3, 7):
            yield policy("prompt_lookup", f"prompt_lookup {count}", *ALONE, draft_tokens=count)
        yield policy("suffix", "suffix 7", *ALONE, draft_tokens=7)


def all_policies() -> Iterator[Choice]:
    """Every policy with a handful of settings: what can be run event by event."""
    yield policy("target_only", "target_only")
    for count in (1, 2, 3, 4, 5, 7, 10):
        yield policy("sync", f"sync {count}", draft_tokens=count)
    for rule, more in (("schedule", {}), ("confidence", {"threshold": 0.4}), ("entropy", {}), ("expected", {})):
        yield policy("adaptive", f"adaptive {rule}", rule=rule, **more)
    for count in (1, 2, 4, 7):
        yield policy("pearl", f"pearl {count}", draft_tokens=count)
    for batch in (0, 1, 2, 4):
        yield policy("async", f"async min_batch {batch}", min_batch=batch)
    for count, blocks in product((2, 4, 7), (1, 2)):
        yield policy("pipelined", f"pipelined {count} x {blocks}", draft_tokens=count, blocks_in_flight=blocks)
    for count in (3, 7):
        yield policy("prompt_lookup", f"prompt_lookup {count}", draft_tokens=count)
    yield policy("suffix", "suffix 7", draft_tokens=7)
    yield policy("cascade", "cascade 5", draft_tokens=5)
    for branches in ([2, 1, 1], [3, 2, 1], [4, 2, 2, 1]):
        yield policy("tree", f"tree {'-'.join(map(str, branches))}", branches=branches)
    for tree in ({"nodes": 7, "top": 3, "depth": 4}, EAGLET):
        yield policy("tree", "tree best {nodes} of {top} x {depth}".format_map(tree), **tree)
    yield from self_drafting()


def self_drafting() -> Iterator[Choice]:
    """Policies by which the target drafts for itself, in passes of 8 to 64 rows."""
    yield policy("lookahead", "lookahead 1 x 2 and 3", window=1, ngram=3, guesses=3)
    yield policy("lookahead", "lookahead 4 x 4 and 4", **LADE)
    yield policy("lookahead", "lookahead 8 x 4 and 8", window=8, ngram=5, guesses=8)
    yield policy("ssd", "ssd 3", branches=[3], forecasts=FORECASTS)
    yield policy("ssd", "ssd 3-2", **SSD, forecasts=FORECASTS)


def other_policies() -> Iterator[Choice]:
    """One setting of each policy, in place of a scenario's own."""
    yield policy("adaptive", "adaptive", rule="expected")
    yield policy("async", "async")
    yield policy("pearl", "pearl", draft_tokens=4)
    yield policy("pipelined", "pipelined", draft_tokens=3)
    yield policy("prompt_lookup", "prompt_lookup", **LOOKUP)
    yield policy("suffix", "suffix", draft_tokens=4)
    yield policy("cascade", "cascade", draft_tokens=4)


def contenders() -> Iterator[Choice]:
    """A handful of policies that are often close to each other."""
    for count in (3, 5, 7, 10):
        yield policy("sync", f"sync {count}", draft_tokens=count)
    yield policy("adaptive", "adaptive rule expected", rule="expected")
    yield policy("async", "async min_batch 4", min_batch=4)
    yield policy("pearl", "pearl 4", draft_tokens=4)
    yield policy("pipelined", "pipelined 4", draft_tokens=4)


def rule(
    name: str, accept: str, payload: str, verify_at: str = "target", group: str = "exact", text: str = ""
) -> Choice:
    """An accept rule, what crosses the link for it, and the chip that decides; rules of one `text` make the same."""
    parts = {"name": group, "text": text or name}
    return Choice(name, (f"accept={accept}", f"payload={payload}", f"verify_at={verify_at}"), parts)


RATIO_ROWS = rule("ratio, full_rows", "ratio", "full_rows")
RATIO_TOP_K = rule("ratio, top_k 64", "ratio", TOP_K_64)
GUMBEL = rule("gumbel, token_ids", "gumbel", "token_ids")
GREEDY = rule("greedy, token_ids", "greedy", "token_ids", text="greedy")


def rules_for(setup: Setup, *, fine: bool = False) -> tuple[Choice, ...]:
    """Accept rules whose tokens are exact and can be recorded, with their payloads; `fine`: with all of them.

    At temperature 0 no payload changes a token: further ones are what a runtime that sends distributions takes for it.
    """
    sampling = setup.scenario.sampling
    if sampling.temperature > 0:
        exact = (
            one for one in all_payloads(sampling.top_k) if one.group == "exact" and "accept=block" not in one.overrides
        )
        return tuple(exact) if fine else (RATIO_ROWS, RATIO_TOP_K, GUMBEL)
    forms = ("counts8", "fp16", "fp32")
    schemes = [(f"full_rows {form}", f"{{kind: full_rows, format: {form}}}") for form in forms]
    schemes += [(f"top_k {count}", f"{{kind: top_k, k: {count}}}") for count in (16, 64)]
    further = (rule(f"greedy, {name}", "greedy", payload, text="greedy") for name, payload in schemes)
    return (GREEDY, *further) if fine else (GREEDY,)


def all_payloads(top_k: int | None) -> Iterator[Choice]:
    """Every accept rule with every payload that it can use above temperature 0, the lossy ones last."""
    yield rule("ratio, full_rows fp32", "ratio", "{kind: full_rows, format: fp32}")
    yield rule("ratio, full_rows fp16", "ratio", "full_rows")
    yield rule("ratio, full_rows counts8", "ratio", "{kind: full_rows, format: counts8}")
    for count in (64, 16):
        yield rule(f"ratio, top_k {count}", "ratio", f"{{kind: top_k, k: {count}}}")
    yield rule("ratio, scalar, row", "ratio", "scalar")
    if top_k is not None:
        yield rule("ratio, scalar, support", "ratio", "{kind: scalar, down: support}")
    yield rule("ratio, one_hot", "ratio", "one_hot")
    yield GUMBEL
    yield rule("sample_match, token_ids", "sample_match", "token_ids")
    yield rule("block, top_k 64", "block", TOP_K_64)
    yield rule("ratio at draft, full_rows", "ratio", "full_rows", "draft")
    if top_k is not None:
        yield rule(f"ratio at draft, top_k {top_k}", "ratio", f"{{kind: top_k, k: {top_k}}}", "draft")
    yield rule("ratio, top_k_after 16", "ratio", "{kind: top_k_after, k: 16}", group="lossy")
    yield rule("lenient 0.5, top_k 64", "{kind: lenient, lenience: 0.5}", TOP_K_64, group="lossy")
    yield rule("typical, token_ids", "typical", "token_ids", group="lossy")


def drafts_for(setup: Setup) -> tuple[tuple[str, str], ...]:
    """Deployed drafts of the target's vocabulary, smallest first, each with its stand-in.

    The scenario's own draft has its own stand-in; a larger or smaller one gets the next, as long as there is another.
    """
    vocabulary = setup.target.model.vocabulary.name
    models = [m for m in described("model", Model) if m.role == "draft" and m.vocabulary.name == vocabulary]
    models.sort(key=lambda model: model.architecture.layers * model.architecture.hidden**2)
    names = [model.name for model in models]
    own = setup.draft
    if not names and own is not None and own.placement.stand_in is not None:  # a folder's own vocabulary, say
        return ((own.placement.model, own.placement.stand_in),)
    if own is None or own.model.name not in names or own.placement.stand_in not in STAND_INS:
        return tuple(zip(names, STAND_INS, strict=False))
    apart = STAND_INS.index(own.placement.stand_in) - names.index(own.model.name)
    last = len(STAND_INS) - 1
    return tuple((name, STAND_INS[min(last, max(0, place + apart))]) for place, name in enumerate(names))


def draft_places(setup: Setup, pairs: Iterable[tuple[str, str]], precisions: Sequence[str]) -> list[Choice]:
    """Every pair of model and stand-in on every unit of the scenario's chips that has one of the precisions."""
    return [
        Choice(
            f"{model} on {chip.name}.{name}",
            draft_overrides(setup, model, stand_in, chip.name, name, precision),
            {"draft": model, "stand_in": stand_in, "unit": f"{chip.name}.{name}", "precision": precision},
        )
        for model, stand_in in pairs
        for chip in setup.chips.values()
        for name, unit in chip.units.items()
        for precision in unit.precisions
        if precision in precisions
    ]


def draft_overrides(setup: Setup, model: str, stand_in: str, chip: str, unit: str, precision: str) -> tuple[str, ...]:
    """The values of `--set` that put a draft there, on shared memory where that is the target's chip."""
    target = setup.target.chip.name
    found = [f"draft.chip={chip}", f"draft.unit={unit}", f"draft.precision={precision}", f"draft.model={model}"]
    found += [f"draft.stand_in={stand_in}", "draft.timer=null"]
    widths = setup.chips[chip].units[unit].widths
    found.append(f"draft.widths={[1, widths.value[-1]] if widths is not None else 'null'}")
    if chip == target:
        found += ["link=on-chip"] + (["application=null"] if setup.application != target else [])
    return tuple(found)

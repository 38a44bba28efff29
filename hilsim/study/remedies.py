"""When speculation loses: the cheapest kind of change of the scenario that would make it win, found by replaying.

Changes are grouped by what they cost an engineer, cheapest first. Groups are replayed in that order until one holds a
change that wins; of that group the fastest is named. No change weakens what the rules guarantee, and none is offered
that does not fit into memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hilsim.cost.counts import body_weights
from hilsim.describe.catalogue import described
from hilsim.describe.decoding import MATCHING
from hilsim.describe.link import Link
from hilsim.describe.model import Model
from hilsim.describe.outside import outside_car
from hilsim.describe.setup import Setup
from hilsim.describe.write import typed
from hilsim.places import DATA
from hilsim.progress import status_line
from hilsim.runs.evaluate import Refused, evaluate, load_variant
from hilsim.runs.run import Sources
from hilsim.study.grids import other_policies

LENGTHS = (1, 2, 3, 4, 5, 7, 10)
WIDTHS = (4, 8, 16)


@dataclass(frozen=True)
class Change:
    """One change of a scenario: what it is, what it costs, and its values of `--set`."""

    what: str
    cost: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Replayed:
    """A change and its speed-up over the target alone."""

    change: Change
    speedup: float


@dataclass(frozen=True)
class Remedy:
    """The best change found in the cheapest group that has a winner, or the best of all; None where nothing fits."""

    best: Replayed | None
    tried: int

    @property
    def wins(self) -> bool:
        return self.best is not None and self.best.speedup > 1


def cheapest_remedy(setup: Setup, overrides: Sequence[str], sources: Sources) -> Remedy:
    """Replay changes group by group until one wins; `sources` have the tokens of `setup`, and cache those of others."""
    tried = 0
    best: Replayed | None = None
    with status_line("replaying with") as notify:
        for group in changes(setup):
            for change in group:
                variant = load_variant(Path(setup.file), [*overrides, *change.overrides])
                if isinstance(variant, Refused):
                    continue
                notify(change.what)
                found = evaluate(variant, sources=sources)
                if isinstance(found, Refused):
                    continue  # a transcript has no tokens of other models or rules, and drafts to its depth alone
                tried += 1
                replayed = Replayed(change, found["speedup"] or 1.0)
                if best is None or replayed.speedup > best.speedup:
                    best = replayed
            if best is not None and best.speedup > 1:
                break
    return Remedy(best, tried)


def changes(setup: Setup) -> Iterator[list[Change]]:
    """Groups of changes, cheapest first."""
    yield list(settings(setup))
    yield list(payloads(setup))
    yield list(compilations(setup))
    yield list(units(setup))
    yield list(drafts(setup))
    yield list(links(setup))


def settings(setup: Setup) -> Iterator[Change]:
    """The policy's own parameters, and other policies."""
    cost = "a setting"
    policy = setup.scenario.policy
    now = getattr(policy, "draft_tokens", None)
    if now is not None:
        for length in LENGTHS:
            if length != now:
                yield Change(f"draft_tokens {length} instead of {now}", cost, (f"policy.draft_tokens={length}",))
    for other in other_policies():
        if other.name != policy.name:
            yield Change(f"policy {other.name} instead of {policy.name}", cost, other.overrides)
    if getattr(policy, "fallback", None) is None:
        yield Change(f"{policy.name} with fallback", cost, ("policy.fallback={}",))


def payloads(setup: Setup) -> Iterator[Change]:
    """Smaller payloads that preserve the distribution of the text."""
    scenario, cost = setup.scenario, "a change of the protocol between the chips"
    if scenario.accept.rule in MATCHING and scenario.payload.scheme != "token_ids":
        yield Change("token ids alone", cost, ("payload=token_ids",))
    if scenario.draft is None or scenario.accept.rule != "ratio":
        return
    for payload in ("{kind: top_k, k: 64}", "{kind: scalar, down: support}", "scalar", "one_hot"):
        yield Change(f"payload {payload}", cost, (f"payload={payload}", "verify_at=target"))
    yield Change("shared Gumbel noise and token ids", cost, ("accept=gumbel", "payload=token_ids", "verify_at=target"))


def compilations(setup: Setup) -> Iterator[Change]:
    """One graph more for the target, just wide enough for a verify."""
    widths = setup.target.widths
    if widths is None or not hasattr(setup.scenario.policy, "draft_tokens"):
        return
    for width in WIDTHS:
        if width not in widths:
            listed = ", ".join(map(str, sorted((*widths, width))))
            yield Change(
                f"a target graph of width {width} and draft_tokens {width - 1}",
                "another compilation of the target and its memory",
                (f"target.widths=[{listed}]", f"policy.draft_tokens={width - 1}"),
            )


def units(setup: Setup) -> Iterator[Change]:
    """The draft on another unit of its chip."""
    if setup.draft is None:
        return
    chip, now = setup.draft.chip, setup.draft.placement
    for name, unit in chip.units.items():
        for precision in unit.precisions:
            if name != now.unit and unit.refusal(precision) is None:
                yield Change(
                    f"the draft on {chip.name}.{name} in {precision}",
                    "porting the draft to another unit",
                    (f"draft.unit={name}", f"draft.precision={precision}", "draft.widths=null"),
                )


def drafts(setup: Setup) -> Iterator[Change]:
    """The next smaller and the next larger draft, model and stand-in alike; live logits only, as acceptance moves."""
    if setup.draft is None or setup.draft.stand_in is None or setup.scenario.logits.source != "live":
        return
    vocabulary = setup.target.model.vocabulary.name
    models = [model for model in described("model", Model) if model.role == "draft"]
    models = [model for model in models if model.vocabulary.name == vocabulary]
    names = [model.name for model in sorted(models, key=lambda model: body_weights(model.architecture))]
    folders = sorted((DATA / "models").glob("draft-*m"), key=lambda folder: float(folder.name[6:-1]))
    if setup.draft.model.name not in names or setup.draft.stand_in not in folders:
        return
    model, folder = names.index(setup.draft.model.name), folders.index(setup.draft.stand_in)
    for step, size in ((-1, "smaller"), (1, "larger")):
        if 0 <= model + step < len(names) and 0 <= folder + step < len(folders):
            other, stand_in = names[model + step], folders[folder + step]
            yield Change(
                f"the next {size} draft, {other}, text from {stand_in.name}",
                "another draft to train and to port",
                (f"draft.model={other}", f"draft.stand_in={stand_in}"),
            )


def links(setup: Setup) -> Iterator[Change]:
    """A faster link that can be built between the chips; to the cloud only where the scenario itself goes there."""
    if setup.link is None or setup.link.on_chip:
        return
    reaches = "cloud" if outside_car(setup) else "car"
    for link in described("link", Link):
        if link.reaches == reaches and not link.on_chip and link.rate.si > setup.link.rate.si:
            yield Change(f"link {link.name}", "other hardware between the chips", (f"link={link.name}",))


def as_json(found: Remedy) -> dict[str, object]:
    """As the report and `--json` show it."""
    best = found.best
    return {
        "wins": found.wins,
        "tried": found.tried,
        "best": None
        if best is None
        else {
            "change": best.change.what,
            "cost": best.change.cost,
            "set": [typed([override]) for override in best.change.overrides],
            "speedup": best.speedup,
        },
    }

"""The space of placements: every role on every unit, precisions, widths, drafts, links, rules and policies.

A choice is a few values of `--set`; a configuration is one choice of each kind. What runs or fits `placements` decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product

from hilsim.describe.chip import Chip
from hilsim.describe.cross_checks import link_fault
from hilsim.describe.link import Link
from hilsim.describe.setup import Setup
from hilsim.study.grids import Choice as Choice
from hilsim.study.grids import chain_policies, fine_policies, policies_alone, rules_for
from hilsim.study.grids import drafts_for as drafts_for

# Sets of compiled widths that are tried where a unit runs fixed graphs: decode, one or two verify widths, prompt.
WIDTHS = ((1,), (1, 4), (1, 8), (1, 16), (1, 32), (1, 4, 8), (1, 4, 16), (1, 8, 16), (1, 8, 32))
# Every set of these verify widths, each with decode and prompt.
FINE_WIDTHS = tuple((1, *verify) for count in range(5) for verify in combinations((4, 8, 16, 32), count))
NOWHERE = -1  # the place of a draft or a link that a configuration does not have


def links_between(target: Chip, draft: Chip, links: Sequence[Link]) -> list[int]:
    """Places of the links that can join two roles; `NOWHERE`, the one on the chip itself, where both have one chip."""
    if target.name == draft.name:
        return [NOWHERE]
    return [place for place, link in enumerate(links) if link_fault(link, (target, draft), "both roles", "") is None]


@dataclass(frozen=True)
class Space:
    """Choices of every kind. `alone` are policies that need no draft and no link.

    `chips` and `links_known` are what the choices name.
    """

    targets: tuple[Choice, ...]
    drafts: tuple[Choice, ...]
    links: tuple[Choice, ...]
    rules: tuple[Choice, ...]
    policies: tuple[Choice, ...]
    alone: tuple[Choice, ...]
    chips: Mapping[str, Chip]
    links_known: Mapping[str, Link]

    @property
    def described_links(self) -> tuple[Link, ...]:
        """The links in the order of their choices, so that both have the same places."""
        return tuple(self.links_known[choice.name] for choice in self.links)

    @property
    def size(self) -> int:
        """Configurations before anything is left out, each pair of places with the links that can join it."""
        targets, drafts = (Counter(one.parts["chip"] for one in choices) for choices in (self.targets, self.drafts))
        pairs = sum(
            targets[one] * drafts[other] * len(links_between(self.chips[one], self.chips[other], self.described_links))
            for one, other in product(targets, drafts)
        )
        texts = {rule.parts["text"] for rule in self.rules}  # without a draft no payload matters
        return len(self.rules) * pairs * len(self.policies) + len(texts) * len(self.targets) * len(self.alone)

    def only(self, wanted: Mapping[str, Sequence[str]]) -> Space:
        """The part of the space with these values alone; keys as `KINDS` has them."""

        def matching(kind: str, choices: tuple[Choice, ...]) -> tuple[Choice, ...]:
            mine = {key.partition(".")[2]: values for key, values in wanted.items() if key.partition(".")[0] == kind}
            return tuple(
                choice
                for choice in choices
                if all((choice.parts.get(part, "") if part else choice.name) in values for part, values in mine.items())
            )

        return replace(
            self,
            targets=matching("target", self.targets),
            drafts=matching("draft", self.drafts),
            links=matching("link", self.links),
            rules=matching("rules", self.rules),
            policies=matching("policy", self.policies),
            alone=matching("policy", self.alone),
        )

    def values(self) -> dict[str, list[str]]:
        """What every axis may be narrowed to, by key."""
        found: dict[str, dict[str, None]] = {}
        for kind, choices in self.kinds():
            for choice in choices:
                found.setdefault(kind, {})[choice.name] = None
                for part, value in choice.parts.items():
                    found.setdefault(f"{kind}.{part}", {})[value] = None
        return {key: list(values) for key, values in found.items()}

    def kinds(self) -> Iterator[tuple[str, tuple[Choice, ...]]]:
        """The axes by name."""
        yield "target", self.targets
        yield "draft", self.drafts
        yield "link", self.links
        yield "rules", self.rules
        yield "policy", (*self.policies, *self.alone)


def space_of(
    setup: Setup, chips: Sequence[Chip], links: Sequence[Link], drafts: Sequence[tuple[str, str]], *, fine: bool = False
) -> Space:
    """Everything that could be tried with a scenario's target model on these chips, over these links.

    `fine`: every set of widths, every setting of the policies that time by sums, every payload.
    """
    return Space(
        tuple(target for chip in chips for target in targets_on(chip, FINE_WIDTHS if fine else WIDTHS)),
        tuple(draft for chip in chips for model, stand_in in drafts for draft in drafts_on(chip, model, stand_in)),
        tuple(Choice(link.name, (f"link={link.name}",)) for link in links),
        rules_for(setup, fine=fine),
        tuple(fine_policies() if fine else chain_policies()),
        tuple(policies_alone(setup)),
        {chip.name: chip for chip in chips},
        {link.name: link for link in links},
    )


def targets_on(chip: Chip, compiled: Sequence[tuple[int, ...]]) -> Iterator[Choice]:
    """The target on every unit of a chip that can run it; where that runs fixed graphs, with each of these sets."""
    prompt = next((unit.widths.value[-1] for unit in chip.units.values() if unit.widths is not None), 128)
    for where, unit in chip.units.items():
        for precision in unit.precisions:
            if unit.refusal(precision) is not None:
                continue
            sets = [None] if unit.widths is None else [(*some, prompt) for some in compiled]
            for widths in sets:
                yield placed("target", chip.name, where, precision, widths)


def drafts_on(chip: Chip, model: str, stand_in: str) -> Iterator[Choice]:
    """A draft on every unit of a chip that can run it."""
    for where, unit in chip.units.items():
        for precision in unit.precisions:
            if unit.refusal(precision) is None:
                widths = None if unit.widths is None else (1, unit.widths.value[-1])
                yield placed("draft", chip.name, where, precision, widths, model, stand_in)


def placed(
    role: str, chip: str, unit: str, precision: str, widths: tuple[int, ...] | None, model: str = "", stand_in: str = ""
) -> Choice:
    """A role at one place."""
    graphs = "-".join(map(str, widths)) if widths else "any"
    parts = {"model": model} if model else {}
    parts |= {"chip": chip, "unit": unit, "place": f"{chip}.{unit}", "precision": precision, "widths": graphs}
    sets = [f"{role}.chip={chip}", f"{role}.unit={unit}", f"{role}.precision={precision}"]
    sets.append(f"{role}.widths={list(widths) if widths else 'null'}")
    sets += [f"{role}.model={model}", f"{role}.stand_in={stand_in}"] if model else []
    name = " ".join(filter(None, (model, f"{chip}.{unit}", precision, graphs if widths else "")))
    return Choice(name, tuple(sets), parts)

"""The verdict on a placement before anything runs: every ledger, and for one that does not fit the cheapest remedies.

Remedies are found by trying: each candidate is one `--set` that a user could type, loaded and measured like the
scenario itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hilsim.cost.caveats import Caveat, caveats
from hilsim.cost.counts import body_weights
from hilsim.cost.fit import Fit, fits_of
from hilsim.cost.memory import Ledger, describe, ledgers
from hilsim.cost.published import exceeded
from hilsim.cost.step import Phase, Step
from hilsim.cost.timer import timer_for
from hilsim.describe.catalogue import described
from hilsim.describe.chip import Unit
from hilsim.describe.load import load_setup
from hilsim.describe.model import Model
from hilsim.describe.setup import Placed, Setup
from hilsim.describe.write import typed
from hilsim.errors import CompileError, InputError, PlacementError
from hilsim.units import gib, ms

MOST_REMEDIES = 4
Load = Callable[[Path, Sequence[str]], Setup]


@dataclass(frozen=True)
class PlacementRemedy:
    """One change that makes the placement fit, and what it leads to.

    `ratio` is the fullest chip's need over its cap, `step_ms` one decode step of the target, both after the change.
    """

    changes: tuple[str, ...]
    why: str
    ratio: float
    step_ms: float

    def __str__(self) -> str:
        return f"{typed(self.changes)}  ({self.why}: {self.ratio:.2f}x of the cap, {self.step_ms:.0f} ms a target step)"


@dataclass(frozen=True)
class PlacementVerdict:
    """What check finds: the ledgers of all chips and, where one overflows, what would help."""

    setup: Setup
    ledgers: dict[str, Ledger]
    remedies: tuple[PlacementRemedy, ...]

    @property
    def fits(self) -> bool:
        return all(ledger.fits for ledger in self.ledgers.values())

    @cached_property
    def by_chip(self) -> dict[str, Fit]:
        """How far each chip's verdict holds over the ranges of its figures."""
        return fits_of(self.setup)

    @property
    def caveats(self) -> list[Caveat]:
        """What has to be said against the placement, whether it fits or not."""
        return caveats(self.setup, self.by_chip)

    def beyond_limits(self, chip: str) -> bool:
        """Whether a model on this chip goes beyond a published limit."""
        context = self.setup.scenario.context_tokens
        return any(exceeded(role, context) for role in self.setup.roles.values() if role.chip.name == chip)

    def require(self) -> None:
        """Raise `PlacementError` unless everything fits."""
        if not self.fits:
            raise PlacementError(str(self))

    def __str__(self) -> str:
        lines = []
        for chip, ledger in self.ledgers.items():
            roles = [role for role in (self.setup.target, self.setup.draft) if role and role.chip.name == chip]
            place = ", ".join(f"{role.role}.chip" for role in roles)
            models = " and ".join(repr(role.model.name) for role in roles)
            fit = self.by_chip[chip]
            if ledger.fits:
                verb = "fits" if len(roles) == 1 else "fit"
                under = ", under conditions" if fit.verdict == "fits only if" else ""
                against = ", but it exceeds a published limit" if self.beyond_limits(chip) else ""
                found = f"{models} {verb} on {chip}{under}{against}"
            else:
                most = f"expected at most {gib(ledger.cap_bytes):.3f} GiB"
                found = f"found {models}, {ledger.ratio:.2f}x too large for {chip}; {most}"
            lines.append(f"{self.setup.file}: {place}: {found}")
            lines += [describe(ledger), f"  {fit}"]
        if not self.fits:
            lines.append("Cheapest remedies:" if self.remedies else "No single change makes it fit.")
            lines += [f"  {remedy}" for remedy in self.remedies]
        return "\n".join(lines)


def check(setup: Setup, overrides: Sequence[str] = (), load: Load = load_setup) -> PlacementVerdict:
    """Measure a placement; `overrides` are the --set arguments it was loaded with, so that remedies add to them.

    `load` is how a changed scenario is loaded: with or without the compile gate, as this one was.
    """
    found = ledgers(setup)
    remedies: list[PlacementRemedy] = []
    if not all(ledger.fits for ledger in found.values()):
        for placed in (setup.target, setup.draft):
            if placed is not None and not found[placed.chip.name].fits:
                found_here = list(fitting(setup, overrides, placed, load))
                # Of all ways to move to another chip the fastest one is enough.
                moves = sorted(
                    (r for r in found_here if any(".chip=" in change for change in r.changes)),
                    key=lambda remedy: remedy.step_ms,
                )
                remedies += [r for r in found_here if r not in moves[1:]]
    return PlacementVerdict(setup, found, tuple(remedies[:MOST_REMEDIES]))


def fitting(setup: Setup, overrides: Sequence[str], placed: Placed, load: Load) -> Iterator[PlacementRemedy]:
    """The candidate changes of one role that make every chip fit, cheapest for the passenger first."""
    for changes, why in candidates(setup, placed):
        try:
            changed = load(Path(setup.file), [*overrides, *changes])
        except (InputError, CompileError):
            continue  # the change breaks another rule, so it is no remedy
        after = ledgers(changed)
        if all(ledger.fits for ledger in after.values()):
            step = timer_for(changed.target, changed.scenario.context_tokens).duration_ns(Step(Phase.DECODE, 1, 1))
            yield PlacementRemedy(tuple(changes), why, max(ledger.ratio for ledger in after.values()), ms(step))


def candidates(setup: Setup, placed: Placed) -> Iterator[tuple[list[str], str]]:
    """Changes worth trying, in the order of what they cost: context, graphs, precision, place, model."""
    role, context = placed.role, setup.scenario.context_tokens
    for smaller in (context // 2, context // 4):
        if smaller >= 256:
            yield [f"context_tokens={smaller}"], "less context of the conversation"
    widths = placed.widths
    if widths is not None and len(widths) > 2:
        for kept in ((1, widths[-1]), widths[:-1]):
            yield [f"{role}.widths={list(kept)}"], "one graph less, verified or read at another width"
    precisions = placed.unit.precisions
    current = precisions[placed.placement.precision].weight_bits.si
    for name, precision in sorted(precisions.items(), key=lambda item: -item[1].weight_bits.si):
        if precision.weight_bits.si < current:
            yield [f"{role}.precision={name}"], "smaller weights, less accurate"
    for chip in setup.chips.values():
        if chip.name != placed.chip.name and chip.place == "car":  # nothing moves outside the car unasked
            for unit, record in chip.units.items():
                if setup.draft is not None:
                    yield from moved(setup, role, chip.name, unit, record)
    for model in smaller_models(placed.model):
        yield [f"{role}.model={model}"], "a smaller model of the same vocabulary"


def moved(setup: Setup, role: str, chip: str, unit: str, record: Unit) -> Iterator[tuple[list[str], str]]:
    """Move one role to a unit of another chip, with all its graphs or the two narrowest."""
    other = setup.draft if role == "target" else setup.target
    link = ["link=on-chip"] if other is not None and other.chip.name == chip else []
    fewer = [] if record.widths is None else [[f"{role}.widths={list(record.widths.value[:2])}"]]
    for precision in record.precisions:
        for widths in ([], *fewer):
            place = [f"{role}.chip={chip}", f"{role}.unit={unit}", f"{role}.precision={precision}"]
            yield [*place, *widths, *link], f"{chip} has more room"


def smaller_models(model: Model) -> list[str]:
    """Names of described models with the same vocabulary and fewer layers' weights, largest first."""
    size = body_weights(model.architecture)
    found = []
    for other in described("model", Model):
        weights = body_weights(other.architecture)
        if other.vocabulary.name == model.vocabulary.name and weights < size and other.role in ("either", model.role):
            found.append((weights, other.name))
    return [name for _, name in sorted(found, reverse=True)]

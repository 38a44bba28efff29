"""Whether a placement fits, given how sure the sizes are: yes, only under conditions in numbers, or no.

Capacities, reserves and number formats have ranges, and an assumed yes or no may be either. A placement fits where it
does with every figure at the end of its range that needs the most memory, and every assumed ability missing; it fits
only under conditions where it does with the figures as they stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Literal

from hilsim.cost.memory import AS_GIVEN, NEEDS_LEAST, NEEDS_MOST, FigureReading, Ledger, ledgers
from hilsim.describe.chip import Ability, Widths
from hilsim.describe.figure import FACTORS, Figure
from hilsim.describe.figures import figures
from hilsim.describe.setup import Setup
from hilsim.units import gib

FitVerdict = Literal["fits", "fits only if", "does not fit"]
VERDICTS: tuple[FitVerdict, ...] = ("fits", "fits only if", "does not fit")


@dataclass(frozen=True)
class FitCondition:
    """The bound beyond which one figure alone turns the verdict, in the figure's own unit; of a yes or no, the yes."""

    name: str
    figure: Figure | Ability
    at_least: bool
    bound: float = 1.0

    def __str__(self) -> str:
        if isinstance(self.figure, Ability):
            return f"{self.name} is true (its file assumes {str(self.figure.value).lower()})"
        way = "at least" if self.at_least else "at most"
        rounded = ceil if self.at_least else floor
        return f"{self.name} is {way} {rounded(100 * self.bound) / 100:g} {self.figure.unit} ({as_given(self.figure)})"


@dataclass(frozen=True)
class Fit:
    """One chip's verdict. `conditions` turn it one at a time, the other figures as they stand.

    Of one that fits only under conditions each must hold; of one that does not fit each alone would make it fit.
    `rests_on` are the capacity and what the system keeps of it; `ranged` and `abilities` the sizes with a range and the
    assumed yes-or-no figures that a ledger counts.
    """

    ledger: Ledger
    worst: Ledger
    best: Ledger
    conditions: tuple[FitCondition, ...]
    rests_on: Mapping[str, Figure]
    ranged: tuple[str, ...]
    abilities: tuple[str, ...] = ()

    @property
    def verdict(self) -> FitVerdict:
        return verdict_of(self.ledger, self.worst)

    @property
    def assumed(self) -> str:
        """The capacity and the reserve in words."""
        return " and ".join(
            f"{name} {figure.value:g} {figure.unit} ({as_given(figure, value=False)})"
            for name, figure in self.rests_on.items()
        )

    @property
    def open_figures(self) -> str:
        """All that may be otherwise than it stands, counted."""
        sizes = f"{len(self.ranged)} sizes with a range"
        return f"{sizes} and {len(self.abilities)} assumed yes or no" if self.abilities else sizes

    def __str__(self) -> str:
        where, conditions = self.ledger.chip, " and ".join(map(str, self.conditions))
        others = ", the other figures as they are" if len(self.ranged) + len(self.abilities) > 1 else ""
        if self.verdict == "fits":
            return f"{where} fits over the whole range of its figures; it rests on {self.assumed}"
        if self.verdict == "fits only if" and conditions:
            return f"{where} fits only if {conditions}{others}"
        if self.verdict == "fits only if":
            short = gib(self.worst.needed_bytes - self.worst.cap_bytes)
            return (
                f"{where} fits only if its {self.open_figures} do not all lie at their unfavourable ends, where "
                f"{short:.2f} GiB are missing; it rests on {self.assumed}"
            )
        if conditions:
            conditions = " or ".join(map(str, self.conditions))
            return f"{where} does not fit; it would if {conditions}{others}"
        if self.best.fits:
            every = f"all its {self.open_figures}"
            return f"{where} does not fit; it would with {every} at their favourable ends; it rests on {self.assumed}"
        return f"{where} does not fit anywhere in the range of its figures; it rests on {self.assumed}"


def as_given(figure: Figure, *, value: bool = True) -> str:
    """How sure a figure is: its value where wanted, its kind and its range."""
    given = f"{figure.value:g} {figure.unit} " if value else ""
    span = "" if figure.range is None else f", {figure.range[0]:g} to {figure.range[1]:g}"
    return f"{given}{figure.kind}{span}"


def verdict_of(given: Ledger, worst: Ledger) -> FitVerdict:
    """From the ledger of the figures as they stand and the one that needs the most."""
    return "does not fit" if not given.fits else "fits" if worst.fits else "fits only if"


def quick_verdict(setup: Setup, given: Mapping[str, Ledger]) -> FitVerdict:
    """The verdict of a whole placement without its conditions, from its ledgers as given."""
    if not all(ledger.fits for ledger in given.values()):
        return "does not fit"
    return "fits" if all(ledger.fits for ledger in ledgers(setup, NEEDS_MOST).values()) else "fits only if"


def whole(fits: Mapping[str, Fit]) -> FitVerdict:
    """The verdict of a placement: that of its worst chip."""
    return max((fit.verdict for fit in fits.values()), key=VERDICTS.index)


def fits_of(setup: Setup) -> dict[str, Fit]:
    """The verdict of every chip in use, with the figures that turn it."""
    given, worst, best = (ledgers(setup, reading) for reading in (AS_GIVEN, NEEDS_MOST, NEEDS_LEAST))
    used, assumed = sizes_in_use(setup), abilities_in_use(setup)
    found = {}
    for name, chip in setup.chips.items():
        mine = {path: size for path, size in used.items() if path.startswith(f"{name}.")}
        abilities = {path: same for path, same in assumed.items() if path.startswith(f"{name}.")}
        conditions = tuple(conditions_of(setup, name, mine, abilities, fits=given[name].fits))
        rests_on = {f"{name}.memory": chip.memory, f"{name}.reserve": chip.reserve}
        found[name] = Fit(given[name], worst[name], best[name], conditions, rests_on, tuple(mine), tuple(abilities))
    return found


@dataclass(frozen=True)
class Size:
    """A figure with a range that a ledger counts, and whether more of it is more room; its objects, one a role."""

    figure: Figure
    gives_room: bool
    objects: frozenset[int]


def sizes_in_use(setup: Setup) -> dict[str, Size]:
    """The figures with a range that the ledgers count, by their paths: asked of the ledgers themselves."""
    asked: dict[int, tuple[Figure, bool]] = {}

    def noted(figure: Figure, *, gives_room: bool) -> float:
        asked[id(figure)] = figure, gives_room
        return figure.si

    reading = FigureReading(
        lambda f: noted(f, gives_room=False), lambda f: noted(f, gives_room=True), lambda ability: ability.value
    )
    ledgers(setup, reading)
    found: dict[str, Size] = {}
    for path, figure in named_figures(setup):
        if not isinstance(figure, Figure) or id(figure) not in asked or figure.ends[0] == figure.ends[1]:
            continue
        known = found.get(path, Size(figure, asked[id(figure)][1], frozenset()))
        found[path] = Size(known.figure, known.gives_room, known.objects | {id(figure)})
    return found


def named_figures(setup: Setup) -> Iterator[tuple[str, Figure | Widths | Ability]]:
    """Every figure of the chips in use as `CHIP.path`; where both roles share a chip, of both its records."""
    for chip in (*setup.chips.values(), *(placed.chip for placed in setup.roles.values())):
        for path, figure in figures(chip).items():
            yield f"{chip.name}.{path}", figure
    # A unit of a role may be another than its chip's: the compile check adds to it.
    for placed in setup.roles.values():
        for path, figure in figures(placed.unit).items():
            yield f"{placed.chip.name}.units.{placed.unit_name}.{path}", figure


def abilities_in_use(setup: Setup) -> dict[str, list[Ability]]:
    """The assumed yes-or-no figures that the ledgers count, by their paths; of each its objects, one a role."""
    found: dict[str, list[Ability]] = {}
    for placed in setup.roles.values():
        shared = placed.unit.shared_weights
        if shared is not None and shared.kind == "assumed" and placed.widths is not None and len(placed.widths) > 1:
            found.setdefault(f"{placed.chip.name}.units.{placed.unit_name}.shared_weights", []).append(shared)
    return found


def conditions_of(
    setup: Setup, chip: str, sizes: Mapping[str, Size], abilities: Mapping[str, list[Ability]], *, fits: bool
) -> Iterator[FitCondition]:
    """The figures of a chip that alone, somewhere in their range, turn its verdict; each with the bound where."""
    for path, size in sizes.items():
        low, high = size.figure.ends

        def fits_at(value: float, size: Size = size) -> bool:
            return ledgers(setup, with_one(size, value))[chip].fits

        other = low if size.gives_room == fits else high
        if fits_at(other) != fits:
            bound = turning_point(fits_at, size.figure.si, other)
            yield FitCondition(path, size.figure, size.gives_room, bound / FACTORS[size.figure.unit])
    for path, same in abilities.items():
        if same[0].value == fits and ledgers(setup, turned(same))[chip].fits != fits:
            yield FitCondition(path, same[0], at_least=True)


def turned(same: Sequence[Ability]) -> FigureReading:
    """The figures as they stand, with one yes or no, which may be several objects, the other way."""
    objects = frozenset(map(id, same))
    return FigureReading(AS_GIVEN.need, AS_GIVEN.size, lambda ability: ability.value != (id(ability) in objects))


def with_one(size: Size, value: float) -> FigureReading:
    """The figures as they stand, but one at another value, in base units."""

    def read(figure: Figure) -> float:
        return value if id(figure) in size.objects else figure.si

    return FigureReading(read, read, AS_GIVEN.holds)


def turning_point(fits_at: Callable[[float], bool], here: float, there: float) -> float:
    """Where the verdict turns between two values, the last at which it fits, by bisection."""
    fitting, other = (here, there) if fits_at(here) else (there, here)
    for _ in range(60):
        middle = (fitting + other) / 2
        fitting, other = (middle, other) if fits_at(middle) else (fitting, middle)
    return fitting

"""How far a chip is from the chips that its families' constants were measured on."""

from __future__ import annotations

from collections.abc import Iterator
from math import exp, log

from hilsim.describe.catalogue import described, written_chip
from hilsim.describe.chip import Chip
from hilsim.describe.family import Family
from hilsim.places import DATA

HERE = DATA / "chips" / "_.yaml"


def stands_on(chip: Chip) -> Iterator[str]:
    """The published figures behind a chip's answers, then of each unit its family and its nearest measured relative.

    Near is a small sum of two logarithms: of the ratio of peak operations and of peak memory rates.
    """
    if chip.stands_on:
        yield chip.stands_on.strip()
    shipped = {family.name: family for family in described("family", Family)}
    for name, unit in chip.units.items():
        family = shipped.get(unit.family or "")
        if family is None or not family.measured_on:
            continue
        if chip.name in family.measured_on:
            yield f"{name}: family {family.name}, whose constants are fitted to measurements of this chip among others"
            continue
        ratios = {relative: ratios_to(chip, name, written_chip(relative, HERE)) for relative in family.measured_on}
        nearest = min(ratios, key=lambda relative: sum(abs(ratio) for ratio in ratios[relative]))
        operations, memory = map(exp, ratios[nearest])
        yield (
            f"{name}: family {family.name}, not measured on this chip; nearest measured relative {nearest}, of whose "
            f"peak operations this one has {operations:.2g} times and of whose peak memory rate {memory:.2g} times"
        )


def ratios_to(chip: Chip, unit_name: str, relative: Chip) -> tuple[float, float]:
    """Logarithms of this chip's peak operations and memory rate over its relative's, whose unit is of one family."""
    unit = chip.units[unit_name]
    theirs = next(other for other in relative.units.values() if other.family == unit.family)
    assert unit.peak_operation_rate is not None, "a family needs it"
    assert theirs.peak_operation_rate is not None, "a family needs it"
    memory = log(chip.peak_memory_rate.si / relative.peak_memory_rate.si)
    return log(unit.peak_operation_rate.si / theirs.peak_operation_rate.si), memory

"""What rewritten, added and displaced operators cost: launches, numbers moved, arithmetic; and the way to another unit.

    time = launches x operator overhead + the longer of numbers x activation bits / memory rate and operations / rate

The plain decoder's formula counts weights, cache and matrix products; operators between them are in its fixed costs. So
what a rewrite adds is counted here, operator by operator.

An export with copied key/value heads (`repeat_kv`) writes the whole compiled context of every layer anew in each pass,
in vector arithmetic: so many numbers over the unit's `expand_rate`, whatever the rows of the pass.
"""

from __future__ import annotations

from collections.abc import Sequence

from hilsim.cost.counts import expanded_numbers
from hilsim.cost.step import operation_rate, si, straight
from hilsim.describe.chip import Precision, Unit
from hilsim.describe.compiled import Extra, Work
from hilsim.describe.model import Model

ACTIVATION_BITS = {"fp32": 32, "fp16": 16, "int16": 16, "int8": 8}


def work_seconds(work: Work, unit: Unit, precision: Precision, rows: int = 1) -> float:
    """Seconds of some work on a unit; negative where it is work saved."""
    moved_s = work.numbers * ACTIVATION_BITS[precision.activations] / 8 / precision.memory_rate.si
    computed_s = work.operations / operation_rate(precision, rows)
    longer_s = max(moved_s, computed_s) if work.numbers >= 0 else min(moved_s, computed_s)
    return work.launches * si(unit.operator_overhead) + longer_s


def expanded_seconds(model: Model, unit: Unit, context: int) -> float:
    """Seconds that one pass takes longer in an export with copied key/value heads, of units that have a rate for it."""
    return expanded_range(model, unit, context)[0]


def expanded_range(model: Model, unit: Unit, context: int) -> tuple[float, float, float]:
    """The same, and its ends over the range of the rate."""
    assert unit.expand_rate is not None, "checked when the scenario is loaded"
    numbers = expanded_numbers(model.architecture, context)
    low, high = unit.expand_rate.ends
    return numbers / unit.expand_rate.si, numbers / high, numbers / low


def extra_seconds(extra: Extra, unit: Unit, precision: Precision, rows: int = 1) -> float:
    """Seconds that one pass takes beyond the plain decoder's.

    Raises `ValueError` where work leaves a unit whose file does not say what that costs.
    """
    here_s = work_seconds(extra.here, unit, precision, rows)
    if extra.away == Work() and not extra.crossings:
        return here_s
    if unit.fallback is None:
        raise ValueError("a unit without fallback figures; one that has them")
    away_s = work_seconds(extra.away, unit, precision, rows) * unit.fallback.penalty.si
    return here_s + away_s + extra.crossings * unit.fallback.crossing.si


def extra_at(extras: Sequence[tuple[int, Extra]], rows: int, unit: Unit, precision: Precision) -> float:
    """Extra seconds of a pass of `rows`: straight between graphs that were checked, as many launches beyond."""
    known = [(width, extra_seconds(extra, unit, precision, width)) for width, extra in extras]
    if not known:
        return 0.0
    if rows <= known[-1][0]:
        return straight(known, rows)
    widest, extra = extras[-1]
    beyond = Extra(wider(extra.here, rows, widest), wider(extra.away, rows, widest), extra.crossings)
    return extra_seconds(beyond, unit, precision, rows)


def wider(work: Work, rows: int, than: int) -> Work:
    """The same launches with more rows in each."""
    return Work(work.launches, work.numbers * rows // than, work.operations * rows // than)

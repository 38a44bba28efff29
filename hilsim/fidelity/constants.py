"""The constants that a fit may move, and where they would lie if nothing were known of them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from hilsim.describe.figure import Figure

# Where each constant would lie if nothing were known of it, by its name and unit, and how far it may really lie from
# there (a factor). Data outweigh this wherever they determine a constant; the rest stays physical.
PRIOR_FACTOR = 3.0
PRIORS: dict[tuple[str, str], float] = {
    ("memory", "share"): 0.7,  # of the peak: what streaming kernels reach
    ("memory", "B/kop"): 1.0,
    ("weights", "weights/kop"): 0.5,
    ("unpack", "weights/kcycle"): 100.0,  # ten instructions of a core a weight
    ("operations", "op/cycle"): 16.0,  # of a tensor core of Ampere, shared out over the plain cores
    ("cache", "share"): 0.7,
    ("cache", "B/kop"): 0.5,
    ("operations", "share"): 0.25,
    ("attention", "share"): 0.05,
    ("step_overhead", "Mcycles"): 1.0,  # 1 ms at 1 GHz
    ("layer_overhead", "Mcycles"): 0.05,  # ten kernels of 5 us at 1 GHz
    ("prompt_layer_overhead", "Mcycles"): 0.2,
    ("prompt_layer_overhead", "Gop"): 30.0,  # 0.6 ms at 50 TOPS
    ("step_overhead", "Gop"): 100.0,  # 2 ms at 50 TOPS
    ("pass_overhead", "Gop"): 10.0,  # 0.2 ms at 50 TOPS
    ("operator_overhead", "Gop"): 0.1,  # 2 us at 50 TOPS
}


def priors(free: Mapping[str, Figure]) -> dict[str, float]:
    """The prior centre of each constant in its own unit.

    A family's from the table, so that nothing of an earlier fit leaks into one that leaves rows out; others, and
    those of a chip's own file, start from what is written there.
    """
    return {path: PRIORS.get((path.rpartition(".")[2], figure.unit), figure.value) for path, figure in free.items()}


def movable(found: Mapping[str, object]) -> dict[str, Figure]:
    """Of a record's figures those of kind `fitted`, by path."""
    return {path: figure for path, figure in found.items() if isinstance(figure, Figure) and figure.kind == "fitted"}


def span(value: float, deviation: float) -> tuple[float, float]:
    """Two standard deviations of the logarithm either way, four digits."""
    return digits(value * math.exp(-2 * deviation)), digits(value * math.exp(2 * deviation))


def digits(value: float, count: int = 4) -> float:
    """Rounded to significant digits."""
    return float(f"{value:.{count}g}")

"""A network without a language model - perception, speech, embedding - as a scalar: so many operations and parameters.

    time = graph overhead + pass overhead + operators x operator overhead
         + the longer of 2 x GMACs / operation rate and parameter bytes / memory rate
         + what slow patterns take that the compile check found

Operators that a unit lacks run elsewhere: `fallback_seconds` says what their leaving costs.
"""

from __future__ import annotations

from hilsim.cost.counts import vision_operations, vision_weights
from hilsim.cost.step import operation_rate, si
from hilsim.describe.chip import Precision, Unit
from hilsim.describe.compiled import NetworkLoad
from hilsim.describe.model import Model

TOWER_OPERATORS = 12  # a layer: two norms, four projections, rotation, attention, activation, sums
ALL_ROWS = 10**6  # networks fill the unit: the plateau of the rate's curve


def network_seconds(load: NetworkLoad, unit: Unit, precision: Precision) -> float:
    """Seconds of one pass that stays on the unit."""
    compute_s = 2e9 * load.gmacs / operation_rate(precision, ALL_ROWS)
    memory_s = 1e9 * load.params_b * precision.weight_bits.si / 8 / precision.memory_rate.si
    # Units without fixed graphs have the host loop of a step.
    call_s = si(unit.graph_overhead) + (si(unit.step_overhead) if unit.widths is None else 0.0)
    fixed_s = call_s + si(precision.pass_overhead) + load.operators * si(unit.operator_overhead)
    return fixed_s + max(compute_s, memory_s) + load.slow_s


def vision_load(model: Model, tokens: int) -> NetworkLoad:
    """A vision tower that makes `tokens` of one image, as the network that it is; its tokens are then read as a prompt.

    Raises `ValueError` for a model without one.
    """
    if model.vision is None:
        raise ValueError(f"{model.name} has no vision tower")
    operators = TOWER_OPERATORS * model.vision.layers
    return NetworkLoad(vision_operations(model, tokens) / 2e9, vision_weights(model) / 1e9, operators)


def fallback_seconds(load: NetworkLoad, unit: Unit, precision: Precision, *, share: float, crossings: int) -> float:
    """Seconds of one pass when `share` of its work leaves the unit, in `crossings` runs of operators.

    The part that leaves takes `fallback.penalty` times as long as here, and every crossing copies and waits.
    Raises `ValueError` for a unit whose file has no fallback.
    """
    if unit.fallback is None:
        raise ValueError("a unit without fallback figures; one that has them")
    here_s = network_seconds(load, unit, precision)
    return here_s * (1 - share + share * unit.fallback.penalty.si) + crossings * unit.fallback.crossing.si

"""One execution on a unit: what is asked for (`Step`) and what it costs there (`StepCost`), by a roofline with parts.

    time = fixed + max(memory, compute)
    fixed   = graphs x graph overhead + step overhead
    memory  = max(weight bytes / memory rate, weights / weight rate) + cached bytes / memory rate
    compute = weight operations / operation rate(rows) + attention operations / attention rate

The weight rate is what 4-bit decoding on Hexagon v68 is bound by: unpacking, not bandwidth. Units with compiled
widths run the next width up and read the whole compiled context every step, whatever is in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from hilsim.cost.counts import (
    attention_operations,
    body_weights,
    head_weights,
    kv_numbers_per_token,
    matmul_operations,
)
from hilsim.describe.chip import Precision, Unit
from hilsim.describe.model import Model
from hilsim.units import ns


class Phase(StrEnum):
    """What a step is for; also the kind of its span."""

    PREFILL = "prefill"
    DRAFT_PREFILL = "draft prefill"
    DRAFT = "draft"
    DECODE = "decode"
    VERIFY = "verify"

    @property
    def reads(self) -> bool:
        """Whether the step reads a prompt, of which only the last row's logits are wanted."""
        return self in (Phase.PREFILL, Phase.DRAFT_PREFILL)


@dataclass(frozen=True, slots=True)
class Step:
    """`rows` new positions after `cached` ones. Reading wants logits of the last row only, all else of every row."""

    phase: Phase
    rows: int
    cached: int


@dataclass(frozen=True)
class StepCost:
    """Seconds of one graph execution by part. `width` is the number of rows really computed."""

    width: int
    fixed_s: float
    weights_s: float
    kv_s: float
    matmul_s: float
    attention_s: float

    @property
    def seconds(self) -> float:
        return self.fixed_s + max(self.weights_s + self.kv_s, self.matmul_s + self.attention_s)

    @property
    def bound(self) -> str:
        """What decides the time: "weights", "kv cache", "matmul" or "attention"."""
        memory, compute = self.weights_s + self.kv_s, self.matmul_s + self.attention_s
        if memory >= compute:
            return "weights" if self.weights_s >= self.kv_s else "kv cache"
        return "matmul" if self.matmul_s >= self.attention_s else "attention"


def passes(rows: int, widths: tuple[int, ...] | None) -> list[tuple[int, int]]:
    """Split `rows` into graph executions (rows used, width run): full widest graphs, then the next width up."""
    if widths is None:
        return [(rows, rows)]
    widest = widths[-1]
    chunks = [(widest, widest)] * (rows // widest)
    if rest := rows % widest:
        chunks.append((rest, next(width for width in widths if width >= rest)))
    return chunks


def operation_rate(precision: Precision, rows: int) -> float:
    """Operations/s at `rows` a pass: straight between the points given, flat beyond them."""
    points = [(point.rows, point.rate.si) for point in precision.operation_rates]
    if rows <= points[0][0]:
        return points[0][1]
    for (low, low_rate), (high, high_rate) in pairwise(points):
        if rows <= high:
            return low_rate + (high_rate - low_rate) * (rows - low) / (high - low)
    return points[-1][1]


def execution_cost(
    model: Model, unit: Unit, precision: Precision, *, width: int, visible: int, head_rows: int
) -> StepCost:
    """Cost of one execution of `width` rows that attends to `visible` positions and makes `head_rows` logits rows."""
    shape = model.architecture
    weight_bytes = (body_weights(shape) * precision.weight_bits.si + head_weights(model) * precision.head_bits.si) / 8
    weights_s = weight_bytes / precision.memory_rate.si
    if precision.weight_rate is not None:
        weights_s = max(weights_s, (body_weights(shape) + head_weights(model)) / precision.weight_rate.si)
    kv_bytes = kv_numbers_per_token(shape) * visible * precision.kv_bits.si / 8
    rate = operation_rate(precision, width)
    attention_rate = precision.attention_rate.si if precision.attention_rate is not None else rate
    graphs = unit.graphs_per_step.si if unit.graphs_per_step is not None else 1
    return StepCost(
        width=width,
        fixed_s=graphs * unit.graph_overhead.si + unit.step_overhead.si,
        weights_s=weights_s,
        kv_s=kv_bytes / precision.memory_rate.si,
        matmul_s=matmul_operations(model, width, head_rows) / rate,
        attention_s=attention_operations(shape, width, visible) / attention_rate,
    )


def step_costs(
    model: Model, unit: Unit, precision: Precision, step: Step, widths: tuple[int, ...] | None, context: int
) -> list[StepCost]:
    """The executions that a step takes: one, or several when a prompt is longer than the widest graph."""
    costs = []
    cached = step.cached
    for used, width in passes(step.rows, widths):
        cached += used
        fixed_graph = widths is not None
        # A fixed graph computes logits of every row it was compiled for; a GPU only those asked for.
        wanted = 1 if step.phase.reads else used
        costs.append(
            execution_cost(
                model,
                unit,
                precision,
                width=width,
                visible=context if fixed_graph else cached,
                head_rows=width if fixed_graph else wanted,
            )
        )
    return costs


def duration_ns(costs: list[StepCost]) -> int:
    """Whole nanoseconds of a list of executions, each rounded up."""
    return sum(ns(cost.seconds) for cost in costs)

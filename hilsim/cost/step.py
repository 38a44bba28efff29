"""One execution on a unit: what is asked for (`Step`) and what it costs there (`StepCost`), by a roofline with parts.

    time    = fixed + body + head + attention + logits + extra, where layers, head and attention run one after another:
              each the longer of its memory and its compute time + what of the shorter one does not hide behind it
    fixed   = graphs x graph overhead + step overhead + layers x layer overhead (more for several rows, or a prompt)
    memory  = max(weight bytes / memory rate, weights / weight rate); of attention: cached bytes / cache rate
    compute = operations / operation rate(rows) + unpacking; of attention: operations / attention rate
    unpacking = body weights x (tiles of rows + the tail of a tile) / unpack rate
    logits  = rows of logits x vocabulary x 4 bytes x passes over them / memory rate

The weight rate is what 4-bit decoding on Hexagon v68 is bound by: unpacking, not bandwidth. Units with compiled
widths run the next width up and read the whole compiled context every step, whatever is in it. Units without take any
number of rows: up to `narrow_rows` matrix-vector kernels stream the weights and arithmetic hides behind them; beyond,
matrix kernels multiply tiles of rows. Formats that the matrix unit does not multiply itself (INT4 with fp16
activations on a GPU) have an unpack rate: every tile of `unpack_rows` rows unpacks all weights again on the plain
cores, so that a verify pass of a few rows is bound by compute. Formats that it does (NVFP4, FP8, INT8) have none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from math import ceil
from typing import Any, NamedTuple

from hilsim.cost.counts import (
    active_weights,
    adapter_weights,
    attention_operations,
    body_weights,
    head_weights,
    kv_numbers_read,
    matmul_operations,
    read_weights,
    recurrence_operations,
    state_bytes,
    weights_by_rows,
)
from hilsim.describe.chip import Precision, Unit
from hilsim.describe.figure import Figure
from hilsim.describe.layers import BITS
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
        """Whether the step reads a prompt."""
        return self in (Phase.PREFILL, Phase.DRAFT_PREFILL)


@dataclass(frozen=True, slots=True)
class Step:
    """`rows` new positions after `cached` ones, of each of `sequences` computed together.

    Rows of a `tree` come with a mask that is data: kernels compute every row against all positions, also those that it
    must not see. `logits` is of how many rows logits are wanted; None for what the phase wants.
    """

    phase: Phase
    rows: int
    cached: int
    sequences: int = 1
    tree: bool = False
    logits: int | None = None

    @property
    def wanted(self) -> int:
        """Rows whose logits are wanted: of a prompt, and of tokens that a draft's cache lacks, the last one alone."""
        if self.logits is not None:
            return self.logits
        return self.rows if self.phase in (Phase.DECODE, Phase.VERIFY) else 1


@dataclass(frozen=True)
class StepCost:
    """Seconds of one graph execution by part. `width` is the number of rows really computed.

    The layers' weights and products are apart from those of the output head. `overlap` is the share of the shorter of
    memory and compute time that hides behind the longer. `nbytes` leaves out what compiling adds, whose bytes are not
    known.
    """

    width: int
    fixed_s: float
    body_weights_s: float
    head_weights_s: float
    kv_s: float
    body_matmul_s: float
    head_matmul_s: float
    attention_s: float
    logits_s: float = 0.0
    overlap: float = 1.0
    extra_s: float = 0.0  # what the compile gate found beyond the plain decoder: head, rewrites, fallback
    nbytes: float = 0.0  # moved through the memory: weights, cache and logits
    factor: float = 1.0  # of the whole: `StepFactors`

    @property
    def weights_s(self) -> float:
        """Reading all weights."""
        return self.body_weights_s + self.head_weights_s

    @property
    def matmul_s(self) -> float:
        """Multiplying by all weights."""
        return self.body_matmul_s + self.head_matmul_s

    @property
    def seconds(self) -> float:
        return float(self.added(max, min))

    def added(self, longer: Callable[[Any, Any], Any], shorter: Callable[[Any, Any], Any]) -> Any:
        """All parts together; `longer` and `shorter` of two, so that parts may be arrays over fills of the cache."""
        parts = (
            (self.body_weights_s, self.body_matmul_s),
            (self.head_weights_s, self.head_matmul_s),
            (self.kv_s, self.attention_s),
        )
        exposed = 1 - self.overlap
        total = self.fixed_s + self.extra_s + self.logits_s
        for memory, compute in parts:
            total = total + longer(memory, compute) + exposed * shorter(memory, compute)
        return total * self.factor

    @property
    def bound(self) -> str:
        """What the longest part is bound by: "weights", "kv cache", "matmul" or "attention"."""
        if max(self.weights_s, self.matmul_s) >= max(self.kv_s, self.attention_s):
            return "weights" if self.weights_s >= self.matmul_s else "matmul"
        return "kv cache" if self.kv_s >= self.attention_s else "attention"


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
    return straight([(point.rows, point.rate.si) for point in precision.operation_rates], rows)


def straight(points: Sequence[tuple[int, float]], place: int) -> float:
    """The value at a place: on the line between its neighbours, beyond the outermost as there."""
    if place <= points[0][0]:
        return points[0][1]
    for (low, low_value), (high, high_value) in pairwise(points):
        if place <= high:
            return low_value + (high_value - low_value) * (place - low) / (high - low)
    return points[-1][1]


def graphs_run(model: Model, unit: Unit, precision: Precision) -> int:
    """Graphs run one after another in a step: as many as the size limit makes of the layers and of the head.

    Published pipelines cut like this (qualcomm/ai-hub-models NUM_SPLITS: 3 for Llama-3.2-1B and 3B, 5 for
    Llama-3.1-8B); `graphs_per_step` is the least.
    """
    return graphs_of(body_weights(model.architecture), head_weights(model), unit, precision)


def graphs_of(body: int, head: int, unit: Unit, precision: Precision) -> int:
    """The same of so many weights of the layers and of the head."""
    least = round(unit.graphs_per_step.si) if unit.graphs_per_step is not None else 1
    if unit.graph_limit is None:
        return least
    body_bytes, head_bytes = body * precision.weight_bits.si / 8, head * precision.head_bits.si / 8
    return max(least, ceil(body_bytes / unit.graph_limit.si) + ceil(head_bytes / unit.graph_limit.si))


def si(figure: Figure | None, otherwise: float = 0.0) -> float:
    """A figure's value in base units, or what stands for an absent one."""
    return figure.si if figure is not None else otherwise


def in_tiles(rows: int, unit: Unit) -> int:
    """Rows that a kernel computes for `rows`: as many where matrix-vector kernels do it, whole tiles beyond."""
    if rows <= si(unit.narrow_rows, 1):
        return rows
    tile = max(1, round(si(unit.tile_rows, 1)))
    return ceil(rows / tile) * tile


class PassCounts(NamedTuple):
    """What one pass reads and computes, however it was counted: of a described model, or of a compiled graph.

    `rows` of each sequence, `all_rows` of all together. `body` and `head` are weights that are read, `adapter` further
    ones in 16 bits, `by_rows` weights of the layers with how many rows each multiplies. `prompt`: a prompt's rows.
    """

    rows: int
    all_rows: int
    layers: int
    graphs: int
    body: float
    head: float
    adapter: int
    by_rows: Sequence[tuple[float, float]]
    body_operations: float
    head_operations: float
    kv_bytes: float
    attention_operations: float
    recurrence_operations: float
    logits_rows: int
    entries: int  # of a row of logits
    prompt: bool


def execution_cost(
    model: Model,
    unit: Unit,
    precision: Precision,
    *,
    rows: int,
    stored: int,
    visible: float,
    head_rows: int,
    reading: bool = False,
    sequences: int = 1,
) -> StepCost:
    """Cost of one execution of `rows` rows for each of `sequences`; `reading` where they are a prompt's.

    `stored` positions of cache are read, a row attends to `visible` of them on average, and `head_rows` logits rows
    are made, by several output heads together; all of these per sequence. Weights are read once whatever the number of
    rows and sequences, those of experts that a row goes through. Recurrent states are read and written once a pass, and
    where rows may be rejected written after every one of them, since a state cannot be rewound. Adapters are read in
    16 bits.
    """
    shape = model.architecture
    all_rows = rows * sequences
    head = head_weights(model)
    rows_a_head = ceil(head_rows * sequences / model.rows_a_position)
    computed = in_tiles(all_rows, unit)
    states = 2 if reading else 1 + rows
    adapter = adapter_weights(model)
    counts = PassCounts(
        rows=rows,
        all_rows=all_rows,
        layers=shape.layers,
        graphs=graphs_run(model, unit, precision),
        body=read_weights(shape, all_rows),
        head=head,
        adapter=adapter,
        by_rows=() if precision.unpack_rate is None else weights_by_rows(shape, all_rows),
        body_operations=matmul_operations(active_weights(shape) + adapter, computed),
        head_operations=matmul_operations(head, in_tiles(rows_a_head, unit)),
        kv_bytes=sequences * (kv_numbers_read(shape, stored) * precision.kv_bits.si / 8 + states * state_bytes(shape)),
        attention_operations=attention_operations(shape, computed, visible),
        recurrence_operations=recurrence_operations(shape, all_rows),
        logits_rows=head_rows * sequences,
        entries=model.row_entries,
        prompt=reading,
    )
    return cost_of(counts, unit, precision)


def cost_of(counts: PassCounts, unit: Unit, precision: Precision) -> StepCost:
    """The formula of this module on what was counted."""
    wide = counts.all_rows > si(unit.narrow_rows, 1)
    memory_rate = precision.memory_rate.si
    adapter_bits, head_bits = counts.adapter * BITS, counts.head * precision.head_bits.si
    read_bytes = (counts.body * precision.weight_bits.si + adapter_bits + head_bits) / 8
    logits_s = counts.logits_rows * logits_seconds(counts.entries, unit, precision)
    rate = operation_rate(precision, in_tiles(counts.all_rows, unit))
    attention_rate = si(precision.attention_rate, rate)
    layer_s = si(unit.layer_overhead) + (
        si(unit.prompt_layer_overhead) if counts.prompt and counts.rows > si(unit.narrow_rows, 1) else 0.0
    )
    layer_s += si(unit.wide_layer_overhead) if wide else 0.0
    return StepCost(
        width=counts.rows,
        fixed_s=counts.graphs * si(unit.graph_overhead) + si(unit.step_overhead) + counts.layers * layer_s,
        body_weights_s=read_seconds(counts.body, precision.weight_bits, precision) + adapter_bits / 8 / memory_rate,
        head_weights_s=read_seconds(counts.head, precision.head_bits, precision),
        kv_s=counts.kv_bytes / si(precision.cache_rate, memory_rate),
        body_matmul_s=counts.body_operations / rate + (unpacking(counts.by_rows, unit, precision) if wide else 0),
        head_matmul_s=counts.head_operations / rate,
        attention_s=counts.attention_operations / attention_rate
        + counts.recurrence_operations / si(precision.recurrence_rate, attention_rate),
        logits_s=logits_s,
        overlap=si(unit.overlap, 1.0) if wide else 1.0,
        nbytes=read_bytes + counts.kv_bytes + logits_s * memory_rate,
    )


def read_seconds(weights: float, bits: Figure, precision: Precision) -> float:
    """Seconds of reading so many weights once: by their bytes, or by unpacking them where that is slower."""
    by_bytes = weights * bits.si / 8 / precision.memory_rate.si
    return by_bytes if precision.weight_rate is None else max(by_bytes, weights / precision.weight_rate.si)


def unpacking(by_rows: Sequence[tuple[float, float]], unit: Unit, precision: Precision) -> float:
    """Seconds of unpacking all weights for every tile of rows, and once for a share of a tile: the thread blocks of a

    pass rarely fill all cores to the end. An expert has tiles of the rows it is given, matrix-vector kernels for few.
    """
    if precision.unpack_rate is None:
        return 0.0
    tile, tail, weights = si(unit.unpack_rows, 1), si(unit.unpack_tail), 0.0
    for read, of_rows in by_rows:
        if of_rows > si(unit.narrow_rows, 1):
            weights += read * (ceil(of_rows / tile) + tail)
    return weights / precision.unpack_rate.si


def logits_seconds(entries: int, unit: Unit, precision: Precision) -> float:
    """Seconds of one row of logits in fp32, which is written, and read to normalise, choose and accept."""
    return si(unit.logits_passes) * 4 * entries / precision.memory_rate.si


def step_costs(
    model: Model, unit: Unit, precision: Precision, step: Step, widths: tuple[int, ...] | None, context: int
) -> list[StepCost]:
    """The executions that a step takes: one, or several when a prompt is longer than the widest graph."""
    costs = []
    cached = step.cached
    for used, width in passes(step.rows, widths):
        cached = cached + used  # never in place: it may be an array of the caller
        if widths is not None:
            # A fixed graph reads its whole context and computes logits of every row it was compiled for.
            stored, visible, head_rows = context, float(context), width * model.rows_a_position
        else:
            # Others read what is there, skip the future, and make only the logits that are wanted.
            stored, visible = cached, cached - (0 if step.tree else (used - 1) / 2)
            head_rows = min(step.wanted, used * model.rows_a_position)
        costs.append(
            execution_cost(
                model,
                unit,
                precision,
                rows=width,
                stored=stored,
                visible=visible,
                head_rows=head_rows,
                # A verify on a unit of fixed graphs runs the very graph that prompts run.
                reading=step.phase.reads or widths is not None,
                sequences=step.sequences,
            )
        )
    return costs


def duration_ns(costs: list[StepCost]) -> int:
    """Whole nanoseconds of a list of executions, each rounded up."""
    return sum(ns(cost.seconds) for cost in costs)

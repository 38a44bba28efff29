"""A family: what chips of one silicon share, relative to their datasheets, so that an unseen sibling follows from it.

A rate's unit shows what it is relative to, and so does a duration's:

| unit          | is multiplied by / divides                      |
| share         | x the peak memory rate, or x the peak operations|
| B/kop         | x the peak operation rate (bytes per 1000)      |
| weights/kop   | x the peak operation rate (weights per 1000)    |
| weights/kcycle| x the cycles of all plain cores (per 1000)      |
| op/cycle      | x the cycles of all plain cores                 |
| Mcycles       | / the unit's clock                              |
| Gop           | / the peak operation rate                       |

Of B/kop, weights/kop and Gop that peak is the unit's `reading_peak_operation_rate` where it has one.

The cycles of all plain cores a second are clock x cores where a chip's file gives the cores, else the peak operation
rate over `core_operations`: what the matrix units compute, dense and in INT8, for each plain core and cycle.

Why an NPU's bytes per second go with its operations and not with the memory: one NPU does not saturate the memory of
any chip measured, and siblings differ by their clocks.
"""

from __future__ import annotations

from pydantic import Field

from hilsim.describe.chip import Activations, UnitKind
from hilsim.describe.figure import Count, Limit, Named, Names, Record, RelativeDuration, RelativeRate, Share, Size


class FamilyPrecision(Record):
    """One number format, relative to the chip's datasheet."""

    activations: Activations
    """Number format of activations."""
    weight_bits: Count
    """Bits for each weight of the layers."""
    head_bits: Count
    """Bits for each weight of the output head."""
    kv_bits: Count
    """Bits for each cached number, unless the placement sets kv_cache."""
    memory: RelativeRate
    """Rate at which weights are read, relative to the chip; of the cache too where cache is not given."""
    weights: RelativeRate | None = None
    """Most weights a second where unpacking them binds decoding; no such cap where not given."""
    unpack: RelativeRate | None = None
    """Weights a second that matrix kernels unpack, for every tile of rows again; none are where not given."""
    cache: RelativeRate | None = None
    """Rate at which the cache is read; that of memory where not given."""
    operations: RelativeRate
    """Operations a second of matrix products, over any number of rows."""
    attention: RelativeRate | None = None
    """Operations a second of attention; those of operations where not given."""
    recurrence: RelativeRate | None = None
    """Operations a second that update recurrent states; as attention where not given."""
    pass_overhead: RelativeDuration | None = None
    """What feeding and fetching the tensors of a pass costs, of networks that are no language models."""


class Family(Named):
    """Constants shared by the units of one silicon; those of kind `fitted` are what a calibration may move."""

    kind: UnitKind
    """Kind of the units that it describes."""
    measured_on: Names = ()
    """Chips that took part in the fit; on any other member the constants are assumptions."""
    sibling: str | None = None
    """Family to borrow constants from where nothing of this one was measured."""
    graph_overhead: RelativeDuration
    """Cost of each graph that a pass runs."""
    step_overhead: RelativeDuration
    """Cost of each pass."""
    layer_overhead: RelativeDuration | None = None
    """Cost of each layer of a pass; none where not given."""
    prompt_layer_overhead: RelativeDuration | None = None
    """Further cost of each layer of a pass that reads a prompt of more than narrow_rows rows."""
    operator_overhead: RelativeDuration | None = None
    """Cost of launching an operator: of networks, and of what compiling adds to a decoder."""
    overlap: Share | None = None
    """Share of the shorter of memory and compute time that hides behind the longer; all of it where not given."""
    narrow_rows: Count | None = None
    """Most rows that matrix-vector kernels take; wider passes use matrix kernels."""
    tile_rows: Count | None = None
    """Rows that a pass of matrix kernels is rounded up to a multiple of."""
    unpack_rows: Count | None = None
    """Rows for which matrix kernels unpack all weights once."""
    unpack_tail: Share | None = None
    """Unpacking on top for each wide pass, as a share of one tile's: its last blocks rarely fill all cores."""
    logits_passes: Count | None = None
    """How many times a row of logits is passed over in memory; none where not given."""
    core_operations: Count | None = None
    """Dense INT8 operations of the matrix units for each plain core and cycle; it gives the number of cores."""
    graphs_per_step: Count | None = None
    """Fewest graphs that a language model is cut into; one where not given."""
    graph_limit: Limit | None = None
    """Most bytes of weights that one graph holds; larger models are cut into several."""
    context_limit: Limit | None = None
    """Most bytes that one context of the runtime maps; more take several contexts."""
    staged: Share | None = None
    """Share of the weights held a second time while a model is loaded."""
    workspace: Size | None = None
    """Memory that a model in use takes beside its activations."""
    precisions: dict[str, FamilyPrecision] = Field(min_length=1)
    """Number formats of its units, by name."""
    residuals: str = ""
    """How far the fitted constants miss their measurements; a calibration writes it."""
    notes: str = ""
    """Remarks for readers; no time follows from them."""

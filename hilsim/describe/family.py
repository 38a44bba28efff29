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
    """One number format. `memory` reads weights (and the cache, without `cache`); `weights` caps it by unpacking.

    `unpack` is the rate at which matrix kernels unpack weights, for every tile of rows again.
    """

    activations: Activations
    weight_bits: Count
    head_bits: Count
    kv_bits: Count
    memory: RelativeRate
    weights: RelativeRate | None = None
    unpack: RelativeRate | None = None
    cache: RelativeRate | None = None
    operations: RelativeRate
    attention: RelativeRate | None = None
    recurrence: RelativeRate | None = None
    pass_overhead: RelativeDuration | None = None


class Family(Named):
    """Constants shared by the units of one silicon; those of kind `fitted` are what a calibration may move.

    `measured_on` names the chips that took part in the fit: on any other member the constants are assumptions.
    `sibling` names the family to borrow from where nothing of this one was measured.
    """

    kind: UnitKind
    measured_on: Names = ()
    sibling: str | None = None
    graph_overhead: RelativeDuration
    step_overhead: RelativeDuration
    layer_overhead: RelativeDuration | None = None
    prompt_layer_overhead: RelativeDuration | None = None
    operator_overhead: RelativeDuration | None = None
    overlap: Share | None = None
    narrow_rows: Count | None = None
    tile_rows: Count | None = None
    unpack_rows: Count | None = None
    unpack_tail: Share | None = None
    logits_passes: Count | None = None
    core_operations: Count | None = None
    graphs_per_step: Count | None = None
    graph_limit: Limit | None = None
    context_limit: Limit | None = None
    staged: Share | None = None
    workspace: Size | None = None
    precisions: dict[str, FamilyPrecision] = Field(min_length=1)
    residuals: str = ""
    notes: str = ""

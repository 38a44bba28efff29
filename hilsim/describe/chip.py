"""A chip: one memory and the compute units that share it, with the rates each unit reaches per precision."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from hilsim.describe.figure import (
    NAME,
    PLAIN_NAME,
    ByteRate,
    Count,
    Duration,
    Frequency,
    Kind,
    Limit,
    Named,
    Names,
    OperationRate,
    Power,
    Record,
    Share,
    Size,
    WeightRate,
    as_tuple,
)
from hilsim.describe.names import key, split_name
from hilsim.describe.thermal import Thermal
from hilsim.errors import Misfit

MOST_ROWS = 2**20  # in one pass
EIGHT_BITS = ("w8a8", "fp16")  # of networks, in the order of preference
UnitKind = Literal["npu", "gpu", "cpu"]
Activations = Literal["fp32", "fp16", "int16", "int8"]


class RatePoint(Record):
    """The operation rate reached when `rows` positions are computed in one pass."""

    rows: int = Field(ge=1, le=MOST_ROWS)
    rate: OperationRate


class Precision(Record):
    """One number format on one unit: how many bits each part takes and how fast the unit gets through it.

    A step reads `weight_bits` a body weight, `head_bits` a head weight and `kv_bits` a cached number at `memory_rate`
    (the cache at `cache_rate` where given); where decoding is bound by unpacking weights, `weight_rate` caps it. Where
    matrix kernels unpack weights for every tile of rows, they do at `unpack_rate`.
    `operation_rates` are points of a curve over rows (straight between points, flat outside); attention runs at
    `attention_rate`, or with the rest where absent, and recurrent states are updated at `recurrence_rate`, or with
    attention. A network that is no language model also pays `pass_overhead`: what feeding and fetching its tensors
    costs.
    """

    activations: Activations
    weight_bits: Count
    head_bits: Count
    kv_bits: Count
    memory_rate: ByteRate
    weight_rate: WeightRate | None = None
    unpack_rate: WeightRate | None = None
    cache_rate: ByteRate | None = None
    operation_rates: Annotated[tuple[RatePoint, ...], BeforeValidator(as_tuple)] = Field(min_length=1)
    attention_rate: OperationRate | None = None
    recurrence_rate: OperationRate | None = None
    pass_overhead: Duration | None = None

    @model_validator(mode="after")
    def _ascending(self) -> Precision:
        rows = [point.rows for point in self.operation_rates]
        if rows != sorted(set(rows)):
            raise Misfit(f"operation_rates at rows {rows}", "rising rows")
        for low, high in pairwise(self.operation_rates):
            measured = low.rate.kind == high.rate.kind == "measured"  # compiled graphs of their own may be
            if high.rows / high.rate.si < low.rows / low.rate.si and not measured:
                raise Misfit(
                    f"operation_rates make {high.rows} rows quicker than {low.rows}", "a wider pass is never cheaper"
                )
        return self


class Widths(Record):
    """The row counts for which graphs are compiled; a step runs the next one up."""

    value: Annotated[tuple[int, ...], BeforeValidator(as_tuple)] = Field(min_length=1, max_length=16)
    kind: Kind
    source: str = Field(min_length=3)

    @model_validator(mode="after")
    def _ascending(self) -> Widths:
        rising(self.value)
        return self


def rising(widths: tuple[int, ...]) -> tuple[int, ...]:
    """The widths as given; raises `ValueError` unless they rise from at least 1."""
    if any(not 1 <= width <= MOST_ROWS for width in widths) or list(widths) != sorted(set(widths)):
        raise Misfit(f"widths {list(widths)}", f"rising numbers of rows from 1 to {MOST_ROWS}")
    return widths


class Ability(Record):
    """A yes or no about hardware or toolchain, with its source."""

    value: bool
    kind: Kind
    source: str = Field(min_length=3)


class Fallback(Record):
    """What it costs when operators leave the unit for another one: `penalty` times the operator's own time there,

    and `crossing` for each run of operators that leaves and comes back.
    """

    penalty: Count
    crossing: Duration


class PublishedLimit(Record):
    """What a maker or its export tool publishes of a class of models on a unit; `limits.py` holds scenarios to it.

    The class is those of so many thousand million `parameters` (from, to), of these `precisions` (none: any), on this
    unit. They run with at most `context` tokens; or, with `supported`, whether they run at all.
    """

    parameters: tuple[float, float]
    precisions: Names = ()
    context: Count | None = None
    supported: Ability | None = None

    @model_validator(mode="before")
    @classmethod
    def _range_from_list(cls, data: object) -> object:
        if isinstance(data, dict) and isinstance(data.get("parameters"), list):
            sizes = [float(size) if type(size) is int else size for size in data["parameters"]]
            return {**data, "parameters": tuple(sizes)}
        return data

    @model_validator(mode="after")
    def _says_one_thing(self) -> PublishedLimit:
        low, high = self.parameters
        if not 0 <= low < high:
            raise Misfit(f"parameters {low:g} to {high:g}", "the lower end first, in thousand millions")
        if (self.context is None) == (self.supported is None):
            raise Misfit("a published limit of both or neither of context and supported", "one of them")
        if self.context is not None and self.context.unit != "tokens":
            raise Misfit(f"context in {self.context.unit}", "tokens")
        return self


class FasterExport(Record):
    """A language model exported in `precision`, which runs `speed` times as fast as in precision `of`: measured where
    both are published, and assumed on a unit for which only `of` is.
    """

    of: str
    precision: str
    speed: Count


class Unit(Record):
    """One compute unit. With `widths` it runs fixed graphs, which read the whole compiled context every step.

    Every pass costs `step_overhead`, and `layer_overhead` a layer; one that reads a prompt of more than `narrow_rows`
    rows `prompt_layer_overhead` a layer on top, as it is launched kernel by kernel. Any pass of more than
    `narrow_rows` rows uses matrix instead of matrix-vector kernels: it costs `wide_layer_overhead` a layer on top (a
    mask, packing), rows are rounded up to `tile_rows`, weights are unpacked once for every `unpack_rows` of them
    and for the share `unpack_tail` of so many, and
    of the shorter of memory and compute time only the share `overlap` hides behind the longer. A row of logits is
    passed over `logits_passes` times. Where these are absent: no overhead, no rounding, all of it hidden, no pass.

    An export that copies key/value heads writes so many numbers of the copies at `expand_rate`, in every pass.

    While a model is loaded the share `staged` of its weights is held a second time; in use it takes `workspace` beside
    its activations, and where the runtime takes a share of the chip's memory when it starts, whatever the model needs,
    all of `taken_in_advance`. Where these are absent: nothing.

    Between passes: `graph_switch` where a unit with widths changes its graph; `power_up` and `vtcm_acquire` (of its
    vector memory) before the first pass after it had no work for longer than `idle_after`. Where absent: nothing.

    After ignition: a runtime starts for each model (`start_up`, its files being in memory already), and its first pass
    takes `first_pass` longer. `speed` times the unit's own figures is what there is of it: in a performance tier,
    beside another process, with more NPUs than the one that the figures are of.

    `faster_exports` decide nothing of a run: they say which faster target a speed-up should be held against.

    With `family` whatever is not given here follows from the family and from `peak_operation_rate` (dense INT8
    operations), `clock` and, of a GPU that its family does not give them for, `cores`. `reading_peak_operation_rate`
    stands for the peak where a family counts bytes, weights or overheads against it: for variants that are known to
    multiply slower and not known to read slower.
    """

    kind: UnitKind
    title: str = ""
    family: str | None = None
    peak_operation_rate: OperationRate | None = None
    reading_peak_operation_rate: OperationRate | None = None
    clock: Frequency | None = None
    cores: Count | None = None
    widths: Widths | None = None
    shared_weights: Ability | None = None
    tree_attention: Ability | None = None  # whether a fixed graph takes a mask that is no triangle
    graphs_per_step: Count | None = None
    graph_limit: Limit | None = None
    context_limit: Limit | None = None
    graph_overhead: Duration | None = None
    step_overhead: Duration | None = None
    layer_overhead: Duration | None = None
    prompt_layer_overhead: Duration | None = None
    wide_layer_overhead: Duration | None = None
    operator_overhead: Duration | None = None
    expand_rate: OperationRate | None = None
    graph_switch: Duration | None = None
    power_up: Duration | None = None
    vtcm_acquire: Duration | None = None
    idle_after: Duration | None = None
    start_up: Duration | None = None
    first_pass: Duration | None = None
    speed: Count | None = None
    overlap: Share | None = None
    narrow_rows: Count | None = None
    tile_rows: Count | None = None
    unpack_rows: Count | None = None
    unpack_tail: Share | None = None
    logits_passes: Count | None = None
    reserve: Size
    staged: Share | None = None
    workspace: Size | None = None
    taken_in_advance: Share | None = None
    published_limits: Annotated[tuple[PublishedLimit, ...], BeforeValidator(as_tuple)] = ()
    faster_exports: Annotated[tuple[FasterExport, ...], BeforeValidator(as_tuple)] = Field(default=(), exclude=True)
    active_power: Power
    refused_matmuls: Annotated[tuple[Literal["int16 x int16"], ...], BeforeValidator(as_tuple)] = ()
    fallback: Fallback | None = None
    profiles: Names = ()  # rule profiles of compilers for this unit, the usual one first
    precisions: dict[str, Precision] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _complete(self) -> Unit:
        if self.family is None:
            needed = {"graph_overhead": self.graph_overhead, "step_overhead": self.step_overhead}
            missing = [name for name, figure in needed.items() if figure is None]
            missing += [] if self.precisions else ["precisions"]
            if missing:
                raise Misfit(f"neither family nor {', '.join(missing)}", "a family, or these keys")
        if self.graph_switch is not None and self.widths is None:
            raise Misfit("graph_switch of a unit without widths", "widths: what takes any number of rows has one graph")
        if (self.power_up or self.vtcm_acquire) is not None and self.idle_after is None:
            raise Misfit("power_up or vtcm_acquire without idle_after", "after how long without work it is paid")
        for name in ("overlap", "taken_in_advance"):
            share: Share | None = getattr(self, name)
            if share is not None and share.ends[1] > 1:
                raise Misfit(f"{name} up to {share.ends[1]:g}", "a share of at most 1")
        for export in self.faster_exports:
            if export.speed.unit != "times" or export.speed.si <= 1:
                found = f"faster_exports.speed of {export.speed.value:g} {export.speed.unit}"
                raise Misfit(found, "how many times as fast, above 1")
        return self

    @property
    def of_networks(self) -> str:
        """The precision of networks that say nothing: 8 bits, or the next best thing."""
        return next((known for known in EIGHT_BITS if known in self.precisions), next(iter(self.precisions)))

    def refusal(self, precision: str) -> str | None:
        """Why a transformer in this precision does not run here, or None."""
        if precision not in self.precisions:
            return f"no figures for precision {precision!r} (there are: {', '.join(self.precisions)})"
        # Attention multiplies activations by activations, so 16-bit integer activations need that matmul.
        if self.precisions[precision].activations == "int16" and "int16 x int16" in self.refused_matmuls:
            return f"{precision}, which needs a matmul of int16 by int16 activations that this unit lacks"
        return None


class ModeUnit(Record):
    """What a power mode changes about one unit."""

    peak_operation_rate: OperationRate | None = None
    clock: Frequency | None = None
    speed: Count | None = None


class OwnMode(Record):
    """The power mode that a chip file's plain figures are."""

    name: str = Field(pattern=NAME, max_length=100)
    kind: Kind
    source: str = Field(min_length=3)


class Mode(Record):
    """A power mode: the datasheet figures that differ from the chip's own."""

    peak_memory_rate: ByteRate | None = None
    units: dict[str, ModeUnit] = Field(default_factory=dict)


class Chip(Named):
    """A chip as the assistant sees it: `memory` is what may be used at most, `reserve` the system's share of it.

    Models are read from flash at `flash_rate`. All that runs at once shares `shared_memory_rate`, the peak rate where
    it is not given.

    `mode` is the power mode of the figures as they stand, `modes` are its other ones, named `CHIP@MODE` where a chip is
    asked for; `modes_elsewhere` those that another chip file has (`MODE: CHIP` or `MODE: CHIP@MODE`). `known_as` are
    the names that people and measurements use for it, and `group` the class in which they are summed up. What
    passengers say reaches what runs in the `cloud`. `stands_on` names the published figures of language models behind
    its answers, or says that there is none; it and `notes` are shown wherever the chip is. `thermal` counts where a
    scenario has a climate.
    """

    known_as: Names = ()
    group: str = ""
    vendor: str | None = Field(default=None, pattern=NAME, max_length=100, exclude=True)  # as runtimes name it
    place: Literal["car", "cloud"] = "car"

    memory: Size
    reserve: Size
    peak_memory_rate: ByteRate
    shared_memory_rate: ByteRate | None = None
    flash_rate: ByteRate | None = None
    idle_power: Power
    name: str = Field(pattern=PLAIN_NAME, max_length=100)
    units: dict[Annotated[str, Field(pattern=PLAIN_NAME)], Unit] = Field(min_length=1)
    # How modes are called decides nothing of a run, so neither is part of its digest.
    mode: OwnMode | None = Field(default=None, exclude=True)
    modes: dict[str, Mode] = Field(default_factory=dict)
    modes_elsewhere: dict[str, str] = Field(default_factory=dict, exclude=True)
    thermal: Thermal | None = Field(default=None, exclude=True)  # the digest takes it up where there is a climate
    residuals: str = ""
    stands_on: str = Field(default="", exclude=True)
    notes: str = ""

    @model_validator(mode="after")
    def _modes_change_units_here(self) -> Chip:
        for name, mode in self.modes.items():
            if strangers := sorted(set(mode.units) - set(self.units)):
                raise Misfit(f"mode {name} for {', '.join(strangers)}", f"units of this chip: {', '.join(self.units)}")
        return self

    @model_validator(mode="after")
    def _heat_of_units_here(self) -> Chip:
        if self.thermal is not None and (broken := self.thermal.faults_on(tuple(self.units), tuple(self.modes))):
            raise broken
        return self

    @model_validator(mode="after")
    def _streams_no_faster_than_the_memory(self) -> Chip:
        """A rate of a unit's own; what follows from a family is clipped to the peak."""
        most = self.peak_memory_rate
        for name, unit in self.units.items():
            for named, precision in unit.precisions.items():
                for field in ("memory_rate", "cache_rate"):
                    rate = getattr(precision, field)
                    if rate is not None and rate.si > most.ends[1]:
                        raise Misfit(
                            f"units.{name}.precisions.{named}.{field} {rate.value:g} {rate.unit}, above the memory's "
                            f"peak",
                            f"at most peak_memory_rate, {most.value:g} {most.unit}",
                        )
        return self

    @model_validator(mode="after")
    def _shares_what_there_is(self) -> Chip:
        shared, most = self.shared_memory_rate, self.peak_memory_rate
        if shared is not None and shared.si > most.ends[1]:
            found = f"shared_memory_rate {shared.value:g} {shared.unit}, above the memory's peak"
            raise Misfit(found, f"at most peak_memory_rate, {most.value:g} {most.unit}")
        return self

    @model_validator(mode="after")
    def _each_mode_once(self) -> Chip:
        own = [] if self.mode is None else [self.mode.name]
        listed = [*own, *self.modes, *self.modes_elsewhere]
        keys = [key(split_name(name)) for name in listed]
        if twice := [name for name, one in zip(listed, keys, strict=True) if keys.count(one) > 1]:
            raise Misfit(f"the modes {', '.join(twice)}, which are one", "each mode once")
        return self

    @model_validator(mode="after")
    def _reserve_fits(self) -> Chip:
        if self.reserve.si >= self.memory.si:
            raise Misfit(
                f"reserve {self.reserve.value:g} {self.reserve.unit} is all of the memory "
                f"({self.memory.value:g} {self.memory.unit})"
            )
        return self

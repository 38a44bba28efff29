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
    """Positions computed in one pass."""
    rate: OperationRate
    """Operations a second that a pass of so many rows reaches."""


class Precision(Record):
    """One number format on one unit: how many bits each part takes and how fast the unit gets through it.

    `cost/step.py` has the formula that these figures enter.
    """

    activations: Activations
    """Number format of activations."""
    weight_bits: Count
    """Bits that a step reads for each weight of the layers."""
    head_bits: Count
    """Bits that a step reads for each weight of the output head."""
    kv_bits: Count
    """Bits for each cached number, unless the placement sets kv_cache."""
    memory_rate: ByteRate
    """Bytes a second at which weights are read, and the cache where cache_rate is not given."""
    weight_rate: WeightRate | None = None
    """Most weights a second where unpacking them binds decoding; no such cap where not given."""
    unpack_rate: WeightRate | None = None
    """Weights a second that matrix kernels unpack, for every tile of rows again; none are where not given."""
    cache_rate: ByteRate | None = None
    """Bytes a second at which cached keys and values are read; memory_rate where not given."""
    operation_rates: Annotated[tuple[RatePoint, ...], BeforeValidator(as_tuple)] = Field(min_length=1)
    """Operations a second over the rows of a pass: straight between these points, flat outside them."""
    attention_rate: OperationRate | None = None
    """Operations a second of attention; operation_rates where not given."""
    recurrence_rate: OperationRate | None = None
    """Operations a second that update recurrent states; as attention where not given."""
    pass_overhead: Duration | None = None
    """What feeding and fetching the tensors of a pass costs, of networks that are no language models."""

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
    """Rows of the graphs that are compiled; a step runs the next one up, a long prompt several of the widest."""
    kind: Kind
    """How well it is known that graphs have these widths."""
    source: str = Field(min_length=3)
    """Where the widths are from, such as a published export."""

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
    """Whether it can."""
    kind: Kind
    """How well that is known."""
    source: str = Field(min_length=3)
    """Where it is stated or was tried."""


class Fallback(Record):
    """What it costs when operators leave the unit for another one."""

    penalty: Count
    """Time of an operator that left this unit, as a multiple of its own time on the other one."""
    crossing: Duration
    """Time for every run of operators that leaves the unit and comes back."""


class PublishedLimit(Record):
    """What a maker or its export tool publishes of a class of models on a unit: their context, or whether they run."""

    parameters: tuple[float, float]
    """Sizes of the models that it is about, from and to, in thousand millions of parameters."""
    precisions: Names = ()
    """Precisions that it is about; any where empty."""
    context: Count | None = None
    """Most tokens of context that such models run with."""
    supported: Ability | None = None
    """Whether such models run at all."""

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
    """A faster export of a language model: measured where both are published, assumed where the slower one is."""

    of: str
    """Precision of the slower export."""
    precision: str
    """Precision of the faster export."""
    speed: Count
    """How many times as fast it runs."""


class Unit(Record):
    """One compute unit. With `widths` it runs fixed graphs, which read the whole compiled context every step.

    A pass costs what `cost/step.py` adds up. One of more than `narrow_rows` rows uses matrix kernels, which round rows
    up to `tile_rows` and unpack weights for every `unpack_rows` of them. With `family` whatever is not given here
    follows from the family, `peak_operation_rate` and `clock`; `reading_peak_operation_rate` is for variants that are
    known to multiply slower and not known to read slower.
    """

    kind: UnitKind
    """What kind of unit it is; families, runtimes and rule profiles are made for kinds."""
    title: str = ""
    """What people call the unit, for readers of the file."""
    family: str | None = None
    """Silicon family whose constants fill in what is not given here."""
    peak_operation_rate: OperationRate | None = None
    """Dense INT8 operations a second of the datasheet, which a family's rates are relative to."""
    reading_peak_operation_rate: OperationRate | None = None
    """The peak that a family counts bytes, weights and overheads against; peak_operation_rate where not given."""
    clock: Frequency | None = None
    """Clock of the unit, which a family's cycles are counted in."""
    cores: Count | None = None
    """Plain cores of a GPU; they follow from the peak and the family where not given."""
    widths: Widths | None = None
    """Rows of its compiled graphs, which read the whole context every step; any number runs where not given."""
    shared_weights: Ability | None = None
    """Whether compiled graphs of one model share its weights; each holds a copy where not."""
    tree_attention: Ability | None = None
    """Whether a compiled graph takes a mask that is no triangle, as passes over token trees need."""
    graphs_per_step: Count | None = None
    """Fewest graphs that a language model is cut into; one where not given."""
    graph_limit: Limit | None = None
    """Most bytes of weights that one graph holds; larger models are cut into several."""
    context_limit: Limit | None = None
    """Most bytes that one context of the runtime maps; more take several contexts, each with its runtime."""
    graph_overhead: Duration | None = None
    """Cost of each graph that a pass runs."""
    step_overhead: Duration | None = None
    """Cost of each pass."""
    layer_overhead: Duration | None = None
    """Cost of each layer of a pass; none where not given."""
    prompt_layer_overhead: Duration | None = None
    """Further cost of each layer where a prompt of more than narrow_rows rows is read, kernel by kernel."""
    wide_layer_overhead: Duration | None = None
    """Further cost of each layer of any pass of more than narrow_rows rows: a mask, packing."""
    operator_overhead: Duration | None = None
    """Cost of launching an operator: of networks, and of what compiling adds to a decoder."""
    expand_rate: OperationRate | None = None
    """Numbers a second at which copied key/value heads are written, by exports that copy them in every pass."""
    graph_switch: Duration | None = None
    """Time of changing the compiled graph between two passes; nothing where not given."""
    power_up: Duration | None = None
    """Time before the first pass after the unit was idle for longer than idle_after; nothing where not given."""
    vtcm_acquire: Duration | None = None
    """Time of acquiring its vector memory, before that same pass; nothing where not given."""
    idle_after: Duration | None = None
    """Time without work after which power_up and vtcm_acquire are paid again."""
    start_up: Duration | None = None
    """Time in which the runtime starts a model whose files are in memory already; cold starts need it."""
    first_pass: Duration | None = None
    """How much longer the first pass of a model takes after it was started; nothing where not given."""
    speed: Count | None = None
    """Multiple of the unit's own figures that there is of it, as in a slower tier or with more NPUs."""
    overlap: Share | None = None
    """Share of the shorter of memory and compute time that hides behind the longer; all of it where not given."""
    narrow_rows: Count | None = None
    """Most rows that matrix-vector kernels take; wider passes use matrix kernels."""
    tile_rows: Count | None = None
    """Rows that a pass of matrix kernels is rounded up to a multiple of; none where not given."""
    unpack_rows: Count | None = None
    """Rows for which matrix kernels unpack all weights once."""
    unpack_tail: Share | None = None
    """Unpacking on top for each wide pass, as a share of one tile's: its last blocks rarely fill all cores."""
    logits_passes: Count | None = None
    """How many times a row of logits is passed over in memory; none where not given."""
    reserve: Size
    """Memory that the runtime takes, once for each of its contexts."""
    staged: Share | None = None
    """Share of the weights held a second time while a model is loaded; nothing where not given."""
    workspace: Size | None = None
    """Memory that a model in use takes beside its activations; nothing where not given."""
    taken_in_advance: Share | None = None
    """Share of the chip's memory that the runtime takes as it starts, whatever the model; nothing where not given."""
    published_limits: Annotated[tuple[PublishedLimit, ...], BeforeValidator(as_tuple)] = ()
    """Which models run here, as the maker or its export tool publishes; `explore` marks placements beyond it."""
    faster_exports: Annotated[tuple[FasterExport, ...], BeforeValidator(as_tuple)] = Field(default=(), exclude=True)
    """Faster exports of the same models, which a speed-up should be held against; no run changes."""
    active_power: Power
    """Power while a pass runs, on top of the chip's idle power."""
    refused_matmuls: Annotated[tuple[Literal["int16 x int16"], ...], BeforeValidator(as_tuple)] = ()
    """Products of two activations that it does not compute; precisions that need one are refused."""
    fallback: Fallback | None = None
    """What operators cost that leave the unit for another one; the rule profile's where not given."""
    profiles: Names = ()
    """Rule profiles of compilers for this unit, the usual one first; where empty, no operator is refused."""
    precisions: dict[str, Precision] = Field(default_factory=dict)
    """Number formats by name, with their rates; beside those of the family, and in place of them."""

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
    """Dense INT8 operations a second in this mode; the unit's own where not given."""
    clock: Frequency | None = None
    """Clock in this mode; the unit's own where not given."""
    speed: Count | None = None
    """Multiple of the unit's own figures that there is of it in this mode."""


class OwnMode(Record):
    """The power mode that a chip file's plain figures are."""

    name: str = Field(pattern=NAME, max_length=100)
    """Name of the mode, as the maker calls it."""
    kind: Kind
    """How well it is known that the figures are of this mode."""
    source: str = Field(min_length=3)
    """Where that is stated."""


class Mode(Record):
    """A power mode: the datasheet figures that differ from the chip's own."""

    peak_memory_rate: ByteRate | None = None
    """Peak rate of the memory in this mode; the chip's own where not given."""
    units: dict[str, ModeUnit] = Field(default_factory=dict)
    """What changes of which unit; the others stay as they are."""


class Chip(Named):
    """A chip as the assistant sees it: one memory, and the units that share it."""

    known_as: Names = ()
    """Other names that people and measurements use for it; each finds it."""
    group: str = ""
    """Class of chips in which measurements are summed up; the chip alone where empty."""
    vendor: str | None = Field(default=None, pattern=NAME, max_length=100, exclude=True)
    """The maker, as runtimes name it: one that is made for some vendors runs on their chips alone."""
    place: Literal["car", "cloud"] = "car"
    """Whether it is in the car, or in the cloud: what passengers say then leaves the car."""

    memory: Size
    """Memory that models, other software and the system may use at most."""
    reserve: Size
    """What of the memory the system and other software keep."""
    peak_memory_rate: ByteRate
    """Rate of the memory by its datasheet; no unit reads faster."""
    shared_memory_rate: ByteRate | None = None
    """Rate that all that runs at once shares; peak_memory_rate where not given."""
    flash_rate: ByteRate | None = None
    """Rate at which models are read from flash; cold starts, reloads and swaps need it."""
    idle_power: Power
    """Power of the chip at all times; the active power of units comes on top."""
    name: str = Field(pattern=PLAIN_NAME, max_length=100)
    units: dict[Annotated[str, Field(pattern=PLAIN_NAME)], Unit] = Field(min_length=1)
    """Compute units by name; scenarios place models on them."""
    # How modes are called decides nothing of a run, so neither is part of its digest.
    mode: OwnMode | None = Field(default=None, exclude=True)
    """Power mode that the figures of this file are of."""
    modes: dict[str, Mode] = Field(default_factory=dict)
    """Other power modes by name, with the figures that differ; asked for as CHIP@MODE."""
    modes_elsewhere: dict[str, str] = Field(default_factory=dict, exclude=True)
    """Power modes that another chip file has: MODE: CHIP, or MODE: CHIP@MODE."""
    thermal: Thermal | None = Field(default=None, exclude=True)  # the digest takes it up where there is a climate
    """How the chip warms up, and slows down for it; counts where a scenario has a climate."""
    residuals: str = ""
    """How far fitted constants miss their measurements; a calibration writes it."""
    stands_on: str = Field(default="", exclude=True)
    """Published figures of language models behind its answers, or that there is none; shown with the chip."""
    notes: str = ""
    """Remarks, shown wherever the chip is."""

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

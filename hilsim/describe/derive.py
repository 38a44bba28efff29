"""From a family's relative constants and a chip's datasheet to the rates and times that its unit is reckoned with."""

from __future__ import annotations

from hilsim.describe.chip import Chip, Mode, Precision, RatePoint, Unit
from hilsim.describe.family import Family, FamilyPrecision
from hilsim.describe.figure import KINDS, Figure

# In which unit a derived figure is written, so that people can read it.
WRITTEN = {"B/s": ("GB/s", 1e9), "op/s": ("TOPS", 1e12), "weights/s": ("Gweights/s", 1e9), "s": ("ms", 1e-3)}


class MissingPeakError(ValueError):
    """A family's constant has nothing to be relative to."""


def derived(family: Family, chip: Chip, name: str, unit: Unit) -> Unit:
    """The unit with all that its file leaves open filled in from the family. Raises `MissingPeakError`."""
    reckon = UnitDerivation(family, chip, name, unit)
    own = {field: value for field in Unit.model_fields if (value := getattr(unit, field)) is not None}
    given = {field: reckon.as_it_is(value) for field in FROM_FAMILY if (value := getattr(family, field)) is not None}
    durations = {field: reckon.duration(value) for field in DURATIONS if (value := getattr(family, field)) is not None}
    precisions = {key: reckon.precision(value) for key, value in family.precisions.items()} | unit.precisions
    # Both halves were validated; a fit calls this many times, so it is not done again.
    return Unit.model_construct(**{**given, **durations, **own, "precisions": precisions})


FROM_FAMILY = (
    "overlap", "narrow_rows", "tile_rows", "unpack_rows", "unpack_tail", "logits_passes", "graphs_per_step",
    "graph_limit", "context_limit", "staged", "workspace",
)  # fmt: skip
DURATIONS = ("graph_overhead", "step_overhead", "layer_overhead", "prompt_layer_overhead", "operator_overhead")
# Of a number format and of a unit, what each pass takes.
PASS_RATES = tuple(name for name in Precision.model_fields if name.endswith("_rate"))
OVERHEADS = tuple(name for name in Unit.model_fields if name.endswith("_overhead"))


def at_speed(unit: Unit, speed: Figure) -> Unit:
    """The unit where every pass goes so many times as fast: its rates times that, what a pass costs beside over it.

    What is paid between passes and at the start stays, and so do powers: neither was measured at another speed.
    """

    def faster(precision: Precision) -> Precision:
        rates = {name: rate.times(speed) for name in PASS_RATES if (rate := getattr(precision, name)) is not None}
        points = tuple(
            point.model_copy(update={"rate": point.rate.times(speed)}) for point in precision.operation_rates
        )
        overhead = precision.pass_overhead
        beside = {} if overhead is None else {"pass_overhead": overhead.at_speed(speed)}
        return precision.model_copy(update={**rates, "operation_rates": points, **beside})

    overheads = {name: figure.at_speed(speed) for name in OVERHEADS if (figure := getattr(unit, name)) is not None}
    if unit.expand_rate is not None:
        overheads["expand_rate"] = unit.expand_rate.times(speed)
    precisions = {name: faster(precision) for name, precision in unit.precisions.items()}
    return unit.model_copy(update={**overheads, "precisions": precisions, "speed": None})


def at_clock(unit: Unit, share: Figure) -> Unit:
    """The unit at a share of its clock, before its family fills it in: all that counts operations follows.

    Rates of the memory stay where the unit's own file gives them; an NPU's of a family follow, as they are relative to
    its operations.
    """

    def slower(precision: Precision) -> Precision:
        names = [name for name in PASS_RATES if name not in ("memory_rate", "cache_rate")]
        rates = {name: rate.times(share) for name in names if (rate := getattr(precision, name)) is not None}
        points = tuple(
            point.model_copy(update={"rate": point.rate.times(share)}) for point in precision.operation_rates
        )
        return precision.model_copy(update={**rates, "operation_rates": points})

    peaks = ("clock", "peak_operation_rate", "reading_peak_operation_rate")
    changed = {name: figure.times(share) for name in peaks if (figure := getattr(unit, name)) is not None}
    precisions = {name: slower(precision) for name, precision in unit.precisions.items()}
    return unit.model_copy(update={**changed, "precisions": precisions})


def at_memory_rate(chip: Chip, share: Figure) -> Chip:
    """The chip with a share of its memory rate; units' own rates are clipped to what is left of it."""
    left = chip.peak_memory_rate.times(share)

    def clipped(rate: Figure | None) -> Figure | None:
        return left if rate is not None and rate.si > left.si else rate

    def slower(precision: Precision) -> Precision:
        rates = {name: clipped(getattr(precision, name)) for name in ("memory_rate", "cache_rate")}
        return precision.model_copy(update=rates)

    units = {
        name: unit.model_copy(update={"precisions": {key: slower(one) for key, one in unit.precisions.items()}})
        for name, unit in chip.units.items()
    }
    shared = clipped(chip.shared_memory_rate)
    return chip.model_copy(update={"peak_memory_rate": left, "shared_memory_rate": shared, "units": units})


# What a rate in one of these units is relative to, whatever it is the rate of.
RELATIVE_TO = {"B/kop": "reading", "weights/kop": "reading", "weights/kcycle": "cores", "op/cycle": "cores"}


def cycles(unit: Unit, family: Family) -> Figure | None:
    """The clock cycles of all plain cores together in a second, or None where they do not follow from what is given."""
    if unit.clock is not None and unit.cores is not None:
        return unit.clock.times(unit.cores)
    if unit.peak_operation_rate is None or family.core_operations is None:
        return None
    each = family.core_operations
    share = each.model_copy(update={"value": 1 / each.value, "range": None})
    return unit.peak_operation_rate.times(share)


class UnitDerivation:
    """One unit's datasheet, from which relative figures are derived."""

    def __init__(self, family: Family, chip: Chip, name: str, unit: Unit):
        self.family, self.name = family, name
        self.measured_here = chip.name in family.measured_on  # a power mode is another machine
        self.peaks = {
            "memory": chip.peak_memory_rate,
            "operations": unit.peak_operation_rate,
            "reading": unit.reading_peak_operation_rate or unit.peak_operation_rate,
            "clock": unit.clock,
            "cores": cycles(unit, family),
        }

    def peak(self, what: str) -> Figure:
        """A datasheet figure that a constant needs."""
        figure = self.peaks[what]
        if figure is None:
            key = {"clock": "clock", "memory": "peak_memory_rate"}.get(what, "peak_operation_rate")
            raise MissingPeakError(f"no {key}; family {self.family.name} is relative to it")
        return figure

    def rate(self, relative: Figure, *, of: str, dimension: str) -> Figure:
        """A share of a peak, or so many bytes or weights an operation, as an absolute rate."""
        peak = self.peak(RELATIVE_TO.get(relative.unit, of))
        ends = self.ends(relative, peak)
        found = self.figure(relative, peak, dimension, relative.si * peak.si, ends)
        return self.clipped(found) if dimension == "B/s" else found

    def clipped(self, rate: Figure) -> Figure:
        """Nothing streams faster than the memory: a rate at most as large as its peak, each end as that of the peak.

        A rate that is clipped takes the peak's error bar, notes it in its source, and has the weaker evidence.
        """
        peak = self.peak("memory")
        (low, high), (slow, fast) = rate.ends, peak.ends
        if rate.si <= peak.si and low <= slow and high <= fast:
            return rate
        unit, factor = WRITTEN["B/s"]
        value = min(rate.si, peak.si) / factor
        span = (min(low, slow, value * factor) / factor, max(min(high, fast) / factor, value))
        what = "" if rate.si > peak.si else "whose range is "
        kind = max(rate.kind, peak.kind, key=KINDS.index) if rate.si > peak.si else rate.kind
        source = f"{rate.source}; {what}clipped to the memory's peak, {peak.value:g} {peak.unit} ({peak.kind})"
        return Figure.model_construct(
            value=value, unit=unit, kind=kind, source=source, range=span if span[0] < span[1] else None
        )

    def duration(self, relative: Figure) -> Figure:
        """Clock cycles or operations as a time; a duration in seconds stays what it is."""
        if relative.unit not in ("Mcycles", "Gop"):
            return self.as_it_is(relative)
        peak = self.peak("clock" if relative.unit == "Mcycles" else "reading")
        low, high = relative.ends
        slow, fast = self.peak_bounds(peak)
        ranged = relative.range is not None or slow < fast
        ends = (low / fast, high / slow) if ranged else None
        return self.figure(relative, peak, "s", relative.si / peak.si, ends)

    def as_it_is(self, figure: Figure) -> Figure:
        """A figure that is relative to nothing; fitted on siblings it is an assumption here."""
        if self.measured_here or figure.kind != "fitted":
            return figure
        return figure.model_copy(update={"kind": "assumed", "source": f"not measured on this chip: {figure.source}"})

    def peak_bounds(self, peak: Figure) -> tuple[float, float]:
        """The ends of a datasheet figure. Where constants were fitted on this very chip it cancels out of them."""
        return (peak.si, peak.si) if self.measured_here else peak.ends

    def ends(self, relative: Figure, peak: Figure) -> tuple[float, float] | None:
        """Both ranges multiplied, where there is one."""
        slow, fast = self.peak_bounds(peak)
        if relative.range is None and slow == fast:
            return None
        low, high = relative.ends
        return low * slow, high * fast

    def figure(
        self, relative: Figure, peak: Figure, dimension: str, si: float, ends: tuple[float, float] | None
    ) -> Figure:
        """The product with its provenance: as sure as the less sure of its two factors."""
        unit, factor = WRITTEN[dimension]
        kind = max(relative.kind, peak.kind, key=KINDS.index)
        there = "" if self.measured_here else ", not measured on this chip"
        if relative.kind == "fitted" and not self.measured_here:
            kind = "assumed"
        source = (
            f"{relative.value:.4g} {relative.unit} of {peak.value:g} {peak.unit} ({peak.kind}), "
            f"family {self.family.name}{there}: {relative.source}"
        )
        value = si / factor
        span = None if ends is None else (min(ends[0] / factor, value), max(ends[1] / factor, value))
        return Figure.model_construct(value=value, unit=unit, kind=kind, source=source, range=span)

    def precision(self, relative: FamilyPrecision) -> Precision:
        """One number format with absolute rates."""

        def rate(figure: Figure | None, of: str, dimension: str) -> Figure | None:
            return None if figure is None else self.rate(figure, of=of, dimension=dimension)

        operations = self.rate(relative.operations, of="operations", dimension="op/s")
        return Precision.model_construct(
            activations=relative.activations,
            weight_bits=relative.weight_bits,
            head_bits=relative.head_bits,
            kv_bits=relative.kv_bits,
            memory_rate=self.rate(relative.memory, of="memory", dimension="B/s"),
            weight_rate=rate(relative.weights, "operations", "weights/s"),
            unpack_rate=rate(relative.unpack, "operations", "weights/s"),
            cache_rate=rate(relative.cache, "memory", "B/s"),
            operation_rates=(RatePoint.model_construct(rows=1, rate=operations),),
            attention_rate=rate(relative.attention, "operations", "op/s"),
            recurrence_rate=rate(relative.recurrence, "operations", "op/s"),
            pass_overhead=None if relative.pass_overhead is None else self.duration(relative.pass_overhead),
        )


def in_mode(chip: Chip, name: str, mode: Mode) -> Chip:
    """The chip as it is in one of its power modes, `CHIP@MODE`."""
    units = dict(chip.units)
    for key, change in mode.units.items():
        changed = {field: value for field, value in change if value is not None}
        units[key] = units[key].model_copy(update=changed)
    title = chip.title if chip.mode is None else chip.title.removesuffix(f", {chip.mode.name}")
    update: dict[str, object] = {"units": units, "name": f"{chip.name}@{name}", "title": f"{title}, mode {name}"}
    thermal = None if chip.thermal is None else chip.thermal.in_mode(name)
    update |= {"mode": None, "modes_elsewhere": {}, "thermal": thermal}
    if mode.peak_memory_rate is not None:
        update["peak_memory_rate"] = mode.peak_memory_rate
        if chip.shared_memory_rate is not None and chip.shared_memory_rate.si > mode.peak_memory_rate.si:
            update["shared_memory_rate"] = mode.peak_memory_rate
    return chip.model_copy(update=update)

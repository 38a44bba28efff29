"""From a measurement to its prediction: which chip, unit, precision, model and step was measured."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hilsim.cost.counts import body_weights, parameters
from hilsim.cost.network import network_seconds
from hilsim.cost.step import Phase, Step, step_costs
from hilsim.describe.catalogue import described, is_file, known_as, load_chip, load_named, written_chip
from hilsim.describe.chip import Chip, Unit
from hilsim.describe.compiled import NetworkLoad
from hilsim.describe.derive import derived, in_mode
from hilsim.describe.family import Family
from hilsim.describe.model import Model
from hilsim.describe.names import KnownName
from hilsim.describe.names import resolve as resolve_name
from hilsim.describe.runtime import Runtime
from hilsim.errors import Fault, InputError
from hilsim.fidelity.measurements import MEASUREMENTS, NOT_PLAIN, Measurement
from hilsim.files import exists, read_text
from hilsim.places import DATA

# Precisions that published figures use and no chip file describes: known, and left out.
NOT_MODELLED = re.compile(r"mixed|w16a16|/|^w4a\?$|^\?$|^q\d_\d$|^mxfp4$")
# Where a row gives none: tokens in the cache, or the context compiled.
CONTEXT = 1024
# Of a batch whose answers end at different times so much is still running on average: Qwen3-1.7B, 4B and 8B in NVFP4 on
# Thor, 8 sequences from a data set against 8 of one length (NVIDIA/TensorRT-Edge-LLM 0.9.0, performance-benchmarks.md).
RAGGED = 0.8


@dataclass(frozen=True)
class Case:
    """One measurement that can be predicted. `model_group` is what leave-one-model-out leaves out."""

    measurement: Measurement
    chip: Chip
    unit_name: str
    precision: str
    model: Model | None
    load: NetworkLoad | None
    runtime: Runtime | None
    estimated: str = ""  # what had to be assumed to predict it

    @property
    def measured(self) -> float:
        """Seconds of one step, one prompt or one pass."""
        row = self.measurement
        if row.metric == "tok_s":
            tokens = row.batch if row.kind != "llm_prefill" else self.prompt_rows * row.batch
            return tokens * (RAGGED if "end at different times" in row.note else 1) / row.value
        return row.value / 1000

    @property
    def kind(self) -> str:
        return {"llm_decode": "decode", "llm_prefill": "prefill", "spec_decode": "speculation"}.get(
            self.measurement.kind, "network"
        )

    @property
    def unit_kind(self) -> str:
        """The kind of its unit: gpu, npu or cpu."""
        return self.chip.units[self.unit_name].kind

    @property
    def device(self) -> str:
        """What leave-one-device-out leaves out: a chip, whatever boards it sits on and in whatever mode it runs."""
        return self.chip.name.partition("@")[0]

    @property
    def model_group(self) -> str:
        return self.model.name if self.model is not None else self.measurement.model

    @property
    def label(self) -> str:
        """The class a summary puts it in."""
        return "networks" if self.kind == "network" else f"{self.chip.group or self.chip.name} {self.kind}"

    @property
    def family(self) -> str | None:
        """The family whose constants decide this case: none where the chip's own file gives the precision."""
        unit = self.chip.units[self.unit_name]
        return None if self.precision in unit.precisions else unit.family

    @property
    def fixed_graphs(self) -> bool:
        return self.chip.units[self.unit_name].widths is not None

    @property
    def prompt_rows(self) -> int:
        row = self.measurement
        return row.prompt_tokens if self.fixed_graphs else (row.context or 128)

    def unit(self, families: Mapping[str, Family]) -> Unit:
        """The unit with its family's constants as they stand in `families`."""
        written = self.chip.units[self.unit_name]
        if written.family is None:
            return written
        return derived(families[written.family], self.chip, self.unit_name, written)

    def seconds(self, unit: Unit) -> float:
        """The predicted value, by the same functions that time a simulated step."""
        if self.load is not None:
            return network_seconds(self.load, unit, unit.precisions[self.precision])
        if self.model is None:
            raise ValueError("a case is a model's or a network's")
        return self.timed(self.model, unit, self.step())

    @property
    def cached(self) -> int:
        """Positions in the cache before a decode step."""
        return (self.measurement.context or CONTEXT) - 1

    def timed(self, model: Model, unit: Unit, step: Step, precision_name: str = "", own_head: bool = False) -> float:
        """Seconds of a step of `model` on this case's unit, stored and compiled as its measurement was.

        A draft may be in another precision, and have its `own_head` in the format of its weights.
        """
        name = precision_name or self.precision
        precision = unit.precisions[name]
        if self.runtime is not None and name.startswith("w4"):
            unit, precision = self.runtime.on(unit, precision)
        if own_head:
            precision = precision.model_copy(update={"head_bits": precision.weight_bits})
        # A verify is compiled for as many rows as it has, prompts as published.
        wide = step.rows if step.phase is Phase.VERIFY else self.measurement.prompt_tokens
        widths = tuple(sorted({1, wide})) if self.fixed_graphs else None
        context = self.measurement.context or CONTEXT
        return sum(cost.seconds for cost in step_costs(model, unit, precision, step, widths, context))

    def step(self) -> Step:
        """The step that was measured."""
        row = self.measurement
        if row.kind == "llm_prefill":
            return Step(Phase.PREFILL, self.prompt_rows, 0, row.batch)
        return Step(Phase.DECODE, 1, self.cached, row.batch)


@dataclass(frozen=True)
class LeftOut:
    """A row that takes no part, and why."""

    measurement: Measurement
    reason: str


def resolve(rows: Sequence[Measurement]) -> tuple[list[Case], list[LeftOut], list[Fault]]:
    """Cases to compare, rows left out with the reason, and rows at fault (unknown device or precision)."""
    cases: list[Case] = []
    left: list[LeftOut] = []
    faults: list[Fault] = []
    for row in rows:
        found = case_of(row)
        if isinstance(found, Case):
            cases.append(found)
        elif isinstance(found, Fault) and row.shipped:
            # Published figures run ahead of the chips described here: such a row waits, with its reason.
            left.append(LeftOut(row, f"{found.place.partition(', ')[2]} {found.found} is not described"))
        elif isinstance(found, Fault):
            faults.append(found)
        else:
            left.append(LeftOut(row, found))
    return cases, left, faults


def case_of(row: Measurement) -> Case | Fault | str:
    """The case of one row; or the fault in it; or the reason why it is left out."""
    try:
        chip = chip_of(row.device, row.file)
    except InputError as error:
        first = error.faults[0]
        remedy = "Name a chip file in this column, describe the chip in chips/, or skip such rows with --skip-bad."
        if row.origin:
            remedy = f"{row.origin} writes what the processor is called, which many boards share: add --chip NAME."
        found = first.found if repr(row.device) in first.found else f"{row.device!r}: {first.found}"
        return Fault(row.file, f"line {row.line}, device", found, first.expected, remedy)
    mode = mode_of(row, chip)
    if mode is None:
        known = ", ".join((*(() if chip.mode is None else (chip.mode.name,)), *chip.modes)) or "none is described"
        return Fault(row.file, f"line {row.line}, power_mode", repr(row.power_mode), f"a mode of {chip.name}: {known}")
    chip = in_mode(chip, mode, chip.modes[mode]) if mode else chip
    if row.forbidden and not (row.forbidden == NOT_PLAIN and known_as(row.model, "model", Model) is not None):
        return row.forbidden
    unit_name = unit_of(row, chip)
    if unit_name is None:
        return f"the chip has no {row.unit_kind} described"
    runtime = known_as(row.runtime, "runtime", Runtime)
    precision = row.precision
    if precision == "w4a?" and runtime is not None and runtime.activations == "fp16":
        precision = "w4"
    if NOT_MODELLED.search(precision):
        return f"precision {precision} is not modelled" if "?" not in precision else "its precision is not stated"
    unit = chip.units[unit_name]
    if unit.family is not None:
        unit = derived(load_family(unit.family), chip, unit_name, unit)
    if reason := unit.refusal(precision) if not row.is_network else missing(unit, precision):
        known = ", ".join(key for key in unit.precisions if unit.refusal(key) is None)
        place = f"line {row.line}, weight_bits/act_bits"
        return Fault(row.file, place, reason, f"a precision that {chip.name}.{unit_name} has: {known}")
    if row.is_network:
        load = load_of(row)
        if isinstance(load, str):
            return load
        return Case(row, chip, unit_name, precision, None, load, None)
    if row.kind == "llm_prefill" and row.context is None and (unit.widths is None or row.metric == "tok_s"):
        return "the length of its prompts is not stated"
    if row.kind == "spec_decode" and row.noted("vanilla rate") is None:
        return "its note gives no vanilla rate"
    model, estimated = model_of(row)
    if model is None:
        return "its model is not described and no parameter count is given"
    if row.gpu_layers is not None and row.gpu_layers < model.architecture.layers:
        return f"{row.gpu_layers} of {model.architecture.layers} layers ran on the GPU, the others on the CPU"
    if row.context is None:
        estimated = ", ".join([*([estimated] if estimated else []), f"{CONTEXT} tokens of context assumed"])
    return Case(row, chip, unit_name, precision, model, None, runtime, estimated)


MODE = re.compile(r"\d+ ?W\b|MAXN([ _]SUPER)?\b", re.IGNORECASE)
MODE_BEHIND = re.compile(r"(?<=[ (])(\d+ ?W|MAXN([ _]SUPER)?)(?=\)?$)", re.IGNORECASE)


def mode_is_open(case: Case) -> bool:
    """Whether a row leaves open which of its chip's power modes it was measured in."""
    row, chip = case.measurement, case.chip
    return "@" not in chip.name and bool(chip.modes) and not MODE.match(row.power_mode) and not row.shipped


def mode_of(row: Measurement, chip: Chip) -> str | None:
    """The power mode that a row names: "" for the chip as its file has it, None for one that is not described there.

    A mode is watts or MAXN at the beginning of its column, or at the end of the device's name; what is not stated is
    the chip's own file.
    """
    named = MODE.match(row.power_mode) or MODE_BEHIND.search(row.device)
    if named is None or "@" in chip.name:
        return ""
    own = () if chip.mode is None else (chip.mode.name,)
    meant = resolve_name(named.group(), [KnownName(one) for one in (*own, *chip.modes)], "mode")
    return None if len(meant) != 1 else "" if meant[0] in own else meant[0]


def unit_of(row: Measurement, chip: Chip) -> str | None:
    """The unit that a row means: of the kind it names, else the chip's NPU, else its GPU, else its CPU."""
    kinds = (row.unit_kind,) if row.unit_kind else ("npu", "gpu", "cpu")
    by_kind = {unit.kind: name for name, unit in reversed(chip.units.items())}
    return next((by_kind[kind] for kind in kinds if kind in by_kind), None)


def missing(unit: Unit, precision: str) -> str | None:
    """Why a network in this precision cannot be predicted, or None."""
    return None if precision in unit.precisions else f"no figures for precision {precision!r}"


@cache
def chip_of(device: str, file: str) -> Chip:
    """The chip that a device column means: a chip file, a name, `NAME@MODE`, or a board that a chip is known as."""
    name, at, mode = device.partition("@")
    if not is_file(name) and not exists(DATA / "chips" / f"{name}.yaml"):
        found = known_as(name, "chip", Chip)
        device = device if found is None else f"{found.name}{at}{mode}"
    complete = load_chip(device, Path(file))  # raises what its families lack
    shipped = {family.name for family in described("family", Family)}
    if any(unit.family not in (None, *shipped) for unit in complete.units.values()):
        # A team's own family is no part of any fit here: the chip is taken with its figures as they are.
        plain = {name: unit.model_copy(update={"family": None}) for name, unit in complete.units.items()}
        return complete.model_copy(update={"units": plain})
    return written_chip(device, Path(file))


@cache
def load_family(name: str) -> Family:
    """A shipped family."""
    return load_named("family", Family, name, DATA / "chips" / "_.yaml")


def model_of(row: Measurement) -> tuple[Model | None, str]:
    """The described model of a row; or one of its size with layers to match, and a text that states this."""
    found = known_as(row.model, "model", Model)
    if found is not None:
        return found, ""
    if row.params_b is None:
        return None, ""
    wanted = row.params_b * 1e9

    plain = (model for model in described("model", Model) if model.plain)
    nearest = min(plain, key=lambda model: abs(parameters(model) / wanted - 1))
    shape = nearest.architecture
    per_layer = body_weights(shape) / shape.layers
    layers = max(1, round(shape.layers + (wanted - parameters(nearest)) / per_layer))
    scaled = nearest.model_copy(update={"name": row.model, "architecture": shape.alike(layers)})
    return scaled, f"shape of {nearest.name} with {layers} layers assumed"


@cache
def network_table() -> dict[str, tuple[float, float | None]]:
    """Operation and parameter counts of networks whose measurements do not state them (network_gmacs.csv)."""
    rows = csv.DictReader(io.StringIO(read_text(MEASUREMENTS / "network_gmacs.csv")))
    return {row["model"]: (float(row["gmacs"]), float(row["params_b"]) if row["params_b"] else None) for row in rows}


def load_of(row: Measurement) -> NetworkLoad | str:
    """A network's load, or why it is unknown."""
    gmacs, params = network_table().get(row.model, (None, None))
    gmacs, params = row.gmacs or gmacs, row.params_b or params
    if gmacs is None:
        return "its number of operations is not known"
    if params is None:
        return "its number of parameters is not known"
    return NetworkLoad(gmacs, params, sum(row.layers))

"""The unit where a role is placed: there, able to run the precision, described as what it is, with a runtime for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hilsim.describe.backend import SIMULATED
from hilsim.describe.catalogue import described, load_named
from hilsim.describe.chip import Chip, Unit
from hilsim.describe.figure import Figure
from hilsim.describe.foreign import precision_remedy
from hilsim.describe.names import key_hint
from hilsim.describe.placement import CacheFormat, Placement
from hilsim.describe.runtime import Runtime
from hilsim.describe.scenario import Scenario
from hilsim.errors import Fault, InputError, ScenarioError


@dataclass(frozen=True)
class CheckedUnit:
    """A unit as a placement uses it, its runtime included; None where it cannot be, with every fault.

    `batch` is how many sessions the role computes in one step there.
    """

    unit: Unit | None
    faults: tuple[Fault, ...] = ()
    batch: int = 1


def checked_unit(scenario: Scenario, role: str, placement: Placement, chip: Chip, file: Path) -> CheckedUnit:
    """Look a unit up and hold it against what is placed on it."""
    name, where, unit = str(file), f"{chip.name}.{placement.unit}", chip.units.get(placement.unit)
    if unit is None:
        expected = f"a unit of {chip.name}: {', '.join(chip.units)}"
        return CheckedUnit(None, (Fault(name, f"{role}.unit", repr(placement.unit), expected),))
    if reason := unit.refusal(placement.precision):
        good = [known for known in unit.precisions if unit.refusal(known) is None]
        remedy = key_hint(placement.precision, good) or precision_remedy(placement.precision, good)
        expected = f"a precision that {where} runs"
        return CheckedUnit(None, (Fault(name, f"{role}.precision", reason, expected, remedy),))
    if fault := npu_fault(scenario, placement, unit, f"{role}.unit", name):
        return CheckedUnit(None, (fault,))
    faults = []
    if placement.expanded_kv and unit.expand_rate is None:
        expected = f"a unit with expand_rate, the numbers of copied heads a second; {where} has none"
        remedy = "Leave it out for an export with grouped queries, or measure such an export and give the unit's rate."
        faults.append(Fault(name, f"{role}.expanded_kv", "true", expected, remedy))
    if placement.widths is not None and unit.widths is None:
        faults.append(Fault(name, f"{role}.widths", "widths", f"none: {where} takes any width"))
    able = batching_of(placement, chip, unit, file)
    faults += batch_faults(placement, unit, able, role, name)
    if placement.runtime is not None:
        try:
            unit = in_runtime(placement, chip, unit, file)
        except InputError as error:
            at_home = (fault.at(f"{role}.runtime") if fault.place == "runtime" else fault for fault in error.faults)
            return CheckedUnit(None, (*faults, *at_home))
    if placement.kv_cache is not None:
        unit = with_cache(unit, placement.precision, placement.kv_cache)
    return CheckedUnit(unit, tuple(faults), placement.batch or usual_batch(placement, unit, able))


def batching_of(placement: Placement, chip: Chip, unit: Unit, file: Path) -> int:
    """Sessions that a unit's runtime computes in one step: the one that is named, else the least of those for it.

    An NPU, whose graphs are fixed, computes one where no runtime is named.
    """
    if placement.runtime is None:
        if unit.kind == "npu":
            return 1
        runtimes = [one for one in described("runtime", Runtime) if one.made_for(chip, unit)]
    else:
        try:
            runtimes = [load_named("runtime", Runtime, placement.runtime, file)]
        except InputError:  # has a fault of its own
            return 1
    return min((round(one.batching.si) for one in runtimes if one.batching is not None), default=1)


def usual_batch(placement: Placement, unit: Unit, able: int) -> int:
    """Sessions computed in one step where a scenario does not say: of an NPU, whose graphs are fixed, and of times that
    are typed in, one.
    """
    return 1 if unit.kind == "npu" or placement.timer is not None else able


def batch_faults(placement: Placement, unit: Unit, able: int, role: str, file: str) -> Iterator[Fault]:
    """A batch where none is computed."""
    if placement.batch is None or placement.batch == 1:
        return
    found, where = str(placement.batch), f"{placement.chip}.{placement.unit}"
    if placement.timer is not None:
        found = f"{found}, with step times that are typed in for one session"
        yield Fault(file, f"{role}.batch", found, "1, or a unit whose times the chip model gives")
    elif able == 1:
        whose = (
            f"runtime {placement.runtime}"
            if placement.runtime is not None
            else f"{'an' if unit.kind == 'npu' else 'a'} {unit.kind.upper()}"
        )
        found = f"{found} on {where}, and nothing says that {whose} computes steps of several sessions together"
        yield Fault(file, f"{role}.batch", found, "1, or a runtime with `batching`")


# Bits of a cached number, with its share of a group's scale.
CACHE_BITS: dict[CacheFormat, float] = {"fp16": 16, "fp8": 8, "int8": 8, "int4": 4.25}


def with_cache(unit: Unit, precision: str, cache: CacheFormat) -> Unit:
    """The unit with keys and values of a precision stored in another format: its bytes, and the time to read them.

    Turning numbers from and into it hides behind reading them. Live stand-ins store their own keys and values so too.
    """
    source = f"kv_cache: {cache} of the scenario; int4 with an fp16 scale for each group of 64"
    bits = Figure(value=CACHE_BITS[cache], unit="bits", kind="assumed", source=source)
    changed = unit.precisions[precision].model_copy(update={"kv_bits": bits})
    return unit.model_copy(update={"precisions": unit.precisions | {precision: changed}})


def npu_fault(scenario: Scenario, placement: Placement, unit: Unit, place: str, file: str) -> Fault | None:
    """An NPU without widths: it would be timed as a GPU, whose cost grows with the number of rows.

    Where times are typed in or taken by a board, the chip model is not used and the unit may stay as it is.
    """
    names = (placement.unit, f"{placement.chip}/{placement.unit}")
    elsewhere = any(name in scenario.units and scenario.units[name].backend != SIMULATED for name in names)
    if unit.kind != "npu" or unit.widths is not None or placement.timer is not None or elsewhere:
        return None
    remedy = (
        f"Add to units.{placement.unit} of its chip file: widths: {{value: [1, 128], kind: assumed, source: "
        '"WHERE IT IS FROM"}; or set kind: gpu, if it takes any number of rows.'
    )
    found = f"{placement.chip}.{placement.unit}, an NPU without widths"
    return Fault(file, place, found, "the widths of its graphs, which set its times", remedy)


def in_runtime(placement: Placement, chip: Chip, unit: Unit, file: Path) -> Unit:
    """The unit as the runtime that a placement names uses it. Raises `InputError` where it is made for other units."""
    assert placement.runtime is not None, "called only where a runtime is named"
    runtime = load_named("runtime", Runtime, placement.runtime, file)
    if not runtime.made_for(chip, unit):
        of = f" of {chip.vendor}" if chip.vendor is not None else ""
        found = f"{runtime.name}, with {placement.unit} of {placement.chip}, a unit of kind {unit.kind}{of}"
        expected = f"a runtime for it; {runtime.name} runs on {runtime.hardware}"
        raise ScenarioError([Fault(str(file), "runtime", found, expected)])
    return runtime.placed_on(unit, placement.precision)


def runtime_faults(target: Placement, draft: Placement, file: str) -> Iterator[Fault]:
    """Two runtimes on one unit: which memory and formats count would be open."""
    if target.runtime != draft.runtime:
        found = f"{draft.runtime or 'none'}, and {target.runtime or 'none'} for the target"
        yield Fault(file, "draft.runtime", found, f"one runtime for both models on {draft.chip}.{draft.unit}")

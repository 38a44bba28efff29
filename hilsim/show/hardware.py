"""The part of a report about boards and recordings: what they executed, what failed, how far off the chip model is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.text import Text

from hilsim.describe.setup import Setup
from hilsim.files import weights_digest
from hilsim.hardware.measured.quality import quality_warnings, sample_of
from hilsim.hardware.measured.rig import Rig, RigUnit
from hilsim.hardware.measured.shadow import StepComparison, compared, errors_of
from hilsim.hardware.measured.unit import HandledFault, RoleState
from hilsim.show.faults import render_faults
from hilsim.show.kinds import BAD
from hilsim.show.numbers import clean, counted, duration, percent
from hilsim.show.terminal.page import Page
from hilsim.show.terminal.paint import FRAME
from hilsim.sim.trace import Trace
from hilsim.units import ms

Block = dict[str, Any]
FAULTS_SHOWN, DOUBTS_SHOWN, KINDS_SHOWN = 5, 6, 24
FAR = 10  # errors from ten times on need no decimals


def hardware(rig: Rig) -> list[Block]:
    """Every unit on the rig, what it executed, and what is doubtful about it."""
    return [unit_of(track, place, rig.setup) for track, place in rig.places.items()]


def unit_of(track: str, place: RigUnit, setup: Setup) -> Block:
    """One unit in the document."""
    unit = place.unit
    answers = [step.answer for step in unit.executed]
    # The first runs of a shape are thrown away, however long they take.
    earnest = [step for step in unit.executed if step.use not in ("warm-up", "interpolated", "stood in")]
    samples = [sample_of(step.ask, step.answer) for step in earnest]
    energies = [answer.energy_mj for answer in answers if answer.energy_mj is not None]
    temperatures = [answer.temperature_c for answer in answers if answer.temperature_c is not None]
    return {
        "unit": track,
        "backend": place.backend.backend,
        "words": place.backend.words,
        "device": dict(place.device),
        "models": {role: line.facts.name for role, line in unit.lines.items()},
        "steps": dict(Counter(step.use for step in unit.executed)),
        "device_ms": ms(sum(answer.duration_ns for answer in answers)),
        "wall_ms": ms(sum(answer.wall_ns for answer in answers)),
        "energy_mj": sum(energies) if energies else None,
        "max_temperature_c": max(temperatures, default=None),
        "recording": None if place.recorder is None else str(place.recorder.file),
        "doubts": [asdict(doubt) for doubt in quality_warnings(samples)],
        "faults": [fault_of(trouble) for trouble in unit.troubles],
        "present": unit.present,
        "other_weights": [role for role in unit.lines if weighs_otherwise(setup, unit.lines[role], role)],
    }


def other_models(place: RigUnit, setup: Setup) -> list[str]:
    """Roles whose board runs a model that is not the deployed one, as the size of its vocabulary shows."""
    known = {role: placed.model.vocabulary.entries for role, placed in setup.roles.items()}
    return [role for role, line in place.unit.lines.items() if line.facts.vocabulary != known[role]]


def weighs_otherwise(setup: Setup, line: RoleState, role: str) -> bool:
    """Whether a board generates the text of a role with other weights than the stand-in here."""
    stand_in = setup.roles[role].stand_in
    ours = None if stand_in is None else weights_digest(stand_in)
    return ours is not None and line.facts.digest is not None and ours != line.facts.digest


def fault_of(trouble: HandledFault) -> Block:
    """One fault in the document."""
    return {
        "run": trouble.run,
        "request": trouble.request,
        "role": trouble.role,
        "phase": trouble.phase,
        "kind": trouble.kind,
        "found": trouble.found,
        "then": trouble.then,
        "cost_ms": ms(trouble.cost_ns),
    }


def shadow(rig: Rig) -> Block:
    """The chip model held against the chips, by kind of step."""
    found = compared(rig.pairs)
    error, bias = errors_of(found) if found else (None, None)
    return {
        "other_models": [role for place in rig.places.values() for role in other_models(place, rig.setup)],
        "kinds": [kind_of(kind) for kind in found],
        "mean_absolute_error": error,
        "bias": bias,
    }


def kind_of(kind: StepComparison) -> Block:
    """One kind of step in the document; `error` is predicted over measured less 1."""
    return {
        "unit": kind.track,
        "role": kind.role,
        "phase": kind.phase,
        "width": kind.width,
        "cached": list(kind.fill),
        "steps": kind.steps,
        "measured_ms": None if kind.medians.measured is None else ms(kind.medians.measured),
        "predicted_ms": ms(kind.medians.predicted),
        "error": kind.medians.error,
        "worst": kind.worst,
        "scatter": kind.scatter,
    }


def lost(run: Trace) -> Block:
    """The board whose loss ended a run, and how far that had come."""
    assert run.lost is not None, "a run that was not lost"
    unit, kind, found, remedy, cost_ns = run.lost.args
    times = [ms(record.finished_ns - record.arrived_ns) for record in run.requests]
    return {
        "run": run.policy,
        "unit": unit,
        "kind": kind,
        "found": found,
        "remedy": remedy,
        "cost_ms": ms(cost_ns),
        "at_ms": ms(run.end_ns),
        "requests_answered": len(run.requests),
        "request_latency_ms": fmean(times) if times else None,
        "output_tokens": sum(record.output_tokens for record in run.requests),
    }


def cautions(units: Sequence[Block]) -> list[str]:
    """What must be known before the runs' times are compared."""
    found = []
    for unit in units:
        faults, gone = unit["faults"], [fault for fault in unit["faults"] if fault["then"].startswith("went on")]
        if gone:
            found.append(
                f"{unit['unit']} {gone[0]['then']} in the {gone[0]['run']} run, request {gone[0]['request']}: "
                "later steps are timed by something else, and the speed-up compares the two."
            )
        elif faults:
            runs = ", ".join(sorted({fault["run"] for fault in faults}))
            cost = duration(sum(fault["cost_ms"] for fault in faults))
            found.append(
                f"{unit['unit']} had {counted(len(faults), 'fault')}, which took {cost} of the {runs} run: "
                "the speed-up compares runs with different faults."
            )
        if unit["steps"].get("interpolated"):
            found.append(f"{counted(unit['steps']['interpolated'], 'step')} of {unit['unit']} were interpolated.")
    return found


def render_lost(page: Page, found: Block) -> None:
    """Why there are no numbers but of what was answered."""
    what = "has no such step" if found["kind"] == "unseen" else f"was lost: {found['kind']}"
    page.paragraph(Text(clean(f"{found['unit']} {what}: {found['found']}."), f"bold {BAD}"))
    answered = counted(found["requests_answered"], "request")
    if found["request_latency_ms"] is not None:
        mean = duration(found["request_latency_ms"])
        answered += f" of {counted(found['output_tokens'], 'token')}, {mean} each on average"
    page.paragraph(f"The {found['run']} run ended after {duration(found['at_ms'])} and {answered}. {found['remedy']}")


def render_hardware(page: Page, units: Sequence[Block]) -> None:
    """What stood behind the units."""
    page.title("hardware", "times are measured on the boards; the way to them and back is not counted")
    for unit in units:
        models = ", ".join(f"{name} as {role}" for role, name in unit["models"].items())
        page.paragraph(Text(clean(f"{unit['unit']}: {unit['backend']}, {models}"), "bold"), 2)
        page.paragraph(device_text(unit["device"]), 4)
        steps = ", ".join(f"{number} {use}" for use, number in unit["steps"].items()) or "none"
        waited = f"{duration(unit['device_ms'])} on the device, {duration(unit['wall_ms'])} waited for"
        page.paragraph(f"steps: {steps}; {waited}{sensor_text(unit)}", 4)
        if unit["other_weights"]:
            roles = " and ".join(unit["other_weights"])
            page.paragraph(Text(f"The board's model is not the stand-in that the scenario names as {roles}.", BAD), 4)
        if interpolated := unit["steps"].get("interpolated"):
            sentence = f"{counted(interpolated, 'step')} interpolated from others; warnings and shadow leave them out."
            page.paragraph(Text(sentence, BAD), 4)
        if unit["recording"] is not None:
            page.paragraph(f"recorded: {unit['recording']}", 4)
        first_few(page, unit["faults"], FAULTS_SHOWN, fault_text, "fault")
        first_few(page, unit["doubts"], DOUBTS_SHOWN, lambda doubt: f"{doubt['kind']}: {doubt['sentence']}", "doubt")


def first_few(page: Page, found: Sequence[Block], most: int, text_of: Any, noun: str) -> None:
    """The first few of a list, and how many more there are."""
    for one in found[:most]:
        page.paragraph(Text(clean(text_of(one)), BAD), 4)
    if len(found) > most:
        page.line((f"    and {counted(len(found) - most, f'more {noun}')} in --json", FRAME))


def fault_text(fault: Block) -> str:
    """One fault as a sentence."""
    cost = f", {duration(fault['cost_ms'])} lost" if fault["cost_ms"] else ""
    where = f"fault in a step of the {fault['role']} ({fault['phase']})"
    return f"{where}: {fault['kind']}: {fault['found']}{cost}; {fault['then']}"


def device_text(device: Block) -> str:
    """A board's description of itself, in a line."""
    return ", ".join(f"{key} {value}" for key, value in device.items() if value not in (None, "")) or "no description"


def sensor_text(unit: Block) -> str:
    """Energy and temperature, where the board has sensors."""
    energy = "" if unit["energy_mj"] is None else f", {unit['energy_mj'] / 1000:.1f} J"
    warmest = "" if unit["max_temperature_c"] is None else f", at most {unit['max_temperature_c']:.0f} °C"
    return energy + warmest


def render_shadow(page: Page, found: Block) -> None:
    """A table of kinds of steps: measured, predicted, and how far off."""
    page.title("shadow", "the chip model against the chip, medians in ms by phase, width and positions cached")
    if found["other_models"]:
        roles = " and ".join(found["other_models"])
        sentence = f"The chip model times the deployed model; as {roles} the board runs another, of another vocabulary."
        page.paragraph(Text(sentence, BAD), 2)
    kinds = found["kinds"]
    if not kinds:
        page.paragraph("No step was executed.", 2)
        return
    page.line((row("role", "phase", "width", "cached", "steps", "measured", "model", "error", "scatter"), FRAME))
    longest = sorted(kinds, key=lambda kind: -kind["steps"] * kind["measured_ms"])[:KINDS_SHOWN]
    for kind in (kind for kind in kinds if kind in longest):
        cached = "-".join(map(str, kind["cached"]))
        measured, predicted = f"{kind['measured_ms']:.3f}", f"{kind['predicted_ms']:.3f}"
        error = f"{kind['error']:+.1%}" if abs(kind["error"]) < FAR else f"{kind['error']:+.0%}"
        scatter = percent(kind["scatter"])
        page.line(
            row(kind["role"], kind["phase"], kind["width"], cached, kind["steps"], measured, predicted, error, scatter)
        )
    if len(kinds) > KINDS_SHOWN:
        page.line((f"  {len(kinds) - KINDS_SHOWN} more kinds in --json", FRAME))
    error, bias = percent(found["mean_absolute_error"]), f"{found['bias']:+.1%}"
    sentence = f"Mean absolute error {error}, each kind weighed by its time; in all the model is {bias} off."
    page.paragraph(sentence, 2)


def row(*cells: object) -> str:
    """One line of the shadow table."""
    widths = (7, 13, 6, 9, 6, 10, 9, 10, 8)
    parts: Iterable[str] = (
        f"{cell!s:<{width}}" if place < 2 else f"{cell!s:>{width}}"
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  " + "".join(parts)


def render_lost_run(found: Block, console: Console) -> None:
    """The report of a run that ended when a board was lost, or a fault was not survived."""
    page = Page(console)
    render_lost(page, found["lost"])
    if "faults" in found:
        render_faults(page, found["faults"])
    if "hardware" in found:
        render_hardware(page, found["hardware"])
    if "shadow" in found:
        render_shadow(page, found["shadow"])

"""A distributed run, predicted and measured: the block of the document, its table, sentences and picture.

The prediction includes the overhead of commands. What chips and link alone would take, as in a product whose policy
runs on its chips, stands beside it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any, TextIO

from rich.table import Table

from hilsim.comparison import Comparison, medians
from hilsim.cost.wire import wire_ns
from hilsim.describe.link import Link
from hilsim.describe.setup import Setup
from hilsim.hardware.distributed.expected import TokenCheck
from hilsim.hardware.distributed.measured_run import MeasuredRun
from hilsim.measure.metrics import timing
from hilsim.show.compared import comparison_table, signed
from hilsim.show.faults_on_boards import block_of, fault_sentences
from hilsim.show.kinds import kind_of, lane_order, role_of
from hilsim.show.numbers import counted, duration, percent, three_digits
from hilsim.show.plots.canvas import plain
from hilsim.show.plots.curves import finished, sheet
from hilsim.sim.trace import Span, Trace
from hilsim.units import ms, ns

Block = dict[str, Any]
Numbers = dict[str, float]
# Measures in their order: name in the document, what it is and its unit for the table.
MEASURES = {
    "request_latency_ms": ("request time", "ms"),
    "time_to_first_token_ms": ("time to first token", "ms"),
    "output_token_throughput": ("output", "tokens/s"),
    "bytes_up": ("sent up", "bytes"),
    "bytes_down": ("sent down", "bytes"),
}
CLOSE = 0.10  # what changes by more is told


def distributed(setup: Setup, runs: Sequence[MeasuredRun], shaped_by: str) -> Block:
    """The block of the document for one or more measured runs of a scenario; of several, medians."""
    measured = [measures(setup, run.measured) | bytes_of(run) for run in runs]
    compared = compare([measures(setup, run.with_commands) for run in runs], measured)
    compared_alone = compare([measures(setup, run.predicted) for run in runs], measured)
    assert setup.link is not None, "two chips and no link"
    return {
        "scenario": setup.scenario.name,
        "policy": setup.scenario.policy.name,
        "link": setup.link.title,
        "shaped_by": shaped_by or None,
        "trials": len(runs),
        "requests": len(runs[0].measured.requests),
        "predicted": {name: medians(several).predicted for name, several in compared.items()},
        "measured": {name: medians(several).measured for name, several in compared.items()},
        "difference": {name: difference(several) for name, several in compared.items()},
        "difference_of_trials": {name: differences(several) for name, several in compared.items()},
        "chips_and_link_alone": {name: medians(several).predicted for name, several in compared_alone.items()},
        "difference_alone": {name: difference(several) for name, several in compared_alone.items()},
        "control_plane": control_plane(setup.link, runs),
        "steps": steps(setup, runs),
        "words": token_checks(runs),
        "bytes_with_headers": runs[-1].carried,
        **faults_of(setup, runs[-1]),
    }


def faults_of(setup: Setup, run: MeasuredRun) -> Block:
    """What came of the scenario's faults, predicted and injected; nothing where it has none."""
    if setup.scenario.faults is None:
        return {}
    return {"faults": block_of(run.with_commands.faults, run.measured.faults)}


def measures(setup: Setup, trace: Trace) -> Numbers:
    """The figures that are compared, of one run."""
    found = timing(trace, setup.chips, setup.link)
    sent = next(iter(found["links"].values()), {"bytes_up": 0, "bytes_down": 0})
    means = {name: found[name]["mean"] for name in ("request_latency_ms", "time_to_first_token_ms")}
    throughput = found["output_token_throughput"]
    return means | {"output_token_throughput": throughput} | {name: sent[name] for name in ("bytes_up", "bytes_down")}


def bytes_of(run: MeasuredRun) -> Numbers:
    """Bytes that arrived, as the link's ends counted them."""
    return {f"bytes_{way}": count for way, count in run.counted.items()}


def compare(predicted: Sequence[Numbers], measured: Sequence[Numbers]) -> dict[str, list[Comparison]]:
    """Each measure of each run, predicted and measured."""
    pairs = list(zip(predicted, measured, strict=True))
    return {
        name: [Comparison(what, ours[name], theirs[name], unit) for ours, theirs in pairs]
        for name, (what, unit) in MEASURES.items()
    }


def differences(several: Sequence[Comparison]) -> list[float]:
    """How much more was measured than predicted in each run, as shares of what was predicted."""
    return [one.excess for one in several if one.excess is not None]


def difference(several: Sequence[Comparison]) -> float | None:
    """The median of these shares."""
    shares = differences(several)
    return median(shares) if shares else None


def control_plane(link: Link, runs: Sequence[MeasuredRun]) -> Block:
    """The overhead of commands: medians of one command, and all of them in one run.

    `rehearsed_us` was measured before the run and is in the prediction, `in_run_us` in the run itself.
    """
    last = runs[-1]
    in_run: dict[str, list[int]] = {role: [one.command_ns for one in done] for role, done in last.executed.items()}
    for span in last.measured.spans:
        if span.track in last.measured.directions:
            taken = wire_ns(link, span.nbytes) + ns(link.propagation.si)
            in_run.setdefault("message", []).append(span.done_ns - span.start_ns - taken)
    costs = {what: (len(several), median(several) / 1e3) for what, several in in_run.items() if several}
    total_ms = sum(number * us for number, us in costs.values()) / 1e3
    requests_ms = all_requests_ms(last.measured)
    steps = {f"{role} {phase}": cost / 1e3 for (role, phase), cost in last.overhead.steps.items()}
    messages = {f"message {way}": (cost + last.overhead.arrived[way]) / 1e3 for way, cost in last.overhead.sent.items()}
    return {
        "commands": {what: number for what, (number, _) in costs.items()},
        "in_run_us": {what: us for what, (_, us) in costs.items()},
        "rehearsed_us": steps | messages,
        "read_again_rows": sum(one.answer.prepared_rows for done in last.executed.values() for one in done),
        "total_ms": total_ms,
        "share": total_ms / requests_ms if requests_ms else None,
    }


def all_requests_ms(trace: Trace) -> float:
    """The time of all requests together."""
    return ms(sum(request.finished_ns - request.arrived_ns for request in trace.requests))


def steps(setup: Setup, runs: Sequence[MeasuredRun]) -> list[Block]:
    """Each role's phases: the device's own step times when it ran alone, and in the measured run."""
    found = []
    for role, placed in setup.roles.items():
        alone = chip_times([span for run in runs for span in run.predicted.spans if span.track == placed.track])
        real: dict[str, list[int]] = {}
        for run in runs:
            for one in run.executed[role]:
                real.setdefault(one.ask.phase, []).append(one.answer.duration_ns)
        for phase, times in real.items():
            predicted_ms = ms(median(alone[phase])) if phase in alone else None
            found.append(
                {
                    "role": role,
                    "phase": phase,
                    "steps": len(times),
                    "predicted_ms": predicted_ms,
                    "measured_ms": ms(median(times)),
                }
            )
    return found


def chip_times(spans: Sequence[Span]) -> dict[str, list[int]]:
    """How long steps took, by phase."""
    found: dict[str, list[int]] = {}
    for span in spans:
        found.setdefault(span.kind, []).append(span.end_ns - span.start_ns)
    return found


def token_checks(runs: Sequence[MeasuredRun]) -> Block:
    """Tokens that the devices computed, checked against the expected ones, in all runs and roles together."""
    return asdict(sum((check for run in runs for check in run.checks.values()), TokenCheck()))


def table_of(found: Block) -> Table:
    """A row a measure."""
    rows = [
        Comparison(what, found["predicted"][name], found["measured"][name], unit)
        for name, (what, unit) in MEASURES.items()
    ]
    shares = [found["difference_of_trials"][name] for name in MEASURES]
    spread = [f"{signed(min(several))} to {signed(max(several))}" if several else "-" for several in shares]
    more = {"difference": [signed(found["difference"][name]) for name in MEASURES]}
    if found["trials"] > 1:
        more["in trials"] = spread
    more["chips and link alone"] = [three_digits(found["chips_and_link_alone"][name]) for name in MEASURES]
    return comparison_table(rows, three_digits, more)


def sentences(found: Block) -> list[str]:
    """What the table means."""
    return [
        f"Link: {found['link']}" + (f", by {found['shaped_by']}." if found["shaped_by"] else ", not shaped."),
        *control_plane_sentence(found["control_plane"]),
        *step_sentence(found["steps"]),
        *byte_sentence(found["bytes_with_headers"]),
        token_sentence(found["words"]),
        *(fault_sentences(found["faults"]["faults"]) if "faults" in found else ()),
    ]


def control_plane_sentence(plane: Block) -> Iterator[str]:
    """The overhead of commands, and what it means."""
    costs = [
        f"{counted(number, name_of(what))} at {plane['in_run_us'][what]:.0f} µs"
        for what, number in plane["commands"].items()
    ]
    part = "" if plane["share"] is None else f", {percent(plane['share'])} of the requests' time"
    yield (
        "Control plane: one process commanded every step and message. Beyond the steps and messages themselves that "
        f"took {duration(plane['total_ms'])}{part}: {', '.join(costs)} (medians). The prediction includes the overhead "
        "that was measured before the run. A product whose policy runs on its chips has none: see chips and link alone."
    )


def name_of(what: str) -> str:
    """What one command is called."""
    return what if what == "message" else f"{what} step"


def step_sentence(steps: Sequence[Block]) -> Iterator[str]:
    """Devices whose own step times were others in the run than before it."""
    changed = [step for step in steps if step["predicted_ms"] and drifted(step)]
    if changed:
        listed = "; ".join(
            f"{step['phase']} {step['predicted_ms']:.2f} ms before, {step['measured_ms']:.2f} in the run"
            for step in changed
        )
        yield f"Devices whose own step times changed by more than {percent(CLOSE)}: {listed}."


def byte_sentence(carried: Mapping[str, int] | None) -> Iterator[str]:
    """Bytes that the network interfaces counted."""
    if carried is not None:
        yield f"With headers and acknowledgements {carried['up']:,} bytes went up and {carried['down']:,} down."


def token_sentence(checks: Block) -> str:
    """Whether the devices computed the expected tokens."""
    ties = f", and {counted(checks['ties'], 'tie')}" if checks["ties"] else ""
    differ = f"{checks['mismatches']:,} differ from the prediction{ties}"
    return f"Tokens: of {checks['checked']:,} that the devices computed and that were checked, {differ}."


def drifted(step: Mapping[str, Any]) -> bool:
    """Whether a device's step took another time in the run than alone."""
    return bool(abs(step["measured_ms"] / step["predicted_ms"] - 1) > CLOSE)


def write_distributed(found: Block, file: TextIO) -> None:
    """The table as a CSV."""
    runs = ("predicted", "measured", "difference", "chips_and_link_alone", "difference_alone")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["measure", *runs])
    for name in MEASURES:
        writer.writerow([name, *(f"{found[run][name]:.6g}" if found[run][name] is not None else "" for run in runs)])


def draw_distributed(setup: Setup, run: MeasuredRun, title: str, path: Path, kind: str) -> None:
    """The first request three times on one axis: predicted, with the overhead of commands, and as measured."""
    figure, panels = sheet(3, 1, 11, 6.6)
    runs = {
        "chips and link alone, predicted": run.predicted,
        "with commands, predicted": run.with_commands,
        "measured": run.measured,
    }
    longest = max(ms(trace.requests[0].finished_ns - trace.requests[0].arrived_ns) for trace in runs.values())
    kinds: dict[str, Any] = {}
    for axes, (name, trace) in zip(panels[:, 0], runs.items(), strict=True):
        request = trace.requests[0]
        lanes = lane_order(setup, trace.tracks)
        for span in trace.spans:
            if span.request == request.number:
                bar = ms(span.start_ns - request.arrived_ns), ms(span.done_ns - span.start_ns)
                place = lanes.index(span.track)
                kinds[span.kind] = axes.broken_barh(
                    [bar], (place - 0.4, 0.8), facecolor=kind_of(span.kind).colour, edgecolor="white", lw=0.5
                )
        axes.set_title(name, fontsize=10, loc="left")
        axes.set_yticks(range(len(lanes)), [role_of(setup, track) for track in lanes], fontsize=9)
        axes.invert_yaxis()
        plain(axes, "x")
        axes.set_xlim(0, longest)
    alike: dict[str, list[str]] = {}  # a message has the colour of the step that it belongs to
    for name in kinds:
        alike.setdefault(kind_of(name).colour, []).append(name)
    named = {" and ".join(names): kinds[names[0]] for names in alike.values()}
    figure.legend(named.values(), named, loc="outside lower left", ncols=len(named), frameon=False, fontsize=9)
    panels[-1][0].set_xlabel("milliseconds after the question")
    finished(figure, title, path, kind)

"""A prediction held against a really distributed run: the block of the document, its table, sentences and picture.

What is predicted is the run as it happens here, its commands included. What chips and link alone would take, as in a
product whose policy sits on its chips, stands beside it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, TextIO

from rich.table import Table

from hilsim.cost.wire import wire_ns
from hilsim.describe.link import Link
from hilsim.describe.setup import Setup
from hilsim.hardware.distributed.measured_run import MeasuredRun
from hilsim.measure.metrics import timing
from hilsim.show.grid_tables import plain_table
from hilsim.show.kinds import kind_of, lane_order, role_of
from hilsim.show.numbers import counted, duration, percent, three_digits
from hilsim.show.plots.curves import finished, sheet
from hilsim.sim.trace import Span, Trace
from hilsim.units import ms, ns

Block = dict[str, Any]
Numbers = dict[str, float]
# Measures in their order: name in the document, words and unit for the table.
MEASURES = {
    "request_latency_ms": "request time, ms",
    "time_to_first_token_ms": "time to first token, ms",
    "output_token_throughput": "output tokens/s",
    "bytes_up": "bytes up",
    "bytes_down": "bytes down",
}
CLOSE = 0.10  # what changes by more is told


def distributed(setup: Setup, trials: Sequence[MeasuredRun], shaped_by: str) -> Block:
    """All that a few trials of one scenario have shown; of several, medians."""
    alone = [measures(setup, trial.predicted) for trial in trials]
    predicted = [measures(setup, trial.with_commands) for trial in trials]
    measured = [measures(setup, trial.measured) | bytes_of(trial) for trial in trials]
    assert setup.link is not None, "two chips and no link"
    return {
        "scenario": setup.scenario.name,
        "policy": setup.scenario.policy.name,
        "link": setup.link.title,
        "shaped_by": shaped_by or None,
        "trials": len(trials),
        "requests": len(trials[0].measured.requests),
        "predicted": middle(predicted),
        "measured": middle(measured),
        "difference": difference(predicted, measured),
        "difference_of_trials": apart(predicted, measured),
        "chips_and_link_alone": middle(alone),
        "difference_alone": difference(alone, measured),
        "control_plane": control_plane(setup.link, trials),
        "steps": steps(setup, trials),
        "words": words(trials),
        "bytes_with_headers": trials[-1].carried,
    }


def measures(setup: Setup, trace: Trace) -> Numbers:
    """The figures that are compared, of one run."""
    found = timing(trace, setup.chips, setup.link)
    sent = next(iter(found["links"].values()), {"bytes_up": 0, "bytes_down": 0})
    means = {name: found[name]["mean"] for name in ("request_latency_ms", "time_to_first_token_ms")}
    throughput = found["output_token_throughput"]
    return means | {"output_token_throughput": throughput} | {name: sent[name] for name in ("bytes_up", "bytes_down")}


def bytes_of(trial: MeasuredRun) -> Numbers:
    """What really arrived, as the link's ends counted it."""
    return {f"bytes_{way}": count for way, count in trial.counted.items()}


def middle(several: Sequence[Numbers]) -> Numbers:
    """The median of each figure."""
    return {name: median(one[name] for one in several) for name in MEASURES}


def difference(predicted: Sequence[Numbers], measured: Sequence[Numbers]) -> dict[str, float | None]:
    """How much more was measured than predicted, trial by trial, and of these shares the median."""
    return {name: median(shares) if shares else None for name, shares in apart(predicted, measured).items()}


def apart(predicted: Sequence[Numbers], measured: Sequence[Numbers]) -> dict[str, list[float]]:
    """How much more was measured than predicted in each trial, as shares of what was predicted."""
    pairs = list(zip(predicted, measured, strict=True))
    return {name: [real[name] / said[name] - 1 for said, real in pairs if said[name]] for name in MEASURES}


def control_plane(link: Link, trials: Sequence[MeasuredRun]) -> Block:
    """What commanding cost beside what was commanded: medians of one command, and all of them in one run.

    `rehearsed_us` was found before the run and is in the prediction, `in_run_us` in the run itself.
    """
    last = trials[-1]
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


def steps(setup: Setup, trials: Sequence[MeasuredRun]) -> list[Block]:
    """Each role's phases: what the chip said of its own steps when it was asked alone, and in the real run."""
    found = []
    for role, placed in setup.roles.items():
        alone = chip_times([span for trial in trials for span in trial.predicted.spans if span.track == placed.track])
        real: dict[str, list[int]] = {}
        for trial in trials:
            for one in trial.executed[role]:
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


def words(trials: Sequence[MeasuredRun]) -> Block:
    """What the chips found, held against what was said."""
    found = [told for trial in trials for told in trial.checks.values()]
    return {
        "checked": sum(told.checked for told in found),
        "mismatches": sum(told.mismatches for told in found),
        "ties": sum(told.ties for told in found),
    }


def table_of(found: Block) -> Table:
    """A row a measure."""
    several = found["trials"] > 1
    table = plain_table("", "predicted", "measured", "difference", *["in trials"] * several, "chips and link alone")
    for name, label in MEASURES.items():
        predicted, measured, alone = (
            three_digits(found[run][name]) for run in ("predicted", "measured", "chips_and_link_alone")
        )
        shares = found["difference_of_trials"][name]
        spread = [f"{share(min(shares))} to {share(max(shares))}" if shares else "-"] * several
        table.add_row(label, predicted, measured, share(found["difference"][name]), *spread, alone)
    return table


def share(value: float | None) -> str:
    """A difference with its sign, or a dash."""
    return "-" if value is None else f"{100 * value:+.1f} %"


def sentences(found: Block) -> list[str]:
    """What the table means."""
    return [
        f"Link: {found['link']}" + (f", by {found['shaped_by']}." if found["shaped_by"] else ", not shaped."),
        *plane_words(found["control_plane"]),
        *chip_words(found["steps"]),
        *byte_words(found["bytes_with_headers"]),
        word_words(found["words"]),
    ]


def plane_words(plane: Block) -> Iterator[str]:
    """What commands cost, and what that means."""
    costs = [
        f"{counted(number, name_of(what))} at {plane['in_run_us'][what]:.0f} µs"
        for what, number in plane["commands"].items()
    ]
    part = "" if plane["share"] is None else f", {percent(plane['share'])} of the requests' time"
    yield (
        "Control plane: every step and message was commanded from one process. Beside what was commanded that took "
        f"{duration(plane['total_ms'])}{part}: {', '.join(costs)} (medians). The prediction has in it what commands "
        "cost in a rehearsal. A product whose policy sits on its chips has none: there chips and link alone count."
    )


def name_of(what: str) -> str:
    """What one command is called."""
    return what if what == "message" else f"{what} step"


def chip_words(steps: Sequence[Block]) -> Iterator[str]:
    """Chips that were not in the run what they were before it."""
    changed = [step for step in steps if step["predicted_ms"] and drifted(step)]
    if changed:
        listed = "; ".join(
            f"{step['phase']} {step['predicted_ms']:.2f} ms before, {step['measured_ms']:.2f} in the run"
            for step in changed
        )
        yield f"Chips whose own times changed by more than {percent(CLOSE)}: {listed}."


def byte_words(carried: Mapping[str, int] | None) -> Iterator[str]:
    """What the devices counted."""
    if carried is not None:
        yield f"With headers and acknowledgements {carried['up']:,} bytes went up and {carried['down']:,} down."


def word_words(said: Block) -> str:
    """Whether the chips found what was said."""
    ties = f", and {counted(said['ties'], 'tie')}" if said["ties"] else ""
    other = f"{said['mismatches']:,} are not what was said{ties}"
    return f"Words: of {said['checked']:,} tokens that the chips computed and that were checked, {other}."


def drifted(step: Mapping[str, Any]) -> bool:
    """Whether a chip took another time in the run than when it was asked alone."""
    return bool(abs(step["measured_ms"] / step["predicted_ms"] - 1) > CLOSE)


def write_distributed(found: Block, file: TextIO) -> None:
    """The table as a CSV."""
    runs = ("predicted", "measured", "difference", "chips_and_link_alone", "difference_alone")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["measure", *runs])
    for name in MEASURES:
        writer.writerow([name, *(f"{found[run][name]:.6g}" if found[run][name] is not None else "" for run in runs)])


def draw_distributed(setup: Setup, trial: MeasuredRun, title: str, path: Path, kind: str) -> None:
    """The first request three times on one axis: predicted, with the commands' costs, and as it really happened."""
    figure, panels = sheet(3, 1, 11, 6.6)
    runs = {
        "chips and link alone, predicted": trial.predicted,
        "with commands, predicted": trial.with_commands,
        "measured": trial.measured,
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
        axes.set_title(name, fontsize=9, loc="left")
        axes.set_yticks(range(len(lanes)), [role_of(setup, track) for track in lanes], fontsize=8)
        axes.invert_yaxis()
        axes.set_xlim(0, longest)
    figure.legend(kinds.values(), kinds, loc="outside right center", frameon=False, fontsize=8)
    panels[-1][0].set_xlabel("ms since the question")
    finished(figure, title, path, kind)

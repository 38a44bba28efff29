"""The answer of a scenario tried by hand, in sentences and a table: what it is now, and what it was."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hilsim.describe.write import scenario_text, typed_file, typed_scenario
from hilsim.errors import InputError
from hilsim.places import search_roots
from hilsim.runs.evaluate import Numbers
from hilsim.show.numbers import byte_count, clean, duration, gibibytes, percent, three_digits
from hilsim.show.sentences import answer as run_answer
from hilsim.show.sentences import is_as_wanted
from hilsim.show.table import Table
from hilsim.show.words import words
from hilsim.study.by_hand import ByHand, HandAnswer


@dataclass(frozen=True)
class Line:
    """A line of the table: the measure that it shows, and how a value is written."""

    measure: str
    written: Callable[[float], str]


def times(value: float) -> str:
    """A ratio."""
    return f"{value:.3f}"


LINES = (
    Line("speedup", times),
    Line("output_token_throughput", three_digits),
    Line("first_audio_ms.p50", duration),
    Line("time_to_first_token_ms.p50", duration),
    Line("time_to_first_clause_ms.p50", duration),
    Line("request_latency_ms.mean", duration),
    Line("tokens_per_round", times),
    Line("draft_acceptance_rate", percent),
    Line("link_bytes", byte_count),
    Line("link_busy", percent),
    Line("energy_j", lambda value: f"{three_digits(value)} J"),
)


def headline(answer: HandAnswer) -> str:
    """The verdict in a sentence or two, as a report has it."""
    if answer.setup is None or answer.ours is None or answer.alone is None:
        return "This cannot run."
    clause = "time_to_first_clause_ms"

    def block(numbers: Numbers) -> dict[str, object]:
        median = numbers.get(f"{clause}.p50")
        return {clause: None if median is None else {"p50": median}}

    alone = answer.setup.scenario.policy.name == "target_only"
    return run_answer(
        {
            "scenario": answer.setup.scenario.name,
            "speedup": answer.ours["speedup"],
            "wanted_speedup": answer.setup.scenario.wanted_speedup,
            "baseline": block(answer.alone),
            "speculative": None if alone else block(answer.ours),
        }
    )


def is_good(answer: HandAnswer) -> bool:
    """Whether it runs, no slower than the target alone, and as fast as the scenario wants."""
    if answer.setup is None or answer.ours is None:
        return False
    return is_as_wanted(answer.ours["speedup"] or 0.0, answer.setup.scenario.wanted_speedup)


def source(answer: HandAnswer) -> str:
    """What gave the answer."""
    if answer.refused is not None:
        return "Refused before any run."
    took = f"{duration(answer.cpu_ms)} of processor time"
    if answer.why_events:
        return f"By the event simulation, in {took}, as it cannot be screened: {clean(answer.why_events)}."
    return f"By screening, in {took}: equal to the event simulation to the nanosecond."


def reasons(answer: HandAnswer) -> list[str]:
    """Why it cannot run, each with its remedy; nothing where it can."""
    if answer.refused is None:
        return []
    error, file = answer.refused.error, Path(answer.refused.file)
    if isinstance(error, InputError):
        return [clean(as_typed(str(fault), file)) for fault in error.faults]
    return [clean(as_typed(answer.refused.reason, file))]


def as_typed(text: str, file: Path) -> str:
    """A text on a scenario without the folders of this machine, which other machines need not see."""
    whole = file.resolve()
    text = text.replace(str(whole), typed_file(file))
    for folder in (*search_roots(), whole.parent):
        text = text.replace(f"{folder}{os.sep}", "")
    return text


def table(answer: HandAnswer, before: HandAnswer) -> Table:
    """The numbers now, of the target alone, and of the scenario as it was, with the difference."""
    rows = []
    for line in LINES:
        now, alone, was = (
            None if numbers is None else numbers.get(line.measure)
            for numbers in (answer.ours, answer.alone, before.ours)
        )
        if now is None and was is None:
            continue
        found = (None if value is None else line.written(value) for value in (now, alone, was))
        rows.append((words(line.measure), *found, difference(now, was)))
    for chip in dict.fromkeys([*(answer.held or {}), *(before.held or {})]):
        now, was = used(answer, chip), used(before, chip)
        cap = next(held[chip].cap_bytes for held in (answer.held, before.held) if held and chip in held)
        written = (None if value is None else f"{gibibytes(value)} of {gibibytes(cap)} GiB" for value in (now, was))
        rows.append((f"memory of {chip}", next(written), None, next(written), difference(now, was)))
    return Table(("", "now", "target alone", "as the scenario was", "difference"), rows)


def used(answer: HandAnswer, chip: str) -> float | None:
    """Bytes in use on a chip."""
    return None if answer.held is None or chip not in answer.held else float(answer.held[chip].used_bytes)


def difference(now: float | None, was: float | None) -> str | None:
    """How much more or less it is than it was."""
    if now is None or was is None:
        return None
    if now == was:
        return "none"
    if not was:
        return "new"
    share = now / was - 1
    return f"{100 * share:+.1f} %" if abs(share) >= 0.0005 else "below 0.1 %"


def set_line(tried: ByHand, answer: HandAnswer) -> str:
    """The command that gives this answer."""
    return f"hilsim simulate {typed_scenario(tried.file, answer.overrides)}"


def yaml_text(tried: ByHand, answer: HandAnswer) -> str:
    """The whole scenario as a file of its own."""
    return scenario_text(Path(tried.file), answer.overrides, ())


def shares(lost_ms: Mapping[str, float]) -> str:
    """Which share of the answers' time each cause has, the largest first."""
    whole = sum(lost_ms.values())
    parts = sorted(lost_ms.items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {percent(spent / whole)}" for name, spent in parts if spent) if whole else "nothing"

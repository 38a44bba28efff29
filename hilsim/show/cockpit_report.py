"""The part of a report about a scenario with company: turns and their budget, passengers, background, memory, heat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.text import Text

from hilsim.describe.cockpit import UNHEARD
from hilsim.measure.turns import MEASURES
from hilsim.show.kinds import BAD, GOOD, TARGET
from hilsim.show.numbers import byte_count, clean, counted, duration, milliseconds, percent, shortened, three_digits
from hilsim.show.sentences import unheard, unheard_text
from hilsim.show.terminal.page import Page
from hilsim.show.terminal.paint import FRAME, bar

Block = dict[str, Any]
NAME, FIGURE = 14, 9
SHARES = ("p50", "p90", "p99")
BREACHES_SHOWN, BACKGROUND_SHOWN = 5, 12
J_PER_WH = 3600
TWO_ENERGIES = (
    "That is all that a chip draws over the whole run, pauses and memory traffic included. energy_j, below, counts "
    "units and link only while answers are under way."
)


def render_cockpit(page: Page, document: Block) -> None:
    """The sections that the document has blocks for."""
    if (found := document.get("turns")) is not None:
        turns(page, found, document["windows"])
    if (found := document.get("passengers")) is not None:
        passengers(page, found, document["turns"].get("fairness"))
    if (found := document.get("background")) is not None:
        background(page, found)
    if (found := document.get("memory_rate")) is not None:
        memory_rate(page, found)
    if (found := document.get("heat")) is not None:
        heat(page, found, document["windows"])
    if (found := document.get("budget_remedy")) is not None:
        budget_remedy(page, found)


def budget_remedy(page: Page, block: Block) -> None:
    """What would keep the budget that was broken."""
    page.title("what keeps the budget", f"{counted(block['tried'], 'changed run')}, cheapest kind of change first")
    if not block["holds"]:
        page.paragraph(
            "None of these changes keeps it; the nearest are:" if block["changes"] else "None of them helps.", 2
        )
    for change in block["changes"]:
        page.paragraph(f"{clean(change['change'])} ({change['cost']}): {' '.join(change['set'])}", 4)


def heads(page: Page, names: Sequence[str]) -> None:
    """The heads of a table's columns."""
    page.line(" " * (NAME + 2), (figures(page, names), FRAME))


def figures(page: Page, cells: Sequence[str]) -> str:
    """Cells in columns of the same width, as many as there is room for."""
    return "".join(f"{cell:>{FIGURE}}" for cell in cells[: (page.width - NAME - 2) // FIGURE])


def row(page: Page, name: str, cells: Sequence[str], style: str = "") -> None:
    """A row of a table."""
    page.line(
        (f"  {shortened(clean(name), NAME - 1):<{NAME}}", style),
        ("".join(f"{cell:>{FIGURE}}" for cell in cells), style),
    )


def turns(page: Page, block: Block, windows: Sequence[Block]) -> None:
    """Stages of the spoken turns against the budget, and the turns that are furthest over it."""
    outcomes = ", ".join(f"{number} {name}" for name, number in block["outcomes"].items() if number)
    page.title("spoken turns in ms", f"{counted(block['count'], 'turn')}: {outcomes}")
    limits = {limit["measure"]: limit for limit in block["budget"]}
    heads(page, (*SHARES, *(("limit", "over") if limits else ())))
    for name in MEASURES:
        values = block[f"{name}_ms"]
        limit = limits.get(name)
        if values is None or (limit is None and not values["p99"]):
            continue
        cells = [milliseconds(values[share]) for share in SHARES]
        if limit is not None:
            cells += [milliseconds(limit["limit_ms"]), f"{limit['over']}/{limit['turns']}"]
        strong = "bold" if name in ("first_audio", "turn") else ""
        row(page, name, cells, f"bold {BAD}" if limit is not None and limit["broken"] else strong)
    gaps = block["gaps"]
    if gaps["count"]:
        where = f"in {counted(gaps['turns'], 'turn')}, {duration(gaps['total_ms'])} in all"
        page.paragraph(f"Playback ran dry {counted(gaps['count'], 'time')}, {where}.", 2)
    if text := first_and_last(windows, "first_audio_ms"):
        page.paragraph(f"First audio, p99 of a minute: {text}.", 2)
    if limits:
        page.paragraph(budget_text(block), 2)
    by_turn: dict[int, list[Block]] = {}
    for breach in block["furthest_over"]:
        by_turn.setdefault(breach["turn"], []).append(breach)
    for over in list(by_turn.values())[:BREACHES_SHOWN]:
        page.paragraph(breach_sentence(over), 4)
    if len(by_turn) > BREACHES_SHOWN or block["over_a_limit"] > len(block["furthest_over"]):
        page.line((f"    {block['over_a_limit']} times over a limit in all; the furthest in --json", FRAME))


def budget_text(block: Block) -> Text:
    """Whether the budget holds, and which limits do not."""
    broken = [limit for limit in block["budget"] if limit["broken"]]
    if not broken:
        return Text("The budget holds.", f"bold {GOOD}")
    parts = []
    for limit in broken:
        value = "without end" if limit["value_ms"] is None else duration(limit["value_ms"])
        never = f" ({unheard_text(block)} as never)" if limit["measure"] == "first_audio" and unheard(block) else ""
        parts.append(f"{limit['measure']} p{limit['percentile']} {value}{never} of {duration(limit['limit_ms'])}")
    return Text(f"The budget is broken: {'; '.join(parts)}.", f"bold {BAD}")


def breach_sentence(over: Sequence[Block]) -> str:
    """One turn over its limits, in a sentence: which, when, by how much, at which stage, why."""
    first = over[0]
    limits = ", ".join(f"{one['measure']} {duration(one['value_ms'])} of {duration(one['limit_ms'])}" for one in over)
    stage = next((one for one in over if one["stage"] != one["measure"]), first)
    named = any(one["measure"] == stage["stage"] for one in over)
    where = "" if named else f", at {stage['stage']} with {duration(stage['stage_ms'])}"
    reason = f": {clean(stage['why'])}" if stage["why"] else ""
    return f"turn {first['turn']} of {clean(first['passenger'])} at {minutes(first['at_s'])}: {limits}{where}{reason}."


def minutes(seconds: float) -> str:
    """An instant of a trip as minutes and seconds."""
    return f"{int(seconds // 60)}:{int(seconds % 60):02d} min"


def passengers(page: Page, block: Block, fairness: float | None) -> None:
    """A line a passenger: turns, how many were not answered, the first audio, and the wait for units."""
    page.title("passengers", "first audio, and what answers waited for units, in ms")
    heads(page, ("turns", *UNHEARD, *SHARES, "wait p90"))
    for name, one in block.items():
        heard, wait = one["first_audio_ms"], one["wait_ms"]
        first = ["–" if heard is None else milliseconds(heard[share]) for share in SHARES]
        lost = [str(one["outcomes"][outcome]) for outcome in UNHEARD]
        cells = [str(one["turns"]), *lost, *first, "–" if wait is None else milliseconds(wait["p90"])]
        row(page, name or "(unnamed)", cells, f"bold {BAD}" if any(map(int, lost)) else "")
    if fairness is not None and len(block) > 1:
        page.paragraph(f"Fairness {fairness:.2f} (Jain's index of the shares of time served; 1 is even).", 2)


def background(page: Page, block: Block) -> None:
    """Missed deadlines of the background tasks."""
    missed = sum(task["missed"] for task in block.values())
    page.title("background", "deadlines missed" if missed else "no deadline missed")
    heads(page, ("released", "missed", "mean", "worst", "deadline"))
    for name, task in list(block.items())[:BACKGROUND_SHOWN]:
        times = ["–" if task[f"{of}_ms"] is None else milliseconds(task[f"{of}_ms"]) for of in ("mean", "worst")]
        cells = [str(task["released"]), str(task["missed"]), *times, milliseconds(task["deadline_ms"])]
        row(page, name, cells, f"bold {BAD}" if task["missed"] else "")
    if len(block) > BACKGROUND_SHOWN:
        page.line((f"  and {len(block) - BACKGROUND_SHOWN} more in --json", FRAME))
    behind = [(name, task) for name, task in block.items() if "frames" in task]
    if behind:
        came = ", ".join(f"{clean(name)} {task['finished']:,} of {task['frames']:,}" for name, task in behind)
        page.paragraph(f"Frames that came through the tasks before: {came}.", 2)


def memory_rate(page: Page, block: Block) -> None:
    """How much of each chip's memory rate was in use."""
    page.title("memory rate", "mean, and the share of the time in which it had no more to give")
    room = max(4, min(24, page.width - 60))
    for chip, rate in block.items():
        amount = f"{byte_count(rate['mean'])}/s of {byte_count(rate['capacity'])}/s"
        page.line(
            f"  {shortened(chip, NAME - 1):<{NAME}}", bar(rate["mean"] / rate["capacity"], room, TARGET),
            f"  {amount}, full {percent(rate['full'])}",
        )  # fmt: skip


def heat(page: Page, block: Block, windows: Sequence[Block]) -> None:
    """Temperatures, throttling, energy, and what the heat does to times between the first minute and the last."""
    page.title("heat")
    energies = block["energy"]
    for chip, nodes in block["temperature_c"].items():
        temperatures = ", ".join(f"{node} {one['start']:.0f} to {one['max']:.0f} °C" for node, one in nodes.items())
        clocks = clock_text(block["clock"].get(chip, {}), energies.get(chip))
        page.paragraph(f"{chip}: {temperatures}{clocks}", 2)
    for chip, energy in energies.items():
        hottest = max(energy["hottest_c"].values(), default=0.0)
        if hottest >= energy["critical_c"]:
            text = f"{chip} reaches {hottest:.0f} °C; a real one shuts down at {energy['critical_c']:.0f}."
            page.paragraph(Text(text, f"bold {BAD}"), 2)
    if text := first_and_last(windows, "round_gap_ms"):
        page.paragraph(f"Between two deliveries, p99 of a minute: {text}.", 2)
    for chip, energy in energies.items():
        per = f"{three_digits(energy['per_hour_j'] / J_PER_WH)} Wh an hour"
        if energy["per_answer_j"] is not None:
            per = f"{three_digits(energy['per_answer_j'])} J an answer, {per}"
        page.paragraph(f"{chip}: {per}, idle time included; {energy_text(energy)}", 2)
    if energies:
        page.paragraph(TWO_ENERGIES, 2)


def first_and_last(windows: Sequence[Block], measure: str) -> str:
    """The p99 of a measure in the first minute that has it and in the last; "" where fewer than two have it."""
    having = [window for window in windows if window[measure] is not None]
    if len(having) < 2:
        return ""
    first, last = (
        f"{duration(window[measure]['p99'])} from {minutes(window['from_s'])} on" for window in (having[0], having[-1])
    )
    return f"{first}, {last}"


def clock_text(units: Block, energy: Block | None) -> str:
    """How much of the time a chip was below full speed."""
    throttled = (
        max((unit["throttled"] for unit in units.values()), default=0.0) if energy is None else energy["throttled"]
    )
    if not throttled:
        return ", full clock throughout" if units else ""
    least = min((unit["min"] for unit in units.values()), default=1.0)
    return f", throttled {percent(throttled)} of the time{'' if least == 1 else f', clock down to {percent(least)}'}"


def energy_text(energy: Block) -> str:
    """The largest causes of a chip's energy."""
    total = sum(energy["by_cause_j"].values())
    most = sorted(energy["by_cause_j"].items(), key=lambda item: -item[1])[:4]
    return ", ".join(f"{cause} {percent(spent / total)}" for cause, spent in most) if total else "nothing drawn"

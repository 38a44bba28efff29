"""Figures that are more likely a mistaken unit than a measurement: reported with the remedy, and never changed.

Rows are compared with their prediction. Language models are predicted within a factor of 2.5 in all shipped rows, whole
networks within 101, so beyond FAR_OFF a row is doubted; the reading that comes nearest to the prediction is offered.
Steps of a log are compared with what a pass of a language model takes on any hardware.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import log
from pathlib import Path
from statistics import median

from hilsim.describe.family import Family
from hilsim.errors import Fault
from hilsim.fidelity.cases import Case
from hilsim.fidelity.step_log import STRATEGIES, UNITS, GreedyRun, PromptRuns, SpeculativeRun
from hilsim.fidelity.table import ranges

FAR_OFF = {"decode": 8.0, "prefill": 8.0, "network": 200.0}
NEAR = 3.0  # another reading is offered where it comes this near
# Longest median steps that pass for seconds without a stated unit, and the shortest pass of a language model; a draft
# may be a look-up of microseconds.
LONGEST_S = {"draft_times": 0.5, "verify_times": 2.0, "token_times": 2.0}
SHORTEST_S = {"verify_times": 1e-4, "token_times": 1e-4}
# A draft step is not longer than so many verify steps, and steps fill more than this part of their total.
DRAFT_OVER_VERIFY, LEAST_SHARE = 20, 0.02
# Durations scatter; a list this long that rises all the way to several times its first holds instants.
RISING, TIMES_FIRST = 8, 4


def doubtful_rows(cases: Sequence[Case], families: Mapping[str, Family]) -> list[Fault]:
    """The rows that are far from their prediction, those with the same likely reason together."""
    groups: dict[tuple[str, str, str], list[tuple[int, float]]] = {}
    for case in cases:
        if case.kind == "speculation":
            continue
        row, ratio = case.measurement, case.measured / case.seconds(case.unit(families))
        if abs(log(ratio)) > log(FAR_OFF[case.kind]):
            groups.setdefault((row.file, row.metric, likely(case, ratio)), []).append((row.line, ratio))
    found = []
    for (file, metric, remedy), some in groups.items():
        place = f"line{'s' * (len(some) > 1)} {ranges(line for line, _ in some)}, value in {metric}"
        ends = " and ".join(sorted({times(ratio) for _, ratio in (min(some, key=at), max(some, key=at))}))
        found.append(Fault(file, place, f"{ends} predicted", "a figure near its prediction", remedy))
    return found


def at(line_and_ratio: tuple[int, float]) -> float:
    """The ratio of a doubted row."""
    return line_and_ratio[1]


def times(ratio: float) -> str:
    """A measured time over the predicted one, as text."""
    return f"{ratio:.3g} times as long as" if ratio > 1 else f"{1 / ratio:.3g} times as short as"


def likely(case: Case, ratio: float) -> str:
    """The remedy for the reading of a row that comes nearest to its prediction, or that for none."""
    row = case.measurement
    rate = row.metric == "tok_s"
    tokens = row.batch * (case.prompt_rows if row.kind == "llm_prefill" else 1)
    # What the figure would be in seconds if it were of the other kind: a rate for a time, or a time for a rate.
    swapped = row.value / 1000 if rate else tokens / row.value
    readings = {
        "Is it in tokens a second? Write tok_s as its metric.": None if rate or case.kind == "network" else swapped,
        "Is it milliseconds a token? Write latency_ms as its metric.": swapped
        if rate and row.kind == "llm_decode"
        else None,
        "Is it milliseconds of the prompt? Write ttft_ms as its metric.": swapped
        if rate and row.kind == "llm_prefill"
        else None,
        "Is it in seconds? Multiply it by 1000.": None if rate else case.measured * 1000,
        "Is it in microseconds? Divide it by 1000.": None if rate else case.measured / 1000,
        "Is it in nanoseconds? Divide it by 1000000.": None if rate else case.measured / 1e6,
        "Are these thousands of tokens a second? Multiply them by 1000.": case.measured / 1000 if rate else None,
        "Is the point of a decimal lost? Divide it by 1000.": case.measured * 1000 if rate else None,
    }
    off = {
        remedy: abs(log(ratio * seconds / case.measured)) for remedy, seconds in readings.items() if seconds is not None
    }
    best = min(off, key=lambda remedy: off[remedy])
    near = log(NEAR if case.kind != "network" else 30)
    return best if off[best] < near else "Are unit, model, precision, context and device of the row right?"


def doubtful_steps(prompts: Sequence[PromptRuns], file: Path) -> list[Fault]:
    """The lists of a log that are more likely in another unit, or instants; each kind of list once a strategy."""
    found: dict[tuple[str, str], Fault] = {}
    for runs in prompts:
        for strategy, run in zip(STRATEGIES, (runs.greedy, runs.sync, runs.asynchronous), strict=True):
            for what, expected, remedy in () if run is None else of_run(run):
                doubt = Fault(str(file), f"sample {runs.index}, {strategy}", what, expected, remedy)
                found.setdefault((strategy, remedy), doubt)
    return list(found.values())


def of_run(run: GreedyRun | SpeculativeRun) -> Iterator[tuple[str, str, str]]:
    """What is doubtful of one run: found, expected, remedy."""
    lists = {"token_times": run.token_s} if isinstance(run, GreedyRun) else {}
    if isinstance(run, SpeculativeRun):
        lists = {"draft_times": run.draft_s, "verify_times": run.verify_s}
    middle = {name: median(steps) for name, steps in lists.items()}
    for name, steps in lists.items():
        rising = all(a < b for a, b in pairwise(steps))
        if len(steps) >= RISING and steps[-1] > TIMES_FIRST * steps[0] and rising:
            found = f"{name} that rise from the first to the last, as instants do"
            yield found, "durations", "Write how long each step took: its end less its beginning."
    slow = {name: seconds for name, seconds in middle.items() if seconds > LONGEST_S[name]}
    quick = {name: seconds for name, seconds in middle.items() if seconds < SHORTEST_S.get(name, 0.0)}
    if run.unit is None and slow:
        short, unit = shorter_unit(slow)
        found = " and ".join(f"{name} of {seconds:.4g} s" for name, seconds in slow.items())
        rate = ", or tokens a second" if "token_times" in slow else ""
        remedy = f'Write "unit": "{short}" beside them, or "unit": "s" if they are seconds.'
        yield f"{found} (median), as no unit is stated, which are more likely {unit}{rate}", "times in seconds", remedy
    if run.unit is None and quick:
        found = " and ".join(f"{name} of {1e6 * seconds:.4g} us (median)" for name, seconds in quick.items())
        yield found, "times of a model's pass", 'Were they divided by 1000 twice? Write "unit": "s" if they are right.'
    if isinstance(run, SpeculativeRun) and middle["draft_times"] > DRAFT_OVER_VERIFY * middle["verify_times"]:
        found = f"a draft step as long as {middle['draft_times'] / middle['verify_times']:.3g} verify steps"
        yield found, "a quicker draft", "Are draft_times and verify_times in one unit, and not swapped?"
    steps_s = sum(sum(steps) for steps in lists.values())
    if steps_s < LEAST_SHARE * run.total_s:
        found = f"steps that make up {steps_s / run.total_s:.2%} of total_time"
        yield found, "most of it", "Is total_time in the same unit as the steps, and of this run alone?"


def shorter_unit(slow: Mapping[str, float]) -> tuple[str, str]:
    """The unit, largest first, in which all these medians would pass for steps."""
    for short, (factor, name) in UNITS.items():
        if all(seconds * factor <= LONGEST_S[key] for key, seconds in slow.items()):
            return short, name
    return "ns", "nanoseconds"

#!/usr/bin/env python3
"""What does a higher temperature cost? Acceptance and speed-up over the temperature, by accept rule.

python scripts/temperature.py [SCENARIO] [--set PATH=VALUE]... [--temperatures 0:1.2:0.2] [--conversations N]
                              [--lengths 1:10:1] [--plot FILE] [--csv FILE]

The stand-ins' tokens are recorded once for every temperature and rule, and replayed from then on.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hilsim.commands.main import guarded
from hilsim.describe.scenario import Conversations
from hilsim.errors import Fault, ScenarioError
from hilsim.progress import counting
from hilsim.runs.evaluate import load_variant
from hilsim.show.grid_tables import length_of
from hilsim.show.plots.placements import draw_temperatures
from hilsim.show.table import Table
from hilsim.study.grids import GUMBEL, RATIO_TOP_K
from hilsim.study.sweeps import SweepPoint, best_length, load_drafting
from scripts.arguments import answer, asked, numbers, one, question

RULES = {rule.name: rule.overrides for rule in (RATIO_TOP_K, GUMBEL)}
COLD = ("sampling.temperature=0", "sampling.top_k=null", "sampling.top_p=null", "accept=greedy", "payload=token_ids")
LEGEND = (
    "conversations, each rule at its best length; accept: the chance per token that gives the same\n"
    "mean_acceptance_length; tok/rd: tokens_per_round. Every temperature gives another text: more\n"
    "conversations make smoother lines."
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(__doc__, "ethernet", lengths="1:10:1")
    parser.add_argument(
        "--temperatures", type=numbers(0, 10), default="0:1.2:0.2", help="sampling temperatures: FROM:TO:STEP or a list"
    )
    parser.add_argument("--conversations", type=one(1, 10**4), default="4", help="number of conversations (default 4)")
    options = asked(parser, arguments)
    setup = load_drafting(options.scenario, options.set)
    if not isinstance(setup.scenario.workload, Conversations) or setup.scenario.logits.source != "live":
        found = f"{setup.scenario.logits.source} logits, for which one temperature is like another"
        raise ScenarioError([Fault(setup.file, "logits.source", found, "live ones")])
    given = [*options.set, f"workload.count={options.conversations}"]
    count = len(load_drafting(options.scenario, given).conversations)
    grid = [(warmth, rule) for warmth in options.temperatures for rule in RULES]
    points = [at(*spot, options.scenario, given, options.lengths) for spot in counting("temperatures", grid, len(grid))]
    by_rule = {rule: [point for point in points if point.place["rule"] == rule] for rule in RULES}
    return answer(
        options, setup.scenario.name, [table_of(by_rule), f"{count} {LEGEND}"], points, conclusion(by_rule),
        partial(draw_temperatures, by_rule), by=("temperature", "rule"), more=["acceptance"],
        note=f" ({count} conversations)",
    )  # fmt: skip


def at(warmth: float, rule: str, file: Path, overrides: Sequence[str], lengths: Sequence[int]) -> SweepPoint:
    """A temperature and rule at their best length; at temperature 0 all rules are the greedy one."""
    changes = COLD if warmth == 0 else (f"sampling.temperature={warmth:g}", *RULES[rule])
    found = best_length({"temperature": warmth, "rule": rule}, load_variant(file, [*overrides, *changes]), lengths)
    return found if found.why else found.adding(acceptance=found.acceptance)


def table_of(by_rule: Mapping[str, Sequence[SweepPoint]]) -> Table:
    """A row a temperature, a few columns a rule."""
    heads = [head for rule in by_rule for head in (f"{rule.split(',')[0]}: accept", "length", "tok/rd", "speed-up")]
    cells = []
    for row in zip(*by_rule.values(), strict=True):
        cells.append([f"{row[0].place['temperature']:g}"])
        for each in row:
            cells[-1] += [each.number("acceptance"), length_of(each), each.number("tokens_per_round"), each.speedup]
    return Table(["temperature", *heads], cells)


def conclusion(by_rule: Mapping[str, Sequence[SweepPoint]]) -> str:
    """From the lowest temperature to the highest, rule by rule."""
    parts = []
    for rule, points in by_rule.items():
        ran = [each for each in points if not each.why]
        ends = [f"{each.speedup:.2f}x at temperature {each.place['temperature']:g}" for each in (*ran[:1], *ran[-1:])]
        parts.append(f"{rule} goes from {' to '.join(ends)}" if ran else f"{rule} does not run")
    return f"{'; '.join(parts)}."


if __name__ == "__main__":
    sys.exit(guarded(main))

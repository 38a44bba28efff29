#!/usr/bin/env python3
"""What does a warmer voice cost? Acceptance and speed-up over the temperature, for rules that keep the target's text.

python scripts/temperature.py [SCENARIO] [--set PATH=VALUE]... [--temperatures 0:1.2:0.2] [--conversations N]
                              [--lengths 1:10:1] [--plot FILE] [--csv FILE]

Real models speak: once for every temperature and rule, and are replayed from then on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.table import Table

from hilsim.commands.main import guarded
from hilsim.commands.outputs import require_outputs, write_outputs
from hilsim.describe.acceptance import acceptance_of
from hilsim.describe.scenario import Conversations
from hilsim.describe.setup import Setup
from hilsim.errors import Fault, ScenarioError
from hilsim.progress import counting
from hilsim.runs.replay import numbers_of
from hilsim.show.grid_tables import (
    plain_table,
    print_cautions,
    print_refused,
    shown,
    telling,
    terminal,
    times,
    write_csv,
)
from hilsim.show.plots.curves import finished, level_line, lines, sheet
from hilsim.study.sweeps import LENGTH, Place, Point, best, drafting, loaded, over_lengths
from scripts.arguments import numbers, one, question, whole

RULES = {
    "ratio, top_k 64": ("accept=ratio", "payload={scheme: top_k, k: 64}", "verify_at=target"),
    "gumbel, token_ids": ("accept=gumbel", "payload=token_ids", "verify_at=target"),
}
COLD = ("sampling.temperature=0", "sampling.top_k=null", "sampling.top_p=null", "accept=greedy", "payload=token_ids")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(__doc__, "ethernet")
    parser.add_argument("--temperatures", type=numbers(0, 10), default="0:1.2:0.2", help="FROM:TO:STEP or a list")
    parser.add_argument("--conversations", type=one(1, 10**4), default="4", help="how many speak (default 4)")
    parser.add_argument("--lengths", type=whole(1, 16), default="1:10:1", help="drafted tokens, the best counts")
    options = parser.parse_args(arguments)
    require_outputs(options)
    setup = drafting(options.scenario, options.set)
    if not isinstance(setup.scenario.workload, Conversations) or setup.scenario.logits.source != "live":
        found = f"{setup.scenario.logits.source} logits, for which one temperature is like another"
        raise ScenarioError([Fault(setup.file, "logits.source", found, "live ones")])
    given = [*options.set, f"workload.count={options.conversations}"]
    talks = len(drafting(options.scenario, given).conversations)
    grid = [(warmth, rule) for warmth in options.temperatures for rule in RULES]
    points = [at(*spot, options.scenario, given, options.lengths) for spot in counting("temperatures", grid, len(grid))]
    console = terminal()
    console.print(table_of(points))
    console.print(
        f"{talks} conversations, each rule at its best length; accept: the chance a token that brings the same\n"
        "mean_acceptance_length; tok/rd: tokens_per_round. Every temperature says another text: more\n"
        "conversations make smoother lines.",
        style="dim",
    )
    print_cautions(console, points)
    print_refused(console, points, ("temperature", "rule"))
    console.print(f"\n{answer(points)}")
    title = f"{setup.scenario.name}: what does a warmer voice cost? ({talks} conversations)"
    write_outputs(
        options, lambda path, kind: draw(points, title, path, kind), lambda file: write_csv(points, file, "acceptance")
    )
    return 0


def at(warmth: float, rule: str, file: Path, overrides: Sequence[str], lengths: Sequence[int]) -> Point:
    """A temperature and rule at their best length; without any warmth all rules are the greedy one."""
    changes = COLD if warmth == 0 else (f"sampling.temperature={warmth:g}", *RULES[rule])
    setup: Setup | str = loaded(file, [*overrides, *changes])
    say = telling(f"recording temperature {warmth:g}, {rule if warmth else 'greedy'}")
    place: Place = {"temperature": warmth, "rule": rule}
    found = best(over_lengths(place, setup, lengths, lambda made: numbers_of(made, say)))
    if found.why:
        return found
    return found.adding(acceptance=acceptance_of(found.number("mean_acceptance_length"), int(found.place[LENGTH])))


def of_rule(points: Sequence[Point], rule: str) -> list[Point]:
    """The points of one rule, the coldest first."""
    return [point for point in points if point.place["rule"] == rule]


def table_of(points: Sequence[Point]) -> Table:
    """A row a temperature, a few columns a rule."""
    heads = [head for rule in RULES for head in (f"{rule.split(',')[0]}: accept", "length", "tok/rd", "speed-up")]
    table = plain_table("temperature", *heads)
    for row in zip(*(of_rule(points, rule) for rule in RULES), strict=True):
        cells = [
            cell
            for point in row
            for cell in (
                shown(point.numbers, "acceptance", ".2f"), "-" if point.why else str(point.place[LENGTH]),
                shown(point.numbers, "tokens_per_round", ".2f"), times(point.speedup),
            )
        ]  # fmt: skip
        table.add_row(f"{row[0].place['temperature']:g}", *cells)
    return table


def answer(points: Sequence[Point]) -> str:
    """From the coldest to the warmest, rule by rule."""
    told = []
    for rule in RULES:
        ran = [point for point in of_rule(points, rule) if not point.why]
        if not ran:
            told.append(f"{rule} does not run")
            continue
        first, last = ran[0], ran[-1]
        begin = f"{rule} goes from {first.speedup:.2f}x at temperature {first.place['temperature']:g}"
        told.append(f"{begin} to {last.speedup:.2f}x at {last.place['temperature']:g}")
    return "; ".join(told) + "."


def draw(points: Sequence[Point], title: str, path: Path, kind: str) -> None:
    """Left the acceptance, right the speed-up."""
    figure, panels = sheet(1, 2, 11, 4.4)
    across = [float(point.place["temperature"]) for point in of_rule(points, next(iter(RULES)))]
    labels = {"acceptance": "acceptance of a drafted token", "speedup": "speed-up over the target alone"}
    for axes, (name, label) in zip(panels[0], labels.items(), strict=True):
        lines(axes, across, {rule: [point.number(name) for point in of_rule(points, rule)] for rule in RULES})
        axes.set(xlabel="temperature (0: greedy)", ylabel=label)
        axes.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 0.08))
    level_line(panels[0][1], 1.0)
    panels[0][0].set_ylim(0, 1)
    finished(figure, title, path, kind)


if __name__ == "__main__":
    sys.exit(guarded(main))

#!/usr/bin/env python3
"""How good must a draft be not to slow the target down? The acceptance at which speculation equals the target alone.

python scripts/break_even.py [SCENARIO] [--set PATH=VALUE]... [--ratios 0.01,0.02,...] [--lengths 1,2,4,7]
                             [--acceptances 0.02:1:0.02] [--requests N] [--answer TOKENS] [--plot FILE] [--csv FILE]

Over the ratio of a draft step's time to a target step's, which is set artificially; with no link, the scenario's and a
slow one. Real drafts are marked. The closed form beside the simulation uses the same verify time and link, but knows
neither prompts nor the end of an answer.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hilsim.commands.main import guarded
from hilsim.describe.setup import Setup
from hilsim.runs.evaluate import Refused, load_fitting, load_variant
from hilsim.runs.replay import workload_size
from hilsim.show.plots.placements import draw_break_even
from hilsim.show.table import Table
from hilsim.study.break_even import break_even, shipped_ratios
from hilsim.study.steps import steps_of
from hilsim.study.sweeps import SweepPoint, load_drafting
from hilsim.study.what_ifs import with_link
from scripts.arguments import answer, asked, numbers, question, single

RATIOS = "0.01,0.02,0.05,0.1,0.2,0.3,0.5,0.7"
LEGEND = (
    "acceptance at which the speed-up is 1, simulated (closed form); - not reached even when all drafts are accepted"
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(
        __doc__, "orin_8295", lengths="1,2,4,7", acceptances="0.02:1:0.02", requests="200", answer=None
    )  # fmt: skip
    parser.add_argument(
        "--ratios", type=numbers(0.0001, 10), default=RATIOS, help="time of a draft step over that of a target step"
    )
    parser.add_argument(
        "--latency",
        type=single(0, 1e5),
        default="20",
        metavar="MS",
        help="one-way latency of the slow link, in ms (20)",
    )
    options = asked(parser, arguments)
    setup = load_drafting(options.scenario, options.set)
    size = workload_size(setup, options.requests, options.answer)
    given = [*options.set, *size.overrides()]
    chance = load_fitting(options.scenario, given)
    own = "one memory" if chance.link is None else chance.link.name
    links: dict[str, Setup | Refused] = {own: chance}
    if chance.link is not None:
        slow = with_link(chance, chance.link.rate.si, options.latency / 1000)
        links[f"{options.latency:g} ms a message"] = slow
        if not chance.link.on_chip:
            links = {"no link": load_variant(options.scenario, [*given, "link=ideal"]), **links}
    points = break_even(links, options.ratios, options.acceptances, options.lengths)
    real = shipped_ratios(setup, options.scenario, options.set)
    ratios = (f"c {ratio:.3f}  {name}" for name, ratio in sorted(real.items(), key=lambda item: item[1]))
    sentence = conclusion(points, steps_of(setup, 1).ratio, options.ratios, own)
    return answer(
        options, setup.scenario.name, [table_of(points, options.lengths), LEGEND, *ratios], points, sentence,
        partial(draw_break_even, points, real), by=["link"], more=("break_even", "closed_form"),
        note=f" (answers of {size.answer} tokens)",
    )  # fmt: skip


def table_of(points: Sequence[SweepPoint], lengths: Sequence[int]) -> Table:
    """A row a ratio and link, a column a length; points lie in that order."""
    cells: list[list[str]] = []
    for place, point in enumerate(points):
        if place % len(lengths) == 0:
            cells.append([str(point.place["link"]), f"{point.place['ratio']:g}"])
        simulated, closed = (point.numbers.get(name) for name in ("break_even", "closed_form"))
        shown, beside = ("-" if value is None else f"{value:.2f}" for value in (simulated, closed))
        cells[-1].append(f"{shown} ({beside})")
    return Table(["link", "c", *(f"{length} drafted" for length in lengths)], cells)


def conclusion(points: Sequence[SweepPoint], own: float, ratios: Sequence[float], link: str) -> str:
    """What the scenario's own draft needs, by the next slower ratio that was tried."""
    ratio = next((ratio for ratio in ratios if ratio >= own), None)
    draft = f"The scenario's draft step is {own:.3f} of a target step"
    if ratio is None:
        return f"{draft}, beyond the ratios tried."
    parts = []
    for point in points:
        if (point.place["link"], point.place["ratio"]) == (link, ratio):
            value = point.numbers.get("break_even")
            parts.append(f"{point.length} drafted tokens {'above 1' if value is None else f'{value:.2f}'}")
    return f"{draft}: over {link} the break-even acceptance is {', '.join(parts)} (at ratio {ratio:g})."


if __name__ == "__main__":
    sys.exit(guarded(main))

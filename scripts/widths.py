#!/usr/bin/env python3
"""Which widths should the target be compiled for? Sets of widths, each with every policy at its best setting.

python scripts/widths.py [SCENARIO] [--set PATH=VALUE]... [--widths 1-128,1-8-128,...] [--policies sync,adaptive,...]
                         [--plot FILE] [--csv FILE]

A step runs the narrowest graph that is wide enough, so a wide verify step is expensive. Every further graph takes
memory: all of the weights again where graphs do not share them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hilsim.commands.main import guarded
from hilsim.errors import Fault, ScenarioError
from hilsim.progress import counting
from hilsim.show.grid_tables import marked
from hilsim.show.numbers import duration
from hilsim.show.plots.placements import draw_widths
from hilsim.show.table import Table
from hilsim.study.sweeps import SweepPoint, best, flat, load_drafting, over_one_baseline, point
from hilsim.study.widths import choose, settings_of, widths_at
from scripts.arguments import answer, asked, names, question

SETS = "1-128,1-4-128,1-8-128,1-16-128,1-32-128,1-4-8-128,1-4-16-128,1-8-16-128,1-8-32-128"
POLICIES = "sync,adaptive,pearl,async,pipelined"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(__doc__, "orin_8295", widths=SETS)
    parser.add_argument(
        "--policies",
        type=names,
        default=POLICIES,
        help="policies compared, each at its best setting (default %(default)s)",
    )
    options = asked(parser, arguments)
    setup = load_drafting(options.scenario, options.set)
    if setup.target.widths is None:
        found = f"{setup.target.track}, which takes any width"
        raise ScenarioError([Fault(setup.file, "target", found, "a target on a unit of compiled widths")])
    policies = settings_of(options.scenario, options.set, options.policies)
    sets = counting("sets of widths", options.widths, len(options.widths))
    found_rows = [widths_at(widths, options.scenario, options.set, policies) for widths in sets]
    own = point({}, setup)
    rows = [over_one_baseline(row, own.alone_ms) for row in found_rows]
    legend = (
        f"speed-up by policy, each at its best setting, over the scenario's target alone ({duration(own.alone_ms)});\n"
        "GiB: of the target's chip, weights in every graph, or shared; rewrites: what compile rewrites add to a verify"
    )
    options.title = f"which widths should {setup.target.model.name} be compiled for"
    return answer(
        options, setup.scenario.name, [table_of(rows), legend], flat(rows), conclusion(rows),
        partial(draw_widths, rows), refused=[row[0] for row in rows], by=["widths"], more=("own_gib", "shared_gib"),
    )  # fmt: skip


def table_of(rows: Sequence[Sequence[SweepPoint]]) -> Table:
    """A row a set of widths, a column a policy."""
    cells = []
    for row in rows:
        top = best(row)
        rewrites = [f"{top.number(name):.2g}" for name in top.numbers if name.startswith("gate_ms.")]
        speeds, held = (marked(each.speedup, top.speedup) for each in row), map(top.number, ("own_gib", "shared_gib"))
        cells.append([top.place["widths"], *speeds, top.place.get("setting"), *held, " ".join(rewrites) or None])
    policies = (str(each.place["policy"]) for each in rows[0])
    return Table(["widths", *policies, "setting", "GiB", "shared", "rewrites, ms"], cells)


def conclusion(rows: Sequence[Sequence[SweepPoint]]) -> str:
    """The set to compile, and the fastest beside it."""
    tops = [best(row) for row in rows]
    top, choice = best(tops), choose(tops)
    if top.why:
        return "No set of widths runs here."
    sentence = f"compile {listed(choice)}: {choice.speedup:.2f}x by {choice.place['setting']}"
    sentence += f", {choice.number('own_gib'):.2f} GiB"
    if choice is not top:
        sentence += f" ({listed(top)} would be {top.speedup:.2f}x in {top.number('own_gib'):.2f} GiB)"
    return f"{sentence}."


def listed(chosen: SweepPoint) -> str:
    """Widths in a sentence."""
    *most, last = str(chosen.place["widths"]).split()
    return f"{', '.join(most)} and {last}" if most else last


if __name__ == "__main__":
    sys.exit(guarded(main))

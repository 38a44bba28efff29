#!/usr/bin/env python3
"""Does the ranking survive the uncertainty of the chips' figures? Contenders replayed under the same draws of them.

python scripts/ranking.py [SCENARIO] [--set PATH=VALUE]... [--contender "KEY=VALUE ..."]... [--objective NAME]
                          [--draws N] [--seed N] [--plot FILE] [--csv FILE]

Every figure with a range is drawn, below its value as often as above it; each draw holds for all contenders. They are
ranked by one of the explorer's objectives, never by speed-up: each one's is over its own target alone.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hilsim.commands.main import guarded
from hilsim.errors import Fault, ScenarioError
from hilsim.runs.evaluate import load_fitting, load_variant
from hilsim.show.grid_tables import MEASURES
from hilsim.show.plots.placements import draw_ranking
from hilsim.show.rank_stability import name_of, short_names, stability_table, verdict
from hilsim.show.table import Table
from hilsim.study.grids import contenders
from hilsim.study.rank_stability import cost_of, costs_of, drawn_for, rank_stability
from hilsim.study.ranking import OBJECTIVES, objective
from hilsim.study.sweeps import point
from scripts.arguments import answer, asked, one, question, together

LEGEND = (
    "interval: 5 % to 95 % of them; beats next: share of draws\n"
    "in which it beats the next one; x own: over the contender's own target alone"
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(__doc__, "orin_8295")
    parser.add_argument(
        "--contender", type=together, action="append", metavar="KEY=VALUE ...",
        help="values of --set, quoted together; repeatable (default: a handful of policies)",
    )  # fmt: skip
    parser.add_argument(
        "--objective", default="request_latency", metavar="NAME", help=f"ranks by one of {', '.join(OBJECTIVES)}"
    )
    parser.add_argument(
        "--draws", type=one(2, 10**5), default="200", help="number of draws of the chips' figures (default 200)"
    )
    parser.add_argument("--seed", type=one(0, 2**32), default="1", help="seed of the draws (default 1)")
    options = asked(parser, arguments)
    wanted = objective(options.objective)
    setup = load_fitting(options.scenario, options.set)
    sets = options.contender or [choice.overrides for choice in contenders()]
    nominal = [
        point({"contender": name_of(each, sets)}, load_variant(options.scenario, [*options.set, *each]))
        for each in sets
    ]
    ran = sorted((each for each in nominal if not each.why), key=lambda each: cost_of(wanted, each.numbers))
    refused = [each for each in nominal if each.why]
    if len(ran) < 2:
        found = f"{len(ran)} contenders that run ({'; '.join(each.why for each in refused)})".replace(" ()", "")
        raise ScenarioError([Fault(str(options.scenario), "--contender", found, "two at least")])
    drawn = drawn_for([each.setup for each in ran if each.setup is not None], options.draws, options.seed)
    stability = rank_stability(costs_of(drawn, wanted))
    names, draws = short_names(ran), f"{options.draws} draws of {len(drawn.ranged)} figures"
    longer = [each.place["contender"] for each in ran]
    letters = [f"{short}: {name}" for short, name in zip(names, longer, strict=True) if short != name]
    low, median, high = stability.intervals(wanted)
    points = [
        each.adding(low=low[place], median=median[place], high=high[place], first=stability.ranks[place, 0])
        for place, each in enumerate(ran)
    ]
    more = () if wanted.measure in MEASURES else (wanted.measure,)
    options.title = f"does the ranking by {wanted.name} survive the error bars"
    shown: list[Table | str] = [stability_table(ran, names, stability, wanted), f"{draws} with a range; {LEGEND}"]
    return answer(
        options, setup.scenario.name, [*shown, *letters], [*points, *refused],
        verdict(names, stability), partial(draw_ranking, ran, stability, wanted), cautions=ran, refused=refused,
        by=["contender"], more=(*more, "low", "median", "high", "first"), note=f" ({draws})",
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(guarded(main))

#!/usr/bin/env python3
"""Where is a speed-up of 2.5x reached? Speed-up over acceptance and draft length, by target, compiled widths and link.

python scripts/where_2_5.py [SCENARIO] [--set PATH=VALUE]... [--targets MODEL,...] [--widths 1-128,1-8-128,...]
                            [--links LINK[:PAYLOAD],...] [--acceptances 0.05:1:0.05] [--lengths 1:10:1] [--plot FILE]

Drafted tokens are accepted by chance; the draft, its place and the length of answers are the scenario's (--answer has
longer ones). What crosses a link is the scenario's payload, or LINK:PAYLOAD: token_ids is greedy, others are tested by
the ratio rule.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hilsim.commands.main import guarded
from hilsim.runs.replay import workload_size
from hilsim.show.plots.maps import draw_ways
from hilsim.show.table import Table
from hilsim.study.sweeps import Rows, best, flat, load_drafting, over_acceptances
from hilsim.study.ways import easiest, losing, needed, ways
from scripts.arguments import answer, asked, names, question

LEVELS = EVEN, WANTED = 1.0, 2.5


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(
        __doc__, "orin_8295", widths="1-128,1-8,1-8-128", links="pcie-gen3-x4,1000base-t1,1000base-t1:token_ids",
        acceptances="0.05:1:0.05", lengths="1,2,3,4,5,6,7,8,10", requests="200", answer=None,
    )  # fmt: skip
    parser.add_argument(
        "--targets",
        type=names,
        default="llama-3.2-1b,llama-3.2-3b,llama-3.1-8b",
        help="target models compared (default %(default)s)",
    )
    options = asked(parser, arguments)
    setup = load_drafting(options.scenario, options.set)
    size = workload_size(setup, options.requests, options.answer)
    given = [*options.set, *size.overrides()]
    variants = ways(options.scenario, given, options.targets, options.widths, options.links)
    maps = over_acceptances(variants, options.acceptances, options.lengths)
    lengths = f"prompts of {size.prompt} tokens, answers of {size.answer}"
    shown: list[Table | str] = [
        table_of(maps),
        f"the least acceptance that reaches the speed-up at the best length; {lengths}",
    ]
    points = [point for rows in maps for point in flat(rows)]
    return answer(
        options, setup.scenario.name, shown, points, conclusion(maps), partial(draw_ways, maps, LEVELS),
        by=("target", "widths"), note=f" (answers of {size.answer} tokens)",
    )  # fmt: skip


def table_of(maps: Sequence[Rows]) -> Table:
    """A row a way: what 1x and 2.5x need, and what the best acceptance tried brings."""
    cells = []
    for rows in maps:
        top, place = best(flat(rows)), rows[0][0].place
        found = ["not here"] * 2 if top.why else [required_text(needed(rows, level), rows) for level in LEVELS]
        most = [None, None] if top.why else [top.speedup, top.length]
        cells.append([place["target"], place["widths"], place["link"], *found, *most])
    return Table(["target", "widths", "link", "1x needs", "2.5x needs", "most", "by"], cells, left=3)


def required_text(found: tuple[float, int] | None, rows: Rows) -> str:
    """An acceptance and its draft length; at the lowest that was tried it may well be less."""
    if found is None:
        return "never"
    return f"{'<= ' if found[0] == rows[0][0].place['acceptance'] else ''}{found[0]:.2f} by {found[1]}"


def conclusion(maps: Sequence[Rows]) -> str:
    """The easiest ways to 2.5x, by target; and what loses."""
    parts = []
    for target, found in easiest(maps, WANTED).items():
        parts.append(f"{target} never")
        if found is not None:
            place, acceptance, length = found
            how = f"by {length} drafted tokens (widths {place['widths']}, {place['link']})"
            parts[-1] = f"{target} from acceptance {acceptance:.2f} {how}"
    sentence = f"{WANTED:g}x is reached with the least acceptance by: {'; '.join(parts)}."
    if (worst := losing(maps)) is not None:
        place = worst.place
        where = f"{place['target']} with widths {place['widths']} over {place['link']}"
        up_to = f"up to acceptance {float(place['acceptance']):.2f} ({worst.speedup:.2f}x)"
        sentence += f"\n\nThe slowest at its best length, below 1x: {where}, {up_to}."
    return sentence


if __name__ == "__main__":
    sys.exit(guarded(main))

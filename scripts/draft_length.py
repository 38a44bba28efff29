#!/usr/bin/env python3
"""How many tokens should be drafted, over which link? A grid over one scenario, one table.

python scripts/draft_length.py [SCENARIO] [--set PATH=VALUE]... [--links pcie-gen3-x4,1000base-t1] [--lengths 1:7:1]
                               [--plot FILE] [--csv FILE]
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hilsim.commands.main import guarded
from hilsim.progress import counting
from hilsim.runs.evaluate import load_variant
from hilsim.show.plots.curves import draw_series
from hilsim.show.table import Table
from hilsim.study.sweeps import SweepPoint, load_drafting, over_lengths
from scripts.arguments import answer, asked, question, whole


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(__doc__, "orin_8295", links="pcie-gen3-x4,1000base-t1")
    parser.add_argument("--lengths", type=whole(1, 64), default="1:7:1", help="drafted tokens: FROM:TO:STEP or a list")
    options = asked(parser, arguments)
    setup = load_drafting(options.scenario, options.set)
    rows = {
        link: over_lengths(
            {"link": link}, load_variant(options.scenario, [*options.set, f"link={link}"]), options.lengths,
            own_policy=True,
        )
        for link in counting("links", options.links, len(options.links))
    }  # fmt: skip
    points = [point for row in rows.values() for point in row]
    series = {link: [point.speedup for point in row] for link, row in rows.items()}
    draw = partial(draw_series, options.lengths, series, "drafted tokens a round")
    return answer(options, setup.scenario.name, [table_of(rows, options.lengths)], points, "", draw, by=["link"])


def table_of(rows: Mapping[str, Sequence[SweepPoint]], lengths: Sequence[int]) -> Table:
    """A row a length; tokens do not depend on the link, so theirs are of the first link that runs."""
    first = next((row for row in rows.values() if not row[0].why), next(iter(rows.values())))
    cells = []
    for place, length in enumerate(lengths):
        rate = first[place].numbers.get("draft_acceptance_rate")
        wasted = None if rate is None else f"{1 - rate:.0%}"
        speeds = (row[place].speedup for row in rows.values())
        cells.append([str(length), *speeds, first[place].number("tokens_per_round"), wasted])
    return Table(["draft_tokens", *(f"speedup, {link}" for link in rows), "tokens a round", "wasted drafts"], cells)


if __name__ == "__main__":
    sys.exit(guarded(main))

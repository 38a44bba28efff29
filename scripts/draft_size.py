#!/usr/bin/env python3
"""Which draft, and where? Time of a drafted token against acceptance, for every draft of the target's vocabulary.

python scripts/draft_size.py [SCENARIO] [--set PATH=VALUE]... [--precisions w4,fp16] [--lengths 1:10:1]
                             [--draft MODEL:STAND_IN]... [--plot FILE] [--csv FILE]

Sizes and times are the deployed drafts'; their tokens come from stand-ins.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hilsim.commands.main import guarded
from hilsim.progress import counting
from hilsim.show.numbers import duration
from hilsim.show.plots.placements import draw_drafts
from hilsim.show.table import Table
from hilsim.study.drafts import draft_at
from hilsim.study.grids import draft_places, drafts_for
from hilsim.study.sweeps import LENGTH, SweepPoint, best, load_drafting, over_one_baseline, point
from scripts.arguments import answer, asked, draft_pair, question

AXES = ("draft", "unit", "precision")
LEGEND = (
    "by: the stand-in; accept: the chance per token that gives the same mean_acceptance_length; speed-up: over the\n"
    "scenario's own target alone,"
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(__doc__, "orin_8295", precisions="w4,fp16", lengths="1:10:1")
    parser.add_argument(
        "--draft", type=draft_pair, action="append", metavar="MODEL:STAND_IN", help="only this draft; repeatable"
    )
    options = asked(parser, arguments)
    setup = load_drafting(options.scenario, options.set)
    choices = draft_places(setup, options.draft or drafts_for(setup), options.precisions)
    found = [
        draft_at(choice, options.scenario, options.set, options.lengths)
        for choice in counting("drafts", choices, len(choices))
    ]
    own = point({}, setup)
    points = over_one_baseline(found, own.alone_ms)
    legend = f"{LEGEND} {duration(own.alone_ms)} a request; GiB: of the draft alone"
    draw = partial(draw_drafts, points, setup, max(options.lengths))
    more = ("draft_ms", "acceptance", "draft_gib")
    shown: list[Table | str] = [table_of(points), legend]
    return answer(options, setup.scenario.name, shown, points, conclusion(points), draw, by=AXES, more=more)


def table_of(points: Sequence[SweepPoint]) -> Table:
    """A row a draft at a place, the fastest first, those that cannot run at the end."""
    cells = []
    for each in sorted(points, key=lambda each: (each.why != "", each.latency_ms)):
        stand_in = Path(str(each.place["stand_in"])).name.removeprefix("draft-")
        where = [each.place["draft"], stand_in, each.place["unit"], each.place["precision"]]
        numbers = [each.number(name) for name in ("draft_ms", "acceptance")]
        length, request = (None, None) if each.why else (each.place[LENGTH], duration(each.latency_ms))
        cells.append([*where, *numbers, length, request, each.speedup, each.number("draft_gib")])
    heads = ("draft", "by", "unit", "in", "ms/token", "accept", "length", "request", "speed-up", "GiB")
    return Table(heads, cells, left=4)


def conclusion(points: Sequence[SweepPoint]) -> str:
    """The fastest draft, and what the fastest of those that need less memory brings."""
    top = best(points)
    if top.why:
        return "No draft runs here."
    sentence = f"Take {named(top)}, {top.length} drafted tokens: {brings(top)}"
    smaller = [each for each in points if each.number("draft_gib") < top.number("draft_gib")]
    if not smaller or (other := best(smaller)).why:
        return f"{sentence}."
    return f"{sentence}; with less memory {named(other)}: {brings(other)}."


def named(draft: SweepPoint) -> str:
    """A draft, how and where."""
    return f"{draft.place['draft']} in {draft.place['precision']} on {draft.place['unit']}"


def brings(draft: SweepPoint) -> str:
    """A draft's speed-up and size."""
    return f"{draft.speedup:.2f}x in {draft.number('draft_gib'):.2f} GiB"


if __name__ == "__main__":
    sys.exit(guarded(main))

#!/usr/bin/env python3
"""How much memory must the draft's chip leave? Which drafts fit under each memory cap, and the best speed-up.

python scripts/memory_cap.py [SCENARIO] [--set PATH=VALUE]... [--caps 0.25,0.5,...] [--precisions w4,fp16]
                             [--lengths 1:10:1] [--plot FILE] [--csv FILE]

Drafts of the target's vocabulary on every unit of the draft's chip; caps are of that chip's memory, in GiB.
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
from hilsim.show.numbers import duration
from hilsim.show.plots.placements import draw_caps
from hilsim.show.table import Table
from hilsim.study.drafts import draft_at, speeds_under, under_cap
from hilsim.study.grids import draft_places, drafts_for
from hilsim.study.sweeps import SweepPoint, best, load_drafting, over_one_baseline, point
from scripts.arguments import answer, asked, numbers, question

CAPS = "0.25,0.5,0.625,0.75,0.875,1,1.25,1.5,2,3,4,6,8"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(__doc__, "orin_8295", precisions="w4,fp16", lengths="1:10:1")
    parser.add_argument(
        "--caps",
        type=numbers(0.001, 1024),
        default=CAPS,
        metavar="GIB,...",
        help=f"memory caps in GiB (default: {CAPS})",
    )
    options = asked(parser, arguments)
    setup, caps = load_drafting(options.scenario, options.set), options.caps
    assert setup.draft is not None
    chip = setup.draft.chip.name
    if chip == setup.target.chip.name:
        raise ScenarioError([Fault(setup.file, "draft.chip", f"{chip}, the target's", "a draft on a chip of its own")])
    every = draft_places(setup, drafts_for(setup), options.precisions)
    here = [choice for choice in every if choice.parts["unit"].startswith(f"{chip}.")]
    found = [
        draft_at(choice, options.scenario, options.set, options.lengths, fitting=False)
        for choice in counting("drafts", here, len(here))
    ]
    own = point({}, setup)
    drafts = over_one_baseline(found, own.alone_ms)
    points = [under_cap(cap, draft, chip) for cap in caps for draft in drafts]
    alone = f"1.00 is the scenario's target alone, {duration(own.alone_ms)} a request"
    legend = f"\nneeds: everything on {chip}, runtime and cache included; {alone}"
    models = dict.fromkeys(str(draft.place["draft"]) for draft in drafts)
    series = {model: speeds_under(caps, [p for p in points if p.place["draft"] == model]) for model in models}
    return answer(
        options, setup.scenario.name, [table_of(points, caps), legend, needs_table(drafts)], points,
        conclusion(speeds_under(caps, points), caps, chip),
        partial(draw_caps, caps, speeds_under(caps, points), series), cautions=drafts,
        refused=[draft for draft in drafts if draft.why], by=("draft", "unit", "precision"), more=["needs_gib"],
    )  # fmt: skip


def named(draft: SweepPoint) -> str:
    """A draft, where and how."""
    return f"{draft.place['draft']} {draft.place['precision']} on {draft.place['unit']}, {draft.length} tokens"


def table_of(points: Sequence[SweepPoint], caps: Sequence[float]) -> Table:
    """A row a cap: how many drafts fit, and the best of them."""
    cells = []
    for cap in caps:
        here = [each for each in points if each.place["cap_gib"] == cap]
        top, fitting = best(here), sum(not each.why for each in here)
        name, speed = ("none: the target alone", 1.0) if top.why else (named(top), top.speedup)
        cells.append([name, f"{cap:g}", fitting, len(here), speed])
    return Table(["best draft that fits", "cap, GiB", "fit", "of", "speed-up"], cells)


def needs_table(drafts: Sequence[SweepPoint]) -> Table:
    """A row a draft, the one that needs least first."""
    ran = sorted((draft for draft in drafts if not draft.why), key=lambda draft: draft.number("needs_gib"))
    cells = [[named(draft), draft.number("needs_gib"), draft.speedup] for draft in ran]
    return Table(["draft", "needs, GiB", "speed-up"], cells)


def conclusion(speeds: Sequence[float], caps: Sequence[float], chip: str) -> str:
    """From which cap on a draft gains, and from which more brings nothing."""
    if speeds[-1] <= 1:
        return f"No draft that fits into {caps[-1]:g} GiB gains anything."
    first, gain = next((cap, speed) for cap, speed in zip(caps, speeds, strict=True) if speed > 1)
    last = next(cap for cap, speed in zip(caps, speeds, strict=True) if speed == speeds[-1])
    return (
        f"From {first:g} GiB on {chip} a draft fits and gains ({gain:.2f}x); beyond "
        f"{last:g} GiB more memory brings nothing ({speeds[-1]:.2f}x)."
    )


if __name__ == "__main__":
    sys.exit(guarded(main))

#!/usr/bin/env python3
"""How much memory must the draft's chip leave? What fits under each cap, and the best speed-up that it brings.

python scripts/memory_cap.py [SCENARIO] [--set PATH=VALUE]... [--caps 0.25,0.5,...] [--precisions w4,fp16]
                             [--lengths 1:10:1] [--plot FILE] [--csv FILE]

Drafts of the target's vocabulary on every unit of the draft's chip; caps are of that chip's memory, in GiB.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.table import Table

from hilsim.commands.main import guarded
from hilsim.commands.outputs import require_outputs, write_outputs
from hilsim.compiler.compile_check import load_compiled
from hilsim.cost.memory import ledgers
from hilsim.describe.setup import Setup
from hilsim.errors import Fault, HilsimError, ScenarioError
from hilsim.progress import counting
from hilsim.runs.replay import numbers_of
from hilsim.show.grid_tables import plain_table, print_cautions, print_refused, telling, terminal, times, write_csv
from hilsim.show.numbers import duration
from hilsim.show.plots.curves import finished, level_line, lines, sheet
from hilsim.study.space import drafts_for
from hilsim.study.sweeps import (
    LENGTH,
    DraftPlace,
    Point,
    best,
    draft_places,
    drafting,
    over_lengths,
    over_one_baseline,
    reason,
)
from hilsim.study.uncertainty import with_values
from hilsim.units import GIB
from scripts.arguments import names, numbers, question, whole

CAPS = "0.25,0.5,0.625,0.75,0.875,1,1.25,1.5,2,3,4,6,8"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(__doc__, "orin_8295")
    parser.add_argument("--caps", type=numbers(0.001, 1024), default=CAPS, metavar="GIB,...", help=f"default: {CAPS}")
    parser.add_argument("--precisions", type=names, default="w4,fp16", help="number formats of the draft")
    parser.add_argument("--lengths", type=whole(1, 16), default="1:10:1", help="drafted tokens, the best counts")
    options = parser.parse_args(arguments)
    require_outputs(options)
    setup = drafting(options.scenario, options.set)
    assert setup.draft is not None
    chip = setup.draft.chip.name
    if chip == setup.target.chip.name:
        raise ScenarioError([Fault(setup.file, "draft.chip", f"{chip}, the target's", "a draft on a chip of its own")])
    every = draft_places(setup, drafts_for(setup), options.precisions)
    here = [place for place in every if place.unit.startswith(f"{chip}.")]
    found = [at(place, options.scenario, options.set, options.lengths) for place in counting("drafts", here, len(here))]
    own = Point({}, numbers_of(setup, telling("recording what the scenario's models say")))
    drafts = over_one_baseline(found, own.alone_ms)
    points = [under(cap, draft, chip) for cap in options.caps for draft in drafts]
    console = terminal()
    console.print(table_of(points, options.caps))
    alone = f"1.00 is the scenario's target alone, {duration(own.alone_ms)} a request"
    console.print(f"\nneeds: everything on {chip}, runtime and cache included; {alone}", style="dim")
    console.print(needs_table(drafts))
    print_cautions(console, drafts)
    print_refused(console, [draft for draft in drafts if draft.why], ("draft", "unit", "precision"))
    console.print(f"\n{answer(points, options.caps, chip)}")
    title = f"{setup.scenario.name}: how much memory must {chip} leave?"
    write_outputs(
        options,
        lambda path, kind: draw(points, options.caps, title, path, kind),
        lambda file: write_csv(points, file, "needs_gib"),
    )
    return 0


def at(place: DraftPlace, file: Path, overrides: Sequence[str], lengths: Sequence[int]) -> Point:
    """A draft at its best length, whatever memory it needs: time does not hang on the cap."""
    try:
        setup = load_compiled(file, [*overrides, *place.overrides])
    except HilsimError as error:
        return Point(place.place, {}, reason(error, file))
    say = telling(f"recording what {place.stand_in} drafts")
    found = best(over_lengths(place.place, setup, lengths, lambda made: numbers_of(made, say)))
    assert setup.draft is not None
    return found.adding(needs_gib=ledgers(setup)[setup.draft.chip.name].used_bytes / GIB)


def under(cap: float, draft: Point, chip: str) -> Point:
    """A draft under one cap, or by how much it does not fit."""
    place = {"cap_gib": cap, **draft.place}
    if draft.setup is None:
        return Point(place, {}, draft.why)
    ledger = ledgers(capped(draft.setup, chip, cap))[chip]
    if ledger.fits:
        return replace(draft, place=place)
    return Point(place, {}, f"needs {ledger.used_bytes / GIB:.2f} GiB, {ledger.ratio:.2f}x of the cap")


def capped(setup: Setup, chip: str, cap_gib: float) -> Setup:
    """The set-up with another memory on one chip."""
    memory = setup.chips[chip].memory.model_copy(update={"unit": "GiB"})
    return with_values(setup, {f"{chip}/memory": (memory, cap_gib)})


def of_cap(points: Sequence[Point], cap: float) -> list[Point]:
    """What was tried under a cap."""
    return [point for point in points if point.place["cap_gib"] == cap]


def named(point: Point) -> str:
    """A draft, where and how."""
    return f"{point.place['draft']} {point.place['precision']} on {point.place['unit']}, {point.place[LENGTH]} tokens"


def table_of(points: Sequence[Point], caps: Sequence[float]) -> Table:
    """A row a cap: how many drafts fit, and the best of them."""
    table = plain_table("best draft that fits", "cap, GiB", "fit", "of", "speed-up")
    for cap in caps:
        here = of_cap(points, cap)
        fit, top = [point for point in here if not point.why], best(here)
        told = "none: the target alone" if top.why else named(top)
        table.add_row(told, f"{cap:g}", str(len(fit)), str(len(here)), "1.00" if top.why else times(top.speedup))
    return table


def needs_table(drafts: Sequence[Point]) -> Table:
    """A row a draft, the one that needs least first."""
    table = plain_table("draft", "needs, GiB", "speed-up")
    for draft in sorted((draft for draft in drafts if not draft.why), key=lambda draft: draft.number("needs_gib")):
        table.add_row(named(draft), f"{draft.number('needs_gib'):.2f}", times(draft.speedup))
    return table


def reached(points: Sequence[Point], caps: Sequence[float]) -> list[float]:
    """The best speed-up under each cap, the target alone where nothing fits or gains."""
    tops = [best(of_cap(points, cap)) for cap in caps]
    return [1.0 if top.why else max(1.0, top.speedup) for top in tops]


def answer(points: Sequence[Point], caps: Sequence[float], chip: str) -> str:
    """From which cap on a draft pays, and from which more brings nothing."""
    speeds = reached(points, caps)
    if speeds[-1] <= 1:
        return f"No draft that fits into {caps[-1]:g} GiB gains anything."
    first = next(cap for cap, speed in zip(caps, speeds, strict=True) if speed > 1)
    last = next(cap for cap, speed in zip(caps, speeds, strict=True) if speed == speeds[-1])
    return (
        f"From {first:g} GiB on {chip} a draft fits and gains ({speeds[list(caps).index(first)]:.2f}x); beyond "
        f"{last:g} GiB more memory brings nothing ({speeds[-1]:.2f}x)."
    )


def draw(points: Sequence[Point], caps: Sequence[float], title: str, path: Path, kind: str) -> None:
    """Steps: the best of all, and of each draft model."""
    figure, panels = sheet(1, 1, 9, 5)
    axes = panels[0][0]
    axes.step(caps, reached(points, caps), where="post", color="0.82", linewidth=8, label="best of all")
    series = {}
    for model in dict.fromkeys(str(point.place["draft"]) for point in points):
        series[model] = reached([point for point in points if point.place["draft"] == model], caps)
    lines(axes, caps, series, steps=True)
    level_line(axes, 1.0, "the target alone")
    axes.set(xscale="log", xlabel="memory left to the draft, GiB", ylabel="best speed-up that fits")
    axes.set_xticks(caps, [f"{cap:g}" for cap in caps], rotation=45, fontsize=8)
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=9, loc="center right")
    finished(figure, title, path, kind)


if __name__ == "__main__":
    sys.exit(guarded(main))

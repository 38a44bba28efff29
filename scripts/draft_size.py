#!/usr/bin/env python3
"""Which draft, and where? Time of a drafted token against acceptance, for every draft of the target's vocabulary.

python scripts/draft_size.py [SCENARIO] [--set PATH=VALUE]... [--precisions w4,fp16] [--lengths 1:10:1]
                             [--draft MODEL:STAND_IN]... [--plot FILE] [--csv FILE]

Sizes and times are the deployed drafts'; what they say comes from the stand-ins that speak for them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from rich.table import Table

from hilsim.commands.main import guarded
from hilsim.commands.outputs import require_outputs, write_outputs
from hilsim.cost.memory import ledgers, role_items
from hilsim.describe.acceptance import acceptance_of
from hilsim.describe.setup import Setup
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
from hilsim.show.numbers import duration, milliseconds
from hilsim.show.plots.curves import BLACK_AND, LEVELS, MARKS, contours, finished, sheet
from hilsim.study.closed_forms import sync_speedup
from hilsim.study.space import drafts_for
from hilsim.study.steps import steps_of
from hilsim.study.sweeps import (
    LENGTH,
    DraftPlace,
    Point,
    best,
    draft_places,
    drafting,
    loaded,
    over_lengths,
    over_one_baseline,
)  # fmt: skip
from hilsim.units import GIB
from scripts.arguments import names, question, whole

ASKED = ("draft", "unit", "precision")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(__doc__, "orin_8295")
    parser.add_argument("--precisions", type=names, default="w4,fp16", help="number formats of the draft")
    parser.add_argument("--lengths", type=whole(1, 16), default="1:10:1", help="drafted tokens, the best counts")
    parser.add_argument("--draft", type=pair, action="append", metavar="MODEL:STAND_IN", help="only these; repeatable")
    options = parser.parse_args(arguments)
    require_outputs(options)
    setup = drafting(options.scenario, options.set)
    places = draft_places(setup, options.draft or drafts_for(setup), options.precisions)
    found = [
        at(place, options.scenario, options.set, options.lengths) for place in counting("drafts", places, len(places))
    ]
    own = Point({}, numbers_of(setup, telling("recording what the scenario's models say")))
    points = over_one_baseline(found, own.alone_ms)
    console = terminal()
    console.print(table_of(points))
    console.print(
        "by: the stand-in; accept: the chance a token that brings the same mean_acceptance_length; speed-up: over the\n"
        f"scenario's own target alone, {duration(own.alone_ms)} a request; GiB: of the draft alone",
        style="dim",
        soft_wrap=True,
    )
    print_cautions(console, points)
    print_refused(console, points, ASKED)
    console.print(f"\n{answer(points)}")
    title = f"{setup.scenario.name}: which draft, and where?"
    write_outputs(
        options,
        lambda path, kind: draw(points, setup, max(options.lengths), title, path, kind),
        lambda file: write_csv(points, file, "draft_ms", "acceptance", "draft_gib"),
    )
    return 0


def pair(text: str) -> tuple[str, str]:
    """A model and the stand-in that speaks for it."""
    model, _, stand_in = text.partition(":")
    if not model or not stand_in:
        expected = "MODEL:STAND_IN, such as draft-68m-llama3:models/draft-0.8m"
        raise argparse.ArgumentTypeError(f"found {text!r}; expected {expected}")
    return model, stand_in


def at(place: DraftPlace, file: Path, overrides: Sequence[str], lengths: Sequence[int]) -> Point:
    """A draft at its best length."""
    setup = loaded(file, [*overrides, *place.overrides])
    say = telling(f"recording what {place.stand_in} drafts")
    found = best(over_lengths(place.place, setup, lengths, lambda made: numbers_of(made, say)))
    if found.setup is None or found.setup.draft is None:
        return found
    length = int(found.place[LENGTH])
    held = role_items(found.setup.draft, found.setup.scenario.context_tokens, found.setup.scenario.workload.talkers)
    return found.adding(
        draft_ms=steps_of(found.setup, length).draft_ms,
        acceptance=acceptance_of(found.number("mean_acceptance_length"), length),
        draft_gib=sum(item.bytes for item in held) / GIB,
        left_gib=min(ledger.cap_bytes - ledger.used_bytes for ledger in ledgers(found.setup).values()) / GIB,
    )


def table_of(points: Sequence[Point]) -> Table:
    """A row a draft at a place, the fastest first, those that cannot run at the end."""
    table = plain_table(
        "draft", "by", "unit", "in", "ms/token", "accept", "length", "request", "speed-up", "GiB", left=4
    )
    for point in sorted(points, key=lambda point: (point.why != "", point.latency_ms)):
        spoken = Path(str(point.place["stand_in"])).name.removeprefix("draft-")
        where = (str(point.place["draft"]), spoken, str(point.place["unit"]), str(point.place["precision"]))
        if point.why:
            table.add_row(*where, *"-" * 6)
            continue
        table.add_row(
            *where, milliseconds(point.number("draft_ms")), shown(point.numbers, "acceptance", ".2f"),
            str(point.place[LENGTH]), duration(point.latency_ms), times(point.speedup),
            shown(point.numbers, "draft_gib", ".2f"),
        )  # fmt: skip
    return table


def answer(points: Sequence[Point]) -> str:
    """The fastest draft, and what the smallest beside it costs."""
    top = best(points)
    if top.why:
        return "No draft runs here."
    where = f"{top.place['draft']} in {top.place['precision']} on {top.place['unit']}"
    told = f"Take {where}, {top.place[LENGTH]} drafted tokens: {top.speedup:.2f}x in {top.number('draft_gib'):.2f} GiB"
    smaller = [point for point in points if point.number("draft_gib") < top.number("draft_gib")]
    if not smaller or (other := best(smaller)).why:
        return f"{told}."
    less = f"{other.place['draft']} in {other.place['precision']} on {other.place['unit']}"
    return f"{told}; with less memory {less}: {other.speedup:.2f}x in {other.number('draft_gib'):.2f} GiB."


def draw(points: Sequence[Point], setup: Setup, longest: int, title: str, path: Path, kind: str) -> None:
    """Every draft at its place, over lines of equal speed-up by the closed form."""
    ran = [point for point in points if not point.why]
    figure, panels = sheet(1, 1, 10, 6)
    axes = panels[0][0]
    steps = [steps_of(setup, n) for n in range(1, longest + 1)]
    slow = max((point.number("draft_ms") for point in ran), default=1.0)
    quick = min((point.number("draft_ms") for point in ran), default=1.0)
    across = np.geomspace(quick / 2, max(slow * 2, steps[0].target_ms), 80)
    up = np.linspace(0.4, 1.0, 60)
    reached = np.array(
        [
            [max(sync_speedup(a, s.drafted, ms / s.target_ms, s.link, s.verify) for s in steps) for ms in across]
            for a in up
        ]
    )
    axes.set_xscale("log")
    contours(axes, across, up, reached, (*LEVELS, 3.0, 4.0), colour="0.6")
    models = list(dict.fromkeys(str(point.place["draft"]) for point in points))
    units = list(dict.fromkeys(str(point.place["unit"]) for point in points))
    for point in ran:
        model, unit = str(point.place["draft"]), str(point.place["unit"])
        axes.plot(
            [point.number("draft_ms")], [point.number("acceptance")], MARKS[models.index(model) % len(MARKS)],
            color=BLACK_AND[1 + units.index(unit) % (len(BLACK_AND) - 1)], markersize=9, markeredgecolor="black",
            fillstyle="full" if point.place["precision"] == "w4" else "left", linestyle="",
        )  # fmt: skip
        if point.place["precision"] != "w4":
            continue
        axes.annotate(f"{point.speedup:.2f}x", (point.number("draft_ms"), point.number("acceptance")), (0, 7),
                      textcoords="offset points", fontsize=7.5, ha="center", rotation=60, va="bottom",
                      rotation_mode="anchor")  # fmt: skip
    for model in models:
        axes.plot([], [], MARKS[models.index(model) % len(MARKS)], color="0.5", markeredgecolor="black", label=model)
    for unit in units:
        axes.plot([], [], "s", color=BLACK_AND[1 + units.index(unit) % (len(BLACK_AND) - 1)], label=unit)
    axes.plot([], [], "o", color="0.5", markeredgecolor="black", fillstyle="left", label="half filled: not w4")
    axes.set(xlabel="time of a drafted token, ms", ylabel="acceptance (the stand-in's)", ylim=(0.4, 1.0))
    figure.legend(loc="outside right center", frameon=False, fontsize=9,
                  title="lines: equal speed-up by the\nclosed form, best length;\nnumbers: simulated, w4")  # fmt: skip
    finished(figure, title, path, kind)


if __name__ == "__main__":
    sys.exit(guarded(main))

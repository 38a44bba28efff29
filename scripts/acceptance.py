#!/usr/bin/env python3
"""How good must the draft be, and how long should it draft? Speed-up over acceptance and draft length.

python scripts/acceptance.py [SCENARIO] [--set PATH=VALUE]... [--acceptances 0.3:0.95:0.05] [--lengths 1:10:1]
                             [--requests N] [--plot FILE] [--csv FILE]

Drafted tokens stand by chance here, on the scenario's chips; what its stand-ins really reach is marked.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from rich.table import Table

from hilsim.commands.main import guarded
from hilsim.commands.outputs import require_outputs, write_outputs
from hilsim.describe.acceptance import acceptance_of
from hilsim.describe.setup import Setup
from hilsim.progress import counting
from hilsim.runs.replay import Talk, numbers_of, talk_of
from hilsim.show.grid_tables import crossing, marked, plain_table, print_cautions, telling, terminal, times, write_csv
from hilsim.show.plots.curves import colour_bar, finished, heat_map, level_line, lines, sheet
from hilsim.study.closed_forms import best_draft_tokens
from hilsim.study.steps import steps_of
from hilsim.study.sweeps import (
    LENGTH,
    Point,
    best,
    drafting,
    over_lengths,
    placed,
    with_acceptance,
)
from scripts.arguments import numbers, one, question, whole

LEGEND = (
    "speed-up by drafted tokens; no link: the best of Leviathan's Theorem 3.8, where no question is read, no\n"
    "answer ends, and the link and a verify's further rows are free. Simulated:"
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(__doc__, "orin_8295")
    parser.add_argument(
        "--acceptances", type=numbers(0, 1), default="0.3:0.95:0.05",
        help="chances of a draft once all before it in its round were accepted: FROM:TO:STEP or a list",
    )  # fmt: skip
    parser.add_argument("--lengths", type=whole(1, 16), default="1:10:1", help="drafted tokens a round")
    parser.add_argument("--requests", type=one(1, 5000), default="300", help="more of them, less chance (default 300)")
    options = parser.parse_args(arguments)
    require_outputs(options)
    setup, lengths = drafting(options.scenario, options.set), options.lengths
    say = telling("recording what the scenario's models say")
    talk = talk_of(setup, options.requests, say)
    own = over_lengths({}, setup, lengths, lambda made: numbers_of(made, say))
    chance = placed(options.scenario, [*options.set, *talk.overrides()])
    rows = [
        over_lengths({"acceptance": acceptance}, with_acceptance(chance, acceptance), lengths, numbers_of)
        for acceptance in counting("acceptances", options.acceptances, len(options.acceptances))
    ]
    console = terminal()
    console.print(table_of(rows, chance))
    console.print(f"{LEGEND} answers of {talk.answer} tokens", style="dim")
    console.print(own_table(own))
    print_cautions(console, own)
    console.print(f"\n{answer(own, options.acceptances, rows)}")
    points = [*(point for row in rows for point in row), *own]
    title = f"{setup.scenario.name}: how good must the draft be, and how long should it draft?"
    write_outputs(
        options,
        lambda path, kind: draw(rows, own, chance, talk, options.acceptances, lengths, title, path, kind),
        lambda file: write_csv(points, file),
    )
    return 0


def said(point: Point) -> float:
    """The acceptance by chance that brings the same `mean_acceptance_length`."""
    return acceptance_of(point.number("mean_acceptance_length"), int(point.place[LENGTH]))


def answer(own: list[Point], acceptances: Sequence[float], rows: list[list[Point]]) -> str:
    """The best length at the stand-ins' acceptance, and what 2.5x takes."""
    peaks, top = [best(row).speedup for row in rows], best(own)
    needed = crossing(acceptances, peaks, 2.5)
    enough = (
        f"2.5x takes an acceptance of {needed:.2f}" if needed else f"2.5x is not reached: at most {max(peaks):.2f}x"
    )
    told = f"At the stand-ins' acceptance of {said(top):.2f} draft {top.place[LENGTH]} tokens"
    return f"{told}: {top.speedup:.2f}x; {enough}."


def table_of(rows: list[list[Point]], chance: Setup) -> Table:
    """A row an acceptance, a column a length; beside it the best length of Leviathan's formula, without a link."""
    lengths = [str(point.place[LENGTH]) for point in rows[0]]
    table = plain_table("accept", *lengths, "best", "no link")
    for row in rows:
        top = best(row)
        acceptance = float(row[0].place["acceptance"])
        length, speed = best_draft_tokens(acceptance, steps_of(chance, 1).ratio, longest=int(lengths[-1]))
        table.add_row(
            f"{acceptance:.2f}", *(marked(point.speedup, top.speedup) for point in row), f"{top.place[LENGTH]}",
            f"{speed:.2f} by {length}",
        )  # fmt: skip
    return table


def own_table(own: list[Point]) -> Table:
    """The stand-ins' own talk, length by length."""
    table = plain_table("stand-ins", *(str(point.place[LENGTH]) for point in own))
    table.add_row("speed-up", *(times(point.speedup) for point in own))
    table.add_row("tokens a round", *(times(point.number("tokens_per_round")) for point in own))
    table.add_row("mean_acceptance_length", *(times(point.number("mean_acceptance_length")) for point in own))
    table.add_row("as by chance at", *(times(said(point)) for point in own))
    return table


def draw(
    rows: list[list[Point]], own: list[Point], chance: Setup, talk: Talk, acceptances: Sequence[float],
    lengths: Sequence[int], title: str, path: Path, kind: str,
) -> None:  # fmt: skip
    """Left the map, with the stand-ins' dots; right the best of each acceptance beside the closed forms."""
    values = np.array([[point.speedup for point in row] for row in rows]).T
    figure, panels = sheet(1, 2, 13.5, 5.4)
    left, right = panels[0]
    limits = (float(np.nanmin(values)), float(np.nanmax(values)))
    image = heat_map(left, acceptances, lengths, values, limits)
    left.plot([said(point) for point in own], lengths, "o", color="white", markeredgecolor="black", markersize=8,
              label="the stand-ins, by mean_acceptance_length")  # fmt: skip
    left.plot(acceptances, [best(row).place[LENGTH] for row in rows], "k_", markersize=22, markeredgewidth=3,
              label="best length")  # fmt: skip
    left.set(xlabel="acceptance of a drafted token", ylabel="drafted tokens a round (sync)", yticks=lengths)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=2, frameon=False, fontsize=9)
    colour_bar(figure, image, left)
    steps, longest = [steps_of(chance, n) for n in lengths], max(lengths)
    series = {
        f"simulated, answers of {talk.answer} tokens": [best(row).speedup for row in rows],
        "Leviathan, no link": [best_draft_tokens(a, steps[0].ratio, longest=longest)[1] for a in acceptances],
        "the same with this verify and link": [max(step.speedup(a) for step in steps) for a in acceptances],
    }
    lines(right, acceptances, series, dashed=list(series)[1:])
    top = best(own)
    right.plot([said(top)], [top.speedup], "*", color="black", markersize=14, label="the stand-ins", linestyle="")
    level_line(right, 2.5, "2.5x")
    right.set(xlabel="acceptance of a drafted token", ylabel="speed-up over the target alone")
    right.legend(frameon=False, fontsize=9, loc="upper left")
    finished(figure, title, path, kind)


if __name__ == "__main__":
    sys.exit(guarded(main))

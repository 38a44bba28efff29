#!/usr/bin/env python3
"""How good must the draft be, and how long should it draft? Speed-up over acceptance and draft length.

python scripts/acceptance.py [SCENARIO] [--set PATH=VALUE]... [--acceptances 0.3:0.95:0.05] [--lengths 1:10:1]
                             [--requests N] [--plot FILE] [--csv FILE]

Drafted tokens are accepted by chance here, on the scenario's chips; the acceptance of its stand-ins is marked.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hilsim.commands.main import guarded
from hilsim.describe.setup import Setup
from hilsim.runs.evaluate import load_fitting
from hilsim.runs.replay import workload_size
from hilsim.show.grid_tables import marked
from hilsim.show.plots.maps import draw_acceptance
from hilsim.show.table import Table
from hilsim.study.closed_forms import best_draft_tokens
from hilsim.study.steps import steps_of
from hilsim.study.sweeps import Rows, SweepPoint, best, crossing, flat, load_drafting, over_acceptances, over_lengths
from scripts.arguments import answer, asked, question

LEGEND = (
    "speed-up by drafted tokens; no link: the best length by Leviathan's Theorem 3.8, which leaves out prompts,\n"
    "the end of an answer, the link, and the cost of a verify's further rows. Simulated:"
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(__doc__, "orin_8295", acceptances="0.3:0.95:0.05", lengths="1:10:1", requests="300")
    options = asked(parser, arguments)
    setup = load_drafting(options.scenario, options.set)
    size = workload_size(setup, options.requests)
    own = over_lengths({}, setup, options.lengths)
    chance = load_fitting(options.scenario, [*options.set, *size.overrides()])
    (rows,) = over_acceptances([({}, chance)], options.acceptances, options.lengths)
    shown: list[Table | str] = [table_of(rows, chance), f"{LEGEND} answers of {size.answer} tokens", own_table(own)]
    sentence = conclusion(own, options.acceptances, rows)
    draw = partial(draw_acceptance, rows, own, chance, size.answer)
    return answer(options, setup.scenario.name, shown, [*flat(rows), *own], sentence, draw, cautions=own)


def conclusion(own: Sequence[SweepPoint], acceptances: Sequence[float], rows: Rows) -> str:
    """The best length at the stand-ins' acceptance, and what 2.5x takes."""
    peaks, top = [best(row).speedup for row in rows], best(own)
    needed = crossing(acceptances, peaks, 2.5)
    never = f"2.5x is not reached: at most {max(peaks):.2f}x"
    enough = f"2.5x takes an acceptance of {needed:.2f}" if needed else never
    draft = f"At the stand-ins' acceptance of {top.acceptance:.2f} draft {top.length} tokens"
    return f"{draft}: {top.speedup:.2f}x; {enough}."


def table_of(rows: Rows, chance: Setup) -> Table:
    """A row an acceptance, a column a length; beside it the best length of Leviathan's formula, without a link."""
    lengths, ratio, cells = [point.length for point in rows[0]], steps_of(chance, 1).ratio, []
    for row in rows:
        top, acceptance = best(row), float(row[0].place["acceptance"])
        length, speed = best_draft_tokens(acceptance, ratio, longest=lengths[-1])
        marks = (marked(point.speedup, top.speedup) for point in row)
        cells.append([f"{acceptance:.2f}", *marks, top.length, f"{speed:.2f} by {length}"])
    return Table(["accept", *map(str, lengths), "best", "no link"], cells)


def own_table(own: Sequence[SweepPoint]) -> Table:
    """The stand-ins' own tokens, length by length."""
    rows = [["speed-up", *(point.speedup for point in own)]]
    rows += [[name, *(point.number(name) for point in own)] for name in ("tokens_per_round", "mean_acceptance_length")]
    rows.append(["as by chance at", *(point.acceptance for point in own)])
    return Table(["stand-ins", *(str(point.length) for point in own)], rows)


if __name__ == "__main__":
    sys.exit(guarded(main))

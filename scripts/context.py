#!/usr/bin/env python3
"""How long can the context be? Memory, step time, first token and speed-up over context_tokens.

python scripts/context.py [SCENARIO] [--set PATH=VALUE]... [--contexts 256,512,1024,...] [--chance A]
                          [--lengths 1:10:1] [--requests N] [--plot FILE] [--csv FILE]

The text would change with the context, so drafted tokens are accepted by chance here, as often as the scenario's
stand-ins reach at its own context (or --chance), and answers have their mean length.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hilsim.commands.main import guarded
from hilsim.cost.largest_context import largest_context
from hilsim.describe.setup import Setup
from hilsim.progress import counting
from hilsim.runs.replay import workload_size
from hilsim.show.grid_tables import length_of
from hilsim.show.plots.placements import draw_contexts
from hilsim.show.table import Table
from hilsim.study.contexts import COSTS, context_at, measured_acceptance
from hilsim.study.sweeps import SweepPoint, load_drafting
from scripts.arguments import answer, asked, question, single, whole

CONTEXTS = "256,512,768,1024,1536,2048,3072,4096"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = question(__doc__, "orin_8295", lengths="1:10:1", requests="300")
    parser.add_argument(
        "--contexts", type=whole(2, 10**6), default=CONTEXTS, help=f"context lengths in tokens (default: {CONTEXTS})"
    )
    parser.add_argument(
        "--chance", type=single(0, 1), help="chance that a drafted token is accepted (default: as the stand-ins')"
    )
    options = asked(parser, arguments)
    setup = load_drafting(options.scenario, options.set)
    size = workload_size(setup, options.requests)
    acceptance = measured_acceptance(setup) if options.chance is None else options.chance
    overrides = [*options.set, *size.overrides()]
    points = [
        context_at(context, options.scenario, overrides, acceptance, options.lengths)
        for context in counting("contexts", options.contexts, len(options.contexts))
    ]
    by_chance = f"by chance, acceptance {acceptance:.2f}"
    legend = f"{by_chance}; prompts of {size.prompt} tokens, answers of {size.answer}"
    return answer(
        options, setup.scenario.name, [table_of(points), legend], points, conclusion(points, setup),
        partial(draw_contexts, points), by=["context_tokens"], more=COSTS, note=f" ({by_chance})",
    )  # fmt: skip


def table_of(points: Sequence[SweepPoint]) -> Table:
    """A row a context."""
    names = ("target_gib", "draft_gib", "target_ms", "verify_ms", "time_to_first_token_ms.mean")
    cells = [
        [each.place["context_tokens"], *map(each.number, names), length_of(each),
         "not here" if each.why else each.speedup]
        for each in points
    ]  # fmt: skip
    heads = ("context", "target, GiB", "draft, GiB", "step, ms", "verify", "first token, ms", "length", "speed-up")
    return Table(heads, cells)


def conclusion(points: Sequence[SweepPoint], setup: Setup) -> str:
    """The longest context that runs, what it costs against the shortest, and what stops the next."""
    ran = [each for each in points if not each.why]
    limit = largest_context(setup)
    stopped = f"The largest context is {limit.tokens} tokens, limited by {limit.stopped_by}."
    if not ran:
        return f"None of these contexts runs. {stopped}"
    first, last = ran[0], ran[-1]
    return (
        f"Up to {last.place['context_tokens']} tokens run: a target step grows from {first.number('target_ms'):.0f} to "
        f"{last.number('target_ms'):.0f} ms and the speed-up goes from {first.speedup:.2f}x to {last.speedup:.2f}x. "
        f"{stopped}"
    )


if __name__ == "__main__":
    sys.exit(guarded(main))
